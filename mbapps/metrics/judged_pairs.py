"""The pairs that a protocol lists: accuracy over its folds, and how it spreads over people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .average_precision import Bools, Floats, mean_defined, resamples
from .curves import Curve, best_cut
from .matching import Rows


class JudgedPairs:
    """P pairs of a protocol with their similarities.

    Args:
        scores: [P].
        same: [P], whether a pair is genuine.
        folds: [P] from 0.
        people: [P, 2] persons of each pair.
    """

    def __init__(self, scores: Floats, same: Bools, folds: Rows, people: Rows):
        rising, place = np.unique(scores, return_inverse=True)
        self.values = rising[::-1]
        self.place = len(rising) - 1 - place.ravel()  # of each pair among the values
        self.scores, self.same, self.folds, self.people = scores, same, folds, people
        self.num_folds = int(folds.max()) + 1 if len(folds) else 0

    def curve(self, weights: Floats | None = None) -> Curve:
        """The rates of all pairs, of which each may count with a weight, [P]."""
        counts = np.ones(len(self.scores)) if weights is None else weights
        genuine = np.bincount(self.place, counts * self.same, len(self.values))
        impostor = np.bincount(self.place, counts * ~self.same, len(self.values))
        return Curve(self.values, genuine, impostor)

    def by_fold(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Accuracy of each fold, [F], at the threshold of best accuracy on all the others, [F].

        Folds are those of the list and are never shuffled. Of thresholds that are equally good the highest is
        taken, and it lies midway between the neighbouring scores of the other folds. A fold without weight is NaN.

        Source: Huang et al., Labeled Faces in the Wild (2007), section III, "View 2".
        """
        counts = np.ones(len(self.scores)) if weights is None else weights
        shape = self.num_folds, len(self.values)
        cells = self.folds * shape[1] + self.place
        gain = np.bincount(cells, np.where(self.same, counts, -counts), shape[0] * shape[1]).reshape(shape)
        there = np.bincount(cells, counts > 0, shape[0] * shape[1]).reshape(shape)
        all_gain, all_there = gain.sum(axis=0), there.sum(axis=0)
        accuracy, thresholds = np.full((2, self.num_folds), math.nan)
        for fold in range(self.num_folds):
            others = all_there > there[fold]
            held_out = self.folds == fold
            total = counts[held_out].sum()
            if others.any() and total:
                thresholds[fold] = best_cut(self.values[others], (all_gain - gain[fold])[others])
                right = (self.scores[held_out] >= thresholds[fold]) == self.same[held_out]
                accuracy[fold] = (counts[held_out] * right).sum() / total
        return accuracy, thresholds

    def resampled(self, fars: Sequence[float], count: int, seed: int = 0) -> tuple[Floats, Floats]:
        """Mean accuracy of the folds, [R], and TAR at each rate, [R, rates], in bootstrap samples of the people.

        R is `count`. TAR is NaN in a sample without a pair of a kind.
        """
        accuracy, tars = np.full(count, math.nan), np.full((count, len(fars)), math.nan)
        num_people = int(self.people.max()) + 1
        drawn = (weights for block in resamples(num_people, count, seed) for weights in block)
        for row, person_weights in enumerate(drawn):
            weights = self.weights(person_weights)
            accuracy[row] = mean_defined(self.by_fold(weights)[0])
            curve = self.curve(weights)
            if curve.num_genuine and curve.num_impostor:
                tars[row] = [curve.at_far(far)[1] for far in fars]
        return accuracy, tars

    def weights(self, drawn: Floats) -> Floats:
        """[P] of each pair where each person was drawn so often: a genuine pair as its person, others the product."""
        first, second = drawn[self.people[:, 0]], drawn[self.people[:, 1]]
        return np.where(self.same, first, first * second)
