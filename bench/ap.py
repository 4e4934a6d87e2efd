"""COCO AP: mbapps' own counting against faster-coco-eval and pycocotools, on 1,000 generated images.

python bench/ap.py
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from mbapps.batches import BoxTable
from mbapps.metrics.coco import BACKENDS, CocoMetric
from mbapps.predictions import Detections

IMAGES, DETECTIONS, CLASSES, BOXES_PER_IMAGE, RUNS = 1000, 100, 80, 7, 3


def make_world(seed: int = 0) -> tuple[BoxTable, list[Detections]]:
    """Boxes of all sizes, one in a hundred a crowd, and detections around them, some of another class."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(BOXES_PER_IMAGE, IMAGES)
    total = int(counts.sum())
    corners, sides = rng.random((total, 2)) * [500, 350], np.exp(rng.uniform(2.3, 5.5, (total, 2)))
    truth = BoxTable(
        folder=Path(),
        files=np.array([f"{row}.jpg" for row in range(IMAGES)]),
        image_ids=rng.permutation(IMAGES),
        sizes=np.tile(np.array([[480, 640]], dtype=np.int32), (IMAGES, 1)),
        starts=np.cumsum(np.append(0, counts)),
        boxes=np.concatenate([corners, corners + sides], axis=1),
        labels=rng.integers(0, CLASSES, total).astype(np.int32),
        areas=sides.prod(axis=1) * rng.uniform(0.5, 1, total),
        crowd=rng.random(total) < 0.01,
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
        category_ids=tuple(range(1, CLASSES + 1)),
    )
    predictions = []
    for image in range(IMAGES):
        boxes, labels = rng.random((DETECTIONS, 4)) * 200, rng.integers(0, CLASSES, DETECTIONS)
        rows = truth.rows(image)
        if counts[image]:
            aim = rng.integers(rows.start, rows.stop, DETECTIONS)
            boxes = truth.boxes[aim] + rng.normal(0, 0.1, (DETECTIONS, 4)) * np.tile(sides[aim], 2)
            labels = np.where(rng.random(DETECTIONS) < 0.6, truth.labels[aim], labels)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.random(DETECTIONS).astype(np.float32)
        predictions.append(Detections(boxes.astype(np.float32), scores, labels, truth.class_names))
    return truth, predictions


def main() -> None:
    truth, predictions = make_world()
    seconds: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    numbers: dict[str, dict[str, float]] = {}
    for _ in range(RUNS):
        for backend in BACKENDS:  # in turn, so that a busy machine slows all alike
            metric = CocoMetric(truth, backend=backend)
            metric.update(range(IMAGES), predictions)
            start = time.perf_counter()
            numbers[backend] = metric.compute()
            seconds[backend].append(time.perf_counter() - start)
    boxes = len(truth.boxes)
    print(f"{IMAGES} images x {DETECTIONS} detections, {boxes} boxes of {CLASSES} classes, median of {RUNS}")
    reference = numbers["pycocotools"]
    slowest = statistics.median(seconds["pycocotools"])
    for backend in BACKENDS:
        median = statistics.median(seconds[backend])
        difference = np.nanmax([abs(numbers[backend][name] - value) for name, value in reference.items()])
        print(f"{backend:12} {median:6.2f} s {slowest / median:6.1f}x  largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
