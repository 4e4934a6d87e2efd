"""How far from the truth images are placed: shares within distances, the median error, and whether radii hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import UNKNOWN, GeoTable
from mbapps.geo.cities import continents
from mbapps.geo.distance import great_circle_km
from mbapps.images import UInt8Image, side_by_side
from mbapps.locating import CELLS, HYBRID, NEIGHBOURS, Fitted
from mbapps.place_map import draw_map
from mbapps.place_prediction import Place

from .average_precision import Floats, interval, resamples

WITHIN_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent
NAMES = ("street", "city", "region", "country", "continent")
ABOUT_SHARES = (
    "Share of the images whose place is guessed to within a distance; between low and high lie 95 % of bootstrap "
    "samples of the images."
)
ABOUT_CONTINENTS = "By the continent of the truth, which is that of the nearest large city."
ABOUT_METHODS = (
    "Cells: the most probable one. Neighbours: the density of the photos of the geo-index that are most like the "
    "image. Hybrid: the density of both."
)
MAP_WIDTH = 520  # px: its marks are seen on a small picture too
FACTORS = np.geomspace(0.25, 4, 9)  # of the temperature, that are tried in fitting it
WANTED = (CELLS, NEIGHBOURS)  # answers beside the hybrid that are measured with it


class Guess(NamedTuple):
    """Where an image was placed."""

    lat: float
    lon: float
    score: float
    radius: float  # km, or NaN
    spread: float  # km, or NaN


class Answer(NamedTuple):
    """What was said of one image."""

    guess: Guess
    others: dict[str, Guess]  # by method
    surprise: Floats | None  # [T] -log of the probability of its own cell by FACTORS; None in no cell
    spreads: Floats | None  # [T] of the cells' answer by FACTORS, km


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
            others = {method: _guess(one) for method, one in place.others.items()}
            self.rows.append((int(row), Answer(_guess(place), others, *self._tempered(int(row), place))))

    def _tempered(self, row: int, place: Place) -> tuple[Floats | None, Floats | None]:
        """What other temperatures would make of the cells' answer."""
        if place.probabilities is None or place.cells is None:
            return None, None
        logs = np.log(np.maximum(place.probabilities, 1e-300)) / FACTORS[:, None]
        best = int(place.probabilities.argmax())
        powers = np.exp(logs - logs[:, best, None])
        total = powers.sum(axis=1)
        at = place.cells.distances_km(place.cells.lat[best, None], place.cells.lon[best, None])[0]
        labels = np.atleast_1d(self.truth.labels[row])
        own = int(labels[-1])  # in the finest partition
        surprise = None if own == UNKNOWN else np.log(total) - (logs[:, own] - logs[:, best])
        return surprise, powers @ at / total

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
        known = self.rows[0][1].others if self.rows else {}
        return [*(method for method in WANTED if method in known), HYBRID] if known else []

    def fit(self, fitted: Fitted, coverage: float) -> Fitted:
        """Fit what the answers, made with `fitted`, leave to be fitted.

        Of cells alone: the temperature by which the photos' own cells are likeliest, and the radius. With a geo-index:
        the weight of the neighbours, of those that were tried, by which the errors' logarithms are least, and all
        radii; the temperature stays. A radius is the least multiple of the spread that holds the truth of a share of
        `coverage` of new photos of the same kind, on average over sets of photos to fit on; too few photos give none.

        Source: Guo et al., On Calibration of Modern Neural Networks (2017); Lei et al., Distribution-Free Predictive
        Inference for Regression (2018), section 5.2.
        """
        candidates = [
            method for method in (self.rows[0][1].others if self.rows else {}) if method not in WANTED
        ]
        if not self.methods():
            at = self._best_factor()
            spreads = np.array([_at(answer.spreads, at) for answer in self._once().values()])
            radius = _multiple(self.errors()[0], spreads, coverage)
            return replace(fitted, temperature=fitted.temperature * at, radius=_finite({CELLS: radius}))
        chosen = HYBRID
        if candidates:
            chosen = min(
                candidates, key=lambda each: float(np.log(np.maximum(self.errors(each)[0], 1)).mean())
            )
            fitted = replace(fitted, weight=float(chosen))
        radii = {
            method: _multiple(self.errors(of)[0], self._spreads(of), coverage)
            for method, of in ((CELLS, CELLS), (NEIGHBOURS, NEIGHBOURS), (HYBRID, chosen))
        }
        return replace(fitted, radius=_finite(radii))

    def _best_factor(self) -> float:
        """The factor of the temperature by which the photos' own cells are likeliest, 1 where none is known."""
        known = [answer.surprise for answer in self._once().values() if answer.surprise is not None]
        if not known:
            return 1.0
        mean = np.mean(known, axis=0)
        best = int(mean.argmin())
        if not 0 < best < len(FACTORS) - 1:
            return float(FACTORS[best])
        left, middle, right = mean[best - 1 : best + 2]  # the lowest point of a parabola through three
        shift = 0.5 * (left - right) / max(left - 2 * middle + right, 1e-12)
        return float(FACTORS[best] * (FACTORS[1] / FACTORS[0]) ** shift)

    def _spreads(self, method: str) -> Floats:
        return np.array([_by(answer, method).spread for answer in self._once().values()])

    def _once(self) -> dict[int, Answer]:
        return dict(sorted(self.rows, key=lambda each: each[0]))

    def sections(self, numbers: Mapping[str, float], thresholds: Any, chosen: str) -> list[Any]:
        """The report's plots and tables."""
        from mbapps.plots_places import MOST_LINES, error_histogram, truths_and_guesses
        from mbapps.sections import Plot, Rows

        km, _, _, images = self.errors()
        guesses = np.array([answer.guess[:2] for answer in self._once().values()]).reshape(-1, 2)
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
        if methods := self.method_rows(numbers):
            parts.append(Rows("By method", methods, ABOUT_METHODS))
        columns = ["images", "median_error_km", *(f"share_within_{at}_km" for at in WITHIN_KM), "coverage"]
        by_continent = {
            name.partition("/")[2]: {
                column.replace("_", " "): numbers[key]
                for column in columns
                if (key := f"continent_{column}/{name.partition('/')[2]}") in numbers
            }
            for name in numbers
            if name.startswith("continent_images/")
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
        once = self._once()
        images = np.fromiter(once, np.int64, len(once))
        guesses = [_by(answer, method) for answer in once.values()]
        lat, lon, _, radii, _ = np.array(guesses, dtype=np.float64).reshape(-1, 5).T
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


def _guess(place: Place) -> Guess:
    radius, spread = (math.nan if km is None else float(km) for km in (place.radius_km, place.spread_km))
    return Guess(float(place.lat), float(place.lon), float(place.score), radius, spread)


def _by(answer: Answer, method: str) -> Guess:
    return answer.others.get(method, answer.guess)


def _at(spreads: Floats | None, factor: float) -> float:
    """A spread at a factor of the temperature between those that were tried."""
    return math.nan if spreads is None else float(np.interp(np.log(factor), np.log(FACTORS), spreads))


def _multiple(km: Floats, spreads: Floats, coverage: float) -> float:
    """The least multiple of spreads [N] that holds errors [N] with a share of `coverage`; infinite of too few."""
    ratios = np.sort((km / spreads)[np.isfinite(spreads)])
    rank = math.ceil((len(ratios) + 1) * coverage)
    return float(ratios[rank - 1]) if 0 < rank <= len(ratios) else math.inf


def _finite(radii: Mapping[str, float]) -> dict[str, float]:
    return {method: factor for method, factor in radii.items() if math.isfinite(factor)}
