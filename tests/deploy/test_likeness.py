from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mbapps.deploy.likeness import alike, count_alike, told
from mbapps.predictions import Detections


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"label": 1, "score": 0.5}, {"label": 1, "score": 0.501}, True),
        ({"label": 1, "score": 0.5}, {"label": 1, "score": 0.51}, False),
        ({"label": 1, "score": 0.5}, {"label": 2, "score": 0.5}, False),
        ({"name": "cat", "present": True}, {"name": "cat", "present": False}, False),
        ({"box": [0.0, 300.0]}, {"box": [0.5, 300.0]}, True),
        ({"box": [0.0, 300.0]}, {"box": [0.7, 300.0]}, False),
        ({"box": [0.0]}, {"box": [0.0, 1.0]}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        (np.float64(0.5), np.float32(0.501), True),
        ([np.float64(0.5), 1], [0.501, 1], True),
        (0.5, 1, False),
        (1, 1.001, True),
        (300, 301, False),
        (True, 1, False),
        (0.5, "0.5", False),
        (0.5, [0.5], False),
        (0.5, None, False),
        (None, 0.5, False),
        (None, None, True),
        ([0.5, None], [0.5, None], True),
        ([0.5, None], [0.5, 0.5], False),
        ({"a": 1.0}, None, False),
        (float("nan"), float("nan"), False),
        (float("inf"), float("inf"), False),
        ({"parts": [{"a": 1.0}, {"a": 2.0}]}, {"parts": [{"a": 1.0}, {"a": 2.001}]}, True),
    ],
)
def test_alike(one: Any, two: Any, same: bool) -> None:
    assert alike(one, two, 1e-3) is same


def test_each_item_is_paired_once() -> None:
    twice = [{"score": 0.5}, {"score": 0.5}]
    assert count_alike(twice, twice[:1], 1e-3) == 1
    assert count_alike(twice, list(reversed(twice)), 1e-3) == 2
    assert count_alike([], twice, 1e-3) == 0


def test_what_is_told_starts_at_the_thresholds() -> None:
    found = Detections(np.zeros((2, 4)), np.array([0.9, 0.2]), np.array([0, 0]), ["cat"])
    assert [item["score"] for item in told(found, [0.3])] == [0.9]
    assert [item["score"] for item in told(found, None)] == [0.9, 0.2]
