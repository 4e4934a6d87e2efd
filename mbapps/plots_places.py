"""Drawings of places: a map of truths and guesses, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbapps.geo.distance import ways
from mbapps.geo.worldmap import land

from .plots import COLOURS, INK, PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mbapps.geo.cell_map import CellMap

MOST_LINES = 400  # more than this many hide each other
LEAST_KM, MOST_KM = 0.1, 20_100.0  # of the axis of errors
BINS = 60
SIDE = 9  # points along each side of a cell

Floats = NDArray[np.float64]


def world_axes(ax: Axes, lat: Floats, lon: Floats) -> None:
    """Draw land on axes of longitude and latitude, cut to what holds some places, in degrees."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    rings = [Path(np.concatenate([ring, ring[:1]]), closed=True) for ring in land()]
    ax.add_patch(PathPatch(Path.make_compound_path(*rings), facecolor=PALE, edgecolor="none"))
    south, north, west, east = -60.0, 85.0, -180.0, 180.0
    if len(lat):
        south, north = min(south, float(lat.min()) - 2), max(north, float(lat.max()) + 2)
    ax.set(xlim=(west, east), ylim=(max(-90, south), min(90, north)), aspect="equal")
    ax.set_xticks(range(-180, 181, 60), [f"{abs(step)}°{'W' if step < 0 else 'E' if step else ''}" for step in
                                         range(-180, 181, 60)])  # fmt: skip
    ax.set_yticks(range(-60, 61, 30), [f"{abs(step)}°{'S' if step < 0 else 'N' if step else ''}" for step in
                                       range(-60, 61, 30)])  # fmt: skip


def great_circles(lat: Floats, lon: Floats, other_lat: Floats, other_lon: Floats) -> list[Floats]:
    """Lines [P, 2] of longitude and latitude along the shortest ways between N places.

    One that crosses 180 degrees goes on beyond, and comes again, a turn of the earth away: a map from -180 to 180
    shows a part of each.
    """
    north, east = np.moveaxis(ways(lat, lon, other_lat, other_lon), -1, 0)
    lines = list(np.stack([np.unwrap(east, period=360, axis=1), north], axis=2))
    east_again = [line - [360, 0] for line in lines if line[:, 0].max() > 180]
    west_again = [line + [360, 0] for line in lines if line[:, 0].min() < -180]
    return lines + east_again + west_again


def truths_and_guesses(lat: Floats, lon: Floats, guess_lat: Floats, guess_lon: Floats, km: Floats) -> Figure:
    """Draw a map on which each truth is joined with its guess, coloured by how far apart they are.

    Of more than MOST_LINES, evenly spread ones are drawn.

    Args:
        lat: [N] degrees of the truth.
        lon: likewise.
        guess_lat: [N] degrees of the guess.
        guess_lon: likewise.
        km: [N] between them.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LogNorm

    figure, (ax,) = new_figure(9.2, 4.6)
    rows = (
        np.unique(np.linspace(0, len(lat) - 1, MOST_LINES).round().astype(int)) if len(lat) else np.arange(0)
    )
    lat, lon, guess_lat, guess_lon, km = (column[rows] for column in (lat, lon, guess_lat, guess_lon, km))
    world_axes(ax, np.concatenate([lat, guess_lat]), np.concatenate([lon, guess_lon]))
    norm = LogNorm(25, 10_000, clip=True)
    for far in (False, True):  # good guesses lie over bad ones
        those = (km > 750) != far
        if not those.any():
            continue
        pieces, values = [], []
        for line, value in zip(np.flatnonzero(those), km[those], strict=True):
            parts = great_circles(*(column[line : line + 1] for column in (lat, lon, guess_lat, guess_lon)))
            pieces += parts
            values += [value] * len(parts)
        lines: Any = LineCollection(pieces, cmap="RdYlGn_r", norm=norm, linewidths=0.7, alpha=0.6)
        lines.set_array(np.array(values))
        ax.add_collection(lines)
    ax.scatter(guess_lon, guess_lat, s=7, color=COLOURS[1], linewidths=0, label="guess", zorder=3)
    ax.scatter(lon, lat, s=7, color=COLOURS[0], linewidths=0, label="truth", zorder=3)
    ax.legend(frameon=False, fontsize=9, loc="lower left", markerscale=2)
    return figure


def cell_map(cells: CellMap, counts: NDArray[np.int64] | None = None) -> Figure:
    """Draw the outline of each of K cells on a map, coloured by how many photos lie in it, or plainly.

    Args:
        cells: K of them.
        counts: [K] photos in each; None: not known.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm

    figure, (ax,) = new_figure(9.2, 4.6)
    world_axes(ax, np.array([-88.0, 88.0]), np.zeros(2))
    outlines, rows = cell_outlines(cells.outlines(np.arange(len(cells))))
    drawn: Any = PolyCollection(outlines, linewidths=0.5, alpha=0.55)
    if counts is None:
        drawn.set(facecolor=COLOURS[0], edgecolor=COLOURS[0], alpha=0.35)
    else:
        least = max(1, int(counts.min()))
        drawn.set(
            cmap="viridis", norm=LogNorm(least, max(2 * least, int(counts.max(initial=1)))), edgecolor=INK
        )
        drawn.set_array(np.maximum(counts, 1)[rows])
        figure.colorbar(drawn, ax=ax, shrink=0.7, label="photos in training")
    ax.add_collection(drawn)
    return figure


