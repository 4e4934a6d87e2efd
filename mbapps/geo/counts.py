"""How many photos lie where: counted from places, or in a table that any SQL engine makes of any number of them.

Sums of unit vectors are integers, in units of 2^-30 of the Earth's radius (6 mm): they do not depend on the order
of the photos nor on how the tables were cut, so both ways give the same partition to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cells import MAX_LEVEL, Cells, Floats, Ints, cell_ids, is_valid, leaf_ranges, levels
from .distance import unit_vectors

UNIT = 1 << 30  # of a sum, in an Earth's radius
CHUNK = 1 << 17  # photos summed at a time: below 2^22 float64 adds their integers exactly

QUERY = """\
SELECT cell, user_id, count(*) AS photos,
  CAST(sum(CAST(floor(cos(radians(lat)) * cos(radians(lng)) * 1073741824 + 0.5) AS BIGINT)) AS BIGINT) AS x,
  CAST(sum(CAST(floor(cos(radians(lat)) * sin(radians(lng)) * 1073741824 + 0.5) AS BIGINT)) AS BIGINT) AS y,
  CAST(sum(CAST(floor(sin(radians(lat)) * 1073741824 + 0.5) AS BIGINT)) AS BIGINT) AS z
FROM photos GROUP BY cell, user_id"""
"""Makes the columns of a `CountTable` in any SQL engine, shard by shard where there are many.

