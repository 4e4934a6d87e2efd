"""When two answers are alike: item by item but for rounding, or by what they mean, as of files in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mbapps.geo.distance import great_circle_km
from mbapps.ops.boxes import box_iou
from mbapps.place_prediction import Place
from mbapps.predictions import Attributes, Classification, Detections, Embedding

NEAR_SCORE = 0.1  # by which a score of the same thing may differ
NEAR_BOX = 0.7  # least overlap of the same box
NEAR_TIE = 0.8  # of the best probability: what has that share of it was nearly the best
NEAR_VECTOR = 0.9  # least cosine of embeddings of the same face
NEAR_KM = 25.0  # or NEAR_RADIUS of the radius that is told, if that is more
NEAR_RADIUS = 0.2


def judged(answer: Any, thresholds: Sequence[float] | None) -> Any:
    """An answer at thresholds, if there are any."""
    return answer.above(thresholds) if thresholds and hasattr(answer, "above") else answer


def told(answer: Any) -> list[Mapping[str, Any]]:
    """The items that predict would write of an answer; lists inside them, as a place's likeliest cells, count too."""
    return [part for item in answer.to_json() for part in _parts(item)]


def _parts(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """An item without the lists of items in it, and those.

    >>> _parts({"lat": 1.0, "cells": [{"cell": "1b"}, {"cell": "2c"}]})
    [{'lat': 1.0}, {'cell': '1b'}, {'cell': '2c'}]
    """
    inner = [
        key
        for key, value in item.items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    ]
    own = {key: value for key, value in item.items() if key not in inner}
    return [own, *(part for key in inner for part in item[key])]


def count_alike(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], tolerance: float
) -> int:
    """Count the items that have a like one on the other side, in whatever order; each is paired once.

    >>> count_alike([{"label": 1, "score": 0.5}], [{"label": 2, "score": 0.5}, {"label": 1, "score": 0.5001}], 1e-3)
    1
    """
    left = list(theirs)
    count = 0
    for item in ours:
        place = next((place for place, other in enumerate(left) if alike(item, other, tolerance)), None)
        if place is not None:
            del left[place]
            count += 1
    return count


def alike(one: Any, two: Any, tolerance: float) -> bool:
    """Tell whether two plain values are the same but for rounding: numbers may differ by 2 * tolerance of the size.

    The size of numbers is the greatest of their list, at least 1; whole numbers that stand alone may not differ.

    >>> alike(0.5, 0.501, 1e-3), alike(1, 2, 1.0), alike(0.5, None, 1e-3)
    (True, False, False)
    """
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(
            alike(value, two[key], tolerance) for key, value in one.items()
        )
    if _number(one) and _number(two):
        whole = isinstance(one, Integral) and isinstance(two, Integral)
        return bool(one == two) if whole else _near([one], [two], tolerance)
    if isinstance(one, list) and isinstance(two, list):
        if len(one) != len(two):
            return False
        if all(map(_number, [*one, *two])):
            return _near(one, two, tolerance)
        return all(alike(a, b, tolerance) for a, b in zip(one, two, strict=True))
    return type(one) is type(two) and bool(one == two)


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _near(one: Sequence[float], two: Sequence[float], tolerance: float) -> bool:
    first, second = np.array(one, dtype=float), np.array(two, dtype=float)
    size = max(1.0, float(np.abs(first).max(initial=0)))
    with np.errstate(invalid="ignore"):  # infinity less infinity is no number, and not near
        return bool((np.abs(first - second) <= 2 * tolerance * size).all())


def count_roughly_alike(ours: Any, theirs: Any) -> dict[str, tuple[int, int]]:
    """Count what two answers for one image say alike, and what they say; by attribute of such, else under "".

    Boxes of a class are alike if they overlap and are about as sure; classes and places if both have the same best one,
    or one that was nearly the best in `ours`; places also within a fifth of the radius; embeddings by their cosine.

    >>> ours, theirs = (Classification(np.log([*rest, 0.1]), "abc") for rest in ([0.48, 0.42], [0.2, 0.7]))
    >>> count_roughly_alike(ours, theirs), count_roughly_alike(theirs, ours)
    ({'': (1, 1)}, {'': (0, 1)})
    """
    if isinstance(ours, Attributes):
        near = np.abs(ours.probs - theirs.probs) <= NEAR_SCORE
        same = near & (ours.present == theirs.present)
        return {name: (int(one), 1) for name, one in zip(ours.class_names, same, strict=True)}
    if isinstance(ours, Classification):
        return {"": (int(_nearly_best(np.exp(ours.logits - ours.logits.max()), theirs.logits)), 1)}
    if isinstance(ours, Embedding):
        return {"": (int(ours.vector @ theirs.vector >= NEAR_VECTOR), 1)}
    if isinstance(ours, Place):
        far = float(great_circle_km(ours.lat, ours.lon, theirs.lat, theirs.lon))
        near = far <= max(NEAR_KM, NEAR_RADIUS * (ours.radius_km or 0.0))
        cells = ours.probabilities is not None and _nearly_best(ours.probabilities, theirs.probabilities)
        return {"": (int(near or cells), 1)}
    if isinstance(ours, Detections):
        overlap = box_iou(
            torch.from_numpy(ours.boxes).float(), torch.from_numpy(theirs.boxes).float()
        ).numpy()
        scores = np.abs(ours.scores[:, None] - theirs.scores) <= NEAR_SCORE
        alike_boxes = (overlap >= NEAR_BOX) & scores & (ours.labels[:, None] == theirs.labels)
        pairs = linear_sum_assignment(alike_boxes, maximize=True)
        return {"": (2 * int(alike_boxes[pairs].sum()), len(ours) + len(theirs))}
    one, two = told(ours), told(theirs)
    return {"": (2 * count_alike(one, two, NEAR_SCORE / 2), len(one) + len(two))}


def _nearly_best(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Whether the best of `theirs` has in `ours`, probabilities, nearly as much as the best there."""
    return bool(ours[theirs.argmax()] >= NEAR_TIE * ours.max())
