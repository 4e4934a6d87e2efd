"""The threshold of similarity at which a model is to be used."""

from __future__ import annotations

from typing import NamedTuple

from .all_pairs import AllPairs
from .average_precision import interval
from .curves import check_far


class Operating(NamedTuple):
    """A threshold that keeps a false accept rate, and 95 % intervals over the people."""

    far: float
    threshold: float  # of similarity: at or above, two pictures show one person
    threshold_low: float
    threshold_high: float
    tar: float  # share of the genuine pairs that is accepted
    tar_low: float
    tar_high: float
    genuine_pairs: int
    impostor_pairs: int


def threshold_at_far(pairs: AllPairs, far: float, resamples: int = 1000) -> Operating:
    """The lowest similarity that occurs and keeps a false accept rate, over every two images.

    A protocol's list is not asked even where there is one: it has few impostors. LFW's 3,000 tell 1e-2, its 87
    million of all pairs 1e-6. An interval is NaN where `AllPairs.resampled` can't tell it.

    Args:
        pairs: of the embeddings to be told apart.
        far: share of the impostor pairs that may be accepted.
        resamples: bootstrap samples of the people behind the intervals, >= 1; fewer where pairs are many.

    Raises:
        ValueError: `far` is no share, the impostor pairs are too few to tell it, or there is no genuine pair.
    """
    if not pairs.num_genuine:
        raise ValueError(
            "no person is on two images: without a genuine pair nothing tells what is accepted rightly"
        )
    check_far(far, pairs.num_impostor)
    threshold, tar = pairs.curve.at_far(far)
    thresholds, tars = pairs.resampled([far], resamples)
    return Operating(
        far, threshold, *interval(thresholds[:, 0]), tar, *interval(tars[:, 0]),
        pairs.num_genuine, pairs.num_impostor,
    )  # fmt: skip
