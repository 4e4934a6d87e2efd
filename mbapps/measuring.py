"""A split run through a network, and what a report and the terminal say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

WORST = 12  # pictures of the worst images in the report
SHOWN_PLACES = 5  # of each problem with the annotations
OWN_TABLES = ("method_", "continent_")  # of the metric
OWN = "the model's own thresholds"


def measure(
    cfg: DictConfig,
    folder: Path,
    task: Any,
    data: Any,
    split: str,
    thresholds: float | Sequence[float] | None = None,
) -> Any:
    """Run one split through the network and give its metric, fed with every image of it once.

    A metric that can `conclude` adds what is too dear for each epoch or needs thresholds; None are its own best.
    """
    metric = collect(cfg, folder, task, data, split)
    if hasattr(metric, "conclude"):
        task.numbers[split] |= metric.conclude(thresholds)
    return metric


def collect(cfg: DictConfig, folder: Path, task: Any, data: Any, split: str) -> Any:
    """Run one split through the network and give its metric, fed with every image of it once."""
    from mbapps import app

    trainer = app.build_trainer(cfg, folder, fitting=False)
    run_split = trainer.validate if split == "val" else trainer.test
    run_split(task, datamodule=data, verbose=False)
    return task.metrics[split]


def without_classes(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of the whole; those of one class have a slash in their name."""
    return {name: value for name, value in numbers.items() if "/" not in name}


def number_sections(numbers: Mapping[str, Any]) -> list[Any]:
    """The numbers at a glance, and a table of those by class; others with a slash are in their metric's sections."""
    from mbapps.sections import Numbers, Rows

    classes: dict[str, dict[str, Any]] = {}
    for name, value in numbers.items():
        metric, slash, label = name.partition("/")
        if slash and not metric.removeprefix("val_").startswith(OWN_TABLES) and "group_" not in metric:
            classes.setdefault(label, {})[metric] = value
    parts: list[Any] = [Numbers("Numbers", without_classes(numbers))]
    return [*parts, Rows("By class", classes)] if classes else parts


def task_sections(
    metric: Any,
    numbers: Mapping[str, Any],
    data: Any,
    split: str,
    thresholds: float | Sequence[float],
    chosen: str = OWN,
) -> list[Any]:
    """The metric's own plots and tables, and the worst images: truth left, answer right, or as the metric draws them.

    Of pairs these are the worst pairs.
    """
    import numpy as np

    from mbapps.images import side_by_side
    from mbapps.sections import Pictures

    parts = metric.sections(numbers, thresholds, chosen)
    if hasattr(metric, "worst_pairs"):
        for title, pairs in metric.worst_pairs(WORST):
            drawn = [side_by_side(*(data.picture(split, row)[0] for row in pair[:2])) for pair in pairs]
            parts.append(Pictures(title, drawn, [caption for *_, caption in pairs]))
        return parts
    pictures, captions = [], []
    for row, caption in metric.worst(WORST, thresholds):
        image, truth = data.picture(split, row)
        pictures.append(
            metric.draw(row, image)
            if hasattr(metric, "draw")
            else np.concatenate([truth, metric.answer(row, thresholds).draw(image)], axis=1)
        )
        captions.append(caption)
    about = getattr(metric, "DRAWN", "truth left, answer right")
    return [
        *parts,
        Pictures("Worst images", pictures, captions, f"{metric.WORST.format(chosen)}: {about}."),
    ]


def of_head(name: str, sections: Sequence[Any]) -> list[Any]:
    """Sections of a report with the name of one of several heads before their titles."""
    from dataclasses import replace

    return [replace(section, title=f"{name}: {section.title}") for section in sections]


def named(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers with the name of one of several heads before theirs, and behind the "val_" of validation's.

    >>> named("geo", {"coverage": 0.9, "val_coverage": 0.8})
    {'geo_coverage': 0.9, 'val_geo_coverage': 0.8}
    """
    return {
        f"val_{name}_{key[4:]}" if key.startswith("val_") else f"{name}_{key}": value
        for key, value in numbers.items()
    }


def print_methods(metric: Any, numbers: Mapping[str, Any]) -> None:
    """Print what each of several methods of answering is worth, where a metric knows several."""
    from mbapps.report import print_columns
    from mbapps.sections import format_value

    rows: Mapping[str, Mapping[str, Any]] = (
        metric.method_rows(numbers) if hasattr(metric, "method_rows") else {}
    )
    if rows:
        names = list(next(iter(rows.values())))
        shown = [[name, *(format_value(name, row[name]) for row in rows.values())] for name in names]
        print_columns("methods", ["", *rows], shown)


def print_problems(problems: Mapping[str, Sequence[str]]) -> None:
    """Say what was dropped or mended in the data, with the first places of each kind."""
    for reason, places in problems.items():
        more = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
        print(f"{len(places)} x {reason}: {'; '.join(places[:SHOWN_PLACES])}{more}")


def other_views(head: Mapping[str, Any], data: Any) -> list[str]:
    """Say where faces are cut out otherwise than those that the model learned from."""
    said = []
    own, crop = head.get("face_crop"), getattr(data, "face_crop", None)
    if None not in (own, crop) and own != crop:
        said.append(f"data.face_crop={crop}: the model learned from {own} of each side\n")
    if head.get("landmarks") and not getattr(data, "landmarks", None):
        said.append("the model learned from faces turned upright by five points: give data.landmarks=\n")
    return said
