"""Drawings of how alike pairs are: rates of accepts, and genuine beside impostor pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .plots import COLOURS, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


class Rates(NamedTuple):
    """A curve of true over false accepts."""

    far: Floats  # [R] rising, above 0
    tar: Floats  # [R]
    least_far: float  # below it the pairs are too few to tell


def roc(curves: Mapping[str, Rates]) -> Figure:
    """Draw TAR over FAR, which has a logarithmic axis; dotted where the pairs are too few to tell.

    Args:
        curves: rates by the name of the pairs they are of.
    """
    figure, (ax,) = new_figure(5.6, 4.0)
    lines = []
    for (far, tar, least), colour in zip(curves.values(), COLOURS, strict=False):
        sure = int(np.searchsorted(far, least))
        lines += ax.plot(far[sure:], tar[sure:], color=colour, linewidth=1.8)
        ax.plot(far[: sure + 1], tar[: sure + 1], color=colour, linewidth=1.4, linestyle=":")
    ax.set_xscale("log")
    lowest = min(
        (float(tar[far >= least].min(initial=1.0)) for far, tar, least in curves.values()), default=0.0
    )
    ax.set_ylim(np.floor(min(lowest, 0.9) * 5) / 5, 1.01)  # good models differ close to 1
    ax.set_xlabel("false accept rate", fontsize=9)
    ax.set_ylabel("true accept rate", fontsize=9)
    ax.legend(lines, list(curves), frameon=False, fontsize=9, loc="lower right")
    return figure


def histograms(edges: Floats, genuine: Floats, impostor: Floats, thresholds: Mapping[str, float]) -> Figure:
    """Draw how the similarities of genuine and of impostor pairs are spread, and thresholds between them.

    Args:
        edges: [B + 1] of the bins, rising.
        genuine: [B] genuine pairs in each.
        impostor: [B] impostor pairs in each.
        thresholds: similarities by name.
    """
    figure, (ax,) = new_figure(7.2, 4.0)
    for counts, name, colour in ((impostor, "two persons", COLOURS[3]), (genuine, "one person", COLOURS[0])):
        share = counts / max(float(counts.sum()), 1.0)
        ax.stairs(share, edges, fill=True, color=colour, alpha=0.3)
        ax.stairs(share, edges, color=colour, linewidth=1.4, label=name)
    for (name, value), dash in zip(thresholds.items(), ("-", "--", ":"), strict=False):
        ax.axvline(value, color=INK, linewidth=1.1, linestyle=dash, label=f"{name} {value:.3f}")
    ax.set_xlabel("similarity", fontsize=9)
    ax.set_ylabel("share of the pairs of a kind", fontsize=9)
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
