from __future__ import annotations

import numpy as np
import pytest

from mbapps.metrics.matching import MISS, match, pair_up, paired_iou, rank_in_cells

NO = np.array([False, False])


def run(iou: list[list[float]], crowd: np.ndarray = NO, ignored: np.ndarray = NO) -> list[int]:
    """Match the rows of a matrix, best first, with its columns at 0.5."""
    matrix = np.array(iou)
    detections, truth = (index.ravel() for index in np.indices(matrix.shape))
    ranks = np.arange(len(matrix))
    return match(
        ranks, detections, truth, matrix.ravel(), iou_threshs=(0.5,), crowd=crowd, ignored=crowd | ignored
    )[0].tolist()


def test_the_first_takes_the_best_and_the_second_what_is_left() -> None:
    assert run([[0.6, 0.9], [0.7, 0.95], [0.8, 0.8]]) == [1, 0, MISS]


def test_an_overlap_of_exactly_the_threshold_matches() -> None:
    assert run([[0.5, 0.0], [0.0, 0.4999]]) == [0, MISS]


def test_of_equal_overlaps_the_later_box_wins() -> None:
    assert run([[0.7, 0.7]]) == [1]


def test_an_ignored_box_is_taken_only_where_there_is_no_other() -> None:
    ignored = np.array([True, False])
    assert run([[0.9, 0.5], [0.9, 0.5], [0.9, 0.5]], ignored=ignored) == [1, 0, MISS]


def test_a_crowd_is_taken_again_and_again() -> None:
    crowd = np.array([True, False])
    assert run([[0.9, 0.5], [0.9, 0.5], [0.9, 0.5]], crowd=crowd) == [1, 0, 0]


def test_no_pair_at_all() -> None:
    empty = np.zeros(0, dtype=np.int64)
    matches = match(
        np.arange(2), empty, empty, np.zeros(0), iou_threshs=(0.5, 0.75), crowd=NO[:0], ignored=NO[:0]
    )
    assert matches.tolist() == [[MISS, MISS], [MISS, MISS]]


def test_pairs_join_equal_cells_only() -> None:
    rng = np.random.default_rng(0)
    cells, truth_cells = rng.integers(0, 9, 40), np.sort(rng.integers(0, 9, 30))
    pairs = set(zip(*(rows.tolist() for rows in pair_up(cells, truth_cells)), strict=True))
    assert pairs == {(i, j) for i in range(40) for j in range(30) if cells[i] == truth_cells[j]}


def test_ranks_count_up_within_each_cell() -> None:
    cells = np.array([5, 1, 5, 5, 1])
    assert rank_in_cells(cells).tolist() == [0, 0, 1, 2, 1]


def test_overlap_of_pairs() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]], dtype=float)
    truth = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [5, 0, 15, 10], [0, 0, 0, 0]], dtype=float)
    crowd = np.array([False, False, True, False])
    assert paired_iou(boxes, truth, crowd).tolist() == pytest.approx([1, 1 / 3, 1 / 2, 0])
