"""S2 cells in numpy: the sphere as six faces, each a quadtree of 30 levels along a Hilbert curve.

A cell is one uint64: three bits of face, two bits a level, a one, zeros. What lies in a cell has an id between its
first and last leaf, so that sorted ids and `np.searchsorted` answer every question of containment.
Coordinates are degrees everywhere. Ids are those of the `s2sphere` and `s2geometry` packages, bit by bit.

Source: the S2 geometry library, quadratic projection (s2geometry.io/devguide/s2cell_hierarchy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Cells = NDArray[np.uint64]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_LEVEL = 30
CHUNK = 1 << 14  # points at a time: their temporaries stay in the processor's cache
STEP = 6  # levels by one look-up; 30 is a multiple, and the table has 32 KB
IN_DOUBT = 1e-5  # of a leaf's width; sine and cosine a few units in the last place off move a point by 1e-6
POS_TO_IJ = np.array(
    [[0, 1, 3, 2], [0, 2, 3, 1], [3, 2, 0, 1], [3, 1, 0, 2]]
)  # by orientation, then position
TURN = np.array([1, 0, 0, 3])  # how orientation changes (1 swaps i and j, 2 inverts both), by position


def _tables() -> tuple[Ints, Ints]:
    """Give (i, j, orientation) -> (position, orientation) of six levels, and the inverse."""
    index = np.arange(1 << (2 * STEP + 2))
    i, j, turn = index >> (STEP + 2), index >> 2 & ((1 << STEP) - 1), index & 3
    ij_to_pos = np.argsort(POS_TO_IJ, axis=1)
    pos = np.zeros_like(index)
    for bit in reversed(range(STEP)):
        step = ij_to_pos[turn, (i >> bit & 1) << 1 | (j >> bit & 1)]
        pos = pos << 2 | step
        turn = turn ^ TURN[step]
    inverse = np.empty_like(index)
    inverse[pos << 2 | (index & 3)] = index & ~3 | turn
    return pos << 2 | turn, inverse


TO_POS, TO_IJ = _tables()
SIN, COS = np.frompyfunc(math.sin, 1, 1), np.frompyfunc(math.cos, 1, 1)


def cell_ids(latitudes: ArrayLike, longitudes: ArrayLike, level: int = MAX_LEVEL) -> Cells:
    """Give each place the cell that holds it.

    A place on a border belongs to one cell, the one that S2 says. -180 and 180 degrees are told apart, as there.

    Args:
        latitudes: [N] degrees in [-90, 90].
        longitudes: [N] degrees in [-180, 180].
        level: 0 (a face, a sixth of the sphere) to 30 (about 1 cm).

    Raises:
        ValueError: a coordinate is NaN or out of range, the two differ in length, or there is no such level.

    >>> tokens(cell_ids([48.8584], [2.2945], 12)).tolist()
    ['47e66ff']
    """
    lat, lng = (np.asarray(values, np.float64).reshape(-1) for values in (latitudes, longitudes))
    if len(lat) != len(lng):
        raise ValueError(f"{len(lat)} latitudes and {len(lng)} longitudes; each place needs both")
    cells = np.empty(len(lat), np.uint64)
    for start in range(0, len(lat), CHUNK):
        part = slice(start, start + CHUNK)
        y, x = lat[part], lng[part]
        if not (np.abs(y).max() <= 90 and np.abs(x).max() <= 180):
            raise ValueError(
                "a latitude is NaN or outside [-90, 90], or a longitude outside [-180, 180]; "
                "leave such places out"
            )
        found, doubt = _leaves(np.radians(y), np.radians(x), np.sin, np.cos)
        if (
            doubt.any()
        ):  # vector units round otherwise than the C library, which S2 uses: it decides near borders
            found[doubt] = _leaves(np.radians(y[doubt]), np.radians(x[doubt]), SIN, COS)[0]
        cells[part] = found
    return parents(cells, level) if level != MAX_LEVEL else cells


def _leaves(
    phi: Floats, theta: Floats, sin: Callable[..., Any], cos: Callable[..., Any]
) -> tuple[Cells, NDArray[np.bool_]]:
    """Give the leaf cells of places in radians, and which of them lie so near a border that rounding decides."""
    flat = cos(phi).astype(np.float64, copy=False)
    x = cos(theta).astype(np.float64, copy=False) * flat
    y = sin(theta).astype(np.float64, copy=False) * flat
    z = sin(phi).astype(np.float64, copy=False)
    ax, ay, az = np.abs(x), np.abs(y), np.abs(z)
    first = (ax > ay) & (ax > az)
    last = ~first & ((ax > ay) | (ay <= az))
    depth = np.where(first, x, np.where(last, z, y))
    p = np.where(first, y, -x) / depth
    q = np.where(last, -y, z) / depth
    back = depth < 0
    face = (~first).astype(np.int64) + last + 3 * back
    i, doubt_i = _ij(np.where(back, q, p))
    j, doubt_j = _ij(np.where(back, p, q))
    turn, pos = face & 1, face
    for shift in range(MAX_LEVEL - STEP, -1, -STEP):
        index = (i >> shift & 63) << 8 | (j >> shift & 63) << 2 | turn
        entry = TO_POS.take(index)
        pos = pos << 2 * STEP | entry >> 2
        turn = entry & 3
    return pos.view(np.uint64) << np.uint64(1) | np.uint64(1), doubt_i | doubt_j


def _ij(u: Floats) -> tuple[Ints, NDArray[np.bool_]]:
    """Give the row of leaves at a face's coordinate in [-1, 1], and whether it lies on a border of two rows."""
    root = 0.5 * np.sqrt(1 + 3 * np.abs(u))
    place = np.where(u >= 0, root, 1 - root) * (1 << MAX_LEVEL)
    row = np.floor(place)
    doubt = np.abs(place - row - 0.5) > 0.5 - IN_DOUBT
    return np.clip(row.astype(np.int64), 0, (1 << MAX_LEVEL) - 1), doubt


