from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.data.geotags import (
    MISSING,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    SEVERAL,
    TWICE,
    ZERO,
    ZERO_KEPT,
    find_lists,
    read_geotags,
    read_place_list,
)

HEADER = "IMG_ID,LAT,LON\n"


def made(root: Path, text: str, *images: str) -> Path:
    return write_files(root, {"places.csv": HEADER + text, **dict.fromkeys(images)})


@pytest.mark.parametrize("image", ["a.jpg", "images/a.JPEG", "img/deep/a.png"])
@pytest.mark.parametrize("with_ending", [True, False])
def test_images_are_found_wherever_they_lie(tmp_path: Path, image: str, with_ending: bool) -> None:
    name = Path(image).name if with_ending else "a"
    table = read_geotags(made(tmp_path, f"{name},48.5,2.5\n", image, "other.jpg"))
    assert table.files.tolist() == [image]
    assert table.folder == tmp_path
    assert (table.lat.tolist(), table.lon.tolist()) == ([48.5], [2.5])
    assert table.problems == {}


def test_names_may_be_paths(tmp_path: Path) -> None:
    rows = "x/1,1,1\n./y/1.jpg,2,2\n/elsewhere/set/z/1.jpg,3,3\nw\\2.jpg,4,4\n/elsewhere/5.jpg,5,5\n"
    names = ["images/x/1.jpg", "images/y/1.jpg", "images/w/2.jpg", "images/5.jpg"]
    table = read_geotags(made(tmp_path, rows, *names))
    assert table.files.tolist() == names
    assert table.lat.tolist() == [1, 2, 4, 5]
    assert table.problems == {SEVERAL: ["/elsewhere/set/z/1.jpg"]}


def test_a_folder_of_images_elsewhere(tmp_path: Path) -> None:
    write_files(tmp_path, {"lists/places.csv": f"{HEADER}a,1,2\n", "photos/a.jpg": None})
    table = read_geotags(tmp_path / "lists", images=tmp_path / "photos")
    assert (table.folder, table.files.tolist()) == (tmp_path / "photos", ["a.jpg"])
    with pytest.raises(
        FileNotFoundError, match="no image in .*lists; name the folder of the images with data.images="
    ):
        read_geotags(tmp_path / "lists")


def test_images_that_are_missing_or_come_twice(tmp_path: Path) -> None:
    table = read_geotags(made(tmp_path, "a,1,1\nb,2,2\na.jpg,3,3\n", "a.jpg"))
    assert (table.files.tolist(), table.lat.tolist()) == (["a.jpg"], [1])
    assert table.problems == {MISSING: ["b"], TWICE: ["a.jpg"]}
    made(tmp_path, "c,1,1\n")
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 images of .*, such as 'c', is in .*data.images="
    ):
        read_geotags(tmp_path)


def test_bad_places_are_counted(tmp_path: Path) -> None:
    rows = "a,,2\nb,1,nan\nc,91,120\nd,1,-180.5\ne,0,0.0\nf,1,180\ng,90,5\n"
    made(tmp_path, rows, *(f"{name}.jpg" for name in "abcdefg"))
    table = read_geotags(tmp_path)
    assert table.files.tolist() == ["f.jpg", "g.jpg"]
    assert table.problems == {
        NOT_A_NUMBER: ["a: nan, 2", "b: 1, nan"],
        OUT_OF_RANGE: ["c: 91, 120", "d: 1, -180.5"],
        ZERO: ["e: 0, 0"],
    }
    kept = read_geotags(tmp_path, drop_zero=False)
    assert kept.files.tolist() == ["e.jpg", "f.jpg", "g.jpg"]
    assert kept.problems[ZERO_KEPT] == ["e: 0, 0"]


def test_no_place_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of 2 1 are no numbers, 0 out of range, 1 at 0, 0"):
        read_geotags(made(tmp_path, "a,,2\nb,0,0\n", "a.jpg"))


def test_swapped_coordinates(tmp_path: Path) -> None:
    made(tmp_path, "a,151.2,-33.9\nb,2.3,48.9\n", "a.jpg", "b.jpg")
    with pytest.raises(
        ValueError,
        match="1 of 2 latitudes lie outside .*: latitude and longitude are swapped; .*data.columns.lat=LON data.columns.lon=LAT",
    ):
        read_geotags(tmp_path)
    table = read_geotags(tmp_path, columns={"lat": "LON", "lon": "LAT"})
    assert (table.lat.tolist(), table.lon.tolist()) == ([-33.9, 48.9], [151.2, 2.3])


def test_a_slip_is_not_swapped(tmp_path: Path) -> None:
    rows = "".join(f"{row},1,{row % 80}\n" for row in range(1, 200)) + "200,95,123\n"
    table = read_place_list(made(tmp_path, rows) / "places.csv", tmp_path, pictures=False)
    assert len(table) == 199
    assert list(table.problems) == [OUT_OF_RANGE]


def test_users_from_a_column_or_from_flickrs_names(tmp_path: Path) -> None:
    name = "104123223_7410c654ba_19_7682021@N00"
    write_files(tmp_path, {"places.csv": f"{HEADER}{name},1,1\nb,2,2\n", f"{name}.jpg": None, "b.jpg": None})
    table = read_geotags(tmp_path)
    assert table.users is not None
    assert table.users.tolist() == ["7682021@N00", ""]
    write_files(tmp_path, {"places.csv": "IMG_ID,LAT,LON,AUTHOR\nb,1,1, ann \n"})
    table = read_geotags(tmp_path)
    assert table.users is not None
    assert table.users.tolist() == ["ann"]
    write_files(tmp_path, {"places.csv": "IMG_ID,LAT,LON,AUTHOR\nb,1,1,\n"})
    assert read_geotags(tmp_path).users is None


def test_places_alone(tmp_path: Path) -> None:
    path = write_files(tmp_path, {"a.csv": "lat,lon\n1,2\n3,4\n"}) / "a.csv"
    table = read_place_list(path, tmp_path, pictures=False)
    assert table.files.tolist() == ["row 1", "row 2"]
    with pytest.raises(ValueError, match="has no column of images; name it with data.columns.file="):
        read_place_list(path, tmp_path)


def test_lists_of_splits(tmp_path: Path) -> None:
    assert find_lists(tmp_path) == {}
    made(tmp_path, "a,1,1\n")
    write_files(tmp_path, {"notes.txt": "notes", "other.csv": "a,b\n1,2\n"})
    assert find_lists(tmp_path) == {"all": tmp_path / "places.csv"}
    write_files(tmp_path, {"mp16_train.csv": HEADER})
    with pytest.raises(
        ValueError, match="several lists of places, mp16_train.csv, places.csv; name one with data.pla"
    ):
        find_lists(tmp_path)
    (tmp_path / "places.csv").rename(tmp_path / "yfcc-val.csv")
    assert find_lists(tmp_path) == {"train": tmp_path / "mp16_train.csv", "val": tmp_path / "yfcc-val.csv"}
    with pytest.raises(ValueError, match="has lists of train, val; name one with data.places="):
        read_geotags(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at data.root="):
        read_geotags(tmp_path / "none")


def test_real_photos(test_data: Path) -> None:
    table = read_geotags(test_data / "datasets/geo/exif")
    assert len(table) == 9
    assert np.isfinite(table.lat).all()
