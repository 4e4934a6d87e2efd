from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.batches import UNKNOWN
from mbapps.data.geo import NO_CELL, GeoData
from mbapps.geo.cells import cell_ids, contains, levels
from mbapps.geo.counts import Photos, count_table
from mbapps.geo.partition import Rules, build_nested, build_partition, cells_of, class_names_of
from mbapps.geo.partition_files import open_partitions, save_partitions
from mbapps.geo.shapes import centres
from mbapps.label_tables import GeoTable

FINE = {"max_photos": 10, "min_photos": 1}
SIZE = {"image_size": 32, "num_workers": 0}


class Head:
    """What a data set informs."""

    def place_cells(self, centres: np.ndarray) -> None:
        self.centres = centres


def test_photos_are_labelled_by_the_cells_of_the_training_photos(tiny_world: Path) -> None:
    data = GeoData(root=str(tiny_world), cells=FINE, **SIZE)
    (cells,) = cells_of(data.class_names).values()
    assert len(cells) == len(data.class_names) > 4
    for table in data.tables.values():
        leaves = cell_ids(table.lat, table.lon)
        inside = table.labels[:, 0] != UNKNOWN
        assert inside.any()
        assert contains(cells[table.labels[inside, 0]], leaves[inside]).all()
        assert not contains(cells[:, None], leaves[~inside]).any()
    photos = Photos(data.tables["train"].lat, data.tables["train"].lon)
    assert class_names_of({"": build_partition(photos, Rules(**FINE))}) == list(data.class_names)


def test_a_batch_has_cells_and_places(tiny_world: Path) -> None:
    data = GeoData(root=str(tiny_world), cells={"max_photos": [20, 5], "min_photos": 1}, batch_size=6, **SIZE)
    batch = next(iter(data.val_dataloader()))
    table = data.tables["val"]
    assert (batch.labels.numpy() == table.labels[batch.rows]).all()
    assert batch.labels.shape == (6, 2)
    np.testing.assert_allclose(batch.places[:, 0], table.lat[batch.rows], atol=1e-4)
    np.testing.assert_allclose(batch.places[:, 1], table.lon[batch.rows], atol=1e-4)


def test_photos_that_cant_be_read_are_left_out_of_a_batch(tmp_path: Path) -> None:
    files = {f"{row}.jpg": None for row in range(8)} | {
        "train.csv": "IMG_ID,LAT,LON\n" + "".join(f"{row},{row * 9},0\n" for row in range(8)),
        "val.csv": "IMG_ID,LAT,LON\nbroken,1,1\nv,2,2\n", "test.csv": "IMG_ID,LAT,LON\nt,1,1\n", "t.jpg": None,
        "v.jpg": None, "broken.jpg": "no picture",
    }  # fmt: skip
    cells = {"max_photos": 1, "min_photos": 1}
    data = GeoData(root=str(write_files(tmp_path, files)), cells=cells, max_broken=1.0, **SIZE)
    batch = next(iter(data.val_dataloader()))
    assert (len(batch.images), batch.places.tolist(), len(batch.broken)) == (1, [[2, 2]], 1)


def test_training_photos_in_no_cell_are_told_and_left_out(tiny_world: Path) -> None:
    whole = GeoData(root=str(tiny_world), cells=FINE, **SIZE)
    data = GeoData(root=str(tiny_world), cells={"max_photos": 10, "min_photos": 4}, **SIZE)
    lost = data.problems()[NO_CELL]
    assert 0 < len(lost) == len(whole.tables["train"]) - len(data.tables["train"])
    assert (data.tables["train"].labels != UNKNOWN).all()
    assert len(data.tables["val"]) == len(whole.tables["val"])  # they are measured all the same


def test_users_make_cells_anonymous(tiny_world: Path) -> None:
    with_users = GeoData(root=str(tiny_world), cells={**FINE, "min_users": 2}, **SIZE)
    (part,) = with_users.partitions.values()
    assert part.users is not None
    assert part.users.min() >= 2


def test_the_head_is_told_where_its_cells_lie(tiny_world: Path) -> None:
    data = GeoData(root=str(tiny_world), cells={"max_photos": [20, 10], "min_photos": 1}, **SIZE)
    head = Head()
    told = data.inform(head)
    assert head.centres.shape == (len(data.class_names), 2)
    assert [line.split(":")[0] for line in told] == ["20", "10"]
    assert "cells of levels" in told[0]


def test_partitions_are_kept_and_used_again(tiny_world: Path, tmp_path: Path) -> None:
    data = GeoData(root=str(tiny_world), cells={"max_photos": [20, 10], "min_photos": 1}, **SIZE)
    folder = data.write(tmp_path)
    assert list(open_partitions(folder)) == ["20", "10"]
    again = GeoData(root=str(tiny_world), partition=str(folder), **SIZE)
    assert again.class_names == data.class_names
    assert again.lineage() == data.lineage()


def test_the_cells_of_a_model_label_what_is_measured(tiny_world: Path, tmp_path: Path) -> None:
    data = GeoData(root=str(tiny_world), cells=FINE, **SIZE)
    measured = GeoData(root=str(tiny_world), split="test", class_names=data.class_names, **SIZE)
    assert set(measured.tables) == {"test"}
    assert (measured.tables["test"].labels == data.tables["test"].labels).all()
    other = save_partitions(tmp_path, build_nested(Photos([1.0, 40.0], [1.0, 80.0]), {"": Rules(1, 1)}))
    with pytest.raises(ValueError, match="has .* cells and data.partition=.* 2: they do not belong together"):
        GeoData(
            root=str(tiny_world), split="test", class_names=data.class_names, partition=str(other), **SIZE
        )
    assert len(data.partitions) == 1


