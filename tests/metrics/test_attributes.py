from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import AttributeTable
from mbapps.metrics.attributes import AttributeMetric
from mbapps.metrics.average_precision import Ranking
from mbapps.predictions import Attributes

NAMES = ("male", "hat", "beard")


def table(labels: list[list[int]], names: tuple[str, ...] = NAMES) -> AttributeTable:
    files = np.array([f"{row}.jpg" for row in range(len(labels))], dtype=np.str_)
    return AttributeTable(
        Path("faces"), files, np.array(labels, dtype=np.int8).reshape(-1, len(names)), names
    )


def measured(labels: list[list[int]], probs: list[list[float]], **settings: object) -> AttributeMetric:
    metric = AttributeMetric(table(labels), **settings)  # type: ignore[arg-type]
    metric.update(range(len(labels)), [Attributes(np.array(row), NAMES) for row in probs])
    return metric


def test_mean_over_the_attributes_that_have_an_ap() -> None:
    """No image has a beard; the one that might is unknown."""
    metric = measured(
        [[1, 0, 0], [0, 1, 0], [1, 1, -1], [0, 0, 0]],
        [[0.9, 0.8, 0.1], [0.1, 0.7, 0.2], [0.8, 0.6, 0.9], [0.2, 0.1, 0.3]],
    )
    numbers = metric.compute()
    assert numbers["AP/male"] == 1
    assert numbers["AP/hat"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert math.isnan(numbers["AP/beard"])
    assert numbers["mean_AP"] == pytest.approx((1 + 7 / 12) / 2)
    assert (numbers["base_rate/male"], numbers["base_rate/beard"]) == (0.5, 0)
    assert metric.conclude()["attributes_undefined"] == 1


def test_unknown_labels_count_nowhere() -> None:
    labels = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
    probs = [[0.6, 0.6, 0.6], [0.4, 0.4, 0.4], [0.9, 0.1, 0.5]]
    some, fewer = measured(labels, probs), measured(labels[:2], probs[:2])
    assert some.compute() == fewer.compute()
    assert some.by_attribute(0.5) == fewer.by_attribute(0.5)
    assert some.best_thresholds().tolist() == fewer.best_thresholds().tolist() == [0.6] * 3


def test_an_image_that_comes_twice_counts_once() -> None:
    metric = measured([[1, 1, 1], [0, 0, 0]], [[0.6] * 3, [0.7] * 3])
    before = metric.compute()
    metric.update([1], [Attributes(np.full(3, 0.7), NAMES)])
    assert metric.compute() == before


def test_balanced_accuracy_at_thresholds() -> None:
    metric = measured(
        [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], [[0.9] * 3, [0.4] * 3, [0.6] * 3, [0.1] * 3]
    )
    numbers = metric.conclude([0.5, 0.5, 0.5])
    assert numbers["balanced_accuracy/male"] == 0.5
    assert math.isnan(numbers["balanced_accuracy/beard"])
    assert numbers["mean_balanced_accuracy"] == 0.5
    assert metric.conclude([0.3, 0.5, 0.5])["balanced_accuracy/male"] == 0.75
    row = metric.by_attribute([0.3, 0.5, 0.5])["male"]
    assert (row["present"], row["said"], row["precision"], row["recall"]) == (2, 3, pytest.approx(2 / 3), 1)


@pytest.fixture
def grouped() -> AttributeMetric:
    """Hats are told well on women and by chance on men."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, size=(300, 3))
    probs = random.random((300, 3))
    women = labels[:, 0] == 0
    probs[women, 1] = labels[women, 1] * 0.5 + 0.5 * random.random(women.sum())
    return measured(labels.tolist(), probs.tolist(), groups=["male"], resamples=300)


def test_groups_are_measured_apart(grouped: AttributeMetric) -> None:
    numbers = grouped.conclude(0.5)
    labels, probs = grouped.truth.labels, np.stack([row for _, row in grouped.rows])
    for mark, group in (("yes", labels[:, 0] == 1), ("no", labels[:, 0] == 0)):
        ap = [Ranking(probs[group, of], labels[group, of] == 1).average_precision()[0] for of in (1, 2)]
        assert numbers[f"group_AP/male: {mark}"] == pytest.approx(np.mean(ap))  # male itself is left out
        assert numbers[f"group_images/male: {mark}"] == group.sum()
        low, high = (numbers[f"group_AP_{end}/male: {mark}"] for end in ("low", "high"))
        assert low < numbers[f"group_AP/male: {mark}"] < high
    gap = numbers["group_AP/male: no"] - numbers["group_AP/male: yes"]
    assert numbers["worst_group_gap"] == pytest.approx(gap)
    assert 0 < numbers["worst_group_gap_low"] < gap < numbers["worst_group_gap_high"]


def test_intervals_are_the_same_each_time(grouped: AttributeMetric) -> None:
    assert grouped.conclude(0.5) == grouped.conclude(0.5)


def test_a_group_that_nobody_is_of_has_no_gap() -> None:
    numbers = measured(
        [[1, 0, 1], [1, 1, 0]], [[0.5] * 3, [0.4] * 3], groups=["male"], resamples=10
    ).conclude()
    assert math.isnan(numbers["group_AP/male: no"])
    assert numbers["group_images/male: no"] == 0
    assert "worst_group_gap" not in numbers


def test_the_worst_are_those_given_the_least_probability() -> None:
    metric = measured([[1, 0, -1], [0, 0, 0], [1, 1, 1]], [[0.1, 0.1, 0.9], [0.2] * 3, [0.9] * 3])
    (row, caption), *_ = metric.worst(2)
    assert row == 0
    assert caption.startswith("male 0.10, in truth yes; hat 0.10, in truth no")
    assert caption.endswith(": 0.jpg")
    assert metric.answer(0, [0.05, 0.5, 0.95]).present.tolist() == [True, False, False]


def test_sections_name_each_attribute_and_group(grouped: AttributeMetric) -> None:
    numbers = {**grouped.compute(), **grouped.conclude(0.5)}
    curves, attributes, groups = grouped.sections(numbers, 0.5, "a plain 0.5")
    assert all(name in curves.html() for name in NAMES)
    assert "Yes and no at a plain 0.5." in attributes.html()
    assert list(groups.rows) == ["male: yes", "male: no"]
    assert list(groups.rows["male: yes"]) == ["images", "mean AP", "low", "high"]


def test_without_an_image_nothing_is_known() -> None:
    metric = AttributeMetric(table([[1, 0, 1]]), groups="male")
    assert math.isnan(metric.compute()["mean_AP"])
    assert math.isnan(metric.conclude()["mean_AP_low"])
    assert metric.best_thresholds().tolist() == [0.5] * 3
    assert metric.worst(5) == []
    assert len(metric.sections({**metric.compute(), **metric.conclude()}, 0.5, "0.5")) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"groups": ["female", "hat"]},
            r"task\.metric\.groups names female, but the attributes are male, hat, beard",
        ),
        ({"resamples": 0}, r"task\.metric\.resamples must be >= 1, got 0"),
    ],
)
def test_refusals(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttributeMetric(table([[1, 0, 1]]), **settings)  # type: ignore[arg-type]


def test_answers_must_have_the_attributes_of_the_truth() -> None:
    metric = AttributeMetric(table([[1, 0, 1]]))
    with pytest.raises(ValueError, match="the data has 3 attributes, the answers have 2"):
        metric.update([0], [Attributes(np.zeros(2), ("a", "b"))])
