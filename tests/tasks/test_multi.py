"""One score of several heads."""

from __future__ import annotations

import pytest

from mbapps.tasks.multi import Part, mean_relative


def test_relative_scores_of_both_directions() -> None:
    parts = {
        "fine_grained": Part(list, "top1", floor=0.5, alone=0.9),
        "geo": Part(list, "-median_error_km", floor=10_000.0, alone=2_000.0),
    }
    numbers = {"fine_grained": {"top1": 0.7}, "geo": {"median_error_km": 10_000.0}}
    assert parts["fine_grained"].relative(numbers["fine_grained"]) == pytest.approx(0.5)
    assert parts["geo"].relative(numbers["geo"]) == 0
    assert mean_relative(parts, numbers) == pytest.approx(0.25)
    assert parts["geo"].relative({"median_error_km": 1_000.0}) > 1  # better than alone


def test_a_floor_that_is_no_worse() -> None:
    with pytest.raises(
        ValueError,
        match=r"heads\.geo\.alone=500 is no better than heads\.geo\.floor=200: they are numbers of median_er",
    ):
        Part(list, "-median_error_km", floor=200, alone=500).check("geo")
    with pytest.raises(ValueError, match=r"heads\.detection\.alone=0\.2 is no better"):
        Part(list, "AP", floor=0.2, alone=0.2).check("detection")


def test_a_weight_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"heads\.geo\.weight must be > 0, got 0"):
        Part(list, "-median_error_km", weight=0, floor=1.0, alone=0.0).check("geo")
