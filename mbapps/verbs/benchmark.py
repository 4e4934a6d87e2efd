"""`mbapps benchmark`: latency, size and memory of a model folder in each runtime, on this machine, or what fits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from omegaconf import DictConfig

    from mbapps.deploy.benchmark import Case
    from mbapps.sections import Section


def run(cfg: DictConfig) -> None:
    """Measure each case in a process of its own; print a table, write results.json and report.html.

    Ctrl-C ends it with the case at hand; what was measured until then is told and written.

    Raises:
        ValueError: nothing can be measured, or a setting is out of its range.
        ChildProcessError: a case failed; the others are measured, told and written before.
    """
    from itertools import takewhile

    from rich.progress import track

    from mbapps import app
    from mbapps.budget_verb import LIMITS, asked_for, context, end, run_budget, several
    from mbapps.deploy.benchmark import failures, find_cases, measure_by_turns
    from mbapps.models.folder import read_facts
    from mbapps.report import print_columns, print_table, write_report, write_results
    from mbapps.sections import Plot, Preformatted, Rows
    from mbapps.sources import stop_at_interrupt

    check(cfg)
    if any(cfg.budget[name] is not None for name in LIMITS):
        asked = asked_for(cfg)
        run_budget(cfg, asked, app.run_folder(cfg))
        return
    folder, model = app.run_folder(cfg), Path(cfg.model)
    cases, left_out = find_cases(
        model, read_facts(model), runtimes=several(cfg.runtime), precisions=several(cfg.precision),
        threads=several(cfg.threads) or [None], batches=several(cfg.batch) or [1], trust=cfg.trust,
    )  # fmt: skip
    if not cases:
        reason = "; ".join(left_out) or f"no file is in precision={cfg.precision}"
        raise ValueError(f"nothing of {model} can be measured: {reason}")
    rounds = [case for _ in range(cfg.rounds) for case in cases]
    with stop_at_interrupt() as stop:
        going = takewhile(lambda case: not stop.is_set(), rounds)
        measure_by_turns(track(going, "measuring", len(rounds), transient=True), float(cfg.seconds))
    failed = failures((case.title, case) for case in cases)
    left_out += failed
    left_out += [f"{case.title}: stopped before it" for case in cases if not case.took and not case.failed]
    cases = [case for case in cases if case.took]
    table = [(case, case.numbers()) for case in cases]
    print_columns("benchmark: latency in ms, size and peak memory in MB", *columns(table))
    for reason in left_out:
        print(f"left out: {reason}")
    flat = {f"{case.name}_{name}": value for case, numbers in table for name, value in numbers.items()}
    known = {name: value for name, value in flat.items() if value is not None}
    results = write_results(folder, known, {
        **context(case.runtime for case in cases),
        "model": str(model), "left_out": left_out, "stopped": stop.is_set(),
    })  # fmt: skip
    rows = {case.title: numbers for case, numbers in table}
    sections: list[Section] = [Rows("Measured", rows, ABOUT, bars=False)]
    if cases:
        sections.append(Plot("Latency", draw(cases), PLOTTED))
    if left_out:
        sections.append(Preformatted("Left out", "\n".join(left_out)))
    report = write_report(folder / "report.html", f"benchmark of {model}", sections)
    print_table("benchmark", {"cases": len(cases), "rounds": cfg.rounds}, paths=[results, report])
    end(stop.is_set(), failed)


ABOUT = (
    "Images of noise. p50_ms and p95_ms are of a batch: half and 95 % of the runs take no longer; images_per_second "
    "follows from p50_ms. Peak memory is that of a process, with Python and all that the runtime imports."
)
PLOTTED = "Half of the runs take this long, divided by the batch; the line ends where 95 % of them do, or at the edge."


def columns(table: Sequence[tuple[Case, dict[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the printed table; batch and threads are in it where they differ."""
    titles = ["", "p50", "p95", "img/s", "MB", "peak"]
    rows = [
        [
            " ".join(filter(None, [case.runtime, case.precision, case.part])),
            *map(short, numbers.values()),
        ]
        for case, numbers in table
    ]
    for title, values in (
        ("threads", [case.threads for case, _ in table]), ("batch", [case.batch for case, _ in table]),
    ):  # fmt: skip
        if len(set(values)) > 1:
            titles.insert(1, title)
            for row, value in zip(rows, values, strict=True):
                row.insert(1, str(value))
    return titles, rows


def short(value: float | None) -> str:
    """Three digits of a number, or all of its whole part.

    >>> short(0.41234), short(1234.5), short(None)
    ('0.412', '1234', '–')
    """
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def check(cfg: DictConfig) -> None:
    """Look at what was asked for before anything is opened.

    Raises:
        ValueError: a setting is out of its range.
    """
    from mbapps.budget_verb import LIMITS, several

    limits = [f"budget.{name}=" for name in LIMITS if cfg.budget[name] is not None]
    if cfg.model is None and not limits:
        raise ValueError(
            "benchmark measures a model folder, model=, or what fits a budget: budget.ms=, budget.macs= or budget.mb="
        )
    if cfg.model is not None and limits:
        raise ValueError(
            f"{' and '.join(limits)} is for networks that are yet to be trained: leave model= out"
        )
    if cfg.model is not None and cfg.budget.classes is not None:
        raise ValueError("budget.classes is for a budget, and a model has classes of its own: leave it out")
    for key in ("threads", "batch"):
        wanted = several(cfg[key])
        if wanted is None and key == "threads":
            continue
        if not wanted or any(type(value) is not int or value < 1 for value in wanted):
            raise ValueError(f"{key} must be a whole number >= 1, or a list of them, got {cfg[key]}")
    cores = os.cpu_count() or 1
    if max(several(cfg.threads) or [1]) > cores:
        raise ValueError(f"threads must be at most {cores}, the cores of this machine, got {cfg.threads}")
    for key in ("runtime", "precision"):
        if several(cfg[key]) == []:
            raise ValueError(f"{key} must be one or a list of them, or null, got an empty list")
    if type(cfg.seconds) not in (int, float) or not 0 < cfg.seconds <= 3600:
        raise ValueError(f"seconds must be a number above 0, at most 3600, got {cfg.seconds}")
    if type(cfg.rounds) is not int or cfg.rounds < 1:
        raise ValueError(f"rounds must be a whole number >= 1, got {cfg.rounds}")


def draw(cases: list[Case]) -> Figure:
    """A bar per case, as long as an image takes."""
    import numpy as np

    from mbapps.plots import COLOURS, INK, new_figure

    figure, (ax,) = new_figure(7, 0.8 + 0.36 * len(cases))
    runtimes = list(dict.fromkeys(case.runtime for case in cases))
    for place, case in enumerate(cases):
        middle, slow = np.percentile(case.took, [50, 95]) / case.batch
        colour = COLOURS[runtimes.index(case.runtime) % len(COLOURS)]
        ax.barh(place, middle, color=colour, height=0.7)
        ax.plot([middle, slow], [place, place], color=INK, linewidth=1)
    ax.set_yticks(range(len(cases)), [case.title for case in cases])
    ax.invert_yaxis()
    longest = max(float(np.percentile(case.took, 50)) / case.batch for case in cases)
    ax.set_xlim(0, 1.5 * longest)  # one slow run among many would make all bars short
    ax.set_xlabel("milliseconds an image")
    return figure
