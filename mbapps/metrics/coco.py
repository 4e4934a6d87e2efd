"""COCO's twelve numbers, average precision per class, and the score thresholds that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable
from mbapps.predictions import Detections

from .confusion import Confusion, confuse
from .libraries import evaluate_elsewhere
from .matching import MAX_DETECTIONS, Found, Matching, Outcome

BACKENDS = ("numpy", "faster", "pycocotools")
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOUS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101)  # where COCO reads a precision curve
ANY_SIZE = (0.0, 1e5**2)  # areas in px^2, bounds included on both sides
SIZES = (ANY_SIZE, (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e5**2))  # any, small, medium, large
LIMITS = (1, 10, MAX_DETECTIONS)  # detections per image and class
CAPTION = (
    "Each row is a true class and shows what its boxes were taken for, coloured by the row's share; the column "
    "background is what was missed, the row background what was made up. A box and an answer belong together at "
    "IoU 0.5."
)
NO_THRESHOLD = 0.5  # stands for a class whose best threshold can't be known

Floats = NDArray[np.float64]


class CocoMetric:
    """Collects detections image by image, then gives COCO's numbers.

    Only the image rows that were updated are evaluated, so that images nobody could read cost nothing; an
    image row that comes twice counts once. Distributed callers gather `rows`, which is plain and picklable,
    before they ask for numbers.

    Args:
        truth: the boxes to find.
        backend: who counts, always to the same numbers: "numpy" is the quickest and needs nothing else,
            "faster" is faster-coco-eval, "pycocotools" the reference.

    Raises:
        ValueError: `backend` is none of these.
    """

    WORST = "The images with the lowest F1 at {}"

    def __init__(self, truth: BoxTable, *, backend: str = "numpy"):
        if backend not in BACKENDS:
            raise ValueError(f"task.metric.backend must be one of {', '.join(BACKENDS)}, got {backend}")
        self.truth = truth
        self.backend = backend
        self.rows: list[
            tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]
        ] = []  # image row, boxes, scores, labels

    def update(self, rows: Sequence[int], predictions: Sequence[Detections]) -> None:
        """Add what was found in some images, given by their rows in the table.

        Raises:
            ValueError: a detection's class is none of the table's.
        """
        num_classes = len(self.truth.class_names)
        for row, found in zip(rows, predictions, strict=True):
            if len(found) and not 0 <= found.labels.min() <= found.labels.max() < num_classes:
                raise ValueError(
                    f"labels must be in [0, {num_classes}), the classes of the data; "
                    f"got {found.labels.min()} to {found.labels.max()}"
                )
            self.rows.append((int(row), found.boxes, found.scores, found.labels))

    def compute(self) -> dict[str, float]:
        """COCO's twelve numbers and "AP/<class name>" of each class.

        NaN stands where there is nothing to find and COCO writes -1: no box of that size or class, no image.
        Where there are boxes and no detection, it is 0. Results files leave NaN out.
        """
        names = [*NUMBERS, *(f"AP/{name}" for name in self.truth.class_names)]
        truth, found = self._collect()
        if not len(truth):
            return dict.fromkeys(names, math.nan)
        if self.backend == "numpy":
            precision, recall = _evaluate(Matching(truth, found), IOUS, SIZES)
        else:
            precision, recall = evaluate_elsewhere(self.backend, truth, found)
        values = [precision[iou, ..., 0] for iou in (slice(None), 0, 5)]  # IoU 0.5 to 0.95, 0.5, 0.75
        values += [precision[..., size] for size in (1, 2, 3)]
        values += [recall[..., 0, limit] for limit in (0, 1, 2)]
        values += [recall[..., size, 2] for size in (1, 2, 3)]
        values += [precision[:, :, label, 0] for label in range(len(self.truth.class_names))]
        return dict(zip(names, map(_mean, values), strict=True))

    def best_thresholds(self) -> Floats:
        """Give the score threshold of each class with the highest F1, [K].

        A detection at or above it is kept. F1 is that of COCO's matching at IoU 0.5, all sizes and at most
        100 detections per image and class, taken at every score that occurs, without interpolation; of two
        equally good thresholds the higher one. A class without a single match gets 0.5.
        """
        matching = Matching(*self._collect())
        outcome = matching.judge(IOUS[:1], ANY_SIZE)
        thresholds = np.full(len(outcome.num_truths), NO_THRESHOLD)
        for label, rows in enumerate(_class_rows(matching)):
            scores, true = matching.found.scores[rows], np.cumsum(outcome.hits[0, rows])
            if len(true) and true[-1]:
                f1 = 2 * true / (np.cumsum(outcome.counts[0, rows]) + outcome.num_truths[label])
                last_of_score = np.append(
                    scores[1:] != scores[:-1], True
                )  # a threshold keeps all equal scores
                thresholds[label] = scores[np.argmax(np.where(last_of_score, f1, 0))]
        return thresholds

    def precision_recall(self) -> dict[str, tuple[Floats, Floats]]:
        """Give recall [101] and precision [101] at IoU 0.5 of each class that has boxes to find.

        As in COCO, precision at a recall is the best one reached there or further on; its mean is the class's
        AP50.
        """
        precision, _ = _evaluate(Matching(*self._collect()), IOUS[:1], (ANY_SIZE,))
        curves = zip(self.truth.class_names, precision[0, :, :, 0].T, strict=True)
        return {name: (RECALLS, curve) for name, curve in curves if curve[0] > -1}

    def sections(
        self, numbers: Mapping[str, float], score_thresh: float | Sequence[float], chosen: str
    ) -> list[Any]:
        """The report's plots and tables.

        Args:
            numbers: those of `compute`.
            score_thresh: one or one per class, for what depends on a threshold.
            chosen: where the thresholds come from.
        """
        from mbapps.plots import precision_recall
        from mbapps.sections import Plot, Rows

        ap = {name.removeprefix("AP/"): value for name, value in numbers.items() if name.startswith("AP/")}
        return [
            Plot("Precision and recall at IoU 0.5", precision_recall(self.precision_recall(), ap)),
            *self.confusion(score_thresh).sections(CAPTION),
            Rows("Right and wrong", self.by_class(score_thresh), f"Boxes and answers at {chosen}."),
        ]

    def confusion(self, score_thresh: float | Sequence[float]) -> Confusion:
        """Count which class was taken for which, and what was missed or made up, at one threshold or one per class.

        A box and a detection belong together at IoU 0.5, whatever their classes; the closest pair goes first.
        Crowds, and what lies on one of its class, count nowhere.
        """
        truth, matching = self._above(score_thresh)
        on_crowd = ~matching.judge(IOUS[:1], ANY_SIZE).counts[0]
        return confuse(truth, matching.found, on_crowd, IOUS[0])

    def by_class(self, score_thresh: float | Sequence[float]) -> dict[str, dict[str, Any]]:
        """What became of each class's boxes and answers at one threshold or one per class, by class name."""
        names = self.truth.class_names
        counts = self.confusion(score_thresh).counts
        boxes, answers, right = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
        thresholds = np.broadcast_to(np.asarray(score_thresh, dtype=float), (len(names),))
        table = {}
        for label, name in enumerate(names):
            if boxes[label] or answers[label]:
                hits, of, shown = int(right[label]), int(boxes[label]), int(answers[label])
                missed, false = int(counts[label, -1]), int(counts[-1, label])
                table[name] = {
                    "threshold": f"{thresholds[label]:.4g}", "boxes": of, "right": hits,
                    "taken for another": of - hits - missed, "missed": missed,
                    "on another's box": shown - hits - false, "false alarms": false,
                    "precision": hits / shown if shown else None, "recall": hits / of if of else None,
                }  # fmt: skip
        return table

    def worst(self, count: int, score_thresh: float | Sequence[float]) -> list[tuple[int, str]]:
        """Give the images of lowest F1 at IoU 0.5, worst first: row of the table, and a line about it."""
        truth, matching = self._above(score_thresh)
        outcome = matching.judge(IOUS[:1], ANY_SIZE)
        images = matching.found.images
        hits, shown = (
            np.bincount(images[flags[0]], minlength=len(truth)) for flags in (outcome.hits, outcome.counts)
        )
        wanted = np.bincount(truth.box_images()[~truth.crowd], minlength=len(truth))
        f1 = np.where(shown + wanted > 0, 2 * hits / np.maximum(shown + wanted, 1), 1.0)
        rows = {int(number): row for row, number in enumerate(self.truth.image_ids)}
        order = np.lexsort((2 * hits - wanted - shown, f1))  # of equal ones, most wrong first
        return [
            (
                rows[int(truth.image_ids[image])],
                f"{truth.files[image]}: {hits[image]} of {wanted[image]} found, {shown[image] - hits[image]} false",
            )
            for image in order[:count]
        ]

    def answer(self, row: int, score_thresh: float | Sequence[float]) -> Detections:
        """What was found in one image, at or above the thresholds."""
        _, boxes, scores, labels = next(found for found in self.rows if found[0] == row)
        return Detections(boxes, scores, labels, self.truth.class_names).above(score_thresh)

    def _above(self, score_thresh: float | Sequence[float]) -> tuple[BoxTable, Matching]:
        """Truth of the images seen, and what was found in them at or above the thresholds."""
        truth, found = self._collect()
        thresholds = np.broadcast_to(np.asarray(score_thresh, dtype=float), (len(truth.class_names),))
        return truth, Matching(truth, found.take(found.scores >= thresholds[found.labels]))

    def _collect(self) -> tuple[BoxTable, Found]:
        """Truth of the images seen, in COCO's order (by image id), and what was found in them."""
        once = {row[0]: row for row in reversed(self.rows)}
        images = np.array(sorted(once), dtype=np.int64)
        images = images[np.argsort(self.truth.image_ids[images], kind="stable")]
        parts = [once[image] for image in images.tolist()]
        counts = [len(scores) for _, _, scores, _ in parts]
        boxes = np.concatenate([np.zeros((0, 4)), *(boxes.reshape(-1, 4) for _, boxes, _, _ in parts)])
        scores = np.concatenate([np.zeros(0), *(scores for _, _, scores, _ in parts)])
        labels = np.concatenate([np.zeros(0, dtype=np.int64), *(labels for _, _, _, labels in parts)])
        return self.truth.take(images), Found(
            np.repeat(np.arange(len(images)), counts), boxes, scores, labels
        )


