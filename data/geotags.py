"""Photos and where they were taken: from a list, or from the photos' own EXIF; bad places are counted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import UNKNOWN, GeoTable
from mbapps.images import IMAGE_SUFFIXES

from .boxes import tell
from .image_folder import SPLIT_FOLDERS, image_files
from .photo_places import read_photo_places
from .place_lists import PlaceList, is_list, read_list

SWAPPED = 0.01  # share of the latitudes beyond a pole at which a list is swapped: fewer are slips
FLICKR_USER = re.compile(r"_(\d+@N\d\d)\b")  # as in 104123223_7410c654ba_19_7682021@N00.jpg
NOT_A_NUMBER = "place that is not a number: left out"
OUT_OF_RANGE = "place beyond a pole, or more than 180 degrees east or west: left out"
FROM_ZERO = "longitude of more than 180 degrees, as some count from 0 to 360: left out, subtract 360"
ZERO = "place 0, 0, which mostly stands for none: left out, data.drop_zero=false keeps it"
ZERO_KEPT = "place 0, 0, which mostly stands for none: kept by data.drop_zero=false"
MISSING = "image of the list that is not in its folder: left out"
SEVERAL = "name in the list that several images have: left out"
TWICE = "image listed twice: the place of its first line"

Floats = NDArray[np.float64]


def find_lists(root: Path) -> dict[str, Path]:
    """Find the lists of places in a folder: split -> list; {"all": list} where there is one; {} without any.

    A list is of a split if its name has the split's as a word, as in `mp16_train.csv`.

    Raises:
        ValueError: several lists do not tell which split each is of.
    """
    lists = sorted(path for path in root.iterdir() if is_list(path))
    if len(lists) <= 1:
        return {"all": lists[0]} if lists else {}
    splits: dict[str, Path] = {}
    for path in lists:
        words = re.split(r"[^a-z]+", path.stem.lower())
        split = next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), None)
        if split is None or split in splits:
            break
        splits[split] = path
    if len(splits) < len(lists) or "train" not in splits:
        raise ValueError(
            f"{root} has several lists of places, {', '.join(path.name for path in lists)}; name one with "
            "data.places=, or call them train, val and test"
        )
    return splits


def read_geotags(
    root: Path,
    places: Path | None = None,
    images: Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    drop_zero: bool = True,
    pictures: bool = True,
) -> GeoTable:
    """Read photos and their places, without classes, from a list or else from the photos' EXIF.

    Args:
        root: folder of the set.
        places: the list; None takes the only one in `root`, or the EXIF of all photos below it.
        images: folder of the list's images; None looks everywhere below `root`. A name may lack its ending.
        columns: what the list calls "file", "lat", "lon" and "user", where that is not found by looking.
        drop_zero: leave out what lies at 0, 0.
        pictures: look for the images, and leave out what has none. False keeps the names as they are written, as
            cells need it, which are made of places alone.

    Raises:
        FileNotFoundError: there is no such folder, list, or image.
        ImportError: the list needs an extra that is not installed.
        ValueError: a column is missing; latitude and longitude are swapped; or no place is left.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at data.root={root}")
    if places is None:
        lists = find_lists(root)
        if len(lists) > 1:
            raise ValueError(f"{root} has lists of {', '.join(lists)}; name one with data.places=")
        places = next(iter(lists.values()), None)
    if places is None:
        return check_places(read_photo_places(root), root, drop_zero=drop_zero)
    return read_place_list(places, images or root, columns=columns, drop_zero=drop_zero, pictures=pictures)


def read_place_list(
    path: Path,
    folder: Path,
    *,
    columns: Mapping[str, str] | None = None,
    drop_zero: bool = True,
    pictures: bool = True,
) -> GeoTable:
    """Read one list of places whose images lie in or below `folder`; otherwise as `read_geotags`."""
    listed = read_list(path, columns)
    names = listed.files
    if names is None:
        if pictures:
            raise ValueError(f"{path} has no column of images; name it with data.columns.file=")
        names = np.char.mod("row %d", np.arange(1, len(listed.lat) + 1)).astype(np.str_)
    problems = listed.problems
    table = GeoTable(
        folder, names, np.full(len(names), UNKNOWN, dtype=np.int32), (), problems=problems, lat=listed.lat,
        lon=listed.lon, users=_users(listed),
    )  # fmt: skip
    table = check_places(table, path, listed.names, drop_zero)
    return _with_images(table, path) if pictures else table


