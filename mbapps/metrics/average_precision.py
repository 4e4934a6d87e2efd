"""Average precision of yes-or-no answers, its threshold of best F1, and its spread over resampled images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import UNKNOWN

CHUNK = 500_000  # weights in memory at a time
NO_THRESHOLD = 0.5  # stands for an attribute whose best threshold can't be known

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Ranking:
    """N answers sorted from the highest score down; those of equal score are taken at once.

    Args:
        scores: [N].
        truth: [N], whether yes is right.
        images: [N], which column of `average_precision`'s weights is each answer's; None counts from 0.
    """

    def __init__(self, scores: Floats, truth: Bools, images: NDArray[np.intp] | None = None):
        order = np.argsort(-scores, kind="stable")
        self.images = order if images is None else images[order]
        self.scores = scores[order]
        self.truth = truth[order]
        self.ends = np.flatnonzero(np.append(self.scores[1:] != self.scores[:-1], True)[: len(scores)])

    def curve(self) -> tuple[Floats, Floats]:
        """Recall and precision at each score that occurs, from the highest down; recall is NaN without a yes."""
        right = np.cumsum(self.truth)[self.ends]
        with np.errstate(invalid="ignore"):
            recall = right / np.float64(self.truth.sum())
        return recall, right / (self.ends + 1)

    def average_precision(self, weights: Floats | None = None) -> Floats:
        """Sum over the scores of precision times the recall gained, in [0, 1]; NaN without a yes.

        It is scikit-learn's `average_precision_score`: nothing is interpolated.

        Args:
            weights: [R, images] how often each counts, R times over; None is once each.

        Returns:
            [R], or [1].
        """
        counts = np.ones((1, len(self.truth))) if weights is None else weights[:, self.images]
        yes = np.cumsum(self.truth)[self.ends]
        gaining = np.diff(yes, prepend=0) > 0  # at the other scores no recall is gained
        shown = np.cumsum(counts, axis=1)[:, self.ends[gaining]]
        right = np.cumsum(counts[:, self.truth], axis=1)[:, yes[gaining] - 1]
        precision = right / np.maximum(shown, 1)  # where none is shown, none is gained either
        total = right[:, -1] if gaining.any() else np.zeros(len(counts))
        gained = np.diff(right, axis=1, prepend=0)
        with np.errstate(invalid="ignore"):
            return np.asarray((precision * gained).sum(axis=1) / np.where(total > 0, total, np.nan))

    def best_threshold(self) -> float:
        """The score of highest F1 if it and all above are a yes; of equal ones the higher. 0.5 without a yes."""
        positives = int(self.truth.sum())
        if not positives:
            return NO_THRESHOLD
        right = np.cumsum(self.truth)[self.ends]
        f1 = 2 * right / (self.ends + 1 + positives)
        return float(self.scores[self.ends[np.argmax(f1)]])


def resamples(num_images: int, count: int, seed: int = 0) -> Iterator[Floats]:
    """Give how often each image is drawn in `count` bootstrap samples, some rows [R, N] at a time."""
    random = np.random.default_rng(seed)
    step = max(1, CHUNK // max(1, num_images))
    for start in range(0, count, step):
        rows = min(step, count - start)
        drawn = random.integers(num_images, size=(rows, num_images)) + np.arange(rows)[:, None] * num_images
        counts = np.bincount(drawn.ravel(), minlength=rows * num_images)
        yield counts.reshape(rows, num_images).astype(np.float64)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of bootstrapped values, [R]; NaN where none is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def mean_defined(values: Floats) -> float:
    """Mean of the values that are finite; NaN where none is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else math.nan


def mean_ap_of_parts(
    probs: Floats,
    labels: NDArray[np.integer[Any]],
    parts: Sequence[tuple[Bools, Bools]],
    count: int,
) -> tuple[list[float], Floats]:
    """Mean AP of some parts of the answers, and that of the same parts in bootstrap samples of the images.

    Args:
        probs: [N, A].
        labels: [N, A], 1, 0 or UNKNOWN, which is left out.
        parts: G of them, each given by its images, [N], and by its attributes, [A].
        count: of samples; all parts and attributes share them.

    Returns:
        G values and [G, count]; NaN where a part, or a sample of it, has no image with any of its attributes.
    """
    rankings: list[tuple[int, Ranking]] = []  # of one attribute in one part
    for part, (images, attributes) in enumerate(parts):
        for column in np.flatnonzero(attributes):
            there = np.flatnonzero(images & (labels[:, column] != UNKNOWN))
            rankings.append((part, Ranking(probs[there, column], labels[there, column] == 1, there)))
    owner = np.array([part for part, _ in rankings], dtype=int)
    values = np.array([ranking.average_precision()[0] for _, ranking in rankings])
    means = np.full((len(parts), count), math.nan)
    start = 0
    for weights in resamples(len(labels), count) if len(labels) else ():
        spread = [ranking.average_precision(weights) for _, ranking in rankings]
        stop = start + len(weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a sample may have no image with an attribute
            for part in np.unique(owner):
                means[part, start:stop] = np.nanmean(np.stack(spread)[owner == part], axis=0)
        start = stop
    return [mean_defined(values[owner == part]) for part in range(len(parts))], means
