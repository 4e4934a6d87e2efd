"""Reads lists of places: CSV, tab-separated or Parquet, with the spellings of columns that are found in the wild."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
SPELLINGS = {  # of each column, the likeliest first; without case and signs, so that IMG_ID is imgid
    "file": (
        "filepath", "path", "relpath", "filename", "file", "imagepath", "imgpath", "imagefile", "imagename", "image",
        "img", "imgid", "imageid", "photoid", "photo", "picture", "id", "key", "name",
    ),
    "lat": ("lat", "latitude", "gpslat", "gpslatitude", "decimallatitude", "latdeg", "latitudedeg"),
    "lon": (
        "lon", "lng", "long", "longitude", "gpslon", "gpslng", "gpslong", "gpslongitude", "decimallongitude", "londeg",
        "lngdeg", "longitudedeg",
    ),
    "user": (
        "user", "userid", "uid", "username", "usernsid", "nsid", "author", "authorid", "owner", "ownerid", "ownername",
        "photographer", "photographerid", "creator", "creatorid",
    ),
}  # fmt: skip
COORDINATES = {"lat": "latitude", "lon": "longitude"}
CHUNK = 200_000  # rows that lie in memory as text at a time
NO_HEADER = "list without a header: read as {}"
SHORT = "line with too few fields: left out"

Floats = NDArray[np.float64]


class PlaceList(NamedTuple):
    """N rows of a list, as they are written."""

    path: Path
    files: NDArray[np.str_] | None  # [N] names of images; None where no column tells them
    lat: Floats  # [N] degrees, NaN where there is no number
    lon: Floats
    users: NDArray[np.str_] | None  # [N], "" where it tells none
    names: dict[str, str]  # what the list calls "file", "lat", "lon" and "user"; without a header the place
    problems: dict[str, list[str]]


def read_list(path: Path, columns: Mapping[str, str] | None = None) -> PlaceList:
    """Read a list of places.

    The header is looked up whatever its case. A list without one is read as file, latitude, longitude, or these and a
    user, or as file, user, latitude, longitude, if those are where the numbers stand.

    Args:
        path: text whose fields are parted by commas, semicolons, tabs, bars or blanks; or a .parquet file.
        columns: what the list calls "file", "lat", "lon" and "user", where that is not found by looking.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: it is Parquet, and the extra that reads it is not installed.
        ValueError: a column is not there, or the file can't be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of places at {path}")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, columns or {})
    problems: dict[str, list[str]] = {}
    delimiter, first = _first_line(path)
    bare = None if columns else _without_header(first)
    where = bare or {role: first.index(name) for role, name in _find(path, first, columns or {}).items()}
    if bare:
        order = ", ".join(sorted(bare, key=lambda role: bare[role]))
        problems[NO_HEADER.format(order)] = [path.name]
    roles = list(where)
    parts: dict[str, list[NDArray[Any]]] = {role: [] for role in roles}
    short: list[str] = []
    for rows in _chunks(path, delimiter, [where[role] for role in roles], not bare, short):
        for role, values in zip(roles, zip(*rows, strict=True), strict=True):
            numbers = role in COORDINATES
            parts[role].append(_numbers(values, delimiter) if numbers else np.array(values, dtype=np.str_))
    if short:
        problems[SHORT] = short
    found: dict[str, Any] = {
        role: np.concatenate(part) if part else np.zeros(0, np.float64 if role in COORDINATES else np.str_)
        for role, part in parts.items()
    }
    names = {role: f"column {place + 1}" if bare else first[place] for role, place in where.items()}
    return PlaceList(path, found.get("file"), found["lat"], found["lon"], found.get("user"), names, problems)


def is_list(path: Path) -> bool:
    """Whether a file seems to list places, by its ending and its first line."""
    if path.suffix.lower() not in LIST_SUFFIXES or not path.is_file():
        return False
    if path.suffix.lower() == ".parquet":
        return True
    try:
        _, first = _first_line(path)
    except ValueError:
        return False
    return bool(_without_header(first)) or set(COORDINATES) <= set(_lookup(first))