def lowest_bits(cells: ArrayLike) -> Cells:
    """Give the lowest one of each id: half the cell's span of ids."""
    ids = np.asarray(cells, np.uint64)
    return ids & (~ids + np.uint64(1))


def levels(cells: ArrayLike) -> Ints:
    """Give each cell's level, 0 to 30.

    >>> levels(cell_ids([0.0, 0.0], [0.0, 0.0], 7)).tolist()
    [7, 7]
    """
    exponent = np.frexp(lowest_bits(cells).astype(np.float64))[1]  # exact: powers of two
    return MAX_LEVEL - (exponent.astype(np.int64) - 1) // 2


def is_valid(cells: ArrayLike) -> NDArray[np.bool_]:
    """Tell which numbers are ids of cells: one of six faces, and the lowest one at an even place."""
    ids = np.asarray(cells, np.uint64)
    return (ids >> np.uint64(61) < 6) & (lowest_bits(ids) & np.uint64(0x1555555555555555) != 0)


def parents(cells: ArrayLike, level: int) -> Cells:
    """Give the cell of a level that holds each cell, itself where it is of that level.

    Raises:
        ValueError: there is no such level, or a cell is larger than those of the level.
    """
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"the level of a cell must be 0 to {MAX_LEVEL}, got {level}")
    ids = np.asarray(cells, np.uint64)
    lowest = np.uint64(1 << 2 * (MAX_LEVEL - level))
    if ids.size and lowest_bits(ids).max() > lowest:
        raise ValueError(f"cells of level {levels(ids).min()} have no parents of the finer level {level}")
    return ids & (~lowest + np.uint64(1)) | lowest


def children(cells: ArrayLike) -> Cells:
    """Give the four quarters of each cell along the curve: [..., 4].

    Raises:
        ValueError: a cell is a leaf.
    """
    ids = np.asarray(cells, np.uint64)[..., None]
    quarter = lowest_bits(ids) >> np.uint64(2)
    if not quarter.all():
        raise ValueError(f"a cell of level {MAX_LEVEL} has no children")
    return ids - np.uint64(3) * quarter + np.arange(4, dtype=np.uint64) * np.uint64(2) * quarter


def leaf_ranges(cells: ArrayLike) -> tuple[Cells, Cells]:
    """Give the ids of each cell's first and last leaf: what lies between, both included, lies in the cell."""
    ids = np.asarray(cells, np.uint64)
    span = lowest_bits(ids) - np.uint64(1)
    return ids - span, ids + span


def contains(cells: ArrayLike, others: ArrayLike) -> NDArray[np.bool_]:
    """Tell whether each cell holds the other one or is it; the two broadcast."""
    first, last = leaf_ranges(cells)
    ids = np.asarray(others, np.uint64)
    return (first <= ids) & (ids <= last)


def tokens(cells: ArrayLike) -> NDArray[np.str_]:
    """Give each id as hexadecimal digits without the zeros at its end: short, and sorted like the ids."""
    ids = np.ascontiguousarray(cells, np.uint64)
    digits = np.array([f"{byte:02x}" for byte in range(256)], "S2")[ids.astype(">u8").view(np.uint8)]
    return np.char.rstrip(digits.view("S16"), b"0").astype("U16").reshape(ids.shape)  # type: ignore[arg-type]


def from_tokens(names: Sequence[str]) -> Cells:
    """Give the cells of tokens.

    Raises:
        ValueError: one is no token of a cell.

    >>> from_tokens(["47e66ff"]).tolist()
    [5180951497919168512]
    """
    wrong = [name for name in names if not 0 < len(name) <= 16 or set(name) - set("0123456789abcdefABCDEF")]
    cells = np.array([0 if name in wrong else int(name.ljust(16, "0"), 16) for name in names], np.uint64)
    wrong = [name for name, good in zip(names, is_valid(cells).tolist(), strict=True) if not good]
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is no token of a cell; a token is up to 16 hexadecimal digits, like 47e6701"
        )
    return cells
