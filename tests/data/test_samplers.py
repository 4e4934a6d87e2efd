"""How often rows are read, and that an epoch stays reproducible and equal for all processes."""

import numpy as np
import pytest

from mbapps.data.samplers import EpochSampler, IdentitySampler, repeats_by_class


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


def batches_of(labels, *, groups=4, each=3, epoch=0, rank=0, world_size=1):
    """[batches, groups, each] rows."""
    sampler = IdentitySampler(
        np.array(labels), batch_size=groups * each, images_per_person=each, seed=7, rank=rank, world_size=world_size,
    )  # fmt: skip
    sampler.set_epoch(epoch)
    pairs = list(sampler)
    assert len(pairs) == len(sampler)
    assert {one for one, _ in pairs} == {epoch}
    return np.array([row for _, row in pairs]).reshape(-1, groups, each)


def people(*counts):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize(
    "labels",
    [
        people(*[3] * 8),
        people(*range(2, 30)),
        people(2, 2, 2, 2),
        people(80, *[4] * 40),
        np.concatenate([people(*[5] * 9), np.arange(100, 140)]),  # and people with one picture
        np.concatenate([people(*[5] * 9), np.full(50, -1)]),  # and pictures of nobody known
    ],
)
def test_batches_of_people(labels):
    partners = np.array([np.count_nonzero(labels == label) if label >= 0 else 1 for label in labels])
    for epoch in range(3):
        batches = batches_of(labels, epoch=epoch)
        assert set(batches.reshape(-1)) == set(range(len(labels)))  # all are read
        loose = np.count_nonzero(partners < 2)
        assert batches.size <= 3 * (sum(-(-n // 3) for n in np.unique(labels[partners > 1], return_counts=True)[1])
                                    + -(-loose // 3) + 3)  # and few twice  # fmt: skip
        shares = []
        for batch in batches:
            whole = [group for group in batch if (partners[group] > 1).all()]
            mixed = [group for group in batch if (partners[group] < 2).all()]
            assert len(whole) + len(mixed) == 4
            names = [labels[group[0]] for group in whole]
            assert len(set(names)) == len(names)
            for group in whole:
                assert (labels[group] == labels[group[0]]).all()
                assert len(set(group)) == min(3, partners[group[0]])
            shares.append(len(mixed))
        assert max(shares) - min(shares) <= 1  # spread over the batches


def test_a_person_with_most_pictures_does_not_fill_the_batches():
    labels = people(400, *[3] * 6)
    batches = batches_of(labels)
    for batch in batches:
        assert len({labels[group[0]] for group in batch}) == 4
    seen = {row for epoch in range(200) for row in batches_of(labels, epoch=epoch).reshape(-1)}
    assert len(seen) > 0.95 * len(labels)  # in time all are read


def test_few_people_are_repeated_in_a_batch():
    labels = people(9, 7)
    batches = batches_of(labels)
    assert set(batches.reshape(-1)) == set(range(16))
    assert all(len({labels[group[0]] for group in batch}) == 2 for batch in batches)


def test_pictures_of_nobody_known_alone():
    batches = batches_of(np.full(50, -1))
    assert set(batches.reshape(-1)) == set(range(50))
    assert batches.shape == (5, 4, 3)


def test_an_epoch_of_people_is_reproducible_and_shared():
    labels = people(*range(2, 40))
    first, second = (batches_of(labels, epoch=1) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, batches_of(labels, epoch=2)[: len(first)])
    parts = [batches_of(labels, rank=rank, world_size=3) for rank in range(3)]
    assert len({part.shape for part in parts}) == 1
    assert set(np.concatenate(parts).reshape(-1)) == set(range(len(labels)))


@pytest.mark.parametrize(
    ("batch_size", "each", "message"),
    [
        (10, 4, r"data\.batch_size=10 must be a multiple of data\.images_per_person=4, twice at least"),
        (4, 4, r"data\.batch_size=4 must be a multiple"),
        (8, 1, r"data\.images_per_person must be a whole number >= 2, or null for none, got 1"),
    ],
)
def test_batches_that_hold_no_people(batch_size, each, message):
    with pytest.raises(ValueError, match=message):
        IdentitySampler(people(4, 4), batch_size=batch_size, images_per_person=each, seed=0)
