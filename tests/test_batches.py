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
from mbapps.batches import COLUMNS, BoxTable, GeoTable, IdentityTable, LabelTable, Pairs
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


def identities(**columns: np.ndarray | None) -> IdentityTable:
    files = np.array(["a/1.png", "a/2.png", "b/1.png"])
    pairs = Pairs(*(np.array([row]) for row in (0, 1)), np.array([True]), np.array([0]))  # type: ignore[misc]
    return IdentityTable(
        Path("set"), files, np.array([0, 0, 1], dtype=np.int32), ("a", "b"), pairs=pairs, **columns
    )  # type: ignore[arg-type]


def test_the_part_of_a_face_that_counts() -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
    assert identities().part(0, image) is image
    shares = np.array([0.5, 1.0, 0.1], dtype=np.float32)
    table = identities(face_crop=shares)
    assert np.array_equal(table.part(0, image), image[10:30, 15:45])
    assert np.array_equal(table.part(1, image), image)
    points = np.full((3, 5, 2), np.nan, dtype=np.float32)
    points[0] = [[20, 15], [40, 15], [30, 22], [23, 30], [37, 30]]
    both = identities(face_crop=shares, landmarks=points)
    assert both.part(0, image).shape == (224, 224, 3)
    assert both.part(2, image).shape == (4, 6, 3)
    keys = [one.part_key(row) for one in (table, both) for row in range(3)]
    assert keys[1] == keys[4] == b""  # the whole picture, as of any other set
    assert len({keys[0], keys[2], keys[3]}) == 3
    assert keys[2] == keys[5]
    taken = both.take(np.array([2, 0]))
    assert [taken.part_key(row) for row in (0, 1)] == [keys[5], keys[3]]
    assert taken.pairs is None
    assert all(both.whole().part_key(row) == b"" for row in range(3))


def test_more_pictures_are_taken_whole() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    files, labels = np.array(["/other/long/name.png"]), np.array([-1], dtype=np.int32)
    points = np.tile(np.array([[20, 15], [40, 15], [30, 22], [23, 30], [37, 30]], np.float32), (3, 1, 1))
    crops = np.tile(np.array([1, 2, 11, 22], dtype=np.int32), (3, 1))
    plain = LabelTable(Path("set"), identities().files, identities().labels, ("a", "b"), crops)
    for table, shape in (
        (identities(), (40, 60)),
        (identities(face_crop=np.full(3, 0.5, dtype=np.float32)), (20, 30)),
        (identities(landmarks=points), (224, 224)),
        (plain, (20, 10)),
    ):
        longer = table.extended(files, labels)
        assert longer.files.tolist() == [*table.files.tolist(), *files.tolist()]
        assert longer.labels.tolist() == [0, 0, 1, -1]
        assert longer.part(0, image).shape[:2] == shape
        assert longer.part(3, image).shape[:2] == (40, 60)


def test_places_are_taken_with_their_users_and_more_have_none() -> None:
    files, lat, lon = np.array(["a", "b", "c"]), np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    labels = np.full(3, -1, dtype=np.int32)
    table = GeoTable(Path("photos"), files, labels, (), lat=lat, lon=lon, users=np.array(["ann", "", "bob"]))
    taken = table.take(np.array([2, 0]))
    assert (taken.lat.tolist(), taken.lon.tolist(), taken.users.tolist()) == ([3, 1], [6, 4], ["bob", "ann"])
    more = taken.extended(np.array(["d.jpg"]), np.array([-1], dtype=np.int32))
    assert more.users.tolist() == ["bob", "ann", ""]
    assert np.isnan(more.lat).tolist() == np.isnan(more.lon).tolist() == [False, False, True]
    assert replace(table, users=None).extended(files, labels).users is None
    nested = replace(table, labels=np.zeros((3, 2), dtype=np.int32))
    assert nested.take(np.array([1])).labels.shape == (1, 2)
