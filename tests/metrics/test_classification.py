from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax

from mbapps.batches import LabelTable
from mbapps.metrics.classification import ClassificationMetric, calibration_error, log_softmax
from mbapps.predictions import Classification


def make_table(
    labels: list[int] | np.ndarray, num_classes: int, columns: list[int] | None = None
) -> LabelTable:
    files = np.array([f"{row}.jpg" for row in range(len(labels))], dtype=np.str_)
    names = tuple(f"class {label}" for label in range(num_classes))
    chosen = None if columns is None else np.array(columns)
    return LabelTable(Path(), files, np.array(labels, dtype=np.int32), names, columns=chosen)


def make_metric(
    logits: np.ndarray, labels: list[int] | np.ndarray, columns: list[int] | None = None
) -> ClassificationMetric:
    metric = ClassificationMetric(make_table(labels, len(columns or range(logits.shape[1])), columns))
    names = [f"column {column}" for column in range(logits.shape[1])]
    metric.update(range(len(logits)), [Classification(row.astype(np.float32), names) for row in logits])
    return metric


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray]:
    """Logits [200, 9] that know something, and labels; class 8 does not occur."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 200)
    logits = rng.normal(0, 1.5, (200, 9))
    logits[np.arange(200), labels] += 2
    return logits.astype(np.float32), labels


def slow(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The same numbers, image by image."""
    top1, top5, nll = [], [], []
    by_class: dict[int, list[bool]] = {}
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(logits.astype(np.float64), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda k: (-row[k], k))
        hit = order[0] == label
        top1.append(hit)
        top5.append(label in order[:5])
        probs = [math.exp(value) for value in row]
        probs = [value / sum(probs) for value in probs]
        nll.append(-math.log(probs[label]))
        by_class.setdefault(label, []).append(hit)
        bins.setdefault(math.ceil(max(probs) * 15), []).append((max(probs), hit))
    ece = sum(abs(sum(p for p, _ in part) - sum(h for _, h in part)) for part in bins.values()) / len(labels)
    shares = {label: sum(hits) / len(hits) for label, hits in by_class.items()}
    return {
        "top1": sum(top1) / len(top1), "top5": sum(top5) / len(top5), "nll": sum(nll) / len(nll), "ece": ece,
        "mean_class_accuracy": sum(shares.values()) / len(shares),
        **{f"accuracy/class {label}": share for label, share in shares.items()},
    }  # fmt: skip


def test_numbers_are_those_of_a_loop(world: tuple[np.ndarray, np.ndarray]) -> None:
    numbers = make_metric(*world).compute()
    assert math.isnan(numbers.pop("accuracy/class 8"))
    assert numbers == pytest.approx(slow(*world), abs=1e-9)
    assert 0.3 < numbers["top1"] < numbers["top5"] < 1


