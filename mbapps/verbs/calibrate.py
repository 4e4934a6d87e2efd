"""`mbapps calibrate`: thresholds for a model folder, chosen on images of the user's own."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.measuring import collect, other_views, print_problems

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Run the split through the model and put what it tells into model.json and CARD.md.

    Embeddings get the similarity from which on two faces count as one person's, with its 95 % interval, for a false
    accept rate. Boxes and attributes get each class's threshold of best F1, classifiers their temperature. Places get
    temperature and radii and, with a geo-index, the weight of its photos.
    """
    from mbapps import app
    from mbapps.deploy.saving import change_facts
    from mbapps.geo_index import fit_anew, fitted_numbers
    from mbapps.report import print_table, run_context, write_results

    task_name = app.task_name(cfg)
    split = cfg.split or ("test" if task_name in ("face_embed", "geo") and cfg.data.test else "val")
    if split not in ("val", "test"):
        raise ValueError(f"split must be val or test, got {cfg.split!r}")
    far = cfg.far
    if (far is not None) != (task_name == "face_embed"):
        wanted = "calibrate needs far=, such as far=1e-2" if far is None else "far= is for task=face_embed"
        raise ValueError(f"task={task_name}: {wanted}")
    if far is not None and (type(far) not in (int, float) or not 0 < far < 1):
        raise ValueError(f"far must be a number between 0 and 1, got {far!r}")
    if cfg.gallery is not None and task_name != "geo":
        raise ValueError(f"gallery= is for task=geo, not task={task_name}: leave it out")
    folder = app.run_folder(cfg)
    bundle = app.open_bundle(cfg)
    name, before = bundle.head_name, deepcopy(bundle.head_facts)
    data = app.build_data(cfg, bundle, split)
    print_problems(data.problems())
    print("".join(other_views(bundle.head_facts, data)), end="")
    task = app.build_task(cfg, bundle.network)
    if task_name == "geo":
        metric = fit_anew(cfg, folder, task, data, split, bundle)
    else:
        metric = collect(cfg, folder, task, data, split)
    if not task.trainer.is_global_zero:
        return
    print_problems({"image not read": list(data.broken)} if data.broken else {})
    if task_name == "geo":
        bundle.head_facts["settings"] = dict(task.head.settings)
        numbers = fitted_numbers(task.head, len(metric.truth))
    else:
        numbers = _choose(bundle, metric, far)
    lineage = data.lineage()
    bundle.head_facts["calibration"] = {
        "data": lineage["name"], "fingerprint": lineage["fingerprint"], "split": split,
        "images": len(metric.rows),
    }  # fmt: skip
    if hasattr(data, "face_crop"):  # what the threshold holds for
        bundle.head_facts.update(face_crop=data.face_crop, landmarks=data.landmarks is not None)
    fitted = {key: value for key, value in bundle.head_facts.items() if before.get(key) != value}
    facts = change_facts(cfg.model, lambda now: now["heads"][name].update(fitted))
    context = {**run_context(), "data": lineage, "model": str(cfg.model), "broken": list(data.broken)}
    results = write_results(folder, numbers, context)
    print_table(f"calibrate {task_name}", numbers, paths=[Path(cfg.model), results])
    if exports := facts.get("exports"):
        print(
            f"{', '.join(exports)} in exports/ hold what was set before; for programs without mbapps export again"
        )


def _choose(bundle: Any, metric: Any, far: float | None) -> dict[str, Any]:
    """Change the facts of the only head; give what was chosen, for the table."""
    from mbapps.metrics.operating import threshold_at_far

    head, facts = bundle.network.head(bundle.head_name), bundle.head_facts
    if far is not None:
        found = threshold_at_far(metric.all_pairs(), far, metric.resamples)
        facts["verification"] = {
            "similarity": found.threshold, "similarity_low": found.threshold_low,
            "similarity_high": found.threshold_high, "far": found.far, "tar": found.tar, "tar_low": found.tar_low,
            "tar_high": found.tar_high, "genuine_pairs": found.genuine_pairs,
            "impostor_pairs": found.impostor_pairs, "chosen": f"a false accept rate of {found.far:g}",
        }  # fmt: skip
        kept = {
            key: value
            for key, value in facts["verification"].items()
            if isinstance(value, str) or math.isfinite(value)  # an interval may be unknown; JSON knows no NaN
        }
        facts["verification"] = kept
        return {key: value for key, value in kept.items() if key != "chosen"}
    numbers: dict[str, Any] = {}
    if hasattr(head, "calibrate"):
        head.calibrate(metric)
        facts["settings"] = dict(head.settings)
        numbers["temperature"] = head.settings["temperature"]
    if hasattr(metric, "best_thresholds"):
        facts["thresholds"] = metric.best_thresholds().tolist()
        numbers |= {
            f"threshold/{name}": value
            for name, value in zip(facts["class_names"], facts["thresholds"], strict=True)
        }
    return numbers