def cell_outlines(corners: Floats) -> tuple[list[Floats], NDArray[np.int64]]:
    """Polygons [P, 2] of longitude and latitude, degrees, of K cells, and the cell of each.

    Sides follow the shortest ways. A cell that crosses 180 degrees comes twice, a turn of the earth apart, so that a
    map from -180 to 180 shows both parts; one that holds a pole reaches to it.

    Args:
        corners: [K, 4, 2] latitude and longitude, degrees.
    """
    after = np.roll(corners, -1, axis=1)
    (lat, lon), (other_lat, other_lon) = corners.reshape(-1, 2).T, after.reshape(-1, 2).T
    sides = ways(lat, lon, other_lat, other_lon, SIDE)
    for end, beside in ((0, 1), (-1, -2)):  # at a pole any longitude will do: that of the side's own meridian
        polar = np.abs(sides[:, end, 0]) > 90 - 1e-6
        sides[polar, end, 1] = sides[polar, beside, 1]
    rings = sides.reshape(len(corners), -1, 2)
    north, east = rings[..., 0], np.unwrap(rings[..., 1], period=360, axis=1)
    turned = np.abs(east[:, -1] - east[:, 0]) > 180  # round a pole
    outlines: list[Floats] = []
    rows: list[int] = []
    for row, (y, x) in enumerate(zip(north, east, strict=True)):
        ring = np.stack([x, y], axis=1)
        if turned[row]:
            pole = np.copysign(90, y.mean())
            ring = np.concatenate([ring, [[x[-1], pole], [x[0], pole]]])
        for turn in (-360, 0, 360):
            if ring[:, 0].max() + turn > -180 and ring[:, 0].min() + turn < 180:
                outlines.append(ring + [turn, 0])
                rows.append(row)
    return outlines, np.array(rows, dtype=np.int64)


def error_histogram(km: Floats, within: Sequence[float], median: float) -> Figure:
    """Draw how the errors, [N] km, are spread on a logarithmic axis, and what share lies within each distance.

    Args:
        km: [N].
        within: distances to mark.
        median: of the errors, also marked.
    """
    figure, (ax,) = new_figure(7.6, 3.8)
    edges = np.geomspace(LEAST_KM, MOST_KM, BINS + 1)
    shown = np.clip(km, LEAST_KM, MOST_KM)
    counts, _ = np.histogram(shown, edges)
    ax.stairs(counts / max(1, len(km)), edges, fill=True, color=COLOURS[0], alpha=0.35)
    ax.set_xscale("log")
    ax.set_xlabel("km between truth and guess", fontsize=9)
    ax.set_ylabel("share of the images", fontsize=9)
    up = ax.twinx()
    up.plot(np.sort(shown), np.arange(1, len(km) + 1) / max(1, len(km)), color=COLOURS[1], linewidth=1.6)
    up.set_ylim(0, 1.02)
    up.set_ylabel("share within", fontsize=9)
    up.spines[["top", "right", "left"]].set_visible(False)
    up.tick_params(labelsize=9)
    for distance in within:
        ax.axvline(distance, color=PALE, linewidth=1.0, linestyle=":")
    if np.isfinite(median):
        ax.axvline(max(median, LEAST_KM), color=INK, linewidth=1.1, label=f"median {median:,.0f} km")
        ax.legend(frameon=False, fontsize=9, loc="upper left")
    return figure
