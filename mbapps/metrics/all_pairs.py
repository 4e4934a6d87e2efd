"""Every two of many embeddings: counted by similarity in constant memory, and the most telling of them kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .average_precision import Floats, resamples
from .curves import SLACK, Curve
from .matching import Rows

STEPS = 1 << 20  # of similarity from 0 to 1; finer than any threshold needs, and all pairs still fit in 34 MB
CELLS = 2 * STEPS + 1  # of similarity from -1 to 1
BLOCK = 1 << 21  # similarities in memory at a time: 16 MB each of numbers and of cells
LEAST_ROWS = 16  # of a block: fewer waste the matrix product
TAIL = 4  # times the highest rate: a bootstrap sample may accept so many more impostors before it runs out
SMALL = 1_000_000  # impostor pairs that are kept whatever the rate
MOST = 16_000_000  # that are kept: 12 bytes each
WORK = 800_000_000  # weights of pairs that are worth an interval: about 5 seconds
LEAST_RESAMPLES = 200

Cells = NDArray[np.int32]


class Ranked(NamedTuple):
    """Some pairs from the most alike down, as columns."""

    cells: Cells  # [P] of similarity
    first: Cells  # [P] rows as they were given
    second: Cells


class AllPairs:
    """All i < j of N embeddings; the similarity is the cosine.

    Similarities are rounded to 2**-20. A value of the curve is the lower edge of its cell, so that "at or above"
    decides about what was not rounded as it does here.

    Args:
        vectors: [N, D], any length but 0.
        labels: [N] the person of each.
    """

    def __init__(self, vectors: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]):
        self.order = np.argsort(labels, kind="stable")  # a person's rows lie side by side
        _, self.people, self.images = np.unique(labels[self.order], return_inverse=True, return_counts=True)
        sorted_vectors = vectors[self.order].astype(np.float64)
        self.vectors = sorted_vectors / np.linalg.norm(sorted_vectors, axis=1, keepdims=True)
        self.stops = np.cumsum(self.images)  # [people] behind the last row of each
        self.num_genuine = int((self.images * (self.images - 1) // 2).sum())
        self.num_impostor = len(labels) * (len(labels) - 1) // 2 - self.num_genuine

    @cached_property
    def curve(self) -> Curve:
        """Rates over the similarity of all pairs."""
        every, genuine = np.zeros((2, CELLS + 1), dtype=np.int64)
        for start, cells, window in self._blocks():
            every += np.bincount(cells.ravel(), minlength=CELLS + 1)
            rows = self.people[start : start + len(cells), None] == self.people[start : start + window]
            genuine += np.bincount(cells[:, :window][rows], minlength=CELLS + 1)
        used = np.flatnonzero(every[:CELLS])[::-1]  # the last cell holds no pairs
        return Curve(edge(used), genuine[used], every[used] - genuine[used])

    @cached_property
    def genuine(self) -> Ranked:
        """All genuine pairs."""
        return self._ranked(0, genuine=True)

    def impostors(self, count: int) -> Ranked:
        """The impostor pairs of highest similarity, at least `count`, those of equal similarity together."""
        curve = self.curve
        last = int(np.searchsorted(curve.false_accepts, min(count, self.num_impostor)))
        return self._ranked(int(cell(curve.values[last])), genuine=False) if self.num_impostor else NO_PAIRS

    def rank1(self) -> float:
        """Share of the images, each sought among all others, that are most like one of their own person.

        Images of people without another are in the gallery but are not sought. An impostor that is just as alike
        wins.
        """
        sought = np.flatnonzero(self.images[self.people] > 1)
        step = max(LEAST_ROWS, BLOCK // max(1, len(self.people)))
        starts = self.stops - self.images
        found = 0
        for begin in range(0, len(sought), step):
            rows = sought[begin : begin + step]
            alike = np.rint(self.vectors[rows] @ self.vectors.T * STEPS)
            low, high = starts[self.people[rows[0]]], self.stops[self.people[rows[-1]]]
            own = self.people[rows, None] == self.people[low:high]
            window = alike[:, low:high]
            others = own & (rows[:, None] != np.arange(low, high))
            genuine = np.where(others, window, -np.inf).max(axis=1)
            window[own] = -np.inf
            found += int((genuine > alike.max(axis=1)).sum())
        return found / len(sought) if len(sought) else math.nan

    def resampled(self, fars: Sequence[float], count: int, seed: int = 0) -> tuple[Floats, Floats]:
        """Threshold and TAR at each rate in bootstrap samples of the people, both [R, rates].

        A genuine pair weighs as often as its person was drawn, an impostor pair the product of its two. R is
        `count`, or less (200 at the least) where many pairs make samples dear. NaN where a rate would take more
        than 16 million impostor pairs to tell, and where a sample has no pair of a kind.
        """
        known = [far for far in fars if 2 * far * self.num_impostor <= MOST]
        kept = min(MOST, max(SMALL, int(TAIL * max(known, default=0) * self.num_impostor) + 1))
        tail, genuine = self.impostors(kept), self.genuine
        whole = len(tail.cells) == self.num_impostor
        count = min(count, max(LEAST_RESAMPLES, WORK // max(1, len(tail.cells))))
        owner = np.empty(len(self.order), dtype=np.int64)
        owner[self.order] = self.people
        first, second, person = owner[tail.first], owner[tail.second], owner[genuine.first]
        ends = np.flatnonzero(np.diff(tail.cells, append=-1))  # of equal similarity
        own = self.images * (self.images - 1) / 2
        thresholds, tars = np.full((2, count, len(fars)), math.nan)
        row = 0
        for drawn in resamples(len(self.images), count, seed):
            for weights in drawn:
                images = weights * self.images
                num_impostor = (images.sum() ** 2 - (images**2).sum()) / 2
                num_genuine = (weights * own).sum()
                small = weights.astype(np.uint16)  # of a person; the product of two is far below 65,536
                accepted = np.cumsum(small[first] * small[second], dtype=np.int64)[ends]
                right = np.cumsum(weights[person])
                for column, far in enumerate(fars):
                    allowed = far * num_impostor * (1 + SLACK)
                    place = int(np.searchsorted(accepted, allowed, side="right"))
                    told = far in known and num_impostor and num_genuine
                    if not told or (place == len(ends) and not whole):
                        continue
                    at = int(tail.cells[ends[place - 1]]) if place else int(tail.cells[0]) + 1
                    better = int(np.searchsorted(-genuine.cells, -at, side="right"))
                    thresholds[row, column] = edge(at)
                    tars[row, column] = right[better - 1] / num_genuine if better else 0.0
                row += 1
        return thresholds, tars

    def _blocks(self) -> Iterator[tuple[int, Rows, int]]:
        """Cells [b, N - start] of rows from `start` on; i >= j lie in a cell of their own, the last.

        With each comes how many of its columns may belong to the people of its rows.
        """
        total, start = len(self.people), 0
        while start < total:
            rows = self.vectors[start : start + max(LEAST_ROWS, BLOCK // (total - start))]
            alike = (rows * STEPS) @ self.vectors[start:].T
            alike += STEPS + 0.5
            cells = alike.astype(np.int64)  # cuts off: the nearest
            cells[np.tri(len(rows), total - start, dtype=np.bool_)] = CELLS
            yield start, cells, int(self.stops[self.people[start + len(rows) - 1]]) - start
            start += len(rows)

    def _ranked(self, least: int, *, genuine: bool) -> Ranked:
        """The genuine or the impostor pairs from a cell upwards."""
        parts: list[list[Cells]] = []
        for start, cells, window in self._blocks():
            columns = window if genuine else cells.shape[1]
            there = (cells[:, :columns] >= least) & (cells[:, :columns] < CELLS)
            own = self.people[start : start + len(cells), None] == self.people[start : start + window]
            there[:, :window] &= own if genuine else ~own
            first, second = np.nonzero(there)
            rows = self.order[first + start], self.order[second + start]
            parts.append([column.astype(np.int32) for column in (cells[first, second], *rows)])
        if not parts:
            return NO_PAIRS
        found = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.argsort(-found[0], kind="stable")
        return Ranked(*(column[order] for column in found))


NO_PAIRS = Ranked(*np.zeros((3, 0), dtype=np.int32))


def edge(cells: Any) -> Any:
    """The least similarity of a cell."""
    return (cells - 0.5) / STEPS - 1


def cell(values: Any) -> Any:
    """The cell of a similarity, or of the edge below it."""
    return np.floor((values + 1) * STEPS + 0.5).astype(np.int64)
