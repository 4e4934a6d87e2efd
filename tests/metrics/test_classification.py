"""Numbers of classification against slow restatements and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import LabelTable
from mbapps.metrics.classification import ClassificationMetric, calibration_error, log_softmax
from mbapps.predictions import Classification


def truth(labels: list[int], num_classes: int) -> LabelTable:
    files = np.array([f"{row}.jpg" for row in range(len(labels))])
    names = tuple(f"class {label}" for label in range(num_classes))
    return LabelTable(Path(), files, np.array(labels, dtype=np.int32), names)


def measured(logits: np.ndarray, labels: list[int]) -> ClassificationMetric:
    table = truth(labels, logits.shape[1])
    metric = ClassificationMetric(table)
    metric.update(
        range(len(labels)), [Classification(row, table.class_names) for row in logits.astype(np.float32)]
    )
    return metric


def test_numbers_equal_a_slow_restatement() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 200).tolist()
    logits = rng.normal(size=(200, 8))
    logits[np.arange(200), labels] += 1.5
    numbers = measured(logits, labels).compute()
    hits1 = [int(np.argsort(-row)[0]) == label for row, label in zip(logits, labels, strict=True)]
    hits5 = [label in np.argsort(-row)[:5] for row, label in zip(logits, labels, strict=True)]
    assert numbers["top1"] == pytest.approx(np.mean(hits1))
    assert numbers["top5"] == pytest.approx(np.mean(hits5))
    by_class = [
        np.mean([hit for hit, of in zip(hits1, labels, strict=True) if of == label]) for label in range(8)
    ]
    assert numbers["mean_class_accuracy"] == pytest.approx(np.mean(by_class))
    assert [numbers[f"accuracy/class {label}"] for label in range(8)] == pytest.approx(by_class)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert numbers["nll"] == pytest.approx(-np.log(probs[np.arange(200), labels]).mean(), rel=1e-5)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (probs.max(axis=1) > low) & (probs.max(axis=1) <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(np.array(hits1)[inside].mean() - probs.max(axis=1)[inside].mean())
    assert numbers["ece"] == pytest.approx(error, abs=1e-6)


def test_a_constant_answer_is_no_success() -> None:
    numbers = measured(np.zeros((4, 3)), [0, 1, 2, 0]).compute()
    assert numbers["top1"] == 0
    assert "top5" not in numbers  # three classes: it could not be missed


def test_an_image_that_comes_twice_counts_once_and_none_at_all_is_nan() -> None:
    metric = measured(np.eye(3) * 5, [0, 1, 1])
    metric.rows += metric.rows[:1]
    assert metric.compute()["top1"] == pytest.approx(2 / 3)
    assert np.isnan(ClassificationMetric(truth([0, 1], 2)).compute()["top1"])
    assert ClassificationMetric(truth([0, 1], 2)).best_temperature() == 1.0


def test_a_class_without_images_is_left_out_of_the_mean() -> None:
    numbers = measured(np.eye(3)[[0, 1]] * 5, [0, 0]).compute()
    assert numbers["mean_class_accuracy"] == pytest.approx(0.5)
    assert np.isnan(numbers["accuracy/class 2"])


def test_the_temperature_mends_what_was_made_too_sure() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 5)) * 1.5
    probs = np.exp(log_softmax(logits))
    labels = [int(rng.choice(5, p=row)) for row in probs]
    metric = measured(logits * 3, labels)
    assert metric.best_temperature() == pytest.approx(3.0, rel=0.05)
    assert measured(logits, labels).compute()["ece"] < 0.03 < metric.compute()["ece"]


def test_calibration_error_by_hand() -> None:
    assert calibration_error(
        np.array([0.95, 0.95, 0.15, 0.15]), np.array([True, True, False, False])
    ) == pytest.approx(0.1)


def test_confusion_worst_and_report() -> None:
    metric = measured(np.array([[4.0, 0], [3, 0], [0, 5]]), [0, 1, 1])
    assert metric.confusion().counts.tolist() == [[1, 0], [1, 1]]
    assert list(metric.confusion().largest(5)) == ["class 1 → class 0"]
    (row, caption), *_ = metric.worst(2)
    assert row == 1
    assert caption.startswith("class 1, given 0.05; said class 0, 0.95")
    titles = [section.title for section in metric.sections(metric.compute(), 0.5, "")]
    assert titles == ["Confusion", "Largest confusions", "Calibration"]
    assert "<svg" in metric.sections(metric.compute(), 0.5, "")[0].html()


def test_answers_of_another_model() -> None:
    metric = ClassificationMetric(truth([0], 3))
    with pytest.raises(ValueError, match="the data has 3 classes, the answers have 2"):
        metric.update([0], [Classification(np.zeros(2, np.float32), ("a", "b"))])
