from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.batches import UNKNOWN, GeoTable
from mbapps.data.place_splits import LEFT_OUT, LEVEL, read_place_splits, split_places
from mbapps.geo.cells import cell_ids

HEADER = "IMG_ID,AUTHOR,LAT,LON\n"


def table(count: int, users: list[str] | None = None) -> GeoTable:
    random = np.random.default_rng(0)
    return GeoTable(
        Path("photos"), np.array([f"{row}.jpg" for row in range(count)]), np.full(count, UNKNOWN, np.int32), (),
        lat=random.uniform(-90, 90, count), lon=random.uniform(-180, 180, count),
        users=None if users is None else np.array(users, dtype=np.str_),
    )  # fmt: skip


def test_no_user_is_in_two_splits() -> None:
    whole = table(5000, [f"user{row % 700}" for row in range(5000)])
    splits = split_places(whole, 0.1, 0.2)
    users = {split: set(one.users.tolist()) for split, one in splits.items()}  # type: ignore[union-attr]
    assert sum(map(len, users.values())) == len(set.union(*users.values())) == 700
    assert sum(map(len, splits.values())) == 5000
    assert 0.07 < len(splits["val"]) / 5000 < 0.13
    assert 0.16 < len(splits["test"]) / 5000 < 0.24


def test_no_cell_is_in_two_splits_where_no_user_is_known() -> None:
    splits = split_places(table(20_000), 0.1, 0.2)
    cells = {split: set(cell_ids(one.lat, one.lon, LEVEL).tolist()) for split, one in splits.items()}
    assert sum(map(len, cells.values())) == len(set.union(*cells.values()))
    assert sum(map(len, splits.values())) == 20_000


def test_a_user_stays_whoever_is_added() -> None:
    whole = table(400, [f"user{row}" for row in range(400)])
    one, other = split_places(whole, 0.2, 0.2), split_places(whole.take(np.arange(200)), 0.2, 0.2)
    for split in one:
        assert set(other[split].files) == set(one[split].files) & set(whole.files[:200])


def test_photos_of_unknown_users_go_by_their_place() -> None:
    places = table(3000, [""] * 1500 + [f"user{row % 90}" for row in range(1500)])
    splits = split_places(places, 0.3, 0.3)
    unknown = [
        set(cell_ids(one.lat[one.users == ""], one.lon[one.users == ""], LEVEL).tolist())
        for one in splits.values()
    ]
    assert sum(map(len, unknown)) == len(set.union(*unknown))


def test_splits_that_cant_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.val_fraction=0.5 and data.test_fraction=0.5 leave nothing"):
        split_places(table(10), 0.5, 0.5)
    with pytest.raises(
        ValueError, match="split of photos is empty: its 9 photos are of 1 users, each of which"
    ):
        split_places(table(9, ["ann"] * 9), 0.3, 0.3)
    with pytest.raises(ValueError, match="its 1 photos are of 1 cells of level 7"):
        split_places(table(1), 0.3, 0.3)


def lists(root: Path, **rows: str) -> Path:
    files: dict[str, str | None] = {f"{split}.csv": HEADER + text for split, text in rows.items()}
    return write_files(root, files | {f"{name}.jpg": None for name in "abcdefgh"})


def test_lists_of_splits_share_no_user(tmp_path: Path) -> None:
    lists(
        tmp_path, train="a,ann,1,1\nb,bob,1,1\nc,,1,1\nh,cyd,1,1\nf,,1,1\n", val="d,bob,1,1\ne,dan,2,2\n",
        test="f,dan,1,1\ng,,1,1\n",
    )  # fmt: skip
    splits = read_place_splits(tmp_path, 0.1, 0.1)
    assert {split: one.files.tolist() for split, one in splits.items()} == {
        "train": ["a.jpg", "c.jpg", "h.jpg"], "val": ["d.jpg"], "test": ["f.jpg", "g.jpg"],
    }  # fmt: skip
    assert splits["train"].problems == {
        LEFT_OUT.format("test", "train"): ["f.jpg"], LEFT_OUT.format("val", "train"): ["b.jpg"],
    }  # fmt: skip
    lists(tmp_path, val="f,,1,1\n")
    with pytest.raises(ValueError, match="each photo of val is of test too, .*: nothing is left of val"):
        read_place_splits(tmp_path, 0.1, 0.1)


def test_what_has_no_list_is_cut_from_train(tmp_path: Path) -> None:
    train = "".join(f"{name},user {name},1,1\n" for name in "abcdef")
    lists(tmp_path, train=train, test="g,ann,1,1\n")
    splits = read_place_splits(tmp_path, 0.4, 0.4)
    assert list(splits) == ["train", "val", "test"]
    assert splits["test"].files.tolist() == ["g.jpg"]
    assert len(splits["train"]) + len(splits["val"]) == 6


def test_one_list_is_cut(tmp_path: Path) -> None:
    rows = "".join(f"{name},user {name},1,1\n" for name in "abcdefgh")
    lists(tmp_path, places=rows)
    for places in (None, tmp_path / "places.csv"):
        splits = read_place_splits(tmp_path, 0.3, 0.3, places=places)
        assert sum(map(len, splits.values())) == 8


def test_photos_are_cut_by_their_exif(test_data: Path) -> None:
    with pytest.raises(ValueError, match="its 9 photos are of 1 cells of level 7"):
        read_place_splits(test_data / "datasets/geo/exif", 0.1, 0.1)
