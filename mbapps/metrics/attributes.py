"""Mean average precision across attributes, balanced accuracy, and how far apart groups of people are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import UNKNOWN, AttributeTable
from mbapps.predictions import Attributes

from .average_precision import Bools, Floats, Ranking, interval, mean_ap_of_parts, mean_defined

CURVE_POINTS = 200  # of a precision curve that are drawn
SHOWN_WRONG = 3  # attributes that a caption names
ABOUT_GROUPS = (
    "Mean AP of each group, over the attributes that some have and some lack in both. Between low and high lie "
    "95 % of bootstrap samples. AP also rises with the share of a group that has an attribute, so a gap is a "
    "reason to look, not yet a proof."
)


class AttributeMetric:
    """Collects the probabilities of each image's attributes, then gives mean AP and what belongs to it.

    An image row that comes twice counts once, and a label that is unknown nowhere. Distributed callers gather
    `rows`, which is plain and picklable, before they ask for numbers.

    Args:
        truth: the attributes to find.
        groups: attributes by which the images are parted, those with one against those without.
        resamples: bootstrap samples behind each interval, >= 1.

    Raises:
        ValueError: `groups` names what is no attribute of the data, or `resamples` is below 1.
    """

    WORST = "The images whose attributes were given the least probability"

    def __init__(self, truth: AttributeTable, *, groups: str | Sequence[str] = (), resamples: int = 1000):
        self.truth = truth
        self.groups = [groups] if isinstance(groups, str) else list(groups)
        self.resamples = resamples
        if unknown := [name for name in self.groups if name not in truth.class_names]:
            raise ValueError(
                f"task.metric.groups names {', '.join(unknown)}, but the attributes are "
                f"{', '.join(truth.class_names)}"
            )
        if resamples < 1:
            raise ValueError(f"task.metric.resamples must be >= 1, got {resamples}")
        self.rows: list[tuple[int, NDArray[np.floating[Any]]]] = []  # image row, probabilities

    def update(self, rows: Sequence[int], predictions: Sequence[Attributes]) -> None:
        """Add what was said of some images, given by their rows in the table.

        Raises:
            ValueError: the answers have another number of attributes than the table.
        """
        wanted = len(self.truth.class_names)
        for row, answer in zip(rows, predictions, strict=True):
            if len(answer.probs) != wanted:
                raise ValueError(f"the data has {wanted} attributes, the answers have {len(answer.probs)}")
            self.rows.append((int(row), answer.probs))

    def compute(self) -> dict[str, float]:
        """Give "mean_AP", and "AP/<attribute>" and "base_rate/<attribute>" of each.

        AP is undefined, NaN, where no image is known to have the attribute: the mean leaves it out. The base rate
        is the share that has it of the images where that is known, and the AP that guessing would have.
        """
        probs, labels = self._collect()
        ap = [float(ranking.average_precision()[0]) for ranking in self._rankings(probs, labels)]
        base = [float(np.mean(of[of != UNKNOWN])) if (of != UNKNOWN).any() else math.nan for of in labels.T]
        names = self.truth.class_names
        numbers = {"mean_AP": mean_defined(np.array(ap))}
        numbers |= {f"AP/{name}": value for name, value in zip(names, ap, strict=True)}
        return numbers | {f"base_rate/{name}": value for name, value in zip(names, base, strict=True)}

    def conclude(self, thresholds: float | Sequence[float] | None = None) -> dict[str, float]:
        """Give what is asked for once, not after each epoch: intervals, groups, and accuracy at thresholds.

        That is "attributes_undefined", how many have no AP; "mean_AP_low" and "mean_AP_high"; and
        "mean_balanced_accuracy" and "balanced_accuracy/<attribute>", the mean of the shares of yes and of no that
        are right. With groups it is also "worst_group_gap", its "_low" and "_high", and for "<attribute>: yes" and
        "<attribute>: no" each "group_images/…", "group_AP/…", "group_AP_low/…" and "group_AP_high/…".
        Intervals hold 95 % of bootstrap samples of the images. The gap is that of the pair of groups furthest
        apart, better less worse.

        Args:
            thresholds: one for all or [A]; None takes those of `best_thresholds`.
        """
        probs, labels = self._collect()
        at = self.best_thresholds() if thresholds is None else thresholds
        names = self.truth.class_names
        accuracy = np.array([row["balanced accuracy"] for row in self.by_attribute(at).values()], dtype=float)
        undefined = int((~(labels == 1).any(axis=0)).sum())
        numbers: dict[str, float] = {
            "attributes_undefined": undefined, "mean_balanced_accuracy": mean_defined(accuracy),
        }  # fmt: skip
        numbers |= {f"balanced_accuracy/{name}": float(of) for name, of in zip(names, accuracy, strict=True)}
        everyone = np.ones(len(labels), dtype=np.bool_)
        parts = [(everyone, np.ones(len(names), dtype=np.bool_))]
        for name in self.groups:
            group = labels[:, names.index(name)]
            yes, no = group == 1, group == 0
            both = _varies(labels[yes]) & _varies(labels[no])
            both[names.index(name)] = False
            parts += [(yes, both), (no, both)]
        values, spread = mean_ap_of_parts(probs, labels, parts, self.resamples)
        numbers["mean_AP_low"], numbers["mean_AP_high"] = interval(spread[0])
        gaps = []
        for place, name in enumerate(self.groups):
            for row, mark in ((1 + 2 * place, "yes"), (2 + 2 * place, "no")):
                group_name = f"{name}: {mark}"
                low, high = interval(spread[row])
                numbers |= {
                    f"group_images/{group_name}": int(parts[row][0].sum()), f"group_AP/{group_name}": values[row],
                    f"group_AP_low/{group_name}": low, f"group_AP_high/{group_name}": high,
                }  # fmt: skip
            yes, no = 1 + 2 * place, 2 + 2 * place
            sign = 1 if values[yes] >= values[no] else -1
            gaps.append((sign * (values[yes] - values[no]), *interval(sign * (spread[yes] - spread[no]))))
        known = [gap for gap in gaps if math.isfinite(gap[0])]
        if known:
            keys = ("worst_group_gap", "worst_group_gap_low", "worst_group_gap_high")
            numbers |= dict(zip(keys, max(known), strict=True))
        return numbers

    def best_thresholds(self) -> Floats:
        """Give the probability of highest F1 of each attribute, [A]; 0.5 where no image has it."""
        return np.array([ranking.best_threshold() for ranking in self._rankings(*self._collect())])

    def by_attribute(self, thresholds: float | Sequence[float] | Floats) -> dict[str, dict[str, Any]]:
        """What became of each attribute at one threshold or [A], by its name; a share of nothing is NaN."""
        probs, labels = self._collect()
        at = np.broadcast_to(np.asarray(thresholds, dtype=float), (len(self.truth.class_names),))
        said, yes, no = probs >= at, labels == 1, labels == 0
        hits, false = (said & yes).sum(axis=0), (said & no).sum(axis=0)
        with np.errstate(invalid="ignore"):
            recall, spared = hits / yes.sum(axis=0), 1 - false / no.sum(axis=0)
            precision = hits / (hits + false)
        return {
            name: {
                "threshold": f"{at[row]:.4g}", "known": int((yes | no)[:, row].sum()),
                "present": int(yes[:, row].sum()), "said": int(hits[row] + false[row]),
                "precision": float(precision[row]), "recall": float(recall[row]),
                "balanced accuracy": float((recall[row] + spared[row]) / 2),
            }
            for row, name in enumerate(self.truth.class_names)
        }  # fmt: skip

    def sections(self, numbers: Mapping[str, float], thresholds: Any, chosen: str) -> list[Any]:
        """The report's plots and tables."""
        from mbapps.plots import precision_recall
        from mbapps.sections import Plot, Rows

        curves, ap = {}, {}
        rankings = self._rankings(*self._collect())
        for name, ranking in zip(self.truth.class_names, rankings, strict=True):
            if ranking.truth.any():
                recall, precision = ranking.curve()
                points = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).round().astype(int))
                curves[name] = recall[points], precision[points]
                ap[name] = numbers[f"AP/{name}"]
        parts: list[Any] = [
            Plot("Precision and recall", precision_recall(curves, ap)),
            Rows("Attributes", self.by_attribute(thresholds), f"Yes and no at {chosen}."),
        ]
        groups: dict[str, dict[str, Any]] = {}
        for name, value in numbers.items():
            kind, _, group = name.partition("/")
            if kind.startswith("group_"):
                groups.setdefault(group, {})[GROUP_COLUMNS[kind]] = value
        return [*parts, Rows("By group", groups, ABOUT_GROUPS)] if groups else parts

    def worst(self, count: int, thresholds: Any = None) -> list[tuple[int, str]]:
        """Image rows of highest cross-entropy, averaged over their known attributes, with what was wrong."""
        once = dict(self.rows)
        probs, labels = self._collect()
        own = np.where(labels == 1, probs, 1 - probs)  # what the truth was given
        losses = np.where(labels == UNKNOWN, 0, -np.log(np.maximum(own, 1e-12)))
        mean = losses.sum(axis=1) / np.maximum((labels != UNKNOWN).sum(axis=1), 1)
        images = np.fromiter(once, np.int64, len(once))
        captions = []
        for place in np.argsort(-mean, kind="stable")[:count].tolist():
            wrong = np.argsort(-losses[place], kind="stable")[:SHOWN_WRONG]
            wrong = wrong[: 1 + int((own[place, wrong[1:]] < 0.5).sum())]  # the first however right it is
            told = [
                f"{self.truth.class_names[row]} {probs[place, row]:.2f}, in truth {TRUTH[labels[place, row]]}"
                for row in wrong.tolist()
            ]
            captions.append((int(images[place]), f"{'; '.join(told)}: {self.truth.files[images[place]]}"))
        return captions

    def answer(self, row: int, thresholds: float | Sequence[float] = 0.5) -> Attributes:
        """What was said of one image, judged at thresholds."""
        return Attributes(dict(self.rows)[row], self.truth.class_names, thresholds)

    def _collect(self) -> tuple[Floats, NDArray[np.integer[Any]]]:
        """Probabilities and labels, both [N, A], each image once."""
        once = dict(self.rows)
        if not once:
            empty = np.zeros((0, len(self.truth.class_names)))
            return empty, empty.astype(np.int8)
        return np.stack(list(once.values())).astype(np.float64), self.truth.labels[
            np.fromiter(once, np.int64, len(once))
        ]

    @staticmethod
    def _rankings(probs: Floats, labels: NDArray[np.integer[Any]]) -> list[Ranking]:
        """The images of each attribute for which it is known, ranked."""
        known = labels != UNKNOWN
        return [
            Ranking(of[there], label[there] == 1)
            for of, label, there in zip(probs.T, labels.T, known.T, strict=True)
        ]


TRUTH = {1: "yes", 0: "no", UNKNOWN: "unknown"}
GROUP_COLUMNS = {
    "group_images": "images",
    "group_AP": "mean AP",
    "group_AP_low": "low",
    "group_AP_high": "high",
}


def _varies(labels: NDArray[np.integer[Any]]) -> Bools:
    """[A] attributes that some images have and some lack."""
    return np.asarray((labels == 1).any(axis=0) & (labels == 0).any(axis=0))
