"""`mbapps benchmark budget.ms=…`: the grid measured, and what is told of it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mbapps.deploy.budget import Budget, Candidate, pick_runtime, precisions_of
from mbapps.deploy.quantize import BY_NNCF, import_nncf
from mbapps.deploy.runtimes import INT8
from mbapps.deploy.sessions import RUNTIMES, need
from mbapps.deploy.writers import MODULES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

LIMITS = ("ms", "macs", "mb")
CLASSES = 1000  # of ImageNet, where nothing else is asked for


def run_budget(cfg: DictConfig, asked: Asked, folder: Path) -> None:
    """Measure the paper's grid; print what fits, the most accurate first; write results.json and report.html.

    Ctrl-C ends it with the network at hand; what was measured until then is told and written.

    Raises:
        ValueError: nothing fits; the message has what comes nearest.
        ChildProcessError: a network could not be measured; the others are measured, told and written before.
    """
    from itertools import takewhile

    from rich.progress import track

    from mbapps.deploy.benchmark import failures, measure_by_turns
    from mbapps.deploy.budget import candidates, export_candidates
    from mbapps.report import print_columns, print_table, write_report, write_results
    from mbapps.sections import Plot, Preformatted, Rows
    from mbapps.sources import stop_at_interrupt

    budget, runtime, precisions, classes = asked
    found = candidates(classes, precisions)
    small = [one for one in found if one.excess(budget) <= 1]
    with tempfile.TemporaryDirectory() as place, stop_at_interrupt() as stop:

        def going(one: Candidate) -> bool:
            return not stop.is_set()

        exported = export_candidates(
            small, Path(place), runtime, classes, batch=cfg.batch, threads=cfg.threads
        )
        written = track(takewhile(going, exported), "exporting", len(small), transient=True)
        light = [one for one in written if one.excess(budget) <= 1]
        rounds = takewhile(going, light * cfg.rounds)
        turns = track(rounds, "measuring", len(light) * cfg.rounds, transient=True)
        measure_by_turns((one.case for one in turns if one.case is not None), float(cfg.seconds))
    left_out = failures((one.title, one.case) for one in light if one.case is not None)
    asked_all = cfg.precision is not None  # else what a runtime does not have is no failure
    failed = failures(
        (one.title, one.case) for one in light if one.case is not None and (asked_all or not one.refused)
    )
    light = [one for one in light if one.case is not None and one.case.took]
    fits = [one for one in light if one.excess(budget) <= 1]
    flat = {
        f"{one.name}_{name}": value
        for one in found
        for name, value in {**one.numbers(), "fits": None if one.unknown else int(one in fits)}.items()
        if value is not None
    }
    results = write_results(folder, flat, {
        **context([runtime]), "budget": str(budget), "runtime": runtime, "fits": [one.name for one in fits],
        "left_out": left_out, "stopped": stop.is_set(),
    })  # fmt: skip
    sections: list[Any] = [
        Rows("What fits, the most accurate first", {one.title: one.numbers() for one in fits}, bars=False),
        Rows("The whole grid", {one.title: one.numbers() for one in found}, bars=False),
    ]
    if light:
        sections.insert(0, Plot("Accuracy and latency", draw(light, fits, budget), PLOTTED))
    if left_out:
        sections.append(Preformatted("Left out", "\n".join(left_out)))
    how = f"{budget}, runtime={runtime} batch={cfg.batch}"
    how += "" if cfg.threads is None else f" threads={cfg.threads}"
    report = write_report(folder / "report.html", f"what fits {how}", sections)
    titles = ["alpha", "px", "precision", "top-1", "M adds", "p50 ms", "MB"]
    print_columns(f"{how}, the most accurate first", titles, [row(one) for one in fits])
    for reason in left_out:
        print(f"left out: {reason}")
    print_table("benchmark", {"grid": len(found), "fit": len(fits)}, paths=[results, report])
    print(TRAINED)
    end(stop.is_set(), failed)
    if not fits:
        nearest = min(found, key=lambda one: (one.case is None, one.excess(budget)))
        raise ValueError(
            f"nothing of the grid fits {budget}; {nearest.title}, comes nearest: {costs(nearest)}"
        )


TRAINED = "top-1 of 8 bits is of networks that were trained for them; quantised afterwards, some lose more"
PLOTTED = (
    "Top-1 on ImageNet of the released weights, in 8 bits of those trained for them, over the time that half of the "
    "runs of a batch take; hollow ones do not fit. Named are those that none is both faster and better than."
)


def several(value: Any) -> list[Any] | None:
    """Turn one, or a list of several, into a list without repetitions; None stays."""
    if value is None:
        return None
    return (
        list(dict.fromkeys(value)) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    )


def context(runtimes: Iterable[str]) -> dict[str, Any]:
    """How numbers of some runtimes came about: on the CPU, whatever else this machine has."""
    from mbapps.report import run_context

    packages = {RUNTIMES[name].package for name in runtimes if name in RUNTIMES}
    return {
        **run_context(),
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores",
        "packages": {package: version(package) for package in sorted(packages)},
    }


def end(stopped: bool, failed: Sequence[str]) -> None:
    """Leave with the exit code of Ctrl-C, if there was one, and a word on it.

    Raises:
        ChildProcessError: something could not be measured.
    """
    if stopped:
        print("stopped: the files hold what was measured until then", file=sys.stderr)
        sys.exit(130)
    if failed:
        raise ChildProcessError(f"{'; '.join(failed)}; the files hold what else was measured")


class Asked(NamedTuple):
    """What is to be measured, and what it may cost."""

    budget: Budget
    runtime: str
    precisions: list[str]
    classes: int


def asked_for(cfg: DictConfig) -> Asked:
    """Look at what was asked for before anything is written.

    Raises:
        ValueError: a limit is no number above 0, or there is more than one way to measure.
        ImportError: the runtime, or what quantises for it, is not installed.
    """
    for name in LIMITS:
        limit = cfg.budget[name]
        if limit is not None and (type(limit) not in (int, float) or not 0 < limit < float("inf")):
            raise ValueError(f"budget.{name} must be a number above 0, got {limit}")
    classes = CLASSES if cfg.budget.classes is None else cfg.budget.classes
    if type(classes) is not int or classes < 1:
        raise ValueError(f"budget.classes must be a whole number >= 1, got {classes}")
    for name in ("threads", "batch", "runtime"):
        if not isinstance(cfg[name], (int, str, type(None))):
            raise ValueError(f"a budget is measured with one {name}, got {cfg[name]}")
    runtime = pick_runtime(cfg.runtime)
    need(runtime, *MODULES[runtime])
    if cfg.threads is not None and not RUNTIMES[runtime].threads:
        raise ValueError(f"runtime={runtime} takes as many threads as it likes: leave threads= out")
    precisions = precisions_of(runtime, several(cfg.precision))
    if INT8 in precisions and runtime in BY_NNCF:
        import_nncf()
    return Asked(Budget(**{name: cfg.budget[name] for name in LIMITS}), runtime, precisions, classes)


def costs(one: Candidate) -> str:
    """What is known of a candidate, in words."""
    numbers = one.numbers()
    shown = {"p50_ms": "{:.3g} ms", "macs": "{:,} mult-adds", "megabytes": "{:.3g} MB"}
    return ", ".join(text.format(numbers[name]) for name, text in shown.items() if numbers[name] is not None)


def row(one: Candidate) -> list[str]:
    """A row of the printed table."""
    numbers = one.numbers()
    measured = [f"{numbers[name]:.3g}" for name in ("p50_ms", "megabytes")]
    return [f"{one.alpha:g}", str(one.side), one.precision, f"{one.top1}", f"{one.macs / 1e6:.1f}", *measured]


def draw(measured: Sequence[Candidate], fits: Sequence[Candidate], budget: Budget) -> Figure:
    """A point per candidate that was measured, and a line where the time is up."""
    from mbapps.plots import COLOURS, INK, new_figure

    figure, (ax,) = new_figure(7, 4)
    for colour, precision in zip(COLOURS, dict.fromkeys(one.precision for one in measured), strict=False):
        for inside in (True, False):
            points = [one for one in measured if one.precision == precision and (one in fits) is inside]
            times = [one.numbers()["p50_ms"] for one in points]
            face = colour if inside else "none"
            label = precision if inside else None
            ax.scatter(times, [one.top1 for one in points], facecolor=face, edgecolor=colour, label=label)
    best = 0.0
    for one in sorted(measured, key=lambda one: (one.numbers()["p50_ms"], -one.top1)):
        if one.top1 > best:
            best = one.top1
            ax.annotate(
                f"{one.alpha:g}@{one.side}", (one.numbers()["p50_ms"], one.top1), (-4, 3),
                textcoords="offset points", fontsize=6, ha="right",
            )  # fmt: skip
    if budget.ms is not None:
        ax.axvline(budget.ms, color=INK, linewidth=1)
    ax.set_xlim(left=0)
    ax.set_xlabel("milliseconds")
    ax.set_ylabel("top-1, %")
    ax.legend()
    return figure
