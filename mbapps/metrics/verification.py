"""Whether two pictures show one person: LFW's View 2, and true accepts at rates of false ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import IdentityTable
from mbapps.predictions import Embedding

from .all_pairs import AllPairs
from .average_precision import Floats, interval
from .curves import far_name, supports
from .judged_pairs import JudgedPairs
from .matching import Rows

MISSING = -1  # place of an image without an embedding
MOST_LEFT_OUT = 0.01  # share of the pairs: with more gone, the number is no longer that of the protocol


class VerificationMetric:
    """Collects the embedding of each image, then gives accuracy, TAR at FARs and what belongs to it.

    Two pictures are as alike as the cosine of their embeddings. An image row that comes twice counts once.
    Distributed callers gather `rows`, which is plain and picklable, before they ask for numbers.

    Args:
        truth: who is on each image, and the pairs of a protocol if it has any.
        far: false accept rates to report the TAR at; those that the pairs can't tell are left out.
        resamples: bootstrap samples behind each interval, >= 1.

    Raises:
        ValueError: a rate is no share, `resamples` is below 1, or the truth has no genuine or no impostor pair.
    """

    WORST = "Impostors taken for one person, and persons not known again"

    def __init__(
        self,
        truth: IdentityTable,
        *,
        far: float | Sequence[float] = (1e-2, 1e-3, 1e-4),
        resamples: int = 1000,
    ):
        self.truth = truth
        self.fars = [float(rate) for rate in ([far] if isinstance(far, (int, float)) else far)]
        self.resamples = resamples
        if wrong := [rate for rate in self.fars if not 0 < rate < 1]:
            raise ValueError(f"task.metric.far must lie between 0 and 1, got {wrong[0]}")
        if resamples < 1:
            raise ValueError(f"task.metric.resamples must be >= 1, got {resamples}")
        _, images = np.unique(truth.labels, return_counts=True)
        if len(images) < 2 or (images < 2).all():
            raise ValueError(
                f"verification takes two people, and one of them on two images; the data has {len(truth)} images "
                f"of {len(images)} people"
            )
        if truth.pairs is not None and (truth.pairs.same.all() or not truth.pairs.same.any()):
            kind = "impostor" if len(truth.pairs.same) and truth.pairs.same.all() else "genuine"
            raise ValueError(
                f"the list of {len(truth.pairs.same)} pairs has no {kind} pair: it takes both kinds"
            )
        self.rows: list[tuple[int, NDArray[np.floating[Any]]]] = []  # image row, vector
        self._paired: tuple[tuple[int, int], AllPairs] | None = None  # and of which rows

    def update(self, rows: Sequence[int], predictions: Sequence[Embedding]) -> None:
        """Add the embeddings of some images, given by their rows in the table.

        Raises:
            ValueError: an embedding is not finite, or all zeros, or not as wide as the others.
        """
        for row, answer in zip(rows, predictions, strict=True):
            vector = np.asarray(answer.vector)
            file = self.truth.files[row]
            wide = self.rows[0][1].shape if self.rows else vector.shape
            if vector.ndim != 1 or vector.shape != wide:
                raise ValueError(
                    f"the embedding of {file} is {list(vector.shape)}, those before it are {list(wide)}: all must be "
                    "[D] of one model"
                )
            if not np.isfinite(vector).all():
                raise ValueError(
                    f"the embedding of {file} holds NaN or infinity: the model has diverged, lower task.lr"
                )
            if not vector.any():
                raise ValueError(f"the embedding of {file} is all zeros, which has no direction to compare")
            self.rows.append((int(row), vector))

    def compute(self) -> dict[str, float]:
        """Give "all_pairs_auc", over every two images; NaN until some are of one person and some of two."""
        return {"all_pairs_auc": self.all_pairs().curve.auc()}

    def conclude(self, thresholds: float | None = None) -> dict[str, float]:
        """Give all that is asked for once, not after each epoch.

        Of every two images: "all_pairs_auc", "all_pairs_eer", "all_pairs_tar_at_far_1e-2" and so on for each rate
        that they can tell; "rank1", the share of images that are most like another of their person;
        "genuine_pairs" and "impostor_pairs". Of a protocol's pairs: "accuracy", the mean over its folds, each at the
        threshold of best accuracy on the others, and "accuracy_se", the standard error of that mean (LFW's View 2),
        where it has two folds or more; "auc", "eer", "tar_at_far_…"; "pairs" that were judged and "pairs_left_out"
        for want of an embedding.
        "_low" and "_high" of accuracy and TAR hold 95 % of bootstrap samples of the people, in which a genuine pair
        weighs as often as its person was drawn and an impostor pair the product of its two. Of many pairs the samples
        are fewer, see `AllPairs.resampled`.

        Args:
            thresholds: a similarity; then "tar_at_threshold" and "far_at_threshold" tell the rates there of every
                two images.

        Raises:
            ValueError: more than 1 % of the pairs lack an embedding, or of the rest none is genuine or impostor.

        Source: Huang et al., Labeled Faces in the Wild (2007), section III: the standard error is the standard
        deviation over the folds, with F - 1, by the root of F.
        """
        self._check_left_out()
        numbers: dict[str, float] = {}
        if self.truth.pairs is not None:
            numbers |= self._protocol()
        every = self.all_pairs()
        curve = every.curve
        fars = [far for far in self.fars if supports(far, every.num_impostor)]
        numbers |= {"all_pairs_auc": curve.auc(), "all_pairs_eer": curve.eer()}
        _, spread = every.resampled(fars, self.resamples)
        for far, sample in zip(fars, spread.T, strict=True):
            name = f"all_pairs_tar_at_far_{far_name(far)}"
            numbers |= {name: curve.at_far(far)[1], **_interval(name, sample)}
        numbers |= {
            "rank1": every.rank1(),
            "genuine_pairs": every.num_genuine, "impostor_pairs": every.num_impostor,
        }  # fmt: skip
        if thresholds is not None:
            numbers["far_at_threshold"], numbers["tar_at_threshold"] = curve.rates_at(thresholds)
        return numbers

    def best_accuracy_threshold(self) -> float:
        """The similarity of best accuracy on the protocol's pairs, or else on all, both kinds weighing the same."""
        if self.truth.pairs is not None:
            return self.judged()[0].curve().best_threshold()
        return self.all_pairs().curve.best_threshold(balanced=True)

    def all_pairs(self) -> AllPairs:
        """Every two of the images that have an embedding."""
        key = id(self.rows), len(self.rows)
        if self._paired is None or self._paired[0] != key:
            images, vectors = self._collect()
            self._paired = key, AllPairs(vectors, self.truth.labels[images])
        return self._paired[1]

    def images(self) -> Rows:
        """Rows of the table that have an embedding, as `all_pairs` counts them."""
        return self._collect()[0]

    def judged(self) -> tuple[JudgedPairs, Rows]:
        """The protocol's pairs of which both images have an embedding, and their places [P] in its list."""
        pairs = self.truth.pairs
        assert pairs is not None
        images, vectors = self._collect()
        place = np.full(len(self.truth), MISSING)
        place[images] = np.arange(len(images))
        first, second = place[pairs.first], place[pairs.second]
        there = np.flatnonzero((first != MISSING) & (second != MISSING))
        labels = self.truth.labels[images]
        _, people = np.unique(labels[np.stack([first[there], second[there]], axis=1)], return_inverse=True)
        scores = np.einsum("pd,pd->p", vectors[first[there]], vectors[second[there]])
        judged = JudgedPairs(scores, pairs.same[there], pairs.folds[there], people.reshape(-1, 2))
        return judged, there

    def sections(self, numbers: Mapping[str, float], thresholds: float | None, chosen: str) -> list[Any]:
        """The report's plots and tables; `thresholds` is a similarity to mark, None marks that of best accuracy."""
        from .verification_report import sections

        return sections(self, numbers, thresholds, chosen)

    def worst_pairs(self, count: int) -> list[tuple[str, list[tuple[int, int, str]]]]:
        """The most alike impostors and the least alike genuine pairs: a title, and image rows with a caption each."""
        from .verification_report import worst_pairs

        return worst_pairs(self, count)

    def _protocol(self) -> dict[str, float]:
        """Numbers of the protocol's pairs."""
        pairs, there = self.judged()
        assert self.truth.pairs is not None
        curve = pairs.curve()
        if not curve.num_genuine or not curve.num_impostor:
            kind = "genuine" if not curve.num_genuine else "impostor"
            raise ValueError(f"of the {len(there)} pairs whose images have an embedding none is {kind}")
        fars = [far for far in self.fars if supports(far, curve.num_impostor)]
        sampled, spread = pairs.resampled(fars, self.resamples)
        numbers: dict[str, float] = {}
        if pairs.num_folds > 1:
            accuracy, _ = pairs.by_fold()
            error = accuracy.std(ddof=1) / math.sqrt(len(accuracy))
            numbers |= {"accuracy": float(accuracy.mean()), "accuracy_se": float(error)}
            numbers |= _interval("accuracy", sampled)
        numbers |= {"auc": curve.auc(), "eer": curve.eer()}
        for far, sample in zip(fars, spread.T, strict=True):
            name = f"tar_at_far_{far_name(far)}"
            numbers |= {name: curve.at_far(far)[1], **_interval(name, sample)}
        return numbers | {"pairs": len(there), "pairs_left_out": len(self.truth.pairs.same) - len(there)}

    def _check_left_out(self) -> None:
        """Refuse where too many pairs, of the protocol or else of all, lack an embedding."""
        images, total = len({row for row, _ in self.rows}), len(self.truth)
        if self.truth.pairs is not None:
            what, pairs, judged = "listed pairs", len(self.truth.pairs.same), len(self.judged()[1])
        else:
            what, pairs, judged = "pairs", total * (total - 1) // 2, images * (images - 1) // 2
        if pairs - judged > MOST_LEFT_OUT * pairs:
            raise ValueError(
                f"{pairs - judged:,} of {pairs:,} {what} need one of the {total - images} images without an "
                f"embedding, and more than {MOST_LEFT_OUT:.0%} left out is another measurement: mend or remove the "
                "images that could not be read"
            )

    def _collect(self) -> tuple[Rows, Floats]:
        """Image rows [N], rising, and their vectors [N, D] of length 1, each image once."""
        once = dict(sorted(self.rows, key=lambda entry: entry[0]))
        if not once:
            return np.zeros(0, np.int64), np.zeros((0, 1))
        vectors = np.stack(list(once.values())).astype(np.float64)
        return np.fromiter(once, np.int64, len(once)), vectors / np.linalg.norm(
            vectors, axis=1, keepdims=True
        )


def _interval(name: str, values: Floats) -> dict[str, float]:
    """The 95 % interval of a number under its names; nothing where no sample tells it."""
    low, high = interval(values)
    return {} if math.isnan(low) else {f"{name}_low": low, f"{name}_high": high}
