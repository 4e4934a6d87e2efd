"""Which detections found a box: COCO's matching, for all images and classes of a data set at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable

MAX_DETECTIONS = 100  # COCO's limit per image and class: what ranks below it does not count
MISS = -1  # truth row of a detection that found no box

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Found(NamedTuple):
    """Detections of several images as columns."""

    images: Rows  # [N] rows of the truth's table
    boxes: Floats  # [N, 4] xyxy px
    scores: Floats  # [N]
    labels: Rows  # [N]

    def take(self, rows: Rows | Flags) -> Found:
        """Give some of the detections, in the order of `rows`."""
        return Found(self.images[rows], self.boxes[rows], self.scores[rows], self.labels[rows])


class Outcome(NamedTuple):
    """What became of N detections at T overlaps."""

    hits: Flags  # [T, N] found a box that counts
    counts: Flags  # [T, N] is judged at all: not on a crowd, nor on or of another size
    num_truths: Rows  # [K] boxes to find of each class


class Matching:
    """Detections beside the boxes of their image and class, ready to be matched at any overlap and size.

    `found` holds the detections by class, falling score and image, without those beyond MAX_DETECTIONS of an
    image and class; `ranks` [N] is each one's place among those of its image and class.
    """

    def __init__(self, truth: BoxTable, found: Found):
        self.num_classes = len(truth.class_names)
        found = found.take(np.lexsort((found.images, -found.scores, found.labels)))
        cells = found.images * self.num_classes + found.labels  # a cell is one image and one class
        ranks = rank_in_cells(cells)
        kept = ranks < MAX_DETECTIONS
        self.found, self.ranks = found.take(kept), ranks[kept]

        truth_cells = truth.box_images() * self.num_classes + truth.labels
        order = np.argsort(truth_cells, kind="stable")
        self._labels, self._crowd, self._areas = truth.labels[order], truth.crowd[order], truth.areas[order]
        pairs = pair_up(cells[kept], truth_cells[order])
        iou = paired_iou(self.found.boxes[pairs[0]], truth.boxes[order][pairs[1]], self._crowd[pairs[1]])
        self._pairs = (*pairs, iou)

    def judge(self, iou_threshs: Sequence[float], area: tuple[float, float] = (0, np.inf)) -> Outcome:
        """Match at each overlap; boxes and misses of an area, in px^2, outside of the bounds do not count."""
        small, large = area
        ignored = self._crowd | (self._areas < small) | (self._areas > large)
        matches = match(self.ranks, *self._pairs, iou_threshs=iou_threshs, crowd=self._crowd, ignored=ignored)
        areas = (self.found.boxes[:, 2:] - self.found.boxes[:, :2]).prod(axis=1)
        found_any = matches != MISS
        inside = (areas >= small) & (areas <= large)
        counts = np.where(
            found_any, ~np.append(ignored, False)[matches], inside
        )  # MISS reads the appended one
        return Outcome(
            found_any & counts, counts, np.bincount(self._labels[~ignored], minlength=self.num_classes)
        )


def rank_in_cells(cells: Rows) -> Rows:
    """[N] how many earlier rows have the same cell.

    >>> rank_in_cells(np.array([7, 3, 7])).tolist()
    [0, 0, 1]
    """
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    ranks = np.empty(len(cells), dtype=np.int64)
    ranks[order] = np.arange(len(cells)) - np.searchsorted(ordered, ordered)
    return ranks


def pair_up(cells: Rows, truth_cells: Rows) -> tuple[Rows, Rows]:
    """Give every pair of a detection and a box of one cell, as [P] rows of each; `truth_cells` is sorted.

    >>> [rows.tolist() for rows in pair_up(np.array([7, 3, 7]), np.array([4, 7, 7]))]
    [[0, 0, 2, 2], [1, 2, 1, 2]]
    """
    first = np.searchsorted(truth_cells, cells, side="left")
    num_boxes = np.searchsorted(truth_cells, cells, side="right") - first
    detections = np.repeat(np.arange(len(cells)), num_boxes)
    place = np.arange(len(detections)) - np.repeat(np.cumsum(num_boxes) - num_boxes, num_boxes)
    return detections, first[detections] + place


def paired_iou(boxes: Floats, truth: Floats, crowd: Flags) -> Floats:
    """[P] overlap of P pairs of `xyxy` boxes; for a crowd, the share of the detection that lies on it."""
    sides = np.minimum(boxes[:, 2:], truth[:, 2:]) - np.maximum(boxes[:, :2], truth[:, :2])
    inter = sides.clip(min=0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    truth_area = (truth[:, 2:] - truth[:, :2]).prod(axis=1)
    union = np.where(crowd, area, area + truth_area - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def match(
    ranks: Rows, detections: Rows, truth: Rows, iou: Floats, *,
    iou_threshs: Sequence[float], crowd: Flags, ignored: Flags,
) -> Rows:  # fmt: skip
    """Let detections choose by rank: each takes the box it overlaps most among those still free.

    An ignored box is chosen only by what finds no other. A box is taken once, a crowd as often as it is
    chosen. Of equal overlaps the later box wins. The n-th detections of all cells choose in one step, since
    cells share no box.

    Args:
        ranks: [N] place of each detection in its cell.
        detections: [P] detections of the pairs that may match.
        truth: [P] boxes of those pairs.
        iou: [P] overlaps of those pairs.
        iou_threshs: T overlaps; a pair matches at or above.
        crowd: [M] boxes that stand for many.
        ignored: [M] boxes that need not be found.

    Returns:
        [T, N] box that each detection took, or MISS.

    Two detections want box 0, and the second makes do with box 1 where 0.6 is enough:

    >>> pairs = np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.6])
    >>> none = np.array([False, False])
    >>> match(np.array([0, 1]), *pairs, iou_threshs=(0.5, 0.75), crowd=none, ignored=none).tolist()
    [[0, 1], [0, -1]]
    """
    order = np.lexsort(
        (truth, iou, ~ignored[truth], detections, ranks[detections])
    )  # its best pair comes last
    detections, truth, iou = detections[order], truth[order], iou[order]
    matches = np.full((len(iou_threshs), len(ranks)), MISS)
    for row, iou_thresh in zip(matches, iou_threshs, strict=True):
        near = iou >= iou_thresh
        near_detections, near_truth = detections[near], truth[near]
        cuts = np.flatnonzero(np.diff(ranks[near_detections])) + 1
        taken = np.zeros(len(crowd), dtype=bool)
        for choosers, choices in zip(
            np.split(near_detections, cuts), np.split(near_truth, cuts), strict=True
        ):
            free = ~taken[choices]
            chooser, choice = choosers[free], choices[free]
            best = np.diff(chooser, append=MISS) != 0  # the last row of each chooser
            row[chooser[best]] = choice[best]
            taken[choice[best]] = ~crowd[choice[best]]
    return matches