`photos` holds lat, lng (degrees), user_id (any type; leave it out of both lines where there are no users) and cell:
`cell_ids(lat, lng, level)` as it is or, where integers are signed, `.view(np.int64)`. BigQuery computes it itself:
`S2_CELLIDFROMPOINT(ST_GEOGPOINT(lng, lat), level => 20)`; it has no `radians`, so write `lat * acos(-1) / 180`.
"""


@dataclass(frozen=True, eq=False)
class CountTable:
    """Photos by fine cell and user, sorted by both."""

    level: int  # of the cells: partitions of it go no finer
    cells: Cells  # [R]
    users: NDArray[Any] | None  # [R] numbers or strings
    photos: Ints  # [R]
    sums: Ints  # [R, 3] of unit vectors

    @property
    def ids(self) -> Cells:
        """Sorted ids of cells, one for each row."""
        return self.cells

    @cached_property
    def _before(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.photos)])

    def count(self, start: Ints, end: Ints) -> Ints:
        """Count the photos of the rows from `start` up to `end`."""
        return self._before[end] - self._before[start]

    def sums_of(self, cells: Cells) -> Ints:
        """Sum the unit vectors of the photos in disjoint, sorted cells: [K, 3]."""
        total = np.concatenate([np.zeros((1, 3), np.int64), np.cumsum(self.sums, axis=0)])
        first, last = leaf_ranges(cells)
        return total[np.searchsorted(self.ids, last, "right")] - total[np.searchsorted(self.ids, first)]

    def users_of(self, cells: Cells) -> Ints | None:
        """Count the different users in disjoint, sorted cells: [K]; None where no users are known."""
        return (
            None if self.users is None else _users(rows_of(cells, self.cells), codes(self.users), len(cells))
        )


class Photos:
    """Photos by place.

    Args:
        latitudes: [N] degrees.
        longitudes: [N] degrees.
        users: [N] numbers or strings, or None.

    Raises:
        ValueError: a coordinate is NaN or out of range, or a photo has no user though others have.
    """

    level = MAX_LEVEL

    def __init__(self, latitudes: ArrayLike, longitudes: ArrayLike, users: ArrayLike | None = None) -> None:
        self.latitudes = np.asarray(latitudes, np.float64).reshape(-1)
        self.longitudes = np.asarray(longitudes, np.float64).reshape(-1)
        self.leaves = cell_ids(self.latitudes, self.longitudes)
        self.users = None if users is None else codes(users, len(self.leaves))
        self.ids = np.sort(self.leaves)

    def count(self, start: Ints, end: Ints) -> Ints:
        """Count the photos from `start` up to `end` of the sorted ids."""
        return end - start

    def sums_of(self, cells: Cells) -> Ints:
        """Sum the unit vectors of the photos in disjoint, sorted cells: [K, 3]."""
        total = np.zeros((len(cells), 3), np.int64)
        for start in range(0, len(self.leaves), CHUNK):
            part = slice(start, start + CHUNK)
            rows = rows_of(cells, self.leaves[part])
            units = _units(self.latitudes[part], self.longitudes[part])
            inside = rows >= 0
            for axis in range(3):
                sums = np.bincount(rows[inside], units[inside, axis], len(cells))
                total[:, axis] += sums.astype(np.int64)
        return total

    def users_of(self, cells: Cells) -> Ints | None:
        """Count the different users in disjoint, sorted cells: [K]; None where no users are known."""
        return None if self.users is None else _users(rows_of(cells, self.leaves), self.users, len(cells))


def count_table(
    latitudes: ArrayLike, longitudes: ArrayLike, users: ArrayLike | None = None, level: int = MAX_LEVEL
) -> CountTable:
    """Count the photos of a shard by cell of a level and user, as `QUERY` does.

    Raises:
        ValueError: a place is none, a user is missing, or there is no such level.
    """
    cells = cell_ids(latitudes, longitudes, level)
    units = _units(np.asarray(latitudes, np.float64), np.asarray(longitudes, np.float64)).astype(np.int64)
    return _grouped(level, cells, users, np.ones(len(cells), np.int64), units)


def table_of(columns: Mapping[str, ArrayLike]) -> CountTable:
    """Take the columns cell, photos, x, y, z and, where known, user_id that `QUERY` gave, in any order of rows.

    Raises:
        ValueError: a column is missing, cells are none or of several levels, or a count or a user is.
    """
    missing = [name for name in ("cell", "photos", "x", "y", "z") if name not in columns]
    if missing:
        raise ValueError(f"the count table has no column {', '.join(missing)}; it has {', '.join(columns)}")
    cells = np.atleast_1d(np.ma.filled(columns["cell"], 0))
    cells = cells.view(np.uint64) if cells.dtype == np.int64 else cells
    if not len(cells):
        raise ValueError("the count table has no row")
    if cells.dtype != np.uint64 or not is_valid(cells).all():
        raise ValueError("column cell of the count table must hold ids of S2 cells as 64-bit integers")
    found = np.unique(levels(cells))
    if len(found) > 1:
        raise ValueError(f"the cells of a count table must be of one level, got levels {found.tolist()}")
    photos = np.asarray(columns["photos"]).astype(np.int64)
    if photos.min() < 1:
        raise ValueError(f"a row of the count table must count 1 photo or more, got {photos.min()}")
    sums = np.stack([np.asarray(columns[axis]).astype(np.int64) for axis in "xyz"], axis=-1)
    return _grouped(int(found[0]), cells, columns.get("user_id"), photos, sums)


def merge_tables(tables: Iterable[CountTable]) -> CountTable:
    """Add the counts of several shards.

    Raises:
        ValueError: there is none, they have cells of different levels, or only some know users.
    """
    parts = list(tables)
    found = sorted({part.level for part in parts})
    if len(found) != 1:
        raise ValueError(f"count tables to merge must be of one level, got levels {found}")
    known = [part.users for part in parts if part.users is not None]
    if known and len(known) < len(parts):
        raise ValueError(f"{len(known)} of {len(parts)} count tables have users; all must have them, or none")
    return _grouped(
        found[0],
        np.concatenate([part.cells for part in parts]),
        np.concatenate(known) if known else None,
        np.concatenate([part.photos for part in parts]),
        np.concatenate([part.sums for part in parts]),
    )


def rows_of(cells: Cells, ids: Cells) -> Ints:
    """Give the row of the disjoint, sorted cells that holds each id, -1 where none does: [N]."""
    if not len(cells):
        return np.full(len(ids), -1)
    first, last = leaf_ranges(cells)
    rows = np.searchsorted(first, ids, "right") - 1
    return np.where((rows >= 0) & (ids <= last[rows]), rows, -1)


def codes(users: ArrayLike, count: int | None = None) -> Ints:
    """Number the users from 0; -1 is who is "", nobody knows who.

    Raises:
        ValueError: a photo has no user, or there are not `count` of them.
    """
    given: Any = np.ma.asarray(users).reshape(-1)
    values = given.data.astype(str) if given.dtype == object else given.data
    empty = np.ma.getmaskarray(given) | (values != values)  # noqa: PLR0124  NaN
    if given.dtype == object:
        empty = empty | np.array([user is None or user != user for user in given.data])  # noqa: PLR0124
    if empty.any():
        raise ValueError(
            f"{int(empty.sum()):,} photos have no user (first: row {int(empty.argmax())}); "
            "give each one an owner, or leave the column out"
        )
    if count is not None and len(values) != count:
        raise ValueError(f"{len(values):,} users for {count:,} photos; each photo needs one")
    known, numbers = np.unique(values, return_inverse=True)
    numbers = numbers.reshape(-1).astype(np.int64)
    return numbers - 1 if known.dtype.kind == "U" and len(known) and known[0] == "" else numbers


def _units(latitudes: Floats, longitudes: Floats) -> Floats:
    return np.floor(unit_vectors(latitudes, longitudes) * UNIT + 0.5)


def _users(rows: Ints, users: Ints, count: int) -> Ints:
    inside, many = (rows >= 0) & (users >= 0), int(users.max(initial=0)) + 1  # nobody knows who is no user
    pairs = np.unique(rows[inside] * many + users[inside])
    return np.bincount(pairs // many, minlength=count)


def _grouped(level: int, cells: Cells, users: ArrayLike | None, photos: Ints, sums: Ints) -> CountTable:
    """Sort rows by cell and user, and add those of the same."""
    numbers = np.zeros(len(cells), np.int64) if users is None else codes(users, len(cells))
    order = np.lexsort((numbers, cells))
    same = (np.diff(numbers[order]) == 0) & (np.diff(cells[order]) == 0)
    starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(cells) else np.empty(0, np.int64)
    first = order[starts]
    return CountTable(
        level,
        cells[first],
        None if users is None else np.ma.getdata(np.ma.asarray(users)).reshape(-1)[first],
        np.add.reduceat(photos[order], starts) if len(cells) else photos,
        np.add.reduceat(sums[order], starts) if len(cells) else sums,
    )
