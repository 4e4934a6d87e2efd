"""Reads where photos were taken from their EXIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from mbapps.batches import UNKNOWN, GeoTable

from .boxes import tell
from .image_folder import image_files

SIGNS = {"N": 1, "E": 1, "S": -1, "W": -1}
UNREADABLE = "image whose header can't be read: not used"
NO_PLACE = "photo without a place in its EXIF: not used"
BROKEN = "photo whose EXIF has a broken place: not used"


def photo_place(path: str | Path) -> tuple[float, float] | None:
    """Latitude and longitude, in degrees, that a photo's EXIF tells, or None if it tells none.

    Degrees, minutes and seconds may each be a fraction, and minutes or seconds may be missing.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: its header can't be read.
        ValueError: the place is broken: a number or a hemisphere is missing or out of its range.
    """
    try:
        with Image.open(path) as image:
            gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    except (SyntaxError, ValueError, TypeError, IndexError, EOFError, KeyError) as error:
        raise OSError(f"{path}: {str(error) or type(error).__name__}") from error
    tags = ExifTags.GPS
    if tags.GPSLatitude not in gps and tags.GPSLongitude not in gps:
        return None
    try:
        lat = _degrees(gps.get(tags.GPSLatitude), gps.get(tags.GPSLatitudeRef), "NS", 90)
        lon = _degrees(gps.get(tags.GPSLongitude), gps.get(tags.GPSLongitudeRef), "EW", 180)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return lat, lon


def read_photo_places(root: Path) -> GeoTable:
    """Read the places of all photos below a folder; those that tell none are listed in `problems`.

    Raises:
        FileNotFoundError: there is no image, or none tells its place.
    """
    files = sorted(image_files(root, root))
    table = photo_table(root, files)
    if not len(table):
        raise FileNotFoundError(_nothing(root, len(files), table.problems))
    return table


def photo_table(root: Path, names: Sequence[str]) -> GeoTable:
    """Read the places of some photos; those that tell none are listed in `problems`, and the table may be empty.

    Args:
        root: folder that the names start from.
        names: paths.
    """
    problems: dict[str, list[str]] = {}
    files: list[str] = []
    places: list[tuple[float, float]] = []
    for file in names:
        try:
            place = photo_place(root / file)
        except ValueError as error:
            tell(problems, BROKEN, [str(error).replace(str(root / file), file)])
        except OSError:
            tell(problems, UNREADABLE, [file])
        else:
            if place is None:
                tell(problems, NO_PLACE, [file])
            else:
                files.append(file)
                places.append(place)
    lat, lon = np.array(places, dtype=np.float64).reshape(-1, 2).T
    labels = np.full(len(files), UNKNOWN, dtype=np.int32)
    return GeoTable(root, np.array(files, dtype=np.str_), labels, (), problems=problems, lat=lat, lon=lon)


def _nothing(root: Path, count: int, problems: dict[str, list[str]]) -> str:
    if not count:
        return f"no list of places and no image in data.root={root}"
    found = [f"{len(lines)} {reason.partition(':')[0]}" for reason, lines in problems.items()]
    return (
        f"none of the {count} images in data.root={root} tells its place ({', '.join(found)}), and there is no list "
        "of places; name a csv with a latitude and a longitude for each with data.places="
    )


def _degrees(parts: Any, hemisphere: Any, letters: str, most: int) -> float:
    """Degrees, signed, of up to three numbers and a letter.

    Raises:
        ValueError: they are no place.
    """
    if isinstance(hemisphere, bytes):
        hemisphere = hemisphere.decode("latin-1")
    letter = str(hemisphere or "").strip(" \0").upper()[:1]
    if not letter or letter not in letters:
        raise ValueError(f"the hemisphere must be {letters[0]} or {letters[1]}, got {hemisphere!r}")
    given: Sequence[Any] = parts if isinstance(parts, Sequence) else [parts]
    try:
        numbers = np.array([float(part) for part in given], dtype=np.float64)  # 1/0 is NaN in Pillow
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        numbers = np.zeros(0)
    if not 1 <= len(numbers) <= 3 or not np.isfinite(numbers[:1]).all():
        raise ValueError(f"{parts!r} are no degrees, minutes and seconds")
    numbers = np.append(numbers, [0.0, 0.0])[:3]
    if np.isnan(numbers[2]) and numbers[1] % 1:  # seconds are written 0/0 where the minutes are a fraction
        numbers[2] = 0.0
    if not np.isfinite(numbers).all() or (numbers < 0).any() or (numbers[1:] > 60).any():
        raise ValueError(f"{parts!r} are no degrees, minutes and seconds")
    degrees = float(numbers @ [1, 1 / 60, 1 / 3600])
    if degrees > most:
        raise ValueError(f"{degrees:g} degrees are more than {most}")
    return SIGNS[letter] * degrees
