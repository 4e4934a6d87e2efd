"""`mbapps eval`: the task's published protocol for a model folder, or a file of answers, on a data set."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mbapps.measuring import (
    OWN,
    measure,
    named,
    number_sections,
    of_head,
    other_views,
    print_methods,
    print_problems,
    task_sections,
    without_classes,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

FILES = {"detection": "COCO results json", "face_embed": "npz of files and embeddings"}  # answers by task


class Scored(NamedTuple):
    """Answers beside the truth, wherever they came from."""

    metric: Any
    numbers: Mapping[str, Any]
    data: Any  # gives the pictures
    thresholds: float | Sequence[float]
    chosen: str  # where the thresholds come from
    subtitle: str
    context: Mapping[str, Any]
    paths: Sequence[Path] = ()  # what was written on the way
    sections: Sequence[Any] = ()  # of the report, beside the metric's own


def run(cfg: DictConfig) -> None:
    """Measure, write results.json and report.html."""
    from mbapps import app
    from mbapps.report import print_table, run_context, write_report, write_results

    started = time.perf_counter()
    views = app.heads(cfg)
    several = "heads" in cfg
    if several and cfg.predictions:
        raise ValueError("predictions= are those of one head: name it by task=")
    if (
        several
        and cfg.gallery is not None
        and not any("gallery_photos" in view.task for view in views.values())
    ):
        raise ValueError(f"gallery= is for geo heads, which are none of {', '.join(views)}: leave it out")
    for name, view in views.items():
        with app.of_head(cfg, name):
            check(view, name)
        if several and "gallery_photos" not in view.task:
            view.gallery = None
    folder = app.run_folder(cfg)
    found: dict[str, Scored] = {}
    for name, view in views.items():
        with app.of_head(cfg, name):
            scored = score_file(view) if cfg.predictions else score_model(view, folder)
        if scored is None:  # another process tells
            return
        found[name] = scored
    images, seconds = sum(len(one.metric.rows) for one in found.values()), time.perf_counter() - started
    numbers: dict[str, Any] = {}
    for name, one in found.items():
        numbers |= named(name, one.numbers) if several else one.numbers
    numbers |= {"images": images, "seconds": seconds, "images_per_second": images / seconds}
    (first, *_) = found.values()
    context = {name: one.context for name, one in found.items()} if several else first.context
    results = write_results(folder, numbers, {**run_context(), **context})
    sections = list(number_sections(numbers))
    for name, one in found.items():
        parts = task_sections(one.metric, one.numbers, one.data, cfg.split, one.thresholds, chosen=one.chosen)
        parts += one.sections
        sections += of_head(name, parts) if several else parts
        print_methods(one.metric, one.numbers)
    title, subtitle = ", ".join(found), "; ".join(one.subtitle for one in found.values())
    report = write_report(folder / "report.html", f"{title}: evaluation", sections, subtitle=subtitle)
    paths = [*(path for one in found.values() for path in one.paths), results, report]
    print_table(f"eval {title}", without_classes(numbers), paths=paths)


def check(cfg: DictConfig, task: str) -> None:
    """Look at what was asked for before anything is opened.

    Raises:
        ValueError: not exactly one of model= and predictions= is given, or what goes with it is not.
    """
    if bool(cfg.model) == bool(cfg.predictions):
        raise ValueError(f"eval needs model= or predictions=, got {'both' if cfg.model else 'neither'}")
    if cfg.split not in ("val", "test"):
        raise ValueError(
            f"split must be val or test, got {cfg.split!r}; data.test= takes any split or file by name"
        )
    if (cfg.predictions or cfg.save_predictions) and task not in FILES:
        raise ValueError(
            f"predictions= and save_predictions= are for task={' and task='.join(FILES)}, not task={task}"
        )
    if cfg.predictions and cfg.gallery is not None:
        raise ValueError("gallery= goes with model=, which asks it; predictions= are answers already")
    if cfg.predictions and cfg.save_predictions:
        raise ValueError("save_predictions=true goes with model=; predictions= is such a file already")
    if cfg.predictions and (cfg.runtime != "torch" or cfg.precision != "float32" or cfg.runtime_file):
        raise ValueError(
            "runtime=, precision= and runtime_file= go with model=, which runs in them; predictions= are answers "
            "already: leave them out"
        )
    truths = {"detection": "data.annotations=<COCO json> or data.root=<folder>"}
    truths["face_embed"] = "data.test=<folder of people> or data.root=<folder>"
    if cfg.predictions and not any(cfg.data.get(key) for key in ("annotations", "root", "test")):
        raise ValueError(f"predictions= needs the truth: {truths[task]}")
    thresh = cfg.score_thresh
    if thresh is not None and (type(thresh) not in (int, float) or not math.isfinite(thresh)):
        raise ValueError(f"score_thresh must be a number or null, got {thresh!r}")


def score_model(cfg: DictConfig, folder: Path) -> Scored | None:
    """Run a model over the split; None where another process has the answers."""
    from mbapps import app
    from mbapps.geo_verbs import attach_index, cell_sections, knows_places, left_out

    bundle = app.open_bundle(cfg)
    data = app.build_data(cfg, bundle, cfg.split)
    attach_index(cfg, bundle, asked=data.truth(cfg.split))
    print_problems(data.problems())
    task = app.build_task(cfg, bundle.network)
    thresholds, chosen = _own_thresholds(bundle.head_facts, app.task_name(cfg)), OWN
    calibration = bundle.head_facts.get("calibration") or {}
    if calibration.get("fingerprint") == data.lineage()["fingerprint"]:
        chosen = f"{OWN}, chosen on these very images"
        if knows_places(bundle):
            print("radii were fitted to these very photos: of new ones they hold fewer")
    print("".join(other_views(bundle.head_facts, data)), end="")
    if cfg.score_thresh is not None:
        thresholds, chosen = cfg.score_thresh, f"score_thresh={cfg.score_thresh}"
    metric = measure(cfg, folder, task, data, cfg.split, thresholds)
    if not task.trainer.is_global_zero:
        return None
    print_problems({"image not read": list(data.broken)} if data.broken else {})
    paths = []
    if cfg.save_predictions:
        paths.append(_save_answers(folder, app.task_name(cfg), metric))
    subtitle = f"{cfg.model} on the {cfg.split} split of {data.root}"
    context = {
        "data": data.lineage(), "model": str(cfg.model), "runtime": bundle.runtime, "broken": list(data.broken),
    }  # fmt: skip
    numbers = task.numbers[cfg.split]
    sections = [*cell_sections(task.head), *left_out(data)] if knows_places(bundle) else []
    if cfg.gallery is not None:
        context["gallery"] = str(cfg.gallery)
    return Scored(metric, numbers, data, thresholds, chosen, subtitle, context, paths, sections)


def _own_thresholds(head: Mapping[str, Any], task: str) -> Any:
    """Those of the classes, or the similarity of an embedding; None leaves that to the best accuracy."""
    if task == "face_embed":
        return (head.get("verification") or {}).get("similarity")
    return head["thresholds"] or 0.5


def _save_answers(folder: Path, task: str, metric: Any) -> Path:
    import numpy as np

    from mbapps.files import replacing
    from mbapps.metrics.embeddings import write_embeddings
    from mbapps.metrics.results import encode_results

    if task == "face_embed":
        once = dict(metric.rows)
        files = [str(metric.truth.files[row]) for row in once]
        return write_embeddings(folder / "embeddings.npz", files, np.stack(list(once.values())))
    path = folder / "coco_results.json"
    with replacing(path) as temporary:
        temporary.write_bytes(encode_results(metric.truth, metric.rows))
    return path


def score_embeddings(cfg: DictConfig) -> Scored:
    """Score a file of embeddings, of whatever model, by the protocol of a data set."""
    from mbapps import app
    from mbapps.metrics.embeddings import read_embeddings
    from mbapps.predictions import Embedding

    data: Any = app.build(cfg.data, image_size=app.image_size(cfg), split=cfg.split)
    truth = data.truth(cfg.split)
    read = read_embeddings(cfg.predictions, truth)
    print_problems({**data.problems(), **read.problems})
    metric = app.build(cfg.task.metric)(truth)
    metric.update(read.rows.tolist(), [Embedding(vector) for vector in read.vectors])
    numbers = {**metric.compute(), **metric.conclude(cfg.score_thresh)}
    chosen = f"score_thresh={cfg.score_thresh}" if cfg.score_thresh is not None else OWN
    counts = {reason: len(places) for reason, places in read.problems.items()}
    context = {"data": data.lineage(), "predictions": str(cfg.predictions), "problems": counts}
    subtitle = f"{cfg.predictions} on the {cfg.split} split of {data.root}"
    return Scored(metric, numbers, data, cfg.score_thresh, chosen, subtitle, context)


def score_file(cfg: DictConfig) -> Scored:
    """Score a file of answers against the truth as it is written; boxes need neither torch nor a picture."""
    from mbapps import app

    if app.task_name(cfg) == "face_embed":
        return score_embeddings(cfg)
    from mbapps.metrics.results import read_results
    from mbapps.truth import open_truth

    data = open_truth(cfg)
    truth = data.table
    results = read_results(cfg.predictions, truth)
    print_problems({**truth.problems, **results.problems})
    metric = app.build(cfg.task.metric)(truth)
    metric.update(range(len(truth)), results.predictions)
    numbers = {**metric.compute(), "answers": results.boxes, "answers_skipped": results.skipped}
    if cfg.score_thresh is None:
        thresholds, chosen = metric.best_thresholds(), "the thresholds of best F1 on these very answers"
    else:
        thresholds, chosen = cfg.score_thresh, f"score_thresh={cfg.score_thresh}"
    counts = {reason: len(places) for reason, places in results.problems.items()}
    context = {"data": data.lineage(), "predictions": str(cfg.predictions), "problems": counts}
    subtitle = f"{cfg.predictions} against {data.source}"
    return Scored(metric, numbers, data, thresholds, chosen, subtitle, context)
