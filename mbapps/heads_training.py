"""What a training does for each head: its data, what it is told before, and what is found out of it afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from .measuring import measure, task_sections

if TYPE_CHECKING:
    from .data.base import DataModule
    from .tasks.lessons import Lessons

PREVIEWS = 8  # augmented training samples shown in the report


@dataclass
class Learner:
    """One head on its way through a training.

    cfg: as if the head were trained alone.
    folder: of what is its own: the run's or, of several heads, one below it.
    """

    name: str
    cfg: DictConfig
    folder: Path
    data: DataModule
    lessons: Lessons | None = None
    notes: list[str] = field(default_factory=list)  # to be said before it starts
    task: Any = None  # that measures it
    test: Any = None  # metric
    thresholds: list[float] | None = None
    decision: float | None = None  # similarity of two faces from which on they count as one person's
    numbers: dict[str, Any] = field(default_factory=dict)  # of test and, with val_, of validation

    def learn_from_teacher(self) -> None:
        """Find or train the teacher, if one is asked for.

        Raises:
            ValueError: there is none for what goes with one.
        """
        distill = self.cfg.distill
        if distill.teacher is not None:
            from .teaching import teach

            self.folder.mkdir(parents=True, exist_ok=True)
            self.lessons, notes = teach(self.cfg, self.folder, self.data)
            self.notes += notes
        elif unused := [key for key in ("weights", "images") if distill[key] is not None]:
            raise ValueError(
                f"distill.{unused[0]}={distill[unused[0]]} needs a teacher: give distill.teacher="
            )

    def inform(self, head: Any) -> None:
        """Tell a new head what it must know of the data and of the teacher."""
        self.notes += self.data.inform(head)
        if self.lessons and hasattr(head, "learn_from"):
            from .teaching import first_answers

            labels = self.lessons.label_weight > 0
            self.notes.append(head.learn_from(first_answers(self.data, self.lessons), labels=labels))

    def conclude(self, task: Any, run: Path, network: Any, known: Mapping[str, Any]) -> None:
        """Measure a trained head, fit what is fitted on validation, and measure it on test.

        Args:
            task: of this head alone.
            run: folder of the run.
            network: with all heads of the run.
            known: facts of the heads that are concluded.
        """
        cfg, data = self.cfg, self.data
        self.task = task
        val = measure(cfg, run, task, data, "val")
        if "gallery_photos" in cfg.task:
            from .deploy.saving import describe, save_bundle
            from .geo_index import fit_places

            save_bundle(run / "model", network, describe(network, known))
            val = fit_places(cfg, run, task, data, run / "model")
        elif hasattr(task.head, "calibrate"):
            task.head.calibrate(val)
        if hasattr(val, "best_thresholds"):
            self.thresholds = val.best_thresholds().tolist()
        if hasattr(val, "best_accuracy_threshold"):
            self.decision = val.best_accuracy_threshold()
        self.test = measure(
            cfg, run, task, data, "test", self.thresholds if self.decision is None else self.decision
        )
        self.numbers = dict(task.numbers["test"])
        self.numbers |= {f"val_{name}": value for name, value in task.numbers["val"].items()}

    def about(self) -> dict[str, Any]:
        """What model.json says of the head beside what rebuilds it."""
        data: Any = self.data
        measured = {
            name: value for name, value in self.numbers.items() if math.isfinite(value)
        }  # JSON knows no NaN
        ids = getattr(data.truth("train"), "category_ids", None)  # a data set of boxes numbers its classes
        about = {"thresholds": self.thresholds, "metrics": measured, "category_ids": ids}
        if self.decision is not None:
            about["verification"] = {"similarity": self.decision, "chosen": "the best accuracy on validation"}
        if getattr(data, "face_crop", None) is not None:  # what it is to be shown
            about |= {"face_crop": data.face_crop, "landmarks": data.landmarks is not None}
        return about

    def sections(self) -> list[Any]:
        """The parts of the report that are the head's."""
        from .geo_verbs import cell_sections
        from .sections import Pictures

        thresholds = self.decision if self.decision is not None else self.thresholds or 0.5
        previews = self.data.preview(PREVIEWS)
        return [
            *task_sections(self.test, self.numbers, self.data, "test", thresholds),
            *(
                cell_sections(self.task.head, self.data.truth("train").labels)
                if hasattr(self.task.head, "cells")
                else []
            ),
            Pictures("First training batch, augmented", previews, [""] * len(previews)),
        ]


@dataclass
class Fit:
    """What came of one fit: of a head, or of several together."""

    task: Any
    trainer: Any
    folder: Path  # of its checkpoints and metrics.csv
    epochs: int
    images: int  # that training has seen
    seconds: float
