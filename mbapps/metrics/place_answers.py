"""What was said of the place of each image, and what is fitted to it: temperature, radii, weight of neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mbapps.batches import UNKNOWN
from mbapps.locating import CELLS, HYBRID, NEIGHBOURS, Fitted
from mbapps.place_prediction import Place

from .average_precision import Floats

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

    def by(self, method: str) -> Guess:
        """Give the guess of one of `others`; else the answer itself."""
        return self.others.get(method, self.guess)


def answer_of(place: Place, own: int) -> Answer:
    """Keep what is to be measured of a place.

    Args:
        place: as a head said.
        own: row of the image's own cell in the finest partition, or UNKNOWN.
    """
    others = {method: _guess(one) for method, one in place.others.items()}
    return Answer(_guess(place), others, *_tempered(place, own))


def _tempered(place: Place, own: int) -> tuple[Floats | None, Floats | None]:
    """What other temperatures would make of the cells' answer."""
    if place.probabilities is None or place.cells is None:
        return None, None
    logs = np.log(np.maximum(place.probabilities, 1e-300)) / FACTORS[:, None]
    best = int(place.probabilities.argmax())
    powers = np.exp(logs - logs[:, best, None])
    total = powers.sum(axis=1)
    at = place.cells.distances_km(place.cells.lat[best, None], place.cells.lon[best, None])[0]
    surprise = None if own == UNKNOWN else np.log(total) - (logs[:, own] - logs[:, best])
    return surprise, powers @ at / total


def methods_of(answers: Sequence[Answer]) -> list[str]:
    """Methods that answered each image: none, or cells, neighbours and their hybrid, the answer itself."""
    known = answers[0].others if answers else {}
    return [*(method for method in WANTED if method in known), HYBRID] if known else []


def fit(
    answers: Sequence[Answer], errors_km: Callable[[str], Floats], fitted: Fitted, coverage: float
) -> Fitted:
    """Fit what the answers, made with `fitted`, leave to be fitted.

    Of cells alone: the temperature by which the images' own cells are likeliest, and the radius. With a geo-index: the
    weight of the neighbours, of those that were tried, by which the errors' logarithms are least, and all radii; the
    temperature stays. A radius is the least multiple of the spread that holds the truth of a share of `coverage` of new
    images of the same kind, on average over sets of images to fit on; too few images give none.

    Args:
        answers: N of them.
        errors_km: gives the error [N] of a method's answers.
        fitted: by which the answers were made.
        coverage: in (0, 1).

    Source: Guo et al., On Calibration of Modern Neural Networks (2017); Lei et al., Distribution-Free Predictive
    Inference for Regression (2018), section 5.2.
    """
    methods = methods_of(answers)
    if not methods:
        at = _best_factor(answers)
        spreads = np.array([_at(answer.spreads, at) for answer in answers])
        radius = _multiple(errors_km(CELLS), spreads, coverage)
        return replace(fitted, temperature=fitted.temperature * at, radius=_finite({CELLS: radius}))
    candidates = [method for method in answers[0].others if method not in methods]
    chosen = HYBRID
    if candidates:
        chosen = min(candidates, key=lambda each: float(np.log(np.maximum(errors_km(each), 1)).mean()))
        fitted = replace(fitted, weight=float(chosen))
    radii = {
        method: _multiple(errors_km(of), np.array([answer.by(of).spread for answer in answers]), coverage)
        for method, of in ((CELLS, CELLS), (NEIGHBOURS, NEIGHBOURS), (HYBRID, chosen))
    }
    return replace(fitted, radius=_finite(radii))


def _best_factor(answers: Sequence[Answer]) -> float:
    """The factor of the temperature by which the images' own cells are likeliest, 1 where none is known."""
    known = [answer.surprise for answer in answers if answer.surprise is not None]
    if not known:
        return 1.0
    mean = np.mean(known, axis=0)
    best = int(mean.argmin())
    if not 0 < best < len(FACTORS) - 1:
        return float(FACTORS[best])
    left, middle, right = mean[best - 1 : best + 2]  # the lowest point of a parabola through three
    shift = 0.5 * (left - right) / max(left - 2 * middle + right, 1e-12)
    return float(FACTORS[best] * (FACTORS[1] / FACTORS[0]) ** shift)


def _guess(place: Place) -> Guess:
    radius, spread = (math.nan if km is None else float(km) for km in (place.radius_km, place.spread_km))
    return Guess(float(place.lat), float(place.lon), float(place.score), radius, spread)


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
