"""Where cells lie and how large they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cells import MAX_LEVEL, STEP, TO_IJ, Floats, Ints, lowest_bits
from .distance import EARTH_KM, places_of


def centres(cells: ArrayLike) -> Floats:
    """Give the middle of each cell: [N, 2] latitude and longitude, degrees.

    >>> import mbapps.geo.cells as c
    >>> centres(c.cell_ids([10.0], [0.0], 0)).tolist()
    [[0.0, 0.0]]
    """
    face, i, j, size = _squares(cells)
    return np.stack(places_of(_on_sphere(face, _uv(2 * i + size), _uv(2 * j + size))), axis=-1)


def corners(cells: ArrayLike) -> Floats:
    """Give the corners of each cell, counter-clockwise seen from above: [N, 4, 2] degrees.

    A cell over a pole or the antimeridian has corners whose longitudes jump.
    """
    face, u, v = _bounds(cells)
    return np.stack(places_of(_on_sphere(face[:, None], u[:, [0, 1, 1, 0]], v[:, [0, 0, 1, 1]])), axis=-1)


def areas_km2(cells: ArrayLike) -> Floats:
    """Give the area of each cell on a sphere of the Earth's mean radius: [N] km2, exact for leaves too."""
    _, u, v = _bounds(cells)
    flat = (u[:, 1] - u[:, 0]) * (v[:, 1] - v[:, 0])  # the determinant of each half: nothing cancels
    a, b, c, d = (
        np.stack([np.ones(len(u)), u[:, k], v[:, m]], axis=-1) for k, m in ((0, 0), (1, 0), (1, 1), (0, 1))
    )
    return EARTH_KM**2 * (_solid_angle(flat, a, b, c) + _solid_angle(flat, a, c, d))


def _squares(cells: ArrayLike) -> tuple[Ints, Ints, Ints, Ints]:
    """Give face, least i, least j and width, in leaves, of each cell."""
    ids = np.asarray(cells, np.uint64).reshape(-1)
    face = (ids >> np.uint64(61)).astype(np.int64)
    size = np.sqrt(lowest_bits(ids).astype(np.float64)).astype(np.int64)  # exact: an even power of two
    pos = (ids >> np.uint64(1)).astype(np.int64)
    i, j, turn = np.zeros_like(face), np.zeros_like(face), face & 1
    for shift in range(MAX_LEVEL - STEP, -1, -STEP):
        entry = TO_IJ.take((pos >> 2 * shift & 4095) << 2 | turn)
        i, j, turn = i << STEP | entry >> 8, j << STEP | entry >> 2 & 63, entry & 3
    return face, i & -size, j & -size, size


def _bounds(cells: ArrayLike) -> tuple[Ints, Floats, Floats]:
    """Give face [N] and least and greatest u and v [N, 2] of each cell."""
    face, i, j, size = _squares(cells)
    return face, _uv(2 * np.stack([i, i + size], axis=-1)), _uv(2 * np.stack([j, j + size], axis=-1))


def _uv(halves: Ints) -> Floats:
    """Give the face's coordinate in [-1, 1] at a number of half leaves."""
    s = halves * (0.5 / (1 << MAX_LEVEL))
    return np.where(s >= 0.5, (1 / 3) * (4 * s * s - 1), (1 / 3) * (1 - 4 * (1 - s) * (1 - s)))


def _on_sphere(face: Ints, u: Floats, v: Floats) -> Floats:
    """Give vectors [..., 3], not of unit length, at coordinates of faces."""
    one = np.ones_like(u)
    options = [(one, u, v), (-u, one, v), (-u, -v, one), (-one, -v, -u), (v, -one, -u), (v, u, -one)]
    axes = [np.choose(face, [option[axis] for option in options]) for axis in range(3)]
    return np.stack(axes, axis=-1)


def _solid_angle(determinant: Floats, a: Floats, b: Floats, c: Floats) -> NDArray[np.float64]:
    """Give the solid angle of triangles of vectors [N, 3]. Source: Van Oosterom and Strackee (1983)."""
    la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
    ab, bc, ca = ((p * q).sum(-1) for p, q in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(determinant, la * lb * lc + ab * lc + bc * la + ca * lb)
