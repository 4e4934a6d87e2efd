"""When two answers are alike: what is told of an image, item by item, but for rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def told(answer: Any, thresholds: Sequence[float] | None) -> list[Mapping[str, Any]]:
    """The items that predict would write of an answer; lists inside them, as a place's likeliest cells, count too."""
    answer = answer.above(thresholds) if thresholds and hasattr(answer, "above") else answer
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