def test_accuracy_is_the_diagonal_of_the_confusion(world: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = world
    coarse = logits.round(0)  # many ties
    metric = make_metric(coarse, labels)
    counts = metric.confusion().counts
    assert counts.sum() == 200
    assert counts.sum(axis=1).tolist() == np.bincount(labels, minlength=9).tolist()
    assert metric.compute()["top1"] == pytest.approx(np.trace(counts) / 200)
    assert metric.compute() == pytest.approx(
        {**slow(coarse, labels), "accuracy/class 8": math.nan}, nan_ok=True
    )


def test_a_constant_answer_is_worth_chance() -> None:
    numbers = make_metric(np.zeros((20, 10)), [row % 10 for row in range(20)]).compute()
    assert numbers["top1"] == numbers["mean_class_accuracy"] == pytest.approx(0.1)
    assert numbers["top5"] == pytest.approx(0.5)
    assert numbers["nll"] == pytest.approx(math.log(10))


def test_top5_is_left_out_where_it_cannot_be_missed() -> None:
    assert "top5" not in make_metric(np.zeros((4, 5)), [0, 1, 2, 3]).compute()
    assert "top5" in make_metric(np.zeros((4, 6)), [0, 1, 2, 3]).compute()


def test_a_class_counts_as_much_as_another() -> None:
    logits = np.eye(2)[[0, 0, 0, 0]]
    numbers = make_metric(logits, [0, 0, 0, 1]).compute()
    assert numbers["top1"] == 0.75
    assert numbers["mean_class_accuracy"] == 0.5
    assert (numbers["accuracy/class 0"], numbers["accuracy/class 1"]) == (1, 0)


def test_no_images() -> None:
    metric = make_metric(np.zeros((0, 7)), [])
    numbers = metric.compute()
    assert {"top1", "top5", "mean_class_accuracy", "ece", "nll", "accuracy/class 6"} <= set(numbers)
    assert all(math.isnan(value) for value in numbers.values())
    assert metric.best_temperature() == 1
    assert metric.sections(numbers, 0.5, "") == []
    assert metric.worst(3) == []


def test_an_image_that_comes_twice_counts_once(world: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = world
    metric = make_metric(logits, labels)
    before = metric.compute()
    metric.update([3], [Classification(logits[3], metric.truth.class_names)])
    assert metric.compute() == pytest.approx(before, nan_ok=True)


def test_answers_of_another_size() -> None:
    metric = ClassificationMetric(make_table([0, 1], 2))
    with pytest.raises(ValueError, match="the data has 2 classes, the answers have 3"):
        metric.update([0], [Classification(np.zeros(3, np.float32), "abc")])


def test_only_mapped_columns_compete(world: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = world
    columns = [7, 0, 3]
    rows = np.flatnonzero(np.isin(labels, columns))
    own = np.array([columns.index(label) for label in labels[rows]])
    mapped, plain = make_metric(logits[rows], own, columns), make_metric(logits[rows][:, columns], own)
    assert mapped.compute() == pytest.approx(plain.compute())
    assert mapped.answer(0).to_json()[0]["name"].startswith("class")  # the data's names, not the model's


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_a_factor(factor: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (6000, 5))
    probs = np.exp(scipy_log_softmax(logits, axis=1))
    labels = (probs.cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1)  # drawn as the logits say
    metric = make_metric(logits * factor, labels)
    assert metric.best_temperature() == pytest.approx(factor, rel=0.05)
    mended = make_metric(logits * factor / metric.best_temperature(), labels).compute()
    assert mended["ece"] < 0.02
    assert mended["top1"] == metric.compute()["top1"]


def test_answers_that_are_all_right_are_not_made_certain() -> None:
    labels = np.arange(60) % 6
    logits = np.eye(6)[labels] * 4
    temperature = make_metric(logits, labels).best_temperature()
    own = np.exp(log_softmax(logits / temperature)).max(axis=1)
    assert own[0] == pytest.approx((60 + 1 / 6) / 61, abs=1e-3)


def test_log_softmax_is_scipys_and_does_not_overflow() -> None:
    logits = np.array([[1000.0, 0, -1000], [1, 2, 3]])
    assert log_softmax(logits) == pytest.approx(scipy_log_softmax(logits, axis=1))


def test_calibration_error_at_the_edges_of_bins() -> None:
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert calibration_error(np.array([1.0]), np.array([False])) == 1
    # 0.2 and 0.4 close the first two bins of five: each is one of its own
    error = calibration_error(np.array([0.2, 0.4]), np.array([True, False]), bins=5)
    assert error == pytest.approx((0.8 + 0.4) / 2)


def test_the_worst_come_first(world: tuple[np.ndarray, np.ndarray]) -> None:
    metric = make_metric(*world)
    logits, labels = world
    own = scipy_log_softmax(logits.astype(np.float64), axis=1)[np.arange(200), labels]
    worst = metric.worst(5)
    assert [row for row, _ in worst] == np.argsort(own, kind="stable")[:5].tolist()
    row, caption = worst[0]
    best = logits[row].argmax()
    assert caption.startswith(f"class {labels[row]}, given 0.00; said class {best}, 0.")
    assert caption.endswith(f": {row}.jpg")


def test_the_report_has_its_parts(world: tuple[np.ndarray, np.ndarray]) -> None:
    metric = make_metric(*world)
    sections = metric.sections(metric.compute(), 0.5, "")
    assert sections[-1].title == "Calibration"
    assert any("onfusion" in section.title for section in sections)
    assert all("<" in section.html() for section in sections)
