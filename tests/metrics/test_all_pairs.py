from __future__ import annotations

import numpy as np
import pytest
from slow_pairs import clusters, cosine, every_pair, slow_auc, slow_tar

from mbapps.metrics import all_pairs
from mbapps.metrics.all_pairs import AllPairs, edge
from mbapps.metrics.operating import threshold_at_far

STEP = 2**-20


@pytest.mark.parametrize("block", [1, 700, 1 << 21])
def test_counts_against_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a block; similarities of loops are rounded as those of blocks."""
    monkeypatch.setattr(all_pairs, "BLOCK", block)
    monkeypatch.setattr(all_pairs, "LEAST_ROWS", 1)
    vectors, labels = clusters()
    genuine, impostor = every_pair(vectors, labels)
    pairs = AllPairs(vectors, labels)
    curve = pairs.curve
    assert (pairs.num_genuine, pairs.num_impostor) == (len(genuine), len(impostor))
    assert (curve.num_genuine, curve.num_impostor) == (len(genuine), len(impostor))
    rounded = [[round(score / STEP) * STEP for score in kind] for kind in (genuine, impostor)]
    assert curve.auc() == pytest.approx(slow_auc(*rounded), abs=1e-12)
    for far in (0.01, 0.05, 0.3):
        threshold, tar = slow_tar(*rounded, far)
        assert curve.at_far(far) == pytest.approx((threshold - STEP / 2, tar), abs=1e-12)


def test_a_threshold_decides_alike_about_what_was_not_rounded() -> None:
    vectors, labels = clusters(seed=1)
    _, impostor = every_pair(vectors, labels)
    for value in AllPairs(vectors, labels).curve.values[::50]:
        far, _ = AllPairs(vectors, labels).curve.rates_at(value)
        assert far == sum(score >= value for score in impostor) / len(impostor)


@pytest.mark.parametrize("block", [1, 300, 1 << 21])
def test_rank_1_against_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "BLOCK", block)
    monkeypatch.setattr(all_pairs, "LEAST_ROWS", 1)
    vectors, labels = clusters(people=8, images=3, noise=1.5, seed=2)
    labels = np.append(labels, [8, 9])  # alone: in the gallery, not sought
    vectors = np.concatenate([vectors, vectors[:2] + 0.01])
    hits = []
    for i in range(24):
        others = [j for j in range(26) if j != i]
        best = max(others, key=lambda j: cosine(vectors[i], vectors[j]))
        hits.append(labels[best] == labels[i])
    assert 0 < np.mean(hits) < 1
    assert AllPairs(vectors, labels).rank1() == pytest.approx(np.mean(hits))


def test_a_model_that_tells_nothing_apart() -> None:
    pairs = AllPairs(np.ones((40, 3)), np.arange(40) // 2)
    assert (pairs.curve.auc(), pairs.curve.eer(), pairs.rank1()) == (0.5, 0.5, 0)
    threshold, tar = pairs.curve.at_far(0.1)
    assert threshold > 1
    assert tar == 0
    assert pairs.curve.best_threshold() > 1  # most pairs are impostors
    assert (pairs.resampled([0.1], 5)[1] == 0).all()


def test_a_threshold_between_neighbouring_cells_splits_neither() -> None:
    """Genuine pairs of cosine 1, impostors of a step less."""
    angle = np.arccos(1 - STEP)
    pairs = AllPairs(np.array([[1.0, 0], [1, 0], [np.cos(angle), np.sin(angle)]]), np.array([0, 0, 1]))
    assert pairs.curve.best_threshold() == pytest.approx(1 - STEP / 2, abs=1e-9)


def test_ends_of_the_scale() -> None:
    pairs = AllPairs(np.array([[1.0, 0], [1, 0], [-1, 0]]), np.array([0, 0, 1]))
    assert pairs.curve.values.tolist() == pytest.approx([1, -1], abs=STEP)
    assert pairs.curve.auc() == 1


def test_most_and_least_alike() -> None:
    vectors, labels = clusters(seed=3)
    genuine, impostor = every_pair(vectors, labels)
    pairs = AllPairs(vectors, labels)
    most, least = pairs.most_alike(7), pairs.least_alike(7)
    assert most.similarities()[:7] == pytest.approx(sorted(impostor, reverse=True)[:7], abs=STEP)
    assert least.similarities()[::-1][:7] == pytest.approx(sorted(genuine)[:7], abs=STEP)
    for ranked, same in ((most, False), (least, True)):
        for first, second, score in zip(ranked.first, ranked.second, ranked.similarities(), strict=True):
            assert (labels[first] == labels[second]) == same
            assert cosine(vectors[first], vectors[second]) == pytest.approx(score, abs=STEP)
    assert len(pairs.most_alike(10**9).cells) == len(impostor)
    assert len(pairs.least_alike(10**9).cells) == len(genuine)


def test_ties_too_many_to_hold_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "MOST", 100)
    pairs = AllPairs(np.ones((40, 3)), np.arange(40) // 2)
    assert len(pairs.most_alike(10).cells) == 0
    assert np.isnan(pairs.resampled([0.1], 5)[1]).all()


def test_a_sample_is_a_set_of_people() -> None:
    """Threshold and TAR of each sample against lists in which pairs stand as often as they weigh."""
    vectors, labels = clusters(people=10, images=4, seed=4)
    pairs, fars, count = AllPairs(vectors, labels), [0.02, 0.1], 6
    thresholds, tars = pairs.resampled(fars, count, seed=7)
    drawn = next(all_pairs.resamples(10, count, 7))
    every = [(i, j) for i in range(40) for j in range(i + 1, 40)]
    for row, weights in enumerate(drawn.astype(int)):
        genuine: list[float] = []
        impostor: list[float] = []
        for i, j in every:
            score = round(cosine(vectors[i], vectors[j]) / STEP) * STEP
            if labels[i] == labels[j]:
                genuine += [score] * weights[labels[i]]
            else:
                impostor += [score] * (weights[labels[i]] * weights[labels[j]])
        for column, far in enumerate(fars):
            threshold, tar = slow_tar(genuine, impostor, far)
            assert tars[row, column] == pytest.approx(tar)
            above = sum(score > thresholds[row, column] for score in impostor)
            assert above <= far * len(impostor)
            assert thresholds[row, column] <= threshold


def test_a_tail_is_as_good_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = clusters(people=40, images=4, seed=5)
    whole = AllPairs(vectors, labels).resampled([0.01, 0.05], 20)
    monkeypatch.setattr(all_pairs, "SMALL", 100)
    tail = AllPairs(vectors, labels).resampled([0.01, 0.05], 20)
    assert np.array_equal(whole[0], tail[0])
    assert np.array_equal(whole[1], tail[1])


def test_many_pairs_make_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "WORK", 1)
    monkeypatch.setattr(all_pairs, "LEAST_RESAMPLES", 20)
    vectors, labels = clusters()
    assert AllPairs(vectors, labels).resampled([0.1], 1000)[0].shape == (20, 1)


def test_no_image_and_no_pair_of_a_kind() -> None:
    assert np.isnan(AllPairs(np.zeros((0, 1)), np.zeros(0, np.int64)).curve.auc())
    alone = AllPairs(np.eye(3), np.arange(3))
    assert np.isnan(alone.rank1())
    assert np.isnan(alone.curve.auc())
    assert np.isnan(alone.resampled([0.5], 3)[1]).all()
    with pytest.raises(ValueError, match="no person is on two images"):
        threshold_at_far(alone, 0.5)
    one = AllPairs(np.eye(3), np.zeros(3, np.int64))
    assert len(one.most_alike(5).cells) == 0
    with pytest.raises(ValueError, match="has 0; they support none"):
        threshold_at_far(one, 0.5)


def test_threshold_at_far() -> None:
    vectors, labels = clusters(people=30, images=4, seed=6)
    genuine, impostor = every_pair(vectors, labels)
    found = threshold_at_far(AllPairs(vectors, labels), 0.01, resamples=200)
    assert sum(score >= found.threshold for score in impostor) <= 0.01 * len(impostor)
    assert sum(score >= found.threshold for score in genuine) / len(genuine) == found.tar
    assert found.threshold_low < found.threshold < found.threshold_high
    assert found.tar_low < found.tar < found.tar_high
    assert (found.genuine_pairs, found.impostor_pairs) == (len(genuine), len(impostor))
    with pytest.raises(ValueError, match=r"far=0.001 takes at least 10,000 impostor pairs"):
        threshold_at_far(AllPairs(vectors, labels), 0.001)


def test_edges_are_half_a_step_below() -> None:
    assert edge(np.array([0, 1 << 20])).tolist() == [-1 - STEP / 2, -STEP / 2]