def _mean(values: Floats) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else math.nan


def _class_rows(matching: Matching) -> list[slice]:
    cuts = np.searchsorted(matching.found.labels, np.arange(matching.num_classes + 1)).tolist()
    return [slice(start, stop) for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]


def _evaluate(
    matching: Matching, ious: Sequence[float], sizes: Sequence[tuple[float, float]]
) -> tuple[Floats, Floats]:
    """Precision [IoU, recall, class, size] and recall [IoU, class, size, limit], -1 without boxes to find."""
    precision = np.full((len(ious), len(RECALLS), matching.num_classes, len(sizes)), -1.0)
    recall = np.full((len(ious), matching.num_classes, len(sizes), len(LIMITS)), -1.0)
    class_rows = _class_rows(matching)
    for size, area in enumerate(sizes):
        outcome = matching.judge(ious, area)
        for label in np.flatnonzero(outcome.num_truths):
            rows = class_rows[label]
            precision[:, :, label, size] = _precision(outcome, rows, outcome.num_truths[label])
            for limit, most in enumerate(LIMITS):
                hits = outcome.hits[:, rows] & (matching.ranks[rows] < most)
                recall[:, label, size, limit] = hits.sum(axis=1) / outcome.num_truths[label]
    return precision, recall


def _precision(outcome: Outcome, rows: slice, num_truths: int) -> Floats:
    """[IoU, recall] best precision of one class at each recall or further on, 0 beyond the highest recall."""
    true = np.cumsum(outcome.hits[:, rows], axis=1)
    shown = np.cumsum(outcome.counts[:, rows], axis=1)
    precision = true / (shown + np.spacing(1))  # COCO's guard against 0 / 0; it moves the last digit
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.append(best, np.zeros((len(best), 1)), axis=1)
    return np.stack(
        [row[np.searchsorted(found / num_truths, RECALLS)] for row, found in zip(best, true, strict=True)]
    )
