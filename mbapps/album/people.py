"""Faces that are of one person, as far as their vectors tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # rows that are compared with all others at a time


def group(vectors: NDArray[np.floating[Any]], similarity: float) -> NDArray[np.int64]:
    """Group vectors by average linkage: groups are joined while the mean similarity of their members allows it.

    The mean of all similarities of two groups is the inner product of their mean vectors, so that no table of N x N is
    kept. In each round all pairs of groups that are each other's nearest are joined; this gives the same groups
    as joining the nearest pair of all one after another, since a group that two are joined to is no nearer to any
    third than the nearer of them was. For the same reason a group without a neighbour near enough will never have one.

    Args:
        vectors: [N, D] of length 1.
        similarity: mean inner product, at least, of groups that are joined, in [-1, 1].

    Returns:
        [N] the row of each one's first member.

    Source: Murtagh, A survey of recent advances in hierarchical clustering algorithms (1983): reciprocal neighbours.

    >>> group(np.array([[1.0, 0.0], [0.0, 1.0], [0.96, 0.28]]), 0.5).tolist()
    [0, 1, 0]
    """
    sums = np.array(vectors, dtype=np.float32)
    counts = np.ones(len(sums), dtype=np.float32)
    parents = np.arange(len(sums))
    active = np.arange(len(sums))
    while len(active) > 1:
        best, values = nearest(sums[active] / counts[active, None])
        near = values >= similarity
        rows = np.arange(len(active))
        lower = near & (best[best] == rows) & (rows < best)
        if not lower.any():
            if not near.any():
                break
            first = int(np.argmax(values))  # rounding has parted a pair that is nearest both ways
            lower[min(first, best[first])] = True
            best[min(first, best[first])] = max(first, best[first])
        kept, joined = active[lower], active[best[lower]]
        sums[kept] += sums[joined]
        counts[kept] += counts[joined]
        parents[joined] = kept
        near[best[lower]] = False
        active = active[near]
    while (parents[parents] != parents).any():
        parents = parents[parents]
    return parents


def nearest(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The other row with the largest inner product, [N], and that product."""
    best, values = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), BLOCK):
        products = vectors[start : start + BLOCK] @ vectors.T
        rows = np.arange(len(products))
        products[rows, start + rows] = -np.inf
        best[start : start + BLOCK] = products.argmax(axis=1)
        values[start : start + BLOCK] = products[rows, best[start : start + BLOCK]]
    return best, values


def number(
    groups: Sequence[int], names: Sequence[str], before: Mapping[str, int], highest: int = 0
) -> list[int]:
    """Number groups from 1, so that they keep their numbers while their members stay.

    A group gets the number that most of its members had before, of two groups that would have the same one the one
    with more of them; the others get numbers that were never given, the larger groups first.

    Args:
        groups: of each member.
        names: of each member.
        before: numbers by the members' names.
        highest: number that was ever given.

    >>> number([0, 0, 1, 2], ["a", "b", "c", "d"], {"c": 7})
    [8, 8, 7, 9]
    """
    sizes = Counter(groups)
    shared = Counter((one, before[name]) for one, name in zip(groups, names, strict=True) if name in before)
    given: dict[int, int] = {}
    taken: set[int] = set()
    for (one, old), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if one not in given and old not in taken:
            given[one] = old
            taken.add(old)
    free = max(highest, *before.values(), 0)
    for one, _ in sizes.most_common():
        if one not in given:
            free += 1
            given[one] = free
    return [given[one] for one in groups]
