from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from mbapps.album.people import BLOCK, group, nearest, number


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def same(groups: np.ndarray) -> np.ndarray:
    return groups[:, None] == groups[None]


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8])
def test_groups_are_those_of_average_linkage(similarity: float) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 8))
    vectors = unit(centres[rng.integers(0, 12, 200)] + 0.7 * rng.normal(size=(200, 8)))
    upper = np.triu_indices(200, 1)
    tree = linkage((1 - vectors.astype(float) @ vectors.T)[upper], "average")
    reference = fcluster(tree, 1 - similarity, "distance")
    found = group(vectors, similarity)
    assert (same(found) == same(reference)).all()
    assert 3 < len(set(found.tolist())) < 200


def test_blocks_make_no_difference() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(BLOCK + 300, 16)))
    best, values = nearest(vectors)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    assert (best == products.argmax(axis=1)).all()
    assert np.allclose(values, products.max(axis=1))


def test_equal_vectors_end_in_one_group() -> None:
    assert set(group(unit(np.ones((50, 4))), 0.9).tolist()) == {0}


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_group(count: int) -> None:
    assert group(np.ones((count, 4)), 0.5).tolist() == list(range(count))


def test_numbers_stay_where_members_stay() -> None:
    names = list("abcdef")
    first = number([0, 0, 0, 3, 3, 5], names, {})
    assert first == [1, 1, 1, 2, 2, 3]
    before = dict(zip(names, first, strict=True))
    # the first group has lost a member to a new one, the last two are one now
    assert number([9, 0, 0, 3, 3, 3], names, before) == [4, 1, 1, 2, 2, 2]


def test_the_number_of_a_person_who_is_gone_is_not_given_again() -> None:
    assert number([0, 1], ["x", "y"], {"gone": 8}) == [9, 10]


def test_a_number_is_given_once() -> None:
    assert number([0, 1], ["a", "c"], {"a": 1}, highest=2) == [1, 3]
    assert number([0], ["z"], {}) == [1]
