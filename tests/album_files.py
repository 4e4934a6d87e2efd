"""Photos and made-up records for tests of albums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from mbapps.album.records import Face, Record

TRICKY = ("<img src=x onerror=alert(1)>.jpg", 'it\'s 100% "#1"? ä € 東.jpg', "a\\b c.jpg", "x/y z/&amp;.png")
FLORENCE = (43.77, 11.26)


def write_photos(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Write `count` different JPEGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(count):
        small = np.random.default_rng(row).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size).save(folder / f"{row:04}.jpg")
    return folder


def write_photo_with_place(path: Path, lat: float, lon: float) -> None:
    exif = Image.Exif()
    tags = ExifTags.GPS
    exif[ExifTags.IFD.GPSInfo] = {
        tags.GPSLatitudeRef: "N", tags.GPSLatitude: (lat, 0, 0), tags.GPSLongitudeRef: "E",
        tags.GPSLongitude: (lon, 0, 0),
    }  # fmt: skip
    Image.new("RGB", (60, 40), (200, 80, 30)).save(path, exif=exif)


def vector(*values: float) -> bytes:
    array = np.array(values, dtype=np.float32)
    return (array / np.linalg.norm(array)).astype(np.float16).tobytes()


def made_up(count: int, people: int = 20) -> list[Record]:
    """Records of photos that are nowhere: of cats and dogs, labels, places and people in turn."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, 16))
    found = []
    for row in range(count):
        person = row % people
        face = Face(
            (10, 10, 50, 50), 0.9, attributes=[("smiling", 0.8, row % 2 == 0)],
            vector=vector(*(centres[person] + 0.1 * rng.normal(size=16))),
        )  # fmt: skip
        place = {
            "lat": float(rng.uniform(-60, 70)),
            "lon": float(rng.uniform(-180, 180)),
            "score": 0.5,
            "name": "Rome, Italy",
        }
        found.append(Record(
            f"{row % 7}/{row:05}.jpg", (1000, row, row), f"{row:024x}", size=(640, 480),
            objects=[("cat" if row % 3 else "dog", 0.9, (0.0, 0.0, 100.0, 100.0))] * (row % 5 > 0),
            labels={"fine_grained": [(f"class {row % 11}", 0.9), ("other", 0.1)]},
            place=place if row % 2 else {}, truth={"lat": FLORENCE[0], "lon": FLORENCE[1]} if row % 100 == 0 else {},
            faces=[face], vector=vector(*rng.normal(size=32)),
        ))  # fmt: skip
    return found
