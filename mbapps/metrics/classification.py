"""Top-1, top-5, accuracy by class, confusion, calibration error, and the temperature that mends it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import LabelTable
from mbapps.predictions import Classification

from .confusion import Confusion

BINS = 15  # of confidence, equally wide
TEMPERATURES = (0.05, 20.0)  # searched between these

Floats = NDArray[np.float64]


class ClassificationMetric:
    """Collects the logits of each image, then gives the numbers of classification.

    An image row that comes twice counts once. Distributed callers gather `rows`, which is plain and
    picklable, before they ask for numbers.
    """

    WORST = "The images whose class was given the least probability"

    def __init__(self, truth: LabelTable):
        self.truth = truth
        self.rows: list[tuple[int, NDArray[np.float32]]] = []  # image row, logits

    def update(self, rows: Sequence[int], predictions: Sequence[Classification]) -> None:
        """Add what was said of some images, given by their rows in the table.

        Raises:
            ValueError: the answers have another number of classes than the table.
        """
        columns, num_classes = self.truth.columns, len(self.truth.class_names)
        for row, answer in zip(rows, predictions, strict=True):
            logits = answer.logits if columns is None else answer.logits[columns]  # the others do not compete
            if len(logits) != num_classes:
                raise ValueError(f"the data has {num_classes} classes, the answers have {len(logits)}")
            self.rows.append((int(row), logits))

    def compute(self) -> dict[str, float]:
        """Give "top1", "top5", "mean_class_accuracy", "ece", "nll" and "accuracy/<class name>" of each class.

        Shares in [0, 1]. NaN stands where there is no image, of all or of a class, which the mean leaves out.
        "top5" is left out where there are five classes or fewer: it could not be missed. The calibration error
        is that of the answers as they come, with whatever temperature the head has.
        """
        logits, labels = self._collect()
        names = self.truth.class_names
        if not len(labels):
            top5 = {"top5": math.nan} if len(names) > 5 else {}
            undefined = dict.fromkeys(("mean_class_accuracy", "ece", "nll", *_by_class(names)), math.nan)
            return {"top1": math.nan, **top5, **undefined}
        own = logits[np.arange(len(labels)), labels][:, None]
        earlier = (
            np.arange(len(names)) < labels[:, None]
        )  # of equal ones the first is the answer, as argmax has it
        rank = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
        hits = rank == 0
        count = np.bincount(labels, minlength=len(names))
        with np.errstate(invalid="ignore"):
            by_class = np.bincount(labels, hits, len(names)) / np.where(count, count, np.nan)
        log_probs = log_softmax(logits)
        numbers = {"top1": float(hits.mean())}
        if len(names) > 5:
            numbers["top5"] = float((rank < 5).mean())
        numbers |= {
            "mean_class_accuracy": float(np.nanmean(by_class)),
            "ece": calibration_error(np.exp(log_probs.max(axis=1)), log_probs.argmax(axis=1) == labels),
            "nll": float(-log_probs[np.arange(len(labels)), labels].mean()),
        }
        return numbers | dict(zip(_by_class(names), by_class.tolist(), strict=True))

    def best_temperature(self) -> float:
        """Give what the logits must be divided by for the least negative log likelihood; 1.0 without images.

        One image more, of any class alike, counts with the N that were seen: else answers that are all right,
        as those of a small set may be, would have to be certain.

        Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2.
        """
        from scipy.optimize import minimize_scalar

        logits, labels = self._collect()
        if not len(labels):
            return 1.0
        image = np.arange(len(labels))

        def loss(log_temperature: float) -> float:
            log_probs = log_softmax(logits * np.exp(-log_temperature))
            return float(-log_probs[image, labels].sum() - log_probs.mean())

        found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
        return float(np.exp(found.x))

    def confusion(self) -> Confusion:
        """Count images by their class and by the best answer."""
        logits, labels = self._collect()
        count = len(self.truth.class_names)
        pairs = labels * count + logits.argmax(axis=1)
        counts = np.bincount(pairs, minlength=count * count).reshape(count, count)
        return Confusion(counts, self.truth.class_names, background=False)

    def sections(self, numbers: Mapping[str, float], thresholds: Any, chosen: str) -> list[Any]:
        """The report's plots and tables."""
        from mbapps.plots import reliability
        from mbapps.sections import Plot

        logits, labels = self._collect()
        if not len(labels):
            return []
        probs = np.exp(log_softmax(logits))
        figure = reliability(probs.max(axis=1), probs.argmax(axis=1) == labels, BINS)
        return [
            *self.confusion().sections("Each row is a class and shows what its images were taken for."),
            Plot(
                "Calibration",
                figure,
                "On the diagonal a probability is the share of such answers that are right.",
            ),
        ]

    def worst(self, count: int, thresholds: Any = None) -> list[tuple[int, str]]:
        """Image rows whose true class was given the least probability, with what was said of them."""
        names, truth = self.truth.class_names, self.truth.labels
        scored = []
        for row, logits in dict(self.rows).items():
            probs = np.exp(log_softmax(logits[None].astype(np.float64))[0])
            scored.append((float(probs[truth[row]]), row, int(probs.argmax()), float(probs.max())))
        scored.sort()
        return [
            (
                row,
                f"{names[truth[row]]}, given {own:.2f}; said {names[best]}, {top:.2f}: {self.truth.files[row]}",
            )
            for own, row, best, top in scored[:count]
        ]

    def answer(self, row: int, thresholds: Any = None) -> Classification:
        """What was said of one image."""
        return Classification(dict(self.rows)[row], self.truth.class_names)

    def _collect(self) -> tuple[Floats, NDArray[np.int64]]:
        """Logits [N, K] and labels [N], each image once."""
        rows = dict(self.rows)
        if not rows:
            return np.zeros((0, len(self.truth.class_names))), np.zeros(0, np.int64)
        labels = self.truth.labels[np.fromiter(rows, np.int64, len(rows))].astype(np.int64)
        return np.stack(list(rows.values())).astype(np.float64), labels


def _by_class(names: Sequence[str]) -> list[str]:
    return [f"accuracy/{name}" for name in names]


def log_softmax(logits: Floats) -> Floats:
    """[N, K] -> [N, K] log probabilities."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def calibration_error(confidence: Floats, hits: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error of N answers, in [0, 1]: by how much confidence and accuracy differ on average.

    Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning (2015).

    >>> round(calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 3)
    0.4
    """
    row = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(row, hits, bins) - np.bincount(row, confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))
