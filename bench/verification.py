"""All pairs of an LFW-sized set: seconds and memory, and equality with a direct computation on a subset.

python bench/verification.py

13,233 random vectors of 128 in clusters, with LFW's people: 5,749, of whom 4,069 have one image and one has 530.
MB are 2**20 bytes at the peak, beyond the imports and the vectors.
"""

from __future__ import annotations

import resource
import time

import numpy as np

from mbapps.metrics.all_pairs import AllPairs
from mbapps.metrics.curves import far_name

IMAGES, PEOPLE, SEVERAL, MOST = 13_233, 5_749, 1_680, 530
WIDTH = 128
SUBSET = 1_500
FARS = (1e-2, 1e-3, 1e-4)


def people(rng: np.random.Generator) -> np.ndarray:
    """[IMAGES] the person of each: as LFW's, few have many images."""
    share = 1 / np.arange(1, SEVERAL + 1) ** 0.9
    left = IMAGES - PEOPLE - SEVERAL - (MOST - 2)
    more = np.minimum(np.floor(share[1:] / share[1:].sum() * left).astype(int), MOST - 3)
    more[: left - more.sum()] += 1
    counts = np.concatenate([[MOST], 2 + more, np.ones(PEOPLE - SEVERAL, dtype=int)])
    counts[-1] += IMAGES - counts.sum()
    return rng.permutation(np.repeat(np.arange(PEOPLE), counts))


def direct(vectors: np.ndarray, labels: np.ndarray, far: float) -> tuple[float, float, float]:
    """AUC, and threshold and TAR at a rate, from the sorted list of all similarities."""
    alike = np.floor(vectors.astype(np.float64) @ vectors.T.astype(np.float64) * 2**20 + 0.5)
    first, second = np.triu_indices(len(labels), 1)
    alike, same = alike[first, second], labels[first] == labels[second]
    genuine, impostor = alike[same], np.sort(alike[~same])
    below = np.searchsorted(impostor, genuine, "left") + np.searchsorted(impostor, genuine, "right")
    allowed = int(far * len(impostor))
    threshold = impostor[-allowed]
    while (impostor >= threshold).sum() > allowed:
        threshold += 1
    return below.mean() / 2 / len(impostor), threshold / 2**20, float((genuine >= threshold).mean())


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    rng = np.random.default_rng(0)
    labels = people(rng)
    centres = rng.normal(size=(PEOPLE, WIDTH))
    vectors = (centres[labels] + 1.2 * rng.normal(size=(IMAGES, WIDTH))).astype(np.float32)
    before, started = peak_mb(), time.perf_counter()

    def tell(what: str) -> None:
        print(f"{time.perf_counter() - started:6.2f} s {peak_mb() - before:6.0f} MB  {what}")

    pairs = AllPairs(vectors, labels)
    curve = pairs.curve
    told = ", ".join(f"TAR@{far_name(far)} {curve.at_far(far)[1]:.4f}" for far in FARS)
    tell(
        f"{pairs.num_genuine:,} genuine and {pairs.num_impostor:,} impostor pairs: AUC {curve.auc():.5f}, {told}"
    )
    tell(f"rank-1 {pairs.rank1():.4f}")
    _, tars = pairs.resampled(FARS, 1000)
    low, high = np.quantile(tars, [0.025, 0.975], axis=0)
    told = ", ".join(f"{far_name(far)} [{a:.4f}, {b:.4f}]" for far, a, b in zip(FARS, low, high, strict=True))
    tell(f"intervals of {len(tars)} bootstrap samples: {told}")

    chosen = np.concatenate([np.flatnonzero(labels < 40)[: SUBSET // 2], np.arange(SUBSET // 2)])
    chosen = np.unique(chosen)
    some = AllPairs(vectors[chosen], labels[chosen]).curve
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    for far in FARS:
        auc, threshold, tar = direct(unit[chosen], labels[chosen], far)
        mine = some.at_far(far)
        assert abs(some.auc() - auc) < 1e-12, (some.auc(), auc)
        assert mine[1] == tar, (far, mine, tar)
        assert mine[0] - threshold + 2**-20 >= -1e-9, (far, mine, threshold)
    print(f"equal to the direct computation on {len(chosen):,} images")


if __name__ == "__main__":
    main()
