"""Small tables of people and slow computations beside which verification is tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mbapps.batches import IdentityTable, Pairs

Rows = list[tuple[int, int, bool, int]]  # first, second, same, fold


def table(labels: list[int], pairs: Rows | None = None) -> IdentityTable:
    """People p0, p1, … with as many files as they have labels."""
    names = tuple(f"p{person}" for person in range(max(labels) + 1))
    files = np.array([f"p{person}/{row:04}.jpg" for row, person in enumerate(labels)], dtype=np.str_)
    listed = None
    if pairs is not None:
        first, second, same, folds = zip(*pairs, strict=True)
        listed = Pairs(
            np.array(first, np.int64),
            np.array(second, np.int64),
            np.array(same, np.bool_),
            np.array(folds, np.int64),
        )
    return IdentityTable(Path("faces"), files, np.array(labels, dtype=np.int32), names, pairs=listed)


def clusters(
    people: int = 12, images: int = 5, noise: float = 0.9, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors round a centre of each person, not of length 1, and labels, mixed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(people), images))
    vectors = rng.normal(size=(people, 8))[labels] + noise * rng.normal(size=(len(labels), 8))
    return vectors.astype(np.float32), labels


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def every_pair(vectors: np.ndarray, labels: np.ndarray) -> tuple[list[float], list[float]]:
    """Similarities of the genuine and of the impostor pairs, one by one."""
    genuine, impostor = [], []
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            (genuine if labels[i] == labels[j] else impostor).append(cosine(vectors[i], vectors[j]))
    return genuine, impostor


def slow_auc(genuine: list[float], impostor: list[float]) -> float:
    wins = sum((yes > no) + (yes == no) / 2 for yes in genuine for no in impostor)
    return wins / len(genuine) / len(impostor)


def slow_tar(genuine: list[float], impostor: list[float], far: float) -> tuple[float, float]:
    """The lowest similarity that occurs and keeps the rate, and the TAR there, by trying each."""
    for threshold in sorted(genuine + impostor):
        if sum(score >= threshold for score in impostor) <= far * len(impostor):
            return threshold, sum(score >= threshold for score in genuine) / len(genuine)
    raise AssertionError("no similarity keeps it")


def slow_folds(scores: list[float], same: list[bool], folds: list[int]) -> list[float]:
    """Accuracy of each fold, its threshold found by trying all that matter on the others."""
    accuracy = []
    for fold in sorted(set(folds)):
        others = [(score, yes) for score, yes, of in zip(scores, same, folds, strict=True) if of != fold]
        own = [(score, yes) for score, yes, of in zip(scores, same, folds, strict=True) if of == fold]
        levels = sorted({score for score, _ in others}, reverse=True)
        tries = [float(np.nextafter(levels[0], 9))]
        tries += [(high + low) / 2 for high, low in zip(levels, [*levels[1:], levels[-1]], strict=True)]
        right = [sum((score >= level) == yes for score, yes in others) for level in tries]
        best = tries[right.index(max(right))]  # the highest of equal ones
        accuracy.append(sum((score >= best) == yes for score, yes in own) / len(own))
    return accuracy
