"""How far from the truth images are placed: shares within distances, the median error, and whether radii hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import GeoTable
from mbapps.geo.cities import continents
from mbapps.geo.distance import great_circle_km
from mbapps.place_prediction import Place

from .average_precision import Floats, interval, resamples

WITHIN_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent
NAMES = ("street", "city", "region", "country", "continent")
ABOUT_SHARES = (
    "Share of the images whose place is guessed to within a distance; between low and high lie 95 % of bootstrap "
    "samples of the images."
)
ABOUT_CONTINENTS = "By the continent of the truth, which is that of the nearest large city."


class GeoMetric:
    """Collects the place of each image, then gives the shares within distances and what belongs to them.

    An image row that comes twice counts once. Distributed callers gather `rows`, which is plain and picklable.

    Args:
        truth: where each image was taken.
        resamples: bootstrap samples behind each interval, >= 1.

    Raises:
        ValueError: `resamples` is below 1, or the truth has a row without a place.
    """

    WORST = "The images placed farthest from the truth"

    def __init__(self, truth: GeoTable, *, resamples: int = 1000):
        if resamples < 1:
            raise ValueError(f"task.metric.resamples must be >= 1, got {resamples}")
        lost = ~(np.isfinite(truth.lat) & np.isfinite(truth.lon))
        if lost.any():
            raise ValueError(
                f"{int(lost.sum())} of {len(truth)} images, such as {truth.files[lost][0]}, have no place: there is "
                "nothing to measure their answers by; leave them out"
            )
        self.truth = truth
        self.resamples = resamples
        self.continents = continents(truth.lat, truth.lon)
        self.rows: list[
            tuple[int, tuple[float, float, float, float]]
        ] = []  # row; lat, lon, score, radius or NaN

    def update(self, rows: Sequence[int], predictions: Sequence[Place]) -> None:
        """Add where some images were placed, given by their rows in the table.

        Raises:
            ValueError: a place is not finite or not on earth, or a radius is negative.
        """
        for row, place in zip(rows, predictions, strict=True):
            radius = math.nan if place.radius_km is None else float(place.radius_km)
            on_earth = math.isfinite(place.lon) and abs(place.lat) <= 90  # NaN is not
            if not on_earth or radius < 0:
                raise ValueError(
                    f"{self.truth.files[row]} was placed at {place.lat}, {place.lon} within {place.radius_km} km: a "
                    "place must be finite, its latitude in -90..90 and its radius >= 0"
                )
            self.rows.append((int(row), (float(place.lat), float(place.lon), float(place.score), radius)))

    def compute(self) -> dict[str, float]:
        """Give "median_error_km", "share_within_1_km" and so on for 25, 200, 750 and 2500 km, and "coverage".

        Coverage is the share of the images whose truth lies within their radius, of those that have one; it is left
        out where none has.
        """
        km, _, radii, _ = self.errors()
        numbers = _numbers(km)
        held = _held(km, radii)
        return numbers if held is None else {**numbers, "coverage": float(held.mean())}

    def conclude(self, thresholds: Any = None) -> dict[str, float]:
        """Give what is asked for once, not after each epoch: intervals, and all numbers by continent.

        "_low" and "_high" of each number of `compute` hold 95 % of bootstrap samples of the images. By continent they
        are called "share_within_750_km/Europe" and "share_within_750_km_low/Europe", with "images/Europe", how many
        images are there. "median_radius_km" is told where there are radii.

        Args:
            thresholds: not used: a place has none.
        """
        km, there, radii, _ = self.errors()
        numbers = _intervals("", km, self.resamples)
        held = _held(km, radii)
        if held is not None:
            spread = _spread(held.astype(np.float64), self.resamples)
            numbers["coverage_low"], numbers["coverage_high"] = interval(spread)
            numbers["median_radius_km"] = float(np.median(radii[np.isfinite(radii)]))
        for name in sorted(set(there.tolist())):
            part = there == name
            numbers[f"images/{name}"] = int(part.sum())
            numbers |= {f"{key}/{name}": value for key, value in _numbers(km[part]).items()}
            numbers |= _intervals(f"/{name}", km[part], self.resamples)
            if held is not None and (known := part[~np.isnan(radii)]).any():
                numbers[f"coverage/{name}"] = float(held[known].mean())
        return numbers

    def sections(self, numbers: Mapping[str, float], thresholds: Any, chosen: str) -> list[Any]:
        """The report's plots and tables."""
        from mbapps.plots_places import MOST_LINES, error_histogram, truths_and_guesses
        from mbapps.sections import Plot, Rows

        km, _, _, images = self.errors()
        guesses = np.array([guess[:2] for _, guess in sorted(dict(self.rows).items())]).reshape(-1, 2)
        drawn = f" {MOST_LINES} of {len(km):,} are drawn." if len(km) > MOST_LINES else ""
        parts: list[Any] = [
            Plot(
                "Truth and guess",
                truths_and_guesses(self.truth.lat[images], self.truth.lon[images], guesses[:, 0], guesses[:, 1], km),
                f"Each truth is joined with its guess by the shortest way, green for near and red for far.{drawn}",
            ),
            Plot(
                "Errors", error_histogram(km, WITHIN_KM, numbers["median_error_km"]),
                f"Dotted at {', '.join(map(str, WITHIN_KM))} km.",
            ),
            Rows("Shares within", self._table(numbers), ABOUT_SHARES),
        ]  # fmt: skip
        columns = ["images", "median_error_km", *(f"share_within_{at}_km" for at in WITHIN_KM), "coverage"]
        by_continent = {
            name.partition("/")[2]: {
                column.replace("_", " "): numbers[key]
                for column in columns
                if (key := f"{column}/{name.partition('/')[2]}") in numbers
            }
            for name in numbers
            if name.startswith("images/")
        }
        return [*parts, Rows("By continent", by_continent, ABOUT_CONTINENTS)] if by_continent else parts

    def worst(self, count: int, thresholds: Any = None) -> list[tuple[int, str]]:
        """Image rows of the largest errors, with what was wrong."""
        km, there, _, images = self.errors()
        told = []
        for place in np.argsort(-km, kind="stable")[:count].tolist():
            row = int(images[place])
            where = f"{self.truth.lat[row]:.2f}, {self.truth.lon[row]:.2f} ({there[place]})"
            told.append(
                (row, f"{km[place]:,.0f} km from {where}, {self._said(row)}: {self.truth.files[row]}")
            )
        return told

    def answer(self, row: int, thresholds: Any = None) -> Place:
        """What was said of one image."""
        lat, lon, score, radius = dict(self.rows)[row]
        return Place(lat, lon, score, None if math.isnan(radius) else radius)

    def errors(self) -> tuple[Floats, NDArray[np.str_], Floats, NDArray[np.int64]]:
        """Km [N] between truth and guess, continent [N] of the truth, radius [N] or NaN, and image rows [N], rising."""
        once = dict(sorted(self.rows))
        images = np.fromiter(once, np.int64, len(once))
        lat, lon, _, radii = np.array(list(once.values()), dtype=np.float64).reshape(-1, 4).T
        km = great_circle_km(self.truth.lat[images], self.truth.lon[images], lat, lon)
        return km, self.continents[images], radii, images

    def _said(self, row: int) -> str:
        return f"placed at {self.answer(row).text}"

    @staticmethod
    def _table(numbers: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        rows = {}
        for at, name in zip(WITHIN_KM, NAMES, strict=True):
            key = f"share_within_{at}_km"
            ends = {end: numbers.get(f"{key}_{end}") for end in ("low", "high")}
            rows[f"{name}, {at} km"] = {"share": numbers[key], **ends}
        if "coverage" in numbers:
            ends = {end: numbers.get(f"coverage_{end}") for end in ("low", "high")}
            rows["the radius of each"] = {"share": numbers["coverage"], **ends}
        return rows


def _numbers(km: Floats) -> dict[str, float]:
    """Median and shares of errors [N]; NaN of none."""
    if not len(km):
        return {"median_error_km": math.nan} | {f"share_within_{at}_km": math.nan for at in WITHIN_KM}
    shares = {f"share_within_{at}_km": float((km <= at).mean()) for at in WITHIN_KM}
    return {"median_error_km": float(np.median(km)), **shares}


def _intervals(suffix: str, km: Floats, count: int) -> dict[str, float]:
    """The 95 % intervals of median and shares of errors [N], under their names."""
    columns = {"median_error_km": _medians(km, count)}
    columns |= {f"share_within_{at}_km": _spread((km <= at).astype(np.float64), count) for at in WITHIN_KM}
    numbers = {}
    for name, spread in columns.items():
        numbers[f"{name}_low{suffix}"], numbers[f"{name}_high{suffix}"] = interval(spread)
    return numbers


def _spread(values: Floats, count: int) -> Floats:
    """[count] means of values [N] in bootstrap samples."""
    if not len(values):
        return np.zeros(0)
    return np.concatenate([weights @ values / len(values) for weights in resamples(len(values), count)])


def _medians(values: Floats, count: int) -> Floats:
    """[count] medians of values [N] in bootstrap samples."""
    if not len(values):
        return np.zeros(0)
    order = np.sort(values)
    parts = []
    for weights in resamples(len(values), count):
        upto = np.cumsum(weights, axis=1)
        low, high = ((upto < rank).sum(axis=1) for rank in ((len(values) + 1) // 2, len(values) // 2 + 1))
        parts.append((order[low] + order[high]) / 2)
    return np.concatenate(parts)


def _held(km: Floats, radii: Floats) -> NDArray[np.bool_] | None:
    """Whether each radius holds the truth, of those images that have one; None where none has."""
    known = ~np.isnan(radii)
    return km[known] <= radii[known] if known.any() else None