def check_places(
    table: GeoTable, source: Path, names: Mapping[str, str] | None = None, drop_zero: bool = True,
    *, may_be_empty: bool = False,
) -> GeoTable:  # fmt: skip
    """Leave out rows whose place is none, and tell them in `problems`.

    Args:
        table: as read.
        source: what it was read from.
        names: what that calls "lat" and "lon", for the way out.
        drop_zero: leave out what lies at 0, 0.
        may_be_empty: give a table without rows where no place is left.

    Raises:
        ValueError: latitude and longitude are swapped, or no place is left.
    """
    lat, lon = table.lat, table.lon
    finite = np.isfinite(lat) & np.isfinite(lon)
    beyond = finite & (np.abs(lat) > 90)
    turned = beyond & (np.abs(lat) <= 180) & (np.abs(lon) <= 90)  # a place if the columns change names
    if turned.sum() > SWAPPED * finite.sum() and 2 * turned.sum() >= beyond.sum():
        names = names or {"lat": "lat", "lon": "lon"}
        raise ValueError(
            f"{source}: {int(beyond.sum())} of {int(finite.sum())} latitudes lie outside -90..90, such as "
            f"{lat[turned][0]:g}: latitude and longitude are swapped; read them the other way round with "
            f"data.columns.lat={names['lon']} data.columns.lon={names['lat']}"
        )
    outside = finite & ((np.abs(lat) > 90) | (np.abs(lon) > 180))
    zero = finite & (lat == 0) & (lon == 0)
    from_zero = outside & (np.abs(lat) <= 90) & (lon > 180) & (lon <= 360)
    for reason, rows in (
        (NOT_A_NUMBER, ~finite), (OUT_OF_RANGE, outside & ~from_zero), (FROM_ZERO, from_zero),
        (ZERO if drop_zero else ZERO_KEPT, zero),
    ):  # fmt: skip
        told = zip(table.files[rows].tolist(), lat[rows].tolist(), lon[rows].tolist(), strict=True)
        tell(table.problems, reason, [f"{file}: {north:g}, {east:g}" for file, north, east in told])
    kept = finite & ~outside & ~(zero & drop_zero)
    if not (kept.any() or may_be_empty):
        counts = f"{int((~finite).sum())} are no numbers, {int(outside.sum())} out of range"
        zeros = f", {int(zero.sum())} at 0, 0" if drop_zero else ""
        raise ValueError(f"{source} has no place that can be used: of {len(table)} {counts}{zeros}")
    return table if kept.all() else table.take(np.flatnonzero(kept))


class ImageIndex:
    """The images in a folder and below it, by the names that lists give them.

    Raises:
        FileNotFoundError: there is no image.
    """

    def __init__(self, folder: Path):
        self.files = {file.replace(os.sep, "/") for file in image_files(folder, folder)}
        if not self.files:
            raise FileNotFoundError(f"no image in {folder}; name the folder of the images with data.images=")
        self.by_stem: dict[str, list[str]] = {}
        for file in sorted(self.files):
            self.by_stem.setdefault(os.path.splitext(file.rpartition("/")[2])[0], []).append(file)

    def find(self, name: str) -> list[str]:
        """Paths that a name can mean: a path from the folder or from elsewhere, or a name, with or without ending."""
        name = name.replace("\\", "/").removeprefix("./").strip("/")
        if name in self.files:
            return [name]
        stem, ending = os.path.splitext(name)
        if ending.lower() not in IMAGE_SUFFIXES:
            stem, ending = name, ""
        found = self.by_stem.get(stem.rpartition("/")[2], [])
        if ending:
            found = [file for file in found if file.lower().endswith(ending.lower())]
        if len(found) > 1:
            nearer = [file for file in found if f"/{os.path.splitext(file)[0]}".endswith(f"/{stem}")]
            return nearer or found
        return found


def _with_images(table: GeoTable, path: Path) -> GeoTable:
    """Give the rows that have an image, under its path from the folder, each image once."""
    index = ImageIndex(table.folder)
    names = table.files.tolist()
    found = [index.find(name) for name in names]
    tell(table.problems, MISSING, [name for name, files in zip(names, found, strict=True) if not files])
    tell(table.problems, SEVERAL, [name for name, files in zip(names, found, strict=True) if len(files) > 1])
    rows: dict[str, int] = {}
    twice = []
    for row, files in enumerate(found):
        if len(files) == 1 and rows.setdefault(files[0], row) != row:
            twice.append(files[0])
    tell(table.problems, TWICE, twice)
    if not rows:
        raise FileNotFoundError(
            f"none of the {len(table)} images of {path}, such as {names[0]!r}, is in {table.folder} or below it; name "
            "their folder with data.images="
        )
    taken = table.take(np.fromiter(rows.values(), np.int64, len(rows)))
    return replace(taken, files=np.array(list(rows), dtype=np.str_))


def _users(listed: PlaceList) -> NDArray[np.str_] | None:
    """Who took each photo, by the list, or by its name as Flickr's are; None where nothing tells."""
    if listed.users is not None:
        return np.char.strip(listed.users).astype(np.str_) if (listed.users != "").any() else None
    if listed.files is None:
        return None
    found = [FLICKR_USER.search(name) for name in listed.files.tolist()]
    if not any(found):
        return None
    return np.array([match[1] if match else "" for match in found], dtype=np.str_)
