from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import BoxTable
from mbapps.data.boxes import clean_boxes, gather, keep_boxes, list_files, read_row, tell
from mbapps.images import write_image


def table(
    boxes: list[list[float]], size: tuple[int, int] = (100, 200), areas: list[float] | None = None
) -> BoxTable:
    """One image "a.jpg" of 100 x 200 px that holds all boxes, between two images without any."""
    columns = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(columns)
    wide = np.prod(columns[:, 2:] - columns[:, :2], axis=1)
    return BoxTable(
        folder=Path(),
        files=np.array(["0.jpg", "a.jpg", "z.jpg"]),
        image_ids=np.arange(3),
        sizes=np.array([(1, 1), size, (1, 1)], dtype=np.int32),
        starts=np.array([0, 0, count, count]),
        boxes=columns,
        labels=np.arange(count, dtype=np.int32),
        areas=wide if areas is None else np.array(areas),
        crowd=np.zeros(count, dtype=np.bool_),
        class_names=tuple("abcdefgh"[:count]),
        category_ids=tuple(range(count)),
        problems={"before": ["kept"]},
    )


def test_boxes_are_sorted_by_image_and_keep_their_order_within_one() -> None:
    order, starts = gather(np.array([3, 1, 3, 1, 3]), 5)
    assert order.tolist() == [1, 3, 0, 2, 4]
    assert starts.tolist() == [0, 0, 2, 2, 5, 5]


def test_no_boxes_at_all() -> None:
    order, starts = gather(np.array([], dtype=np.int64), 2)
    assert order.tolist() == []
    assert starts.tolist() == [0, 0, 0]
    cleaned = clean_boxes(table([]))
    assert cleaned.boxes.shape == (0, 4)
    assert cleaned.starts.tolist() == [0, 0, 0, 0]


def test_sound_boxes_keep_their_last_digit_and_areas() -> None:
    boxes = [[0.1 + 0.2, 1 / 3, 199.9999999999, 100.0], [0, 0, 200, 100], [1e-9, 0, 2e-9, 1]]
    cleaned = clean_boxes(table(boxes, areas=[7.0, 8.0, 9.0]))
    assert np.array_equal(cleaned.boxes, np.array(boxes))
    assert cleaned.areas.tolist() == [7.0, 8.0, 9.0]
    assert cleaned.problems == {"before": ["kept"]}


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([float("nan"), 0, 5, 5], "box not finite"),
        ([0, 0, float("inf"), 5], "box not finite"),
        ([0, float("-inf"), 5, 5], "box not finite"),
        ([5, 5, 5, 9], "box without area"),
        ([5, 5, 9, 5], "box without area"),
        ([9, 5, 5, 9], "box without area"),
        ([200, 0, 210, 5], "box outside the image"),
        ([-9, 0, 0, 5], "box outside the image"),
        ([5, 100, 9, 130], "box outside the image"),
    ],
)
def test_a_bad_box_is_dropped_and_told(box: list[float], reason: str) -> None:
    cleaned = clean_boxes(table([[1, 2, 3, 4], box, [5, 6, 7, 8]]))
    assert cleaned.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert cleaned.labels.tolist() == [0, 2]
    assert cleaned.starts.tolist() == [0, 0, 2, 2]
    assert cleaned.problems == {
        "before": ["kept"],
        reason: [f"a.jpg: box {' '.join(f'{edge:g}' for edge in box)}"],
    }


def test_a_box_over_the_edge_is_clipped_and_told_from_more_than_a_pixel_on() -> None:
    cleaned = clean_boxes(table([[-1, -1, 201, 101], [-1.5, 0, 10, 10], [190, 90, 250, 150]]))
    assert cleaned.boxes.tolist() == [[0, 0, 200, 100], [0, 0, 10, 10], [190, 90, 200, 100]]
    assert cleaned.areas.tolist() == [20000, 100, 100]
    assert cleaned.problems["box clipped to the image"] == [
        "a.jpg: box -1.5 0 10 10",
        "a.jpg: box 190 90 250 150",
    ]


def test_clipping_keeps_the_area_of_a_mask() -> None:
    assert clean_boxes(table([[190, 90, 250, 150]], areas=[60.0])).areas.tolist() == [60]


def test_an_unknown_size_bounds_only_the_upper_left() -> None:
    cleaned = clean_boxes(table([[-3, 5, 9000, 9000]], size=(0, 0)))
    assert cleaned.boxes.tolist() == [[0, 5, 9000, 9000]]


def test_cleaning_leaves_its_argument_alone() -> None:
    dirty = table([[-9, 0, 5, 5], [5, 5, 5, 5]])
    clean_boxes(dirty)
    assert dirty.boxes.tolist() == [[-9, 0, 5, 5], [5, 5, 5, 5]]
    assert dirty.problems == {"before": ["kept"]}


def test_keep_boxes_drops_boxes_but_no_image() -> None:
    kept = keep_boxes(table([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([False, True]))
    assert len(kept) == 3
    assert kept.starts.tolist() == [0, 0, 1, 1]
    assert kept.labels.tolist() == [1]


def test_a_listing_holds_files_only_in_order(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert list_files(tmp_path) == ["a.jpg", "b.jpg"]


def test_a_reason_counts_something() -> None:
    problems: dict[str, list[str]] = {}
    tell(problems, "nothing", [])
    tell(problems, "something", ["a"])
    tell(problems, "something", ["b"])
    assert problems == {"something": ["a", "b"]}


def test_a_large_picture_is_read_small_and_its_boxes_stay(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", np.zeros((800, 1600, 3), dtype=np.uint8))
    known = replace(table([[10, 20, 30, 40]], size=(800, 1600)), folder=tmp_path)
    image, size = read_row(known, 1, least_side=100)
    assert (image.shape[:2], size) == ((100, 200), (800, 1600))
    unknown = replace(known, sizes=np.zeros((3, 2), dtype=np.int32))
    image, size = read_row(unknown, 1, least_side=100)
    assert (image.shape[:2], size) == ((800, 1600), (800, 1600))  # nothing else tells where its boxes lie
