"""Drawings for reports, by matplotlib's objects: no window, no global state."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, PALE = "#000000", "#9aa4b24d", "#9aa4b280"  # INK becomes the page's text colour in a report
COLOURS = (
    "#3b82f6",
    "#f59e0b",
    "#10b981",
    "#ef4444",
    "#8b5cf6",
    "#06b6d4",
    "#ec4899",
    "#84cc16",
    "#a16207",
    "#0f766e",
)
MAX_CURVES = 20  # more can't be told apart
MAX_CELLS = 90  # rows of a confusion matrix: more would need letters too small to read
FEW_CELLS = 24  # rows with room for the counts themselves
FEW_POINTS = 30  # so few are marked one by one: a single one would be no line at all
LOG_SPREAD = 50  # numbers of one unit that spread further than this share a logarithmic axis

Floats = NDArray[np.float64]


def new_figure(width: float, height: float, num_axes: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure, in inches, of axes side by side, styled for a report."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(np.ravel(figure.subplots(1, num_axes, squeeze=False)))
    for ax in axes:
        ax.grid(color=GRID, linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(PALE)
        ax.tick_params(color=PALE, labelsize=9)
        ax.set_prop_cycle(color=COLOURS)
    return figure, axes


def curves(metrics_csv: str | Path) -> Figure:
    """Draw how training went, from the metrics.csv of Lightning's CSVLogger.

    Losses, validation's numbers and the learning rate get axes of their own, as far as the file has them;
    numbers above 1, such as kilometres, are kept apart from shares. Numbers per class ("val_AP/cat") are left
    out.
    """
    columns = _read_csv(Path(metrics_csv))
    time, unit = _time(columns)
    groups: dict[str, list[str]] = {
        "loss": [],
        "validation": [],
        "validation, other units": [],
        "learning rate": [],
    }
    for name, values in columns.items():
        if name in ("epoch", "step") or not np.isfinite(values).any():
            continue
        if name.startswith("lr"):  # "lr-AdamW/body" where parameters learn in groups, most of them alike
            alike = (
                np.array_equal(values, columns[other], equal_nan=True) for other in groups["learning rate"]
            )
            if not any(alike):
                groups["learning rate"].append(name)
        elif "/" in name:
            continue
        elif name.startswith("train") or "loss" in name:
            groups["loss"].append(name)
        elif name.startswith("val"):
            groups["validation" if np.nanmax(values) <= 1 else "validation, other units"].append(name)
    shown = {title: names for title, names in groups.items() if names}
    figure, axes = new_figure(3.6 * max(1, len(shown)), 3.0, max(1, len(shown)))
    if not shown:
        axes[0].set_title("nothing was logged", fontsize=10)
    for ax, (title, names) in zip(axes, shown.items(), strict=False):
        for name in names:
            there = np.isfinite(columns[name]) & np.isfinite(time)
            marker = "o" if there.sum() <= FEW_POINTS else ""
            ax.plot(time[there], columns[name][there], linewidth=1.6, marker=marker, markersize=3.5)
        ax.set_title(title, fontsize=11, loc="left")
        ax.set_xlabel(unit, fontsize=9)
        if title in ("loss", "validation, other units"):
            _log_if_wide(ax, np.concatenate([columns[name] for name in names]))
        _legend(
            ax, [name.removeprefix("val_") if title.startswith("val") else name for name in names], fontsize=8
        )
    return figure


def precision_recall(curves: Mapping[str, tuple[Floats, Floats]], ap: Mapping[str, float]) -> Figure:
    """Draw precision over recall of each class, and name them from the best AP to the worst.

    Of more than 20 classes, the 10 best and the 10 worst are named and the others lie pale behind them.

    Args:
        curves: recall [R] and precision [R] by class name.
        ap: average precision by class name; a class without it counts as 0.
    """
    known = {name: value if math.isfinite(value := ap.get(name, math.nan)) else 0.0 for name in curves}
    order = sorted(curves, key=lambda name: -known[name])
    half = MAX_CURVES // 2
    named = order if len(order) <= MAX_CURVES else [*order[:half], *order[-half:]]
    figure, (ax,) = new_figure(8.0, 4.8)
    for name in set(order) - set(named):
        ax.plot(*curves[name], color=PALE, linewidth=0.8)
    styles = [(colour, dash) for dash in ("-", (0, (4, 1.5))) for colour in COLOURS]
    lines = [
        ax.plot(*curves[name], color=colour, linestyle=dash, linewidth=1.6)[0]
        for name, (colour, dash) in zip(named, styles, strict=False)
    ]
    ax.set(xlim=(0, 1.01), ylim=(0, 1.02))
    ax.set_xlabel("recall", fontsize=9)
    ax.set_ylabel("precision", fontsize=9)
    texts = [f"{known[name]:.3f}  {name}" for name in named]
    if len(order) > MAX_CURVES:
        lines.insert(half, ax.plot([], [], color=PALE)[0])
        texts.insert(half, f"{len(order) - MAX_CURVES} more")
    if named:
        _legend(
            ax,
            texts,
            lines,
            fontsize=9,
            title="AP",
            alignment="left",
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
        )
    return figure


def reliability(confidence: Floats, hits: NDArray[np.bool_], bins: int) -> Figure:
    """Draw how often answers of each confidence were right; on the diagonal they mean what they say.

    Args:
        confidence: [N] in [0, 1].
        hits: [N], whether the answer was right.
        bins: equally wide ones.
    """
    row = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(row, minlength=bins)
    there = count > 0
    accuracy, said = (np.bincount(row, values, bins)[there] / count[there] for values in (hits, confidence))
    figure, (ax,) = new_figure(4.6, 4.0)
    ax.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    ax.bar((np.arange(bins)[there] + 0.5) / bins, accuracy, 0.9 / bins, color=COLOURS[0], alpha=0.35)
    ax.plot(said, accuracy, color=COLOURS[0], marker="o", markersize=4, linewidth=1.6)
    for x, y, number in zip(said, accuracy, count[there], strict=True):
        ax.annotate(f"{number:,}", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7)
    ax.set(xlim=(0, 1), ylim=(0, 1.08))
    ax.set_xlabel("probability of the answer", fontsize=9)
    ax.set_ylabel("share that was right", fontsize=9)
    return figure


def confusion(counts: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Draw how often each class was taken for each, coloured by the share of its row: blue right, red wrong.

    Classes that nowhere occur are left out; of more than MAX_CELLS, those with the fewest errors are too.
    Where there is room, the counts stand in their cells.

    Args:
        counts: [N, N] truth by answer.
        names: N names; the last may be the background, which is never right.
    """
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    if not len(used):
        figure, (ax,) = new_figure(3.6, 1.0)
        ax.set_title("nothing was counted", fontsize=10)
        return figure
    shown = np.sort(used[np.argsort(-errors[used], kind="stable")[:MAX_CELLS]])
    shares = counts[shown] / np.maximum(counts[shown].sum(axis=1, keepdims=True), 1)
    cells = np.empty((len(shown), len(shown), 4))
    right = np.eye(len(shown), dtype=bool)[..., None]
    cells[..., :3] = np.where(right, *(_rgb(colour) for colour in (COLOURS[0], COLOURS[3])))
    cells[..., 3] = np.sqrt(shares[:, shown])  # so that a rare confusion shows

    side = float(np.clip(9.2 / len(shown), 0.11, 0.5))  # inches
    figure, (ax,) = new_figure(1.6 + side * len(shown), 1.4 + side * len(shown))
    ax.grid(visible=False)
    ax.grid(which="minor", color=GRID, linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.imshow(cells, aspect="equal", interpolation="nearest")
    letters = float(np.clip(side * 60, 6, 9))
    texts = [names[index] for index in shown]
    for set_ticks in (ax.set_yticks, ax.set_xticks):
        set_ticks(np.arange(len(shown)), texts, fontsize=letters, parse_math=False)
        set_ticks(np.arange(len(shown) + 1) - 0.5, minor=True)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=2)
    ax.set_xlabel("answer", fontsize=9)
    ax.set_ylabel("truth", fontsize=9)
    ax.xaxis.set_label_position("top")
    if len(shown) <= FEW_CELLS:
        for row, column in np.argwhere(counts[np.ix_(shown, shown)]):
            text = f"{counts[shown[row], shown[column]]}"
            ax.text(column, row, text, ha="center", va="center", fontsize=min(letters, 8.0))
    return figure


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def _legend(ax: Axes, texts: Sequence[str], lines: Sequence[Any] | None = None, **style: Any) -> None:
    legend = ax.legend(lines or ax.get_lines(), [f" {text}" for text in texts], frameon=False, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a class name may hold a dollar sign


def _log_if_wide(ax: Axes, values: Floats) -> None:
    values = values[np.isfinite(values)]
    if values.min() > 0 and values.max() / values.min() > LOG_SPREAD:
        ax.set_yscale("log")


def _read_csv(path: Path) -> dict[str, Floats]:
    """Columns by name, NaN where a row says nothing."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        name: np.array([_number(row[name]) for row in rows]) for name in (rows[0] if rows else ()) if name
    }


def _number(text: str | None) -> float:
    try:
        return float(text or math.nan)
    except ValueError:
        return math.nan


def _time(columns: Mapping[str, Floats]) -> tuple[Floats, str]:
    """Where on the time axis each row lies: in epochs, as fractions of them, where the file lets us know."""
    length = len(next(iter(columns.values()), ()))
    step = columns.get("step", np.arange(length, dtype=float))
    epoch = columns.get("epoch", np.full(length, math.nan))
    both = np.isfinite(step) & np.isfinite(epoch)
    if not both.any():
        return step, "step"
    steps_per_epoch = np.max((step[both] + 1) / (epoch[both] + 1))
    return (step + 1) / steps_per_epoch, "epoch"
