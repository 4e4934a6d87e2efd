from __future__ import annotations

import math

import numpy as np
import pytest
from slow_pairs import slow_auc, slow_folds, slow_tar

from mbapps.metrics.curves import Curve, check_far, supports
from mbapps.metrics.judged_pairs import JudgedPairs


def judged(scores: list[float], same: list[int], folds: list[int] | None = None) -> JudgedPairs:
    """Pairs of which each has people of its own."""
    people = np.arange(2 * len(scores)).reshape(-1, 2)
    people[np.array(same) == 1, 1] = people[np.array(same) == 1, 0]
    where = np.zeros(len(scores), np.int64) if folds is None else np.array(folds)
    return JudgedPairs(np.array(scores), np.array(same) == 1, where, people)


SCORES, SAME = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1], [1, 1, 0, 1, 1, 0, 0, 0]


def test_rates_by_hand() -> None:
    curve = judged(SCORES, SAME).curve()
    assert curve.at_far(0.2) == (0.8, 0.5)  # at 0.7 a quarter of the impostors is accepted
    assert curve.at_far(0.25) == (0.4, 1.0)
    assert curve.rates_at(0.65) == (0.25, 0.5)
    assert curve.rates_at(0.7) == (0.25, 0.5)
    assert curve.rates_at(0.95) == (0, 0)
    assert curve.auc() == 14 / 16  # 0.7 is above 0.6 and 0.4
    assert curve.tar_at(np.array([0.2, 0.25, 1.0])).tolist() == [0.5, 1, 1]


def test_equal_error_rate_lies_between_points() -> None:
    """Accepting one pair after the other, (FAR, FRR) goes (0, 1), (0, .5), (.5, .5), …"""
    assert judged([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]).curve().eer() == 0.5
    assert judged([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]).curve().eer() == 0
    assert judged([0.5, 0.5], [1, 0]).curve().eer() == 0.5
    assert judged([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]).curve().eer() == 0.25  # from (0, .5) to (.5, 0)


def test_equal_scores_count_half_and_are_accepted_together() -> None:
    curve = judged([0.5, 0.5, 0.5, 0.1], [1, 0, 0, 0]).curve()
    assert curve.auc() == pytest.approx((0.5 + 0.5 + 1) / 3)
    threshold, tar = curve.at_far(0.5)
    assert threshold > 0.5 > threshold - 1e-12
    assert tar == 0


def test_a_share_of_nothing_is_undefined() -> None:
    curve = Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    assert math.isnan(curve.auc())
    assert math.isnan(curve.eer())
    only_genuine = judged([0.5, 0.4], [1, 1]).curve()
    assert math.isnan(only_genuine.auc())


@pytest.mark.parametrize("seed", range(5))
def test_rates_against_loops(seed: int) -> None:
    """Scores of one decimal, so that many are equal."""
    rng = np.random.default_rng(seed)
    same = rng.random(60) < 0.4
    scores = np.round(rng.normal(size=60) * 0.3 + 0.3 * same, 1)
    genuine, impostor = scores[same].tolist(), scores[~same].tolist()
    curve = judged(scores.tolist(), same.astype(int).tolist()).curve()
    assert curve.auc() == pytest.approx(slow_auc(genuine, impostor))
    for far in (0.1, 0.2, 0.29, 0.5):
        assert curve.at_far(far) == pytest.approx(slow_tar(genuine, impostor, far))


def test_weights_are_as_good_as_repetition() -> None:
    pairs = judged(SCORES, SAME)
    weights = np.array([2, 0, 1, 3, 1, 1, 2, 0])
    repeated = judged(np.repeat(SCORES, weights).tolist(), np.repeat(SAME, weights).tolist()).curve()
    weighted = pairs.curve(weights.astype(float))
    assert weighted.auc() == pytest.approx(repeated.auc())
    assert weighted.at_far(0.3)[1] == repeated.at_far(0.3)[1]


