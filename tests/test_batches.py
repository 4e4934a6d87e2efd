from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.context import set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from mbapps import batches
from mbapps.batches import COLUMNS, BoxTable
from mbapps.columns import open_columns, write_columns

IMAGES, BOXES = 1000, 5000


@pytest.fixture
def table() -> BoxTable:
    rng = np.random.default_rng(0)
    return BoxTable(
        folder=Path("photos"),
        files=np.array([f"{row:012d}.jpg" for row in range(IMAGES)]),
        image_ids=np.arange(IMAGES),
        sizes=np.full((IMAGES, 2), 100, dtype=np.int32),
        starts=np.append(np.sort(rng.integers(0, BOXES, IMAGES)), BOXES),
        boxes=rng.random((BOXES, 4)),
        labels=rng.integers(0, 3, BOXES).astype(np.int32),
        areas=rng.random(BOXES),
        crowd=rng.random(BOXES) < 0.1,
        class_names=("a", "b", "c"),
        category_ids=(1, 2, 5),
        problems={"reason": ["place"]},
    )


@pytest.fixture
def mapped(table: BoxTable, tmp_path: Path) -> BoxTable:
    write_columns(tmp_path / "a", {name: getattr(table, name) for name in COLUMNS})
    columns = open_columns(tmp_path / "a")
    return replace(table, **columns.arrays, columns=columns)


@contextmanager
def spawning() -> Iterator[None]:
    """As in a process that starts another one."""
    set_spawning_popen(object())
    try:
        yield
    finally:
        set_spawning_popen(None)


def assert_same(one: BoxTable, other: BoxTable) -> None:
    for name in COLUMNS:
        assert getattr(one, name).dtype == getattr(other, name).dtype
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("folder", "class_names", "category_ids", "problems"):
        assert getattr(one, name) == getattr(other, name)


def test_taken_images_keep_their_boxes(table: BoxTable) -> None:
    images = np.array([7, 3, 3, 999])
    taken = table.take(images)
    for row, image in enumerate(images.tolist()):
        assert np.array_equal(taken.boxes[taken.rows(row)], table.boxes[table.rows(image)])
        assert taken.files[row] == table.files[image]
    assert taken.box_images().tolist() == np.repeat(np.arange(4), np.diff(table.starts)[images]).tolist()


def test_a_table_in_memory_is_pickled_whole(table: BoxTable) -> None:
    content = pickle.dumps(table)
    assert len(content) > table.boxes.nbytes
    assert_same(pickle.loads(content), table)


def test_a_mapped_table_is_pickled_by_the_name_of_its_file(mapped: BoxTable, table: BoxTable) -> None:
    content = pickle.dumps(mapped)
    assert len(content) < 2000
    found = pickle.loads(content)
    assert_same(found, table)
    assert not found.boxes.flags.writeable
    assert_same(copy.deepcopy(mapped), table)


def test_a_changed_column_goes_along_and_the_others_stay_in_the_file(
    mapped: BoxTable, table: BoxTable
) -> None:
    labels = (mapped.labels + 1) % 3
    changed = replace(mapped, labels=labels, problems={})
    content = pickle.dumps(changed)
    assert labels.nbytes < len(content) < labels.nbytes + 2000
    assert_same(pickle.loads(content), replace(table, labels=labels, problems={}))


def test_taken_images_are_pickled_whole(mapped: BoxTable, table: BoxTable) -> None:
    images = np.arange(0, IMAGES, 2)
    found = pickle.loads(pickle.dumps(mapped.take(images)))
    assert found.columns is None
    assert_same(found, table.take(images))


@pytest.mark.parametrize("lost", ["removed", "replaced"])
def test_a_table_whose_file_is_lost_is_pickled_whole(mapped: BoxTable, table: BoxTable, lost: str) -> None:
    assert mapped.columns
    path = mapped.columns.path
    path.unlink()
    if lost == "replaced":
        write_columns(path, {name: getattr(table, name)[:1] for name in COLUMNS})
    found = pickle.loads(pickle.dumps(mapped))
    assert found.columns is None
    assert_same(found, table)


def test_a_large_table_is_lent_to_processes_that_start(
    mapped: BoxTable, table: BoxTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "WORTH_LENDING", 1000)
    half = np.arange(0, IMAGES, 2)
    for whole, wanted in ((table, replace(table)), (mapped.take(half), table.take(half))):
        with spawning():
            contents = [bytes(ForkingPickler.dumps(whole)) for _ in range(2)]
        assert len(contents[0]) < 2000
        assert contents[0] == contents[1]  # both read one file
        assert_same(pickle.loads(contents[0]), wanted)
        assert_same(whole, wanted)
        assert whole.columns
        assert whole.boxes is whole.columns.arrays["boxes"]  # and so does the lender


def test_a_table_that_can_not_be_lent_is_copied(table: BoxTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batches, "WORTH_LENDING", 1000)
    monkeypatch.setattr(batches, "lend_columns", full)
    with spawning():
        content = bytes(ForkingPickler.dumps(table))
    assert len(content) > table.boxes.nbytes
    assert_same(pickle.loads(content), table)
