"""What a report shows of verification: rates, similarities, folds, and the pairs that were judged worst."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from .curves import LEAST_FALSE_ACCEPTS, Curve, far_name, supports

if TYPE_CHECKING:
    from .verification import VerificationMetric

POINTS = 200  # of a curve that are drawn
LEAST_BINS, MOST_BINS = 20, 80
PREFIX = {"the listed pairs": "", "every two images": "all_pairs_"}  # of a number's name
IMPOSTORS = "Two persons taken for one: the impostors most alike, of {}"
GENUINE = "One person not known again: the genuine pairs least alike, of {}"

Shown = list[tuple[int, int, str]]


def sections(
    metric: VerificationMetric, numbers: Mapping[str, float], threshold: float | None, chosen: str
) -> list[Any]:
    """ROC, similarities, TAR at each rate, rates at the threshold, and folds.

    Args:
        metric: has all its embeddings.
        numbers: of `conclude`.
        threshold: a similarity to mark, which `chosen` tells of; None marks that of best accuracy.
        chosen: where the threshold comes from.
    """
    from mbapps.plots_pairs import Rates, histograms, roc
    from mbapps.sections import Plot, Rows

    curves = {"every two images": metric.all_pairs().curve}
    if metric.truth.pairs is not None:
        curves = {"the listed pairs": metric.judged()[0].curve(), **curves}
    shown, (about, first) = {}, next(iter(curves.items()))
    for name, curve in curves.items():
        far = np.geomspace(1 / curve.num_impostor, 1, POINTS)
        shown[name] = Rates(far, curve.tar_at(far), LEAST_FALSE_ACCEPTS / curve.num_impostor)
    if threshold is None:
        threshold, chosen = (
            metric.best_accuracy_threshold(),
            "the similarity of best accuracy on these very pairs",
        )
    low, high = first.values[-1], max(first.values[0], first.values[-1] + 1e-6)
    fewer = min(first.num_genuine, first.num_impostor)
    bins = int(np.clip(2 * fewer**0.5, LEAST_BINS, MOST_BINS))
    genuine, edges = np.histogram(first.values, bins, (low, high), weights=first.genuine)
    impostor, _ = np.histogram(first.values, bins, (low, high), weights=first.impostor)
    parts: list[Any] = [
        Plot("True over false accepts", roc(shown), ABOUT_ROC),
        Plot(
            "Similarities", histograms(edges, genuine, impostor, {"threshold": threshold}),
            f"Of {about}; the threshold is {chosen}.",
        ),
        Rows("True accepts at rates of false ones", _at_rates(metric, curves, numbers), ABOUT_RATES),
        Rows("At the threshold", _at_threshold(curves, threshold), f"Similarity {threshold:.4f}: {chosen}."),
    ]  # fmt: skip
    if metric.truth.pairs is not None:
        pairs, _ = metric.judged()
        accuracy, thresholds = pairs.by_fold()
        counts = np.bincount(pairs.folds, minlength=pairs.num_folds)
        folds = zip(counts.tolist(), accuracy.tolist(), thresholds.tolist(), strict=True)
        rows = {
            f"fold {row + 1}": {"pairs": count, "accuracy": right, "threshold": f"{at:.4f}"}
            for row, (count, right, at) in enumerate(folds)
        }
        if len(rows) > 1:
            parts.append(Rows("By fold", rows, "Each at the threshold of best accuracy on the others."))
    return parts


ABOUT_ROC = f"Dotted where fewer than {LEAST_FALSE_ACCEPTS} false accepts are expected."
ABOUT_RATES = (
    "The lowest similarity that keeps the rate, and the share of genuine pairs that it accepts; between low and high "
    f"lie 95 % of bootstrap samples of the people. Rates at which fewer than {LEAST_FALSE_ACCEPTS} false accepts are "
    "expected are not told."
)


def worst_pairs(metric: VerificationMetric, count: int) -> list[tuple[str, Shown]]:
    """Impostors most alike and genuine pairs least alike, of the listed pairs, or of all where none are listed."""
    if metric.truth.pairs is not None:
        judged, there = metric.judged()
        order = there[np.argsort(-judged.scores, kind="stable")]
        scores = np.full(len(metric.truth.pairs.same), np.nan)
        scores[there] = judged.scores
        first, second, same = metric.truth.pairs[:3]
        kinds = order[~same[order]][:count], order[same[order]][::-1][:count]
        about = "the listed pairs"
        found = [(first[rows], second[rows], scores[rows]) for rows in kinds]
    else:
        every, images = metric.all_pairs(), metric.images()
        most, least = every.most_alike(count), every.least_alike(count)
        about = "every two images"
        found = [
            (images[pairs.first[part]], images[pairs.second[part]], pairs.similarities()[part])
            for pairs, part in ((most, slice(count)), (least, slice(None, -count - 1, -1)))
        ]
    return [
        (title.format(about), [_shown(metric, *pair) for pair in zip(*columns, strict=True)])
        for title, columns in zip((IMPOSTORS, GENUINE), found, strict=True)
    ]


def _shown(metric: VerificationMetric, first: int, second: int, score: float) -> tuple[int, int, str]:
    """Two image rows and what is said below them."""
    names = []
    for row in (int(first), int(second)):
        person = metric.truth.class_names[metric.truth.labels[row]]
        stem = PurePosixPath(str(metric.truth.files[row])).stem
        names.append(stem if stem.startswith(person) else f"{person}/{stem}")
    return int(first), int(second), f"{score:.3f}: {names[0]} and {names[1]}"


def _at_rates(
    metric: VerificationMetric, curves: Mapping[str, Curve], numbers: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    rows = {}
    for name, curve in curves.items():
        for far in metric.fars:
            if supports(far, curve.num_impostor):
                key = f"{PREFIX[name]}tar_at_far_{far_name(far)}"
                threshold, tar = curve.at_far(far)
                rows[f"{name}, FAR {far_name(far)}"] = {
                    "threshold": f"{threshold:.4f}", "TAR": tar,
                    "low": numbers.get(f"{key}_low"), "high": numbers.get(f"{key}_high"),
                }  # fmt: skip
    return rows


def _at_threshold(curves: Mapping[str, Curve], threshold: float) -> dict[str, dict[str, Any]]:
    rows = {}
    for name, curve in curves.items():
        far, tar = curve.rates_at(threshold)
        rows[name] = {
            "genuine pairs": int(curve.num_genuine), "accepted": tar,
            "impostor pairs": int(curve.num_impostor), "accepted falsely": far,
        }  # fmt: skip
    return rows
