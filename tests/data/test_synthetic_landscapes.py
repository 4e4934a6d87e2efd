"""The synthetic world: photos round real cities, in the format of MP-16 and Im2GPS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mbapps.data.landscape_painting import SIDE
from mbapps.data.landscape_traits import field, traits_of
from mbapps.data.place_splits import read_place_splits
from mbapps.data.synthetic import SPLITS, synthetic_root
from mbapps.data.synthetic_landscapes import render_landscape, scatter_photos, write_landscapes
from mbapps.geo.cities import largest_cities
from mbapps.geo.distance import great_circle_km, unit_vectors
from mbapps.images import read_image, resize


def test_the_lists_are_read_as_any_other(tiny_world: Path) -> None:
    splits = read_place_splits(tiny_world, 0.1, 0.1)
    assert {split: len(table) for split, table in splits.items()} == {"train": 48, "val": 24, "test": 24}
    assert all(table.problems == {} for table in splits.values())
    users = [set(table.users.tolist()) for table in splits.values()]  # type: ignore[union-attr]
    assert sum(map(len, users)) == len(set.union(*users))
    assert (tiny_world / "train.csv").read_text().startswith("IMG_ID,AUTHOR,LAT,LON\n00/train000000.jpg,7000")


def test_photos_lie_round_cities() -> None:
    cities = largest_cities()
    photos = scatter_photos(0, "train", 2000)
    km = great_circle_km(photos.lat[:, None], photos.lon[:, None], cities.lat, cities.lon).min(axis=1)
    assert 3 < np.median(km) < 9
    assert 30 < km.max() < 400
    _, each = np.unique(photos.users, return_counts=True)
    assert 3 < each.mean() < 7
    assert scatter_photos(1, "train", 10).lat.tolist() != photos.lat[:10].tolist()
    assert scatter_photos(0, "train", 2000).lat.tolist() == photos.lat.tolist()


def test_files_hold_what_is_rendered(tiny_world: Path) -> None:
    table = read_place_splits(tiny_world, 0.1, 0.1)["test"]
    written = read_image(table.folder / str(table.files[3]))
    rendered = render_landscape(table.lat[3], table.lon[3], 0, "test", 3)
    assert rendered.shape == (SIDE, SIDE, 3)
    assert np.abs(written.astype(int) - rendered).mean() < 12  # jpeg
    assert not np.array_equal(rendered, render_landscape(table.lat[3], table.lon[3], 0, "val", 3))


def test_it_is_written_once(tiny_world: Path, tmp_path: Path) -> None:
    assert write_landscapes(tiny_world, train=48, val=24, test=24) == tiny_world
    with pytest.raises(FileExistsError, match="holds something other than the synthetic set"):
        write_landscapes(tiny_world, train=49, val=24, test=24)
    with pytest.raises(
        ValueError, match="each split of the synthetic world has a photo or more, got 4, 0 and 4"
    ):
        write_landscapes(tmp_path / "world", train=4, val=0, test=4)


def test_it_is_the_default_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path))
    folder = synthetic_root("geo", train=2, val=1, test=1)
    assert folder.name == "geo-v1-seed0-2-1-1"
    assert {f"{split}.csv" for split in SPLITS} <= {path.name for path in folder.iterdir()}


def test_looks_change_smoothly() -> None:
    random = np.random.default_rng(0)
    lat, lon = np.degrees(np.arcsin(random.uniform(-1, 1, 3000))), random.uniform(-180, 180, 3000)
    values = field(unit_vectors(lat, lon), 5, 6.0)
    near = field(unit_vectors(lat + 0.1, lon), 5, 6.0)
    assert 0.3 < values.std() < 1.0
    assert np.abs(values - near).max() < 0.1
    here, there = (
        traits_of(np.array([60.0]), np.array([180.0]))[0],
        traits_of(np.array([60.0]), np.array([-180.0]))[0],
    )
    assert here.wall == pytest.approx(there.wall)
    assert here.storeys == pytest.approx(there.storeys)


def test_it_is_colder_and_darker_towards_the_poles() -> None:
    equator, north, south = traits_of(np.array([0.0, 65.0, -65.0]), np.array([20.0, 20.0, 20.0]))
    assert equator.noon - north.noon == 65
    assert equator.warmth > north.warmth + 20
    assert north.swing == -south.swing > 10
    pictures = [
        np.mean([render_landscape(lat, 20.0, 0, "train", index) for index in range(12)])
        for lat in (0.0, 68.0)
    ]
    assert pictures[0] != pytest.approx(pictures[1], abs=1)


def test_pictures_tell_more_than_chance_and_less_than_all() -> None:
    """Neighbours by thumbnails are nearer than any two photos, and seldom near."""
    photos = scatter_photos(0, "train", 600)
    shots = np.array([
        resize(render_landscape(lat, lon, 0, "train", row), 16, 16).reshape(-1)
        for row, (lat, lon) in enumerate(zip(photos.lat, photos.lon, strict=True))
    ]).astype(np.float32)  # fmt: skip
    apart = (shots**2).sum(axis=1)[:, None] - 2 * shots @ shots.T + (shots**2).sum(axis=1)
    apart[photos.users[:, None] == photos.users] = np.inf
    like = apart.argmin(axis=1)
    km = great_circle_km(photos.lat, photos.lon, photos.lat[like], photos.lon[like])
    chance = great_circle_km(photos.lat, photos.lon, photos.lat[::-1], photos.lon[::-1])
    assert 1000 < np.median(km) < 0.9 * np.median(chance)