def test_another_folder_is_measured_on(tiny_world: Path, tmp_path: Path) -> None:
    names = GeoData(root=str(tiny_world), cells=FINE, **SIZE).class_names
    rows = {"im2gps.csv": "IMG_ID,LAT,LON\na,1,1\nb,2,2\n", "a.jpg": None, "b.jpg": None}
    folder = write_files(tmp_path, rows)
    for test in (folder, folder / "im2gps.csv"):
        data = GeoData(root=None, test=str(test), split="test", class_names=names, **SIZE)
        assert data.tables["test"].files.tolist() == ["a.jpg", "b.jpg"]
        assert data.root == folder
    trained = GeoData(root=str(tiny_world), test=str(folder), cells=FINE, **SIZE)
    assert len(trained.tables["test"]) == 2


def test_a_user_who_is_measured_is_not_learned(tiny_world: Path, tmp_path: Path) -> None:
    table = GeoData(root=str(tiny_world), cells=FINE, **SIZE).tables["train"]
    assert table.users is not None
    user = str(table.users[0])
    folder = write_files(tmp_path, {"list.csv": f"IMG_ID,AUTHOR,LAT,LON\na,{user},1,1\n", "a.jpg": None})
    train = GeoData(root=str(tiny_world), test=str(folder), cells=FINE, **SIZE).tables["train"]
    assert isinstance(train, GeoTable)
    assert train.users is not None
    assert user not in train.users


def test_coarse_only_has_no_fine_cells(tiny_world: Path, tmp_path: Path) -> None:
    cells = {"max_photos": 1, "min_photos": 1}
    fine = GeoData(root=str(tiny_world), cells=cells, **SIZE)
    for word, level in (("country", 3), ("region", 5)):
        data = GeoData(root=str(tiny_world), cells=cells, coarse_only=word, **SIZE)
        assert levels(cells_of(data.class_names)[""]).max() == level
    folder = fine.write(tmp_path)
    with pytest.raises(
        ValueError, match=r"has cells of level \d+, and task.coarse_only=country allows none finer than 3"
    ):
        GeoData(root=str(tiny_world), partition=str(folder), coarse_only="country", **SIZE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": FINE, "coarse_only": "city"}, "task.coarse_only must be country or region"),
        ({"cells": {"max_photos": 10, "min_photos": 11}}, "min_photos must be 1 to max_photos=10, got 11"),
        ({"cells": {**FINE, "min_users": 40}}, "no cell is left: none has photos of min_users=40 users"),
        ({"cells": {"max_photos": [5, 10], "min_photos": 1}}, "max_photos must fall"),
        ({"columns": {"lat": "y"}}, "data.columns.lat=y: .* has no such column"),
        ({"val_fraction": 0.0}, r"data.val_fraction must be in \(0, 1\)"),
        ({"partition": "nowhere"}, "no partition at nowhere"),
    ],
)  # fmt: skip
def test_settings_that_cant_be(tiny_world: Path, settings: dict, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        GeoData(root=str(tiny_world), **settings, **SIZE)


def test_one_cell_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    rows = "".join(f"{row},u{row},48.{row:02d},2.3\n" for row in range(60))
    files = {f"{row}.jpg": None for row in range(60)} | {"places.csv": f"IMG_ID,USER,LAT,LON\n{rows}"}
    with pytest.raises(ValueError, match="leave one cell: there is nothing to tell apart; lower data.cells"):
        GeoData(root=str(write_files(tmp_path, files)), cells={"max_photos": 100, "min_photos": 1}, **SIZE)


def test_with_another_test_set_nothing_is_cut_off_for_one(tmp_path: Path) -> None:
    rows = "".join(f"{row},u{row},{row % 80},{row}\n" for row in range(1, 121))
    files = {f"{row}.jpg": None for row in range(1, 121)} | {"places.csv": f"IMG_ID,USER,LAT,LON\n{rows}"}
    other = {"im2gps.csv": "IMG_ID,LAT,LON\nt,1,1\n", "t.jpg": None}
    root, test = write_files(tmp_path / "root", files), write_files(tmp_path / "test", other)
    data = GeoData(root=str(root), test=str(test), cells=FINE, **SIZE)
    assert len(data.tables["train"]) + len(data.tables["val"]) == 120
    assert len(data.tables["test"]) == 1


def test_nobody_who_is_known_is_no_user(tmp_path: Path) -> None:
    lat, lon = np.repeat([10.0, 20.0, 30.0], 4), np.zeros(12)
    users = ["a", "a", "", "", "a", "b", "", "", "", "", "", ""]
    part = build_partition(Photos(lat, lon, users), Rules(4, 1, min_users=2))
    assert (len(part), part.photos.tolist(), part.users.tolist()) == (1, [4], [2])
    table = count_table(lat, lon, users)
    assert build_partition(table, Rules(4, 1, min_users=2)).cells.tolist() == part.cells.tolist()
    with pytest.raises(ValueError, match="no cell is left: none has photos of min_users=1 users"):
        build_partition(Photos(lat, lon, [""] * 12), Rules(4, 1, min_users=1))


def test_coarse_cells_lie_where_their_squares_do(tiny_world: Path, tmp_path: Path) -> None:
    cells = {"max_photos": 1, "min_photos": 1}
    data = GeoData(root=str(tiny_world), cells=cells, coarse_only="country", **SIZE)
    (part,) = data.partitions.values()
    assert (part.centres == centres(part.cells)).all()
    again = GeoData(root=str(tiny_world), partition=str(data.write(tmp_path)), coarse_only="country", **SIZE)
    assert (next(iter(again.partitions.values())).centres == centres(part.cells)).all()
