from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import BoxTable
from mbapps.data.coco import read_coco
from mbapps.metrics.coco import BACKENDS, NUMBERS, CocoMetric
from mbapps.predictions import Detections

PUBLISHED = {
    "AP": 0.5045806987249628, "AP50": 0.6969727247299577, "AP75": 0.5729816669904824,
    "APs": 0.5856257209410443, "APm": 0.5193996948036719, "APl": 0.5013978986347466,
    "AR1": 0.38681277964578054, "AR10": 0.5936795762842003, "AR100": 0.595352982877607,
    "ARs": 0.6398109626113442, "ARm": 0.5664205978994309, "ARl": 0.5642905982905982,
}  # fmt: skip

Box = tuple[float, float, float, float]


def table(images: Sequence[Sequence[tuple[int, Box]]], names: Sequence[str] = ("cat", "dog")) -> BoxTable:
    """Truth by hand: for each image its (label, box) pairs."""
    boxes = np.array([box for image in images for _, box in image], dtype=float).reshape(-1, 4)
    return BoxTable(
        folder=Path(),
        files=np.array([f"{row}.jpg" for row in range(len(images))]),
        image_ids=np.arange(len(images)),
        sizes=np.full((len(images), 2), 200, dtype=np.int32),
        starts=np.cumsum([0, *map(len, images)]),
        boxes=boxes,
        labels=np.array([label for image in images for label, _ in image], dtype=np.int32),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        crowd=np.zeros(len(boxes), dtype=bool),
        class_names=tuple(names),
        category_ids=tuple(range(1, len(names) + 1)),
    )


def found(*rows: tuple[int, float, Box], names: Sequence[str] = ("cat", "dog")) -> Detections:
    """Detections by hand: (label, score, box) of each."""
    return Detections(
        np.array([row[2] for row in rows], dtype=np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.float32),
        np.array([row[0] for row in rows], dtype=np.int64),
        names,
    )


A, B, C = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 90.0, 90.0), (100.0, 0.0, 200.0, 100.0)  # small, medium, large
FAR = (150.0, 150.0, 160.0, 160.0)


def random_world(seed: int, *, crowded: bool) -> tuple[BoxTable, list[Detections]]:
    """Images with everything that makes matching hard: equal scores, equal overlaps, crowds, long lists."""
    rng = np.random.default_rng(seed)
    images = [
        [
            (int(rng.integers(3)), (x, y, x + w, y + h))
            for x, y, w, h in rng.integers(1, 12, (rng.poisson(5), 4)) * 10.0
        ]
        for _ in range(25)
    ]
    names = ("a", "b", "c")
    truth = table(images, names)
    if crowded:
        truth.crowd[:] = rng.random(len(truth.crowd)) < 0.25
    predictions = []
    for boxes in images:
        corners = rng.integers(1, 12, (130 if crowded else 30, 4)) * 10.0
        corners[:, 2:] += corners[:, :2]
        near = rng.random(len(corners)) < 0.6
        if boxes:
            corners[near] = np.array([box for _, box in boxes])[rng.integers(len(boxes), size=near.sum())]
            corners[near] += rng.choice([-5, 0, 0, 5], (near.sum(), 4))
        scores = rng.random(len(corners)).round(1)
        labels = rng.integers(0, 1 if crowded else 3, len(corners))
        predictions.append(Detections(corners.astype(np.float32), scores.astype(np.float32), labels, names))
    return truth, predictions


