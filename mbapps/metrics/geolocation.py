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
from mbapps.images import UInt8Image, side_by_side
from mbapps.locating import HYBRID, Fitted
from mbapps.place_map import draw_map
from mbapps.place_prediction import Place

from .average_precision import Floats, interval, resamples
from .place_answers import Answer, answer_of, fit, methods_of

WITHIN_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent
MAP_WIDTH = 520  # px: its marks are seen on a small picture too


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
    DRAWN = "the answer is red, with its radius, and the truth green"

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
        self.rows: list[tuple[int, Answer]] = []

    def update(self, rows: Sequence[int], predictions: Sequence[Place]) -> None:
        """Add where some images were placed, given by their rows in the table.

        Raises:
            ValueError: a place is not finite or not on earth, or a radius is negative.
        """
        for row, place in zip(rows, predictions, strict=True):
            for one in (place, *place.others.values()):
                on_earth = math.isfinite(one.lon) and abs(one.lat) <= 90  # NaN is not
                if not on_earth or (one.radius_km is not None and one.radius_km < 0):
                    raise ValueError(
                        f"{self.truth.files[row]} was placed at {one.lat}, {one.lon} within {one.radius_km} km: a "
                        "place must be finite, its latitude in -90..90 and its radius >= 0"
                    )
            own = int(np.atleast_1d(self.truth.labels[row])[-1])  # in the finest partition
            self.rows.append((int(row), answer_of(place, own)))

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

        "_low" and "_high" of each number of `compute` hold 95 % of bootstrap samples of the images.
        By continent they are called "continent_share_within_750_km/Europe" and so on, with "continent_images/Europe",
        how many images are there; by method "method_share_within_750_km/cells" and so on, where there were several.
        "median_radius_km" is told where there are radii.

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
            numbers[f"continent_images/{name}"] = int(part.sum())
            numbers |= {f"continent_{key}/{name}": value for key, value in _numbers(km[part]).items()}
            numbers |= {
                f"continent_{key}": value
                for key, value in _intervals(f"/{name}", km[part], self.resamples).items()
            }
            if held is not None and (known := part[~np.isnan(radii)]).any():
                numbers[f"continent_coverage/{name}"] = float(held[known].mean())
        return numbers | self._by_method()

    def _by_method(self) -> dict[str, float]:
        """All numbers by method, with their intervals; none where there was one method alone."""
        numbers: dict[str, float] = {}
        for method in self.methods():
            km, _, radii, _ = self.errors(method)
            numbers |= {f"method_{key}/{method}": value for key, value in _numbers(km).items()}
            numbers |= {
                f"method_{key}": value for key, value in _intervals(f"/{method}", km, self.resamples).items()
            }
            held = _held(km, radii)
            if held is not None:
                numbers[f"method_coverage/{method}"] = float(held.mean())
                numbers[f"method_median_radius_km/{method}"] = float(np.median(radii[np.isfinite(radii)]))
        return numbers

    def methods(self) -> list[str]:
        """Methods that answered each image: none, or cells, neighbours and their hybrid, the answer itself."""
        return methods_of(list(self.answers().values()))

    def fit(self, fitted: Fitted, coverage: float) -> Fitted:
        """Fit temperature, radii and the weight of the neighbours to the answers; see `place_answers.fit`."""
        return fit(list(self.answers().values()), lambda method: self.errors(method)[0], fitted, coverage)

    def answers(self) -> dict[int, Answer]:
        """What was said of each image, by its row, rising."""
        return dict(sorted(self.rows, key=lambda each: each[0]))

    def sections(self, numbers: Mapping[str, float], thresholds: Any, chosen: str) -> list[Any]:
        """The report's plots and tables."""
        from .geolocation_report import sections

        return sections(self, numbers)

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
        lat, lon, score, radius, _ = dict(self.rows)[row].guess
        return Place(lat, lon, score, None if math.isnan(radius) else radius)

    def draw(self, row: int, image: UInt8Image) -> UInt8Image:
        """One image beside a map of its truth and of what was said of it."""
        truth = float(self.truth.lat[row]), float(self.truth.lon[row])
        return side_by_side(image, draw_map(self.answer(row), MAP_WIDTH, truth))

    def method_rows(self, numbers: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        """A row of numbers for each method; none where there was one method alone."""
        names = [
            *(f"share_within_{at}_km" for at in WITHIN_KM),
            "median_error_km",
            "coverage",
            "median_radius_km",
        ]
        return {
            method: {
                name.replace("share_within_", "").replace("_", " "): numbers[key]
                for name in names
                if (key := f"method_{name}/{method}") in numbers
            }
            for method in self.methods()
        }

    def errors(self, method: str = HYBRID) -> tuple[Floats, NDArray[np.str_], Floats, NDArray[np.int64]]:
        """Km [N] between truth and guess, continent [N] of the truth, radius [N] or NaN, and image rows [N], rising.

        Args:
            method: one of `others`; else the answer itself.
        """
        once = self.answers()
        images = np.fromiter(once, np.int64, len(once))
        guesses = [answer.by(method) for answer in once.values()]
        lat, lon, _, radii, _ = np.array(guesses, dtype=np.float64).reshape(-1, 5).T
        km = great_circle_km(self.truth.lat[images], self.truth.lon[images], lat, lon)
        return km, self.continents[images], radii, images

    def _said(self, row: int) -> str:
        return f"placed at {self.answer(row).text}"


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
