"""What a training leaves behind: the model folder, its numbers and its report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .measuring import named, number_sections, of_head, print_methods, print_problems, without_classes

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .heads_training import Fit, Learner
    from .models.network import Network


def write_training(
    cfg: DictConfig,
    folder: Path,
    network: Network,
    learners: Mapping[str, Learner],
    fits: Mapping[str, Fit],
    started: float,
) -> None:
    """Write the model folder, results.json and report.html of a training, and print its table.

    Args:
        cfg: of the training.
        folder: of the run.
        network: with all heads; those of a model folder that others were added to are described as there.
        learners: the heads that were trained, measured by now.
        fits: of each of them.
        started: when, by the performance counter.
    """
    from .deploy.saving import describe, save_bundle
    from .plots import curves
    from .report import print_table, run_context, write_report, write_results
    from .sections import Plot, Preformatted

    context = run_context()
    several = "heads" in cfg
    broken = [message for one in learners.values() for message in one.data.broken]
    print_problems({"image not read": broken} if broken else {})
    lineages = {name: one.data.lineage() for name, one in learners.items()}
    teachers = {name: one.cfg.distill.teacher for name, one in learners.items() if one.cfg.distill.teacher}
    lineage, about = before(cfg)
    lineage["data"] = [*lineage["data"], *lineages.values()]
    lineage["teacher"] = ", ".join(map(str, teachers.values())) or lineage["teacher"]
    about |= {name: one.about() for name, one in learners.items()}
    facts = describe(network, about, lineage=lineage, command=context["command"])
    model = save_bundle(folder / "model", network, facts)
    shown = {fit.folder: fit for fit in fits.values()}.values()  # one of all heads, or one of each
    numbers: dict[str, Any] = {
        **_numbers(cfg, learners),
        "images_per_second": sum(fit.images for fit in shown) / sum(fit.seconds for fit in shown),
        "epochs": max(fit.epochs for fit in shown),
        "params": facts["params"], "macs": facts["macs"],
        **{key: facts[key] for key in ("passes", "face_passes") if key in facts},
        "seconds": time.perf_counter() - started,
    }  # fmt: skip
    problems = {name: _counts(one.data.problems()) for name, one in learners.items()}
    (first, *_) = learners
    context |= {
        "data": lineages if several else lineages[first], "problems": problems if several else problems[first],
        "broken": broken,
    }  # fmt: skip
    results = write_results(folder, numbers, context)
    sections = list(number_sections(numbers))
    for fit in shown:
        title = "Training" if len(shown) == 1 else f"{fit.folder.name}: training"
        sections.append(Plot(title, curves(fit.folder / "metrics.csv")))
    for name, one in learners.items():
        sections += of_head(name, one.sections()) if several else one.sections()
    sections.append(Preformatted("Configuration", (folder / "config.yaml").read_text(encoding="utf-8")))
    title = ", ".join(learners)
    report = write_report(folder / "report.html", f"{title}: training", sections, subtitle=str(folder))
    for one in learners.values():
        print_methods(one.test, one.numbers)
    print_table(f"train {title}", without_classes(numbers), paths=[model, report, results])


def _numbers(cfg: DictConfig, learners: Mapping[str, Learner]) -> dict[str, Any]:
    """All numbers of the heads; of several with their names, and one score of all."""
    from . import app

    if "heads" not in cfg:
        return dict(next(iter(learners.values())).numbers)
    from .tasks.multi import mean_relative

    parts = app.build_parts(cfg)
    val = {
        name: {key[4:]: value for key, value in one.numbers.items() if key.startswith("val_")}
        for name, one in learners.items()
    }
    test = {name: one.numbers for name, one in learners.items()}
    numbers: dict[str, Any] = {
        "relative": mean_relative(parts, test),
        "val_relative": mean_relative(parts, val),
    }
    for name, one in learners.items():
        numbers[f"{name}_relative"] = parts[name].relative(one.numbers)
        numbers |= named(name, one.numbers)
    return numbers


def _counts(problems: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {reason: len(places) for reason, places in problems.items()}


def before(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lineage and facts of the heads of the model folder that others were added to, or empty ones."""
    if "heads" not in cfg or cfg.model is None:
        return {"data": [], "weights": cfg.backbone.weights, "teacher": None}, {}
    from .models.folder import read_facts

    facts = read_facts(Path(cfg.model))
    lineage = {"data": [], "weights": None, "teacher": None, **(facts.get("lineage") or {})}
    return {**lineage, "model": str(cfg.model)}, dict(facts["heads"])
