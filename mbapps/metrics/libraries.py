"""COCO's evaluation by the libraries for it: the reference, and the quick one."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable

from .matching import Found

Floats = NDArray[np.float64]


def evaluate_elsewhere(backend: str, truth: BoxTable, found: Found) -> tuple[Floats, Floats]:
    """Count by "faster" (faster-coco-eval) or "pycocotools".

    Returns:
        Precision [IoU, recall, class, size] and recall [IoU, class, size, limit] on COCO's own grids, -1 where
        there are no boxes to find.
    """
    coco: Any
    evaluation: Any
    if backend == "faster":
        from faster_coco_eval import COCO, COCOeval_faster

        coco, evaluation = COCO, COCOeval_faster
    else:
        from pycocotools.coco import COCO as REFERENCE
        from pycocotools.cocoeval import COCOeval

        coco, evaluation = REFERENCE, COCOeval
    with contextlib.redirect_stdout(io.StringIO()):  # both print their progress
        sides = [coco(), coco()]
        for side, dataset in zip(sides, _datasets(truth, found), strict=True):
            side.dataset = dataset
            side.createIndex()
        run = evaluation(*sides, iouType="bbox")
        run.evaluate()
        run.accumulate()
    return np.asarray(run.eval["precision"])[..., -1], np.asarray(run.eval["recall"])


def _datasets(truth: BoxTable, found: Found) -> tuple[dict[str, Any], dict[str, Any]]:
    """Truth and detections as COCO's dicts; ids count from 1, since 0 means "no match" to both libraries."""
    shared = {
        "images": [{"id": image} for image in range(1, len(truth) + 1)],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(truth.class_names)],
    }
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    boxes = _dicts(
        truth.box_images(), truth.labels, truth.boxes, area=truth.areas, iscrowd=truth.crowd.astype(int)
    )
    detections = _dicts(found.images, found.labels, found.boxes, area=areas, score=found.scores)
    return {**shared, "annotations": boxes}, {**shared, "annotations": detections}


def _dicts(
    images: NDArray[Any], labels: NDArray[Any], boxes: Floats, **more: NDArray[Any]
) -> list[dict[str, Any]]:
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    keys = ("id", "image_id", "category_id", "bbox", *more)
    ids = range(1, len(boxes) + 1)
    columns = (values.tolist() for values in (images + 1, labels + 1, xywh, *more.values()))
    return [dict(zip(keys, row, strict=True)) for row in zip(ids, *columns, strict=True)]