def test_best_threshold_is_midway() -> None:
    assert judged(SCORES, SAME).curve().best_threshold() == pytest.approx(0.35)
    assert judged([0.3, 0.2], [0, 1]).curve().best_threshold() == pytest.approx(0.3)  # none is as good as all
    assert judged([0.9, 0.5, 0.4, 0.3], [1, 1, 1, 1]).curve().best_threshold() == 0.3


def test_balanced_threshold_weighs_both_kinds_alike() -> None:
    """Two of nine impostors lie above a genuine pair: it is given up, unless both kinds weigh alike."""
    curve = judged([0.9, 0.8, 0.7, 0.6, *[0.1] * 7], [1, 0, 0, 1, *[0] * 7]).curve()
    assert curve.best_threshold() == pytest.approx(0.85)
    assert curve.best_threshold(balanced=True) == pytest.approx(0.35)


def test_view_2_by_hand() -> None:
    """Each fold is judged at the middle of the gap that the two others leave.

    For fold 0 the others have 0.7 | 0.65; for fold 1, 0.9 | 0.65; for fold 2, 0.7 | 0.5.
    """
    scores, same = [0.9, 0.5, 0.7, 0.4, 0.95, 0.65], [1, 0, 1, 0, 1, 0]
    folds = [0, 0, 1, 1, 2, 2]
    accuracy, thresholds = judged(scores, same, folds).by_fold()
    assert thresholds.tolist() == pytest.approx([(0.7 + 0.65) / 2, (0.9 + 0.65) / 2, (0.7 + 0.5) / 2])
    assert accuracy.tolist() == [1, 0.5, 0.5]


def test_of_equally_good_thresholds_the_highest() -> None:
    """Fold 1 leaves genuine 0.8, impostor 0.6, genuine 0.4: one error above 0.6, one below 0.4."""
    _, thresholds = judged([0.8, 0.6, 0.4, 0.7, 0.1], [1, 0, 1, 1, 0], [0, 0, 0, 1, 1]).by_fold()
    assert thresholds[1] == pytest.approx(0.7)


def test_folds_stay_in_the_order_of_the_list() -> None:
    accuracy, _ = judged([0.9, 0.1, 0.2, 0.8, 0.9, 0.1], [1, 0, 1, 0, 1, 0], [2, 2, 0, 0, 1, 1]).by_fold()
    assert accuracy.tolist() == [0, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_view_2_against_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    same = rng.random(80) < 0.5
    scores = np.round(rng.normal(size=80) * 0.3 + 0.4 * same, 1 + seed % 3)
    folds = np.repeat(np.arange(5), 16)
    accuracy, _ = judged(scores.tolist(), same.astype(int).tolist(), folds.tolist()).by_fold()
    assert accuracy.tolist() == pytest.approx(slow_folds(scores.tolist(), same.tolist(), folds.tolist()))


def test_a_fold_without_weight_is_left_out() -> None:
    pairs = judged([0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0], [0, 0, 1, 1])
    assert np.isnan(pairs.by_fold(np.array([1.0, 1, 0, 0]))[0]).all()  # the other has nothing to learn from


def test_samples_of_people_weigh_pairs() -> None:
    people = np.array([[0, 0], [0, 1], [1, 2]])
    pairs = JudgedPairs(
        np.array([0.9, 0.5, 0.1]), np.array([True, False, False]), np.zeros(3, np.int64), people
    )
    assert pairs.weights(np.array([2.0, 3, 0])).tolist() == [2, 6, 0]


def test_the_far_that_pairs_can_tell() -> None:
    check_far(0.01, 1000)
    assert supports(0.29, 35)
    with pytest.raises(
        ValueError, match=r"far=0.001 takes at least 10,000 impostor pairs .* has 3,000; .* 0.0033"
    ):
        check_far(0.001, 3000)
    with pytest.raises(ValueError, match=r"has 8; they support none"):
        check_far(0.5, 8)
    for far in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="far must lie between 0 and 1"):
            check_far(far, 1000)
