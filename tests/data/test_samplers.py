"""How often rows are read, and that an epoch stays reproducible and equal for all processes."""

import numpy as np
import pytest

from mbapps.data.samplers import EpochSampler, repeats_by_class


def presence(*images, num_classes=3):
    table = np.zeros((len(images), num_classes), dtype=np.bool_)
    for row, classes in enumerate(images):
        table[row, list(classes)] = True
    return table


def test_repeats_are_met_exactly_on_average_and_within_one_each_epoch():
    repeats = np.array([1.0, 2.3, 0.4, 1.0, 5.5])
    sampler = EpochSampler(5, seed=3, shuffle=True, repeats=repeats)
    assert len(sampler) == 10  # 10.2 rounded: a step count Lightning can plan with
    totals = np.zeros(5)
    for epoch in range(400):
        sampler.set_epoch(epoch)
        rows = [row for _, row in sampler]
        assert len(rows) == 10
        counts = np.bincount(rows, minlength=5)
        assert (np.abs(counts - repeats * 10 / 10.2) < 1).all()
        totals += counts
    np.testing.assert_allclose(totals / 400, repeats * 10 / 10.2, atol=0.1)


def test_an_epoch_of_repeats_is_reproducible_and_shuffled():
    repeats = np.full(50, 1.5)
    first, second = (EpochSampler(50, seed=1, shuffle=True, repeats=repeats) for _ in range(2))
    assert list(first) == list(second)
    before = list(second)
    second.set_epoch(1)
    assert [row for _, row in second] != [row for _, row in before]
    assert [row for _, row in before] != sorted(row for _, row in before)


def test_processes_share_an_epoch_of_repeats():
    repeats = np.array([1.0, 3.0, 1.0, 2.0])
    parts = [
        [row for _, row in EpochSampler(4, seed=0, shuffle=True, rank=rank, world_size=2, repeats=repeats)]
        for rank in range(2)
    ]
    assert len(parts[0]) == len(parts[1]) == 4
    extra = np.bincount(parts[0] + parts[1], minlength=4) - repeats
    assert sorted(extra.tolist()) == [0, 0, 0, 1]  # seven rows for two processes: one comes twice


def test_repeat_factors_are_those_of_the_formula():
    table = presence([0], [0], [0], [0, 1], [0], [0], [0], [0, 2], [], [0])
    factors = repeats_by_class("repeat_factor", table, threshold=0.4)
    rare = np.sqrt(0.4 / 0.1)  # classes 1 and 2: on one of ten images
    np.testing.assert_allclose(factors, [1, 1, 1, rare, 1, 1, 1, rare, 1, 1])


def test_common_classes_are_not_repeated():
    assert repeats_by_class("repeat_factor", presence([0], [1], [2]), threshold=0.001).tolist() == [1, 1, 1]


def test_balance_spends_equal_parts_of_an_epoch_on_each_class():
    table = presence(*[[0]] * 90, *[[1]] * 9, [2])
    weights = repeats_by_class("class_balanced", table)
    assert weights.sum() == pytest.approx(100)
    per_class = weights @ table
    np.testing.assert_allclose(per_class, 100 / 3)


def test_balance_keeps_images_without_objects_as_a_class_of_their_own():
    weights = repeats_by_class("class_balanced", presence([0], [0], [1], [], [], num_classes=2))
    np.testing.assert_allclose(weights, np.array([0.5, 0.5, 1, 0.5, 0.5]) * 5 / 3)


def test_a_class_without_images_takes_no_part():
    weights = repeats_by_class("class_balanced", presence([0], [1]))  # class 2 is on none
    np.testing.assert_allclose(weights, [1, 1])


@pytest.mark.parametrize(
    ("sampling", "threshold", "message"),
    [
        ("balanced", 0.1, r"data.sampling must be null or one of .*, got 'balanced'"),
        ("repeat_factor", 0, r"data.repeat_threshold must be in \(0, 1\], got 0"),
        ("repeat_factor", 1.5, "got 1.5"),
    ],
)
def test_bad_settings(sampling, threshold, message):
    with pytest.raises(ValueError, match=message):
        repeats_by_class(sampling, presence([0]), threshold)