@pytest.mark.parametrize("backend", BACKENDS)
def test_published_numbers(test_data: Path, backend: str) -> None:
    folder = test_data / "datasets/detection/coco_eval"
    truth = read_coco(folder / "instances_val2014_100.json", clean=False)
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    metric = CocoMetric(truth, backend=backend)
    for row, image_id in enumerate(truth.image_ids.tolist()):
        of_image = [result for result in results if result["image_id"] == image_id]
        boxes = np.array([result["bbox"] for result in of_image], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [truth.category_ids.index(result["category_id"]) for result in of_image]
        scores = np.array([result["score"] for result in of_image])
        metric.update([row], [Detections(boxes, scores, np.array(labels, dtype=np.int64), truth.class_names)])
    numbers = metric.compute()
    assert {name: numbers[name] for name in NUMBERS} == pytest.approx(PUBLISHED, rel=0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crowded", [False, True])
def test_backends_agree(seed: int, crowded: bool) -> None:
    truth, predictions = random_world(seed, crowded=crowded)
    numbers = []
    for backend in BACKENDS:
        metric = CocoMetric(truth, backend=backend)
        metric.update(range(len(truth)), predictions)
        numbers.append(metric.compute())
    for other in numbers[1:]:
        assert other == pytest.approx(numbers[0], rel=0, abs=1e-12, nan_ok=True)
    assert 0.01 < numbers[0]["AP"] < 0.95


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_images_by_hand(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    metric = CocoMetric(table([[(0, A), (1, B)], [(0, C)], []]), backend=backend)
    metric.update(
        [0, 1, 2],
        [
            found((0, 0.9, A), (1, 0.8, B), (0, 0.3, FAR)),  # both right, then a false cat
            found((0, 0.4, C)),  # right, and above the false one of image 0
            found((1, 0.9, FAR)),  # a false dog above the right one
        ],
    )
    numbers = metric.compute()
    assert numbers["AP/cat"] == pytest.approx(1)
    assert numbers["AP/dog"] == pytest.approx(0.5)  # one of two right at every recall and every overlap
    assert numbers["AP"] == pytest.approx(0.75)
    assert numbers["AP50"] == numbers["AP75"] == pytest.approx(0.75)
    # Misses count only among the boxes of their own size, and the false dog is small.
    assert [numbers[name] for name in ("APs", "APm", "APl")] == pytest.approx([1, 1, 1])
    assert [numbers[name] for name in NUMBERS[6:]] == pytest.approx([1, 1, 1, 1, 1, 1])
    assert capfd.readouterr().out == ""


def slow_ap50(truth: BoxTable, predictions: Sequence[Detections], label: int) -> float:
    """AP of one class at IoU 0.5 from the definition, box by box; no crowds, at most 100 boxes per image."""
    ranked = [
        (-float(score), image, row)
        for image, one in enumerate(predictions)
        for row, score in enumerate(one.scores)
        if one.labels[row] == label
    ]
    taken: set[int] = set()
    hits = []
    for _, image, row in sorted(ranked):
        best, match = 0.5, -1
        for box in range(*truth.rows(image).indices(len(truth.boxes))):
            if truth.labels[box] == label and box not in taken:
                overlap = iou(predictions[image].boxes[row].astype(float), truth.boxes[box])
                if overlap >= best:
                    best, match = overlap, box
        hits.append(match >= 0)
        taken |= {match} - {-1}
    total = int((truth.labels == label).sum())
    points = [(sum(hits[:n]) / total, sum(hits[:n]) / n) for n in range(1, len(hits) + 1)]
    at_recall = [max((p for r, p in points if r >= wanted), default=0.0) for wanted in np.linspace(0, 1, 101)]
    return float(np.mean(at_recall))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(0.0, width) * max(0.0, height)
    return float(inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter))


@pytest.mark.parametrize("seed", range(3))
def test_ap_of_a_class_equals_its_definition(seed: int) -> None:
    truth, predictions = random_world(seed, crowded=False)
    metric = CocoMetric(truth)
    metric.update(range(len(truth)), predictions)
    for label, (recall, precision) in enumerate(metric.precision_recall().values()):
        assert recall[[0, 50, 100]] == pytest.approx([0, 0.5, 1])
        assert precision.mean() == pytest.approx(slow_ap50(truth, predictions, label), abs=1e-9)


def test_precision_recall_has_ap50_as_its_mean() -> None:
    truth, predictions = random_world(0, crowded=True)
    metric = CocoMetric(truth)
    metric.update(range(len(truth)), predictions)
    curves = metric.precision_recall()
    assert np.mean([precision.mean() for _, precision in curves.values()]) == pytest.approx(
        metric.compute()["AP50"]
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_found_is_zero(backend: str) -> None:
    metric = CocoMetric(table([[(0, A)], [(0, C)]]), backend=backend)
    metric.update([0, 1], [found(), found()])
    numbers = metric.compute()
    assert numbers["AP"] == numbers["AR100"] == numbers["AP/cat"] == 0
    assert math.isnan(numbers["AP/dog"])  # no dog to find
    assert math.isnan(numbers["APm"])  # no box of that size
    assert metric.best_thresholds().tolist() == [0.5, 0.5]
    assert metric.precision_recall()["cat"][1].max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_find_is_nan(backend: str) -> None:
    metric = CocoMetric(table([[], []]), backend=backend)
    metric.update([0, 1], [found((0, 0.9, A)), found()])
    assert all(math.isnan(value) for value in metric.compute().values())
    assert metric.precision_recall() == {}
    assert metric.best_thresholds().tolist() == [0.5, 0.5]


def test_no_image_at_all_is_nan() -> None:
    metric = CocoMetric(table([[(0, A)]]))
    assert all(math.isnan(value) for value in metric.compute().values())
    assert metric.precision_recall() == {}


def test_skipped_images_do_not_count() -> None:
    metric = CocoMetric(table([[(0, A)], [(0, B)]]))
    metric.update([1], [found((0, 0.9, B))])
    assert metric.compute()["AP"] == pytest.approx(1)


def test_an_image_that_comes_twice_counts_once() -> None:
    metric = CocoMetric(table([[(0, A)], [(0, B)]]))
    metric.update([0, 1, 0], [found((0, 0.9, A)), found((0, 0.4, FAR), (0, 0.3, B)), found((0, 0.5, FAR))])
    once = CocoMetric(metric.truth)
    once.update([0, 1], [found((0, 0.9, A)), found((0, 0.4, FAR), (0, 0.3, B))])
    assert metric.compute() == pytest.approx(once.compute(), nan_ok=True)


def test_gathered_rows_give_the_numbers_of_the_whole() -> None:
    truth, predictions = random_world(1, crowded=True)
    whole = CocoMetric(truth)
    whole.update(range(len(truth)), predictions)
    parts = []
    for rank in (0, 1):  # as two processes, the last image of the shorter share repeated
        part = CocoMetric(truth)
        rows = [*range(rank, len(truth), 2), *([0] if rank else [])]
        part.update(rows, [predictions[row] for row in rows])
        parts.append(pickle.loads(pickle.dumps(part.rows)))
    gathered = CocoMetric(truth)
    gathered.rows = parts[1] + parts[0]
    assert gathered.compute() == pytest.approx(whole.compute(), rel=0, abs=0, nan_ok=True)
    assert gathered.best_thresholds().tolist() == whole.best_thresholds().tolist()


def test_best_thresholds_by_hand() -> None:
    metric = CocoMetric(table([[(0, A), (0, B), (0, C)], [(1, A)]], ("cat", "dog", "bird")))
    metric.update(
        [0, 1],
        [
            # F1 falls from 2/4 through 2/5, rises to 4/6 and 6/7, and falls to 6/8.
            found((0, 0.9, A), (0, 0.75, FAR), (0, 0.5, B), (0, 0.25, C), (0, 0.125, FAR)),
            # A threshold of 0.5 would let both through: F1 of 2/3 either way, so it is the score of both.
            found((1, 0.5, A), (1, 0.5, FAR)),
        ],
    )
    assert metric.best_thresholds().tolist() == [0.25, 0.5, 0.5]


def test_best_thresholds_do_not_count_what_lies_on_a_crowd() -> None:
    truth = table([[(0, C), (0, A)]])
    truth.crowd[0] = True
    metric = CocoMetric(truth)
    metric.update([0], [found((0, 0.9, C), (0, 0.75, C), (0, 0.5, A), (0, 0.25, FAR))])
    assert metric.best_thresholds()[0] == 0.5
    assert metric.compute()["AP/cat"] == pytest.approx(1)


def test_worst_images_come_first_with_what_went_wrong() -> None:
    metric = CocoMetric(table([[(0, A)], [(0, A), (0, B)], [], [(1, C)]]))
    metric.update(
        [0, 1, 2, 3],
        [
            found((0, 0.9, A)),
            found((0, 0.9, A), (0, 0.2, B), (0, 0.8, FAR)),
            found((1, 0.2, FAR)),  # below its threshold: an empty image without a fault
            found((1, 0.9, FAR)),
        ],
    )
    assert metric.worst(3, [0.5, 0.5]) == [
        (3, "3.jpg: 0 of 1 found, 1 false"),
        (1, "1.jpg: 1 of 2 found, 1 false"),
        (0, "0.jpg: 1 of 1 found, 0 false"),
    ]
    assert metric.answer(1, [0.85, 0.5]).to_json() == [
        {"label": 0, "name": "cat", "score": 0.9, "box": [0.0, 0.0, 10.0, 10.0]}
    ]
    figure = metric.sections(metric.compute(), 0.5, "0.5")[0].figure
    assert len(figure.axes[0].get_lines()) == 2


def test_unknown_backend() -> None:
    with pytest.raises(
        ValueError, match="task.metric.backend must be one of numpy, faster, pycocotools, got torch"
    ):
        CocoMetric(table([[]]), backend="torch")


def test_labels_that_the_data_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), the classes of the data; got 0 to 2"):
        CocoMetric(table([[]])).update([0], [found((0, 0.9, A), (2, 0.9, A))])
