from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import write_files
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from mbapps.data.photo_places import BROKEN, NO_PLACE, UNREADABLE, photo_place, read_photo_places

PARIS = {1: "N", 2: (48.0, 51.0, 24.0), 3: "E", 4: (2.0, 21.0, 8.0)}


def photo(path: Path, gps: dict[int, Any]) -> Path:
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = gps
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("gps", "place"),
    [
        (PARIS, (48.856667, 2.352222)),
        ({**PARIS, 1: "S", 3: "W"}, (-48.856667, -2.352222)),
        ({**PARIS, 1: "n", 3: "East"}, (48.856667, 2.352222)),
        ({**PARIS, 2: (48.0, 51.4, 0.0), 4: (2.352222, 0.0, 0.0)}, (48.856667, 2.352222)),
        ({**PARIS, 2: (48.0, 51.4, IFDRational(0, 0))}, (48.856667, 2.352222)),
        ({**PARIS, 2: (90.0, 0.0, 0.0)}, (90, 2.352222)),
    ],
)
def test_degrees_minutes_and_seconds(tmp_path: Path, gps: dict[int, Any], place: tuple[float, float]) -> None:
    assert photo_place(photo(tmp_path / "a.jpg", gps)) == pytest.approx(place, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: ""}, "the hemisphere must be N or S, got"),
        ({3: "N"}, "the hemisphere must be E or W, got 'N'"),
        ({2: (IFDRational(0, 0), 51.0, 24.0)}, "are no degrees, minutes and seconds"),
        ({2: (48.0, 99.0, 0.0)}, "are no degrees, minutes and seconds"),
        ({2: (91.0, 0.0, 0.0)}, "91 degrees are more than 90"),
        ({4: (180.0, 0.0, 1.0)}, "180 degrees are more than 180"),
    ],
)
def test_broken_places(tmp_path: Path, change: dict[int, Any], message: str) -> None:
    path = photo(tmp_path / "a.jpg", {**PARIS, **change})
    with pytest.raises(ValueError, match=f"a.jpg: .*{message}"):
        photo_place(path)


def test_half_a_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the hemisphere must be E or W, got None"):
        photo_place(photo(tmp_path / "a.jpg", {1: "N", 2: (48.0, 51.0, 24.0)}))


def test_photos_without_a_place_are_listed(tmp_path: Path) -> None:
    write_files(tmp_path, {"none.jpg": None, "no.png": "text", "notes.txt": "text"})
    photo(tmp_path / "deep" / "paris.jpg", PARIS)
    photo(tmp_path / "broken.jpg", {**PARIS, 1: "?"})
    photo(tmp_path / "time.jpg", {7: (1.0, 2.0, 3.0)})
    table = read_photo_places(tmp_path)
    assert table.files.tolist() == ["deep/paris.jpg"]
    assert (table.class_names, table.labels.tolist(), table.users) == ((), [-1], None)
    assert table.problems == {
        BROKEN: ["broken.jpg: the hemisphere must be N or S, got '?'"],
        UNREADABLE: ["no.png"],
        NO_PLACE: ["none.jpg", "time.jpg"],
    }


def test_no_photo_tells_a_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no list of places and no image in data.root="):
        read_photo_places(tmp_path)
    write_files(tmp_path, {"none.jpg": None})
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 images in data.root=.* \(1 photo without a place in"
    ):
        read_photo_places(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        photo_place(tmp_path / "none.jpg")
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(OSError, match="text.jpg"):
        photo_place(tmp_path / "text.jpg")


def test_real_photos(test_data: Path) -> None:
    table = read_photo_places(test_data / "datasets/geo/exif")
    assert len(table) == 9
    assert table.problems == {}
    assert table.lat == pytest.approx(43.467, abs=0.003)
    assert table.lon == pytest.approx(11.885, abs=0.006)