def _first_line(path: Path) -> tuple[str, list[str]]:
    """What parts the fields of a list, and those of its first line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline(1 << 16)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error
    counts = {delimiter: line.count(delimiter) for delimiter in ",;\t|"}
    delimiter = max(counts, key=lambda one: counts[one])
    if not counts[delimiter]:
        delimiter = " "
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return delimiter, [field.strip() for field in fields]


def _without_header(first: Sequence[str]) -> dict[str, int] | None:
    """Where file, latitude and longitude stand if the first line is a row already."""
    numbers = [not np.isnan(_number(field)) for field in first]
    if len(first) >= 3 and all(numbers[1:3]):
        return {"file": 0, "lat": 1, "lon": 2} | ({"user": 3} if len(first) == 4 else {})
    if len(first) >= 4 and all(numbers[2:4]):
        return {"file": 0, "user": 1, "lat": 2, "lon": 3}
    return None


def _lookup(header: Sequence[str]) -> dict[str, str]:
    """What a header calls each column that it has."""
    plain: dict[str, str] = {}
    for name in header:
        plain.setdefault(re.sub(r"[^a-z0-9]", "", name.lower()), name)
    found = {}
    for role, spellings in SPELLINGS.items():
        known = [plain[one] for one in spellings if one in plain]
        if known:
            found[role] = known[0]
    return found


def _find(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """What the list calls each column, as told or as looked up.

    Raises:
        ValueError: a column that was told is not there, or one of the coordinates is not found.
    """
    if unknown := sorted(set(columns) - set(SPELLINGS)):
        raise ValueError(f"data.columns names {unknown[0]!r}; it may name {', '.join(SPELLINGS)}")
    shown = ", ".join(header[:20])
    for role, name in columns.items():
        if name not in header:
            raise ValueError(f"data.columns.{role}={name}: {path} has no such column, it has [{shown}]")
    found = _lookup(header) | dict(columns)
    for role, meaning in COORDINATES.items():
        if role not in found:
            raise ValueError(
                f"{path} has no column of {meaning}s: it has [{shown}], looked for {', '.join(SPELLINGS[role][:4])} "
                f"and the like; name it with data.columns.{role}="
            )
    return found


def _chunks(
    path: Path, delimiter: str, places: Sequence[int], header: bool, short: list[str]
) -> Iterator[list[tuple[str, ...]]]:
    """The wanted fields of all rows, some rows at a time; lines that lack them are put into `short`."""
    last, pick = max(places), itemgetter(*places)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            if header:
                next(reader, None)
            while read := list(islice(reader, CHUNK)):
                rows = [pick(row) for row in read if len(row) > last]
                if len(rows) < len(read):
                    start = reader.line_num - len(read) + 1  # as if no field held a line break
                    lines = [start + place for place, row in enumerate(read) if row and len(row) <= last]
                    short += [f"{path.name}:{line}" for line in lines]
                if rows:
                    yield rows
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}") from error


def _numbers(texts: Sequence[str], delimiter: str = ",") -> Floats:
    """Texts as numbers, NaN where one is none; of a list with semicolons, decimal commas too."""
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        comma = delimiter == ";"
        return np.array([_number(text.replace(",", ".") if comma else text) for text in texts])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _read_parquet(path: Path, columns: Mapping[str, str]) -> PlaceList:
    try:
        import duckdb
    except ImportError as error:
        raise ImportError(
            f"{path}: Parquet is read by duckdb, which is not installed: pip install 'mbapps[geo]', or write a csv"
        ) from error
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as database:
        try:
            relation = database.read_parquet(str(path))
            names = _find(path, relation.columns, columns)
            wanted = []
            kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
            for role, name in names.items():
                quoted = '"' + name.replace('"', '""') + '"'
                kind, without = ("DOUBLE", "'nan'") if role in COORDINATES else ("VARCHAR", "''")
                if role not in COORDINATES and kinds[name] in (
                    "DOUBLE",
                    "FLOAT",
                ):  # whole numbers, some missing
                    quoted = f"try_cast({quoted} AS BIGINT)"
                wanted.append(f"coalesce(try_cast({quoted} AS {kind}), {without}) AS {role}")
            found = relation.project(", ".join(wanted)).fetchnumpy()
        except duckdb.Error as error:
            raise ValueError(f"{path} can't be read as Parquet: {error}") from error
    texts = {role: np.array(found[role], dtype=np.str_) for role in names if role not in COORDINATES}
    lat, lon = (np.asarray(found[role], dtype=np.float64) for role in COORDINATES)
    return PlaceList(path, texts.get("file"), lat, lon, texts.get("user"), names, {})
