"""`mbapps train`: fit, measure, and leave a run folder and a model folder."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mbapps.measuring import (
    measure,
    number_sections,
    print_methods,
    print_problems,
    task_sections,
    without_classes,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

NORM_IMAGES = 256  # training images that folded batch norms are measured on
PREVIEWS = 8  # augmented training samples shown in the report


def run(cfg: DictConfig) -> None:
    """Train as configured; the best epoch on validation is tested once and shipped."""
    from mbapps import app, frozen
    from mbapps.starting import build_network

    started = time.perf_counter()
    folder = app.run_folder(cfg)
    app.seed(cfg)
    data = app.build_data(cfg)
    data.check_measurable()
    lessons, lesson_notes = None, list[str]()
    if cfg.distill.teacher is not None:
        from mbapps.teaching import teach

        try:
            lessons, lesson_notes = teach(cfg, folder, data)
        except (KeyboardInterrupt, SystemExit):
            _interrupted(folder)
        app.seed(cfg)  # the student is the same whether its teacher was trained now or before
    elif unused := [key for key in ("weights", "images") if cfg.distill[key] is not None]:
        raise ValueError(
            f"distill.{unused[0]}={cfg.distill[unused[0]]} needs a teacher: give distill.teacher="
        )
    network, notes = build_network(cfg, data.class_names)
    head = network.head(app.task_name())
    notes += [*_unfold(network, data), *lesson_notes, *data.inform(head)]
    if lessons and hasattr(head, "learn_from"):
        from mbapps.teaching import first_answers

        notes.append(head.learn_from(first_answers(data, lessons), labels=lessons.label_weight > 0))
    task = app.build_task(cfg, network)
    task.lessons = lessons
    task.make_metric(
        data.truth("val")
    )  # a setting that does not fit the data is told before an epoch is spent
    trainer = app.build_trainer(cfg, folder, fitting=True)
    if trainer.is_global_zero:
        print("\n".join([*notes, frozen.note(cfg)] if task.freeze_body else notes))
        print_problems(data.problems())
        data.write(folder)
    checkpoint = _resume_from(cfg, folder)
    fit_started = time.perf_counter()
    try:
        with frozen.fitting_data(cfg, folder, task, data) as seen:
            trainer.fit(task, datamodule=seen, ckpt_path=checkpoint, weights_only=True)
            fit_seconds = time.perf_counter() - fit_started
            load_best(task, folder)
        val = measure(cfg, folder, task, data, "val")
        if "gallery_photos" in cfg.task:
            from mbapps.deploy.bundle import describe, save_bundle
            from mbapps.geo_index import fit_places

            save_bundle(folder / "model", task.network, describe(task.network, {}))
            val = fit_places(cfg, folder, task, data, folder / "model")
        elif hasattr(task.head, "calibrate"):
            task.head.calibrate(val)
        thresholds = val.best_thresholds().tolist() if hasattr(val, "best_thresholds") else None
        decision = val.best_accuracy_threshold() if hasattr(val, "best_accuracy_threshold") else None
        test = measure(cfg, folder, task, data, "test", thresholds if decision is None else decision)
    except (KeyboardInterrupt, SystemExit):  # Lightning answers Ctrl-C by an exit
        _interrupted(folder)
    if not trainer.is_global_zero:
        return
    numbers: dict[str, Any] = dict(task.numbers["test"])
    numbers |= {f"val_{name}": value for name, value in task.numbers["val"].items()}
    numbers |= {"images_per_second": task.images_seen / fit_seconds, "epochs": trainer.current_epoch}
    _write(cfg, folder, task, data, thresholds, decision, test, numbers, started)


def _unfold(network: Any, data: Any) -> list[str]:
    """Make folded batch norms learn again; say so."""
    from itertools import islice

    from mbapps.models.norms import is_folded, unfold_norms

    if not is_folded(network):
        return []
    count = math.ceil(NORM_IMAGES / data.batch_size)
    unfold_norms(network, (batch.images for batch in islice(data.train_dataloader(), count)))
    return ["the weights have their batch norms folded: their statistics are measured on training images"]


def _resume_from(cfg: DictConfig, folder: Path) -> str | None:
    if not cfg.resume:
        return None
    from mbapps.teacher import has_teacher

    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file() and has_teacher(folder):
        return None  # a teacher is there already: the student starts
    if not last.is_file():
        raise FileNotFoundError(
            f"resume={cfg.resume} has no checkpoint yet: it was stopped in its first epoch; start anew"
        )
    return str(last)


def _interrupted(folder: Path) -> NoReturn:
    from mbapps.teacher import has_teacher

    if (folder / "checkpoints" / "last.ckpt").is_file() or has_teacher(folder):
        print(
            f"stopped; go on from the last finished epoch with: python -m mbapps resume={folder}",
            file=sys.stderr,
        )
    else:
        print("stopped in the first epoch: there is no checkpoint to go on from", file=sys.stderr)
    sys.exit(130)


def load_best(task: Any, folder: Path) -> None:
    """Give the task the weights of the best epoch in the folder's checkpoints.

    Raises:
        ValueError: no epoch was validated.
    """
    import torch

    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise ValueError(
            "no epoch was validated, so there is no best one: look at trainer.max_epochs, "
            "trainer.limit_val_batches and trainer.check_val_every_n_epoch"
        )
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])


def _write(
    cfg: DictConfig,
    folder: Path,
    task: Any,
    data: Any,
    thresholds: list[float] | None,
    decision: float | None,
    test: Any,
    numbers: dict[str, Any],
    started: float,
) -> None:
    from mbapps.deploy.bundle import describe, save_bundle
    from mbapps.plots import curves
    from mbapps.report import print_table, run_context, write_report, write_results
    from mbapps.sections import Pictures, Plot, Preformatted

    print_problems({"image not read": list(data.broken)} if data.broken else {})
    context = run_context()
    lineage = {"data": [data.lineage()], "weights": cfg.backbone.weights, "teacher": cfg.distill.teacher}
    measured = {name: value for name, value in numbers.items() if math.isfinite(value)}  # JSON knows no NaN
    ids = getattr(data.truth("train"), "category_ids", None)  # a data set of boxes numbers its classes
    task.network.strip()
    about = {"thresholds": thresholds, "metrics": measured, "category_ids": ids}
    if decision is not None:
        about["verification"] = {"similarity": decision, "chosen": "the best accuracy on validation"}
    if getattr(data, "face_crop", None) is not None:
        about |= {
            "face_crop": data.face_crop,
            "landmarks": data.landmarks is not None,
        }  # what it is to be shown
    head = {task.head_name: about}
    facts = describe(task.network, head, lineage=lineage, command=context["command"])
    model = save_bundle(folder / "model", task.network, facts)
    numbers = {
        **numbers, "params": facts["params"], "macs": facts["macs"], "seconds": time.perf_counter() - started,
    }  # fmt: skip
    context |= {
        "data": data.lineage(),
        "problems": {reason: len(places) for reason, places in data.problems().items()},
    }
    context["broken"] = list(data.broken)
    results = write_results(folder, numbers, context)
    previews = data.preview(PREVIEWS)
    sections = [
        *number_sections(numbers),
        Plot("Training", curves(folder / "metrics.csv")),
        *task_sections(test, numbers, data, "test", decision if decision is not None else thresholds or 0.5),
        *_cells(task.head, data),
        Pictures("First training batch, augmented", previews, [""] * len(previews)),
        Preformatted("Configuration", (folder / "config.yaml").read_text(encoding="utf-8")),
    ]
    report = write_report(
        folder / "report.html", f"{task.head_name}: training", sections, subtitle=str(folder)
    )
    print_methods(test, numbers)
    print_table(f"train {task.head_name}", without_classes(numbers), paths=[model, report, results])


def _cells(head: Any, data: Any) -> list[Any]:
    """The map of a geo head's cells, with how many training photos lie in each."""
    from mbapps.geo_verbs import cell_sections

    return cell_sections(head, data.truth("train").labels) if hasattr(head, "cells") else []
