"""`mbapps eval`: the task's published protocol for a model folder on a data set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

WORST = 12  # pictures of the worst images in the report
SHOWN_PLACES = 5  # of each problem with the annotations


def run(cfg: DictConfig) -> None:
    """Measure, write results.json and report.html."""
    from mbapps import app
    from mbapps.report import print_table, run_context, write_report, write_results

    started = time.perf_counter()
    if cfg.split not in ("val", "test"):
        raise ValueError(
            f"split must be val or test, got {cfg.split!r}; data.test= takes any split or file by name"
        )
    folder = app.run_folder(cfg)
    bundle = app.open_bundle(cfg)
    data = app.build_data(cfg, bundle, cfg.split)
    print_problems(data.problems())
    task = app.build_task(cfg, bundle.network)
    metric = measure(cfg, folder, task, data, cfg.split)
    if not task.trainer.is_global_zero:
        return
    print_problems({"image not read": list(data.broken)} if data.broken else {})
    numbers: dict[str, Any] = dict(task.numbers[cfg.split])
    seconds = time.perf_counter() - started
    numbers |= {
        "images": len(metric.rows),
        "seconds": seconds,
        "images_per_second": len(metric.rows) / seconds,
    }
    context = run_context() | {"data": data.lineage(), "model": str(cfg.model), "broken": list(data.broken)}
    results = write_results(folder, numbers, context)
    thresholds = bundle.head_facts["thresholds"] or 0.5
    sections = [*number_sections(numbers), *task_sections(metric, numbers, data, cfg.split, thresholds)]
    subtitle = f"{cfg.model} on the {cfg.split} split of {data.root}"
    report = write_report(
        folder / "report.html", f"{bundle.head_name}: evaluation", sections, subtitle=subtitle
    )
    print_table(f"eval {bundle.head_name}", without_classes(numbers), paths=[results, report])


def measure(cfg: DictConfig, folder: Path, task: Any, data: Any, split: str) -> Any:
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
    """The numbers at a glance, and a table of those by class."""
    from mbapps.sections import Numbers, Rows

    classes: dict[str, dict[str, Any]] = {}
    for name, value in numbers.items():
        metric, slash, label = name.partition("/")
        if slash:
            classes.setdefault(label, {})[metric] = value
    return [Numbers("Numbers", without_classes(numbers)), Rows("By class", classes)]


def task_sections(
    metric: Any, numbers: Mapping[str, Any], data: Any, split: str, thresholds: float | Sequence[float]
) -> list[Any]:
    """The task's own plots, and its worst images: truth on the left, answer on the right."""
    import numpy as np

    from mbapps.sections import Pictures, Plot

    pictures, captions = [], []
    for row, caption in metric.worst(WORST, thresholds):
        image, truth = data.picture(split, row)
        pictures.append(np.concatenate([truth, metric.answer(row, thresholds).draw(image)], axis=1))
        captions.append(caption)
    about = f"The images of the {split} split with the lowest F1 at the model's thresholds: truth left, answer right."
    return [
        *(Plot(title, figure) for title, figure in metric.plots(numbers).items()),
        Pictures("Worst images", pictures, captions, about),
    ]


def print_problems(problems: Mapping[str, Sequence[str]]) -> None:
    """Say what was dropped or mended in the data, with the first places of each kind."""
    for reason, places in problems.items():
        more = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
        print(f"{len(places)} x {reason}: {'; '.join(places[:SHOWN_PLACES])}{more}")
