"""Which class was taken for which: boxes matched to detections whatever their class."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable

from .matching import Found, Rows, pair_up, paired_iou

LARGEST = 12  # confusions in the report's table
BACKGROUND = "background"  # as an answer: missed; as the truth: a false alarm
CHUNK_PAIRS = 1_000_000  # pairs compared at once: about 200 MB


class Confusion(NamedTuple):
    """Counts of truth and answer of N classes, of which the last may be the background."""

    counts: NDArray[np.int64]  # [N, N]: row truth, column answer
    names: tuple[str, ...]  # [N]
    background: bool = True

    def sections(self, caption: str) -> list[Any]:
        """The report's drawing of it, and a table of the largest confusions."""
        from mbapps.plots import confusion
        from mbapps.sections import Plot, Rows

        return [
            Plot("Confusion", confusion(self.counts, self.names), caption),
            Rows("Largest confusions", self.largest(LARGEST)),
        ]

    def largest(self, count: int) -> dict[str, dict[str, Any]]:
        """The pairs of classes most often taken for each other, most often first, without the background.

        >>> Confusion(np.array([[5, 3, 2], [1, 0, 0], [9, 0, 0]]), ("cat", "dog", "background")).largest(1)
        {'cat → dog': {'times': 3, 'share of truth': 0.3}}
        """
        num_classes = len(self.names) - self.background
        between = self.counts[:num_classes, :num_classes] * ~np.eye(num_classes, dtype=bool)
        shares = between / np.maximum(self.counts[:num_classes].sum(axis=1, keepdims=True), 1)
        order = np.lexsort((-shares.ravel(), -between.ravel()))[:count]
        pairs = [divmod(int(place), num_classes) for place in order]
        return {
            f"{self.names[truth]} → {self.names[answer]}": {
                "times": int(between[truth, answer]),
                "share of truth": float(shares[truth, answer]),
            }
            for truth, answer in pairs
            if between[truth, answer]
        }


def match_any_class(truth: BoxTable, found: Found, iou_thresh: float) -> tuple[Rows, Rows]:
    """Pair detections with boxes of the same image, whatever their class, and give the [Q] rows of each.

    The pair of highest overlap goes first, then the highest among what is left, down to `iou_thresh`; of equal
    overlaps the higher score wins. Crowds take no part.
    """
    boxes = np.flatnonzero(~truth.crowd)
    box_images = truth.box_images()[boxes]
    order = np.argsort(found.images, kind="stable")
    images = found.images[order]
    counts = np.bincount(images, minlength=len(truth)) * np.bincount(box_images, minlength=len(truth))
    chunks = np.cumsum(counts) // CHUNK_PAIRS  # of each image; they rise with it
    parts = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
    for chunk in np.unique(chunks[counts > 0]):
        rows, inside = order[chunks[images] == chunk], boxes[chunks[box_images] == chunk]
        pairs = pair_up(found.images[rows], truth.box_images()[inside])
        detections, wanted = rows[pairs[0]], inside[pairs[1]]
        iou = paired_iou(found.boxes[detections], truth.boxes[wanted], np.zeros(len(wanted), dtype=bool))
        near = iou >= iou_thresh
        detections, wanted, iou = detections[near], wanted[near], iou[near]
        ranking = np.lexsort((wanted, detections, -found.scores[detections], -iou))
        parts.append(_take_best(detections[ranking], wanted[ranking]))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _take_best(detections: Rows, wanted: Rows) -> tuple[Rows, Rows]:
    """Of pairs sorted best first, take each whose two sides are free.

    A pair that is the first of both its sides is taken in any order of the others, so all of these are taken at
    once, until no pair is left.

    >>> [side.tolist() for side in _take_best(np.array([4, 5, 4, 5]), np.array([0, 0, 1, 1]))]
    [[4, 5], [0, 1]]
    """
    taken: list[Rows] = []
    while len(detections):
        first_of_detection = np.unique(detections, return_index=True)[1]
        first = np.intersect1d(first_of_detection, np.unique(wanted, return_index=True)[1])
        taken.append(np.stack([detections[first], wanted[first]]))
        free = ~np.isin(detections, detections[first]) & ~np.isin(wanted, wanted[first])
        detections, wanted = detections[free], wanted[free]
    both = np.concatenate([np.empty((2, 0), dtype=np.int64), *taken], axis=1)
    return both[0], both[1]


def confuse(truth: BoxTable, found: Found, forgiven: NDArray[np.bool_], iou_thresh: float) -> Confusion:
    """Count every box of the truth and every detection once, crowds left out.

    Args:
        truth: the boxes to find.
        found: the detections that count as answers: those above a threshold.
        forgiven: [N] detections that lie on a crowd: where they match no box, they count nowhere.
        iou_thresh: least overlap, in (0, 1], of a box and its answer.
    """
    background = len(truth.class_names)
    detections, boxes = match_any_class(truth, found, iou_thresh)
    answers = np.full(len(truth.labels), background)
    answers[boxes] = found.labels[detections]
    false = ~forgiven
    false[detections] = False
    counts = np.zeros((background + 1, background + 1), dtype=np.int64)
    np.add.at(counts, (truth.labels[~truth.crowd], answers[~truth.crowd]), 1)
    counts[background, :background] = np.bincount(found.labels[false], minlength=background)
    return Confusion(counts, (*truth.class_names, BACKGROUND))
