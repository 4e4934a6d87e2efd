from __future__ import annotations

import math

import numpy as np
import pytest

from mbapps.metrics.average_precision import Ranking, interval, mean_ap_of_parts, resamples


def slow_ap(scores: list[float], truth: list[bool]) -> float:
    """The definition, score by score: precision times the recall gained there."""
    total, before, area = sum(truth), 0.0, 0.0
    for score in sorted(set(scores), reverse=True):
        said = [yes for other, yes in zip(scores, truth, strict=True) if other >= score]
        recall = sum(said) / total
        area += (recall - before) * sum(said) / len(said)
        before = recall
    return area


def slow_threshold(scores: list[float], truth: list[bool]) -> float:
    def f1(at: float) -> float:
        said = [yes for score, yes in zip(scores, truth, strict=True) if score >= at]
        return 2 * sum(said) / (len(said) + sum(truth))

    return max(sorted(set(scores), reverse=True), key=f1)


@pytest.mark.parametrize("values", [3, 20, 10_000])
def test_against_the_definition(values: int) -> None:
    """Few values make many ties."""
    random = np.random.default_rng(values)
    for _ in range(30):
        scores = random.integers(values, size=40) / values
        truth = random.random(40) < 0.3
        truth[random.integers(40)] = True
        ranking = Ranking(scores, truth)
        assert ranking.average_precision()[0] == pytest.approx(slow_ap(scores.tolist(), truth.tolist()))
        assert ranking.best_threshold() == slow_threshold(scores.tolist(), truth.tolist())


def test_equal_scores_are_worth_the_base_rate_in_any_order() -> None:
    for truth in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert Ranking(np.full(4, 0.3), np.array(truth, bool)).average_precision()[0] == 0.25


def test_weights_are_repeated_answers() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.integers(5, size=30) / 5, random.random(30) < 0.4
    weights = random.integers(0, 4, size=(20, 30))
    found = Ranking(scores, truth).average_precision(weights.astype(float))
    for row, of in zip(weights, found, strict=True):
        again = np.repeat(np.arange(30), row)
        assert of == pytest.approx(slow_ap(scores[again].tolist(), truth[again].tolist()))


def test_nothing_to_find() -> None:
    for scores in (np.zeros(0), np.array([0.2, 0.9])):
        ranking = Ranking(scores, np.zeros(len(scores), bool))
        assert math.isnan(ranking.average_precision()[0])
        assert ranking.best_threshold() == 0.5


def test_resamples_draw_as_many_images_as_there_are() -> None:
    drawn = np.concatenate(list(resamples(7, 500)))
    assert drawn.shape == (500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.mean() == 1
    assert drawn.var() == pytest.approx(6 / 7, abs=0.1)


def test_interval_is_that_of_the_mean_where_it_is_known() -> None:
    """AP of one positive among equals is the base rate of the sample, whose spread is binomial."""
    count = 400
    labels = (np.arange(count) < 100).astype(np.int8)[:, None]
    everything = [(np.ones(count, bool), np.ones(1, bool))]
    (value,), spread = mean_ap_of_parts(np.full((count, 1), 0.5), labels, everything, 2000)
    low, high = interval(spread[0])
    assert value == 0.25
    assert low == pytest.approx(0.25 - 1.96 * math.sqrt(0.25 * 0.75 / count), abs=0.006)
    assert high == pytest.approx(0.25 + 1.96 * math.sqrt(0.25 * 0.75 / count), abs=0.006)
    assert all(math.isnan(bound) for bound in interval(np.array([math.nan])))


def test_parts_without_an_attribute_are_nan() -> None:
    labels = np.array([[1], [0], [-1]], dtype=np.int8)
    parts = [
        (np.array([True, True, False]), np.ones(1, bool)),
        (np.array([False, True, True]), np.ones(1, bool)),
        (np.array([True, True, True]), np.zeros(1, bool)),
    ]
    values, spread = mean_ap_of_parts(np.array([[0.9], [0.1], [0.5]]), labels, parts, 10)
    assert values[0] == 1
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    assert spread.shape == (3, 10)
    assert np.isnan(spread[1:]).all()
    assert np.isnan(
        mean_ap_of_parts(np.zeros((0, 1)), labels[:0], [(np.zeros(0, bool), np.ones(1, bool))], 5)[1]
    ).all()
