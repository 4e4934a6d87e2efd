"""Where a photo was taken, from the places of its nearest neighbours: a density over the world, and its peak.

A density is of low rank: a sum over points of a curve along the latitude times one along the longitude, which is a
product of two matrices. No grid is filled and blurred.

Source: Vo et al., Revisiting IM2GPS in the Deep Learning Era (2017), section 4 and the program that came with it.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from .distance import great_circle_km

NEIGHBOURS = 100  # k of the source
POWER = 10  # a neighbour's weight is 1 / distance ** POWER
SIGMA = 4.0  # degrees of the blur
SNAP_KM = 100.0  # within which a neighbour is taken for the place itself
WORLD = (180, 360)  # squares of a degree, from the south and from 180 degrees west
FINER = 10  # squares to a degree of the second look
REACH = 20  # degrees round the first peak that the second look takes in
TRUNCATE = 4.0  # sigmas at which the blur ends, as in scipy.ndimage
LEAST_SQUARE = 1e-6  # of a distance: inner products of float32 tell no nearer photos apart
CHUNK = 16  # photos at a time: their densities stay in the processor's cache

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Snapped(NamedTuple):
    """Q places, and the point that each was taken from."""

    lat: Floats  # [Q] degrees
    lon: Floats  # [Q]
    row: Ints  # [Q] in [0, M), -1 where no point is near and the peak stays


def neighbour_weights(similarities: ArrayLike) -> Floats:
    """Weights [Q, k] of neighbours: their inverse distances to the tenth power, of sum 1 for each photo.

    Args:
        similarities: [Q, k] inner products of vectors of length 1; -inf where there is no neighbour, whose weight is 0.
            A photo without any has only zeros.

    Raises:
        ValueError: they are not [Q, k], or one is NaN.

    >>> neighbour_weights([[1 - 0.5, 1 - 2.0, float("-inf")]]).round(4).tolist()
    [[0.999, 0.001, 0.0]]
    """
    cosines = np.asarray(similarities, dtype=np.float64)
    if cosines.ndim != 2 or np.isnan(cosines).any():
        got = (
            f"NaN in row {np.isnan(cosines).any(axis=1).argmax()}"
            if cosines.ndim == 2
            else list(cosines.shape)
        )
        raise ValueError(f"similarities must be numbers [Q, k], -inf for no neighbour, got {got}")
    squares = np.maximum(2 - 2 * cosines, LEAST_SQUARE)  # of distances
    inverse = (LEAST_SQUARE / squares) ** (POWER / 2)  # from 1 down to 1e-33: neither overflows nor vanishes
    total = inverse.sum(axis=1, keepdims=True)
    return inverse / np.where(total > 0, total, 1)


def density_peaks(
    lat: ArrayLike, lon: ArrayLike, weights: ArrayLike, *, sigma: float = SIGMA
) -> tuple[Floats, Floats]:
    """Latitude and longitude [Q], in degrees, of the greatest density of each photo's points.

    First on squares of 1 degree, then on squares of 0.1 degree within 20 degrees of the first peak: points are counted
    in their squares and blurred, and the middle of the best square is given. The blur is sigma degrees wide at every
    latitude, as in the source; it goes on across 180 degrees and ends at the poles.

    Args:
        lat: [Q, M] degrees of M points a photo: neighbours, or neighbours and cells. The work grows with M: of
            thousands give the heaviest few hundred.
        lon: [Q, M].
        weights: [Q, M], >= 0. A point of weight 0 is not there, nor is one whose place is NaN.
        sigma: degrees, > 0.

    Raises:
        ValueError: the shapes differ; a weight is negative or no number, or a latitude beyond a pole; a photo has no
            point with a place and a weight; or sigma is out of its range.

    >>> north, east = density_peaks([[48.1, 48.9, -33.9]], [[2.3, 2.4, 151.2]], [[0.3, 0.3, 0.4]])
    >>> north.round(2).tolist(), east.round(2).tolist()
    ([48.55], [2.35])
    """
    if not (isinstance(sigma, (int, float)) and 0 < sigma <= WORLD[0]):
        raise ValueError(f"sigma is degrees in (0, {WORLD[0]}], got {sigma}")
    north, east, heavy = _points(lat, lon, weights)
    lost = np.flatnonzero(~(heavy > 0).any(axis=1))
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(heavy)} photos, the first in row {lost[0]}, have no point with a place and a weight "
            "above 0, and so no density; leave them out"
        )
    peaks = np.empty((2, len(heavy)))
    for start in range(0, len(heavy), CHUNK):
        part = slice(start, start + CHUNK)
        peaks[:, part] = _peaks(north[part], east[part], heavy[part], float(sigma))
    return peaks[0], peaks[1]


def snap(
    peak_lat: ArrayLike, peak_lon: ArrayLike, lat: ArrayLike, lon: ArrayLike, weights: ArrayLike,
    *, within_km: float = SNAP_KM,
) -> Snapped:  # fmt: skip
    """Move each peak to the heaviest point near it, of equal ones the first; where none is near, it stays.

    Args:
        peak_lat: [Q] degrees.
        peak_lon: [Q].
        lat: [Q, M] degrees of the points that may be taken: the neighbours, best first.
        lon: [Q, M].
        weights: [Q, M], >= 0; 0 where there is no point, or a place that is NaN.
        within_km: how near, >= 0.

    Raises:
        ValueError: the shapes differ, a weight is negative or no number, a latitude lies beyond a pole, or within_km
            is out of its range.

    >>> snap([48.55], [2.35], [[48.8, 47.9]], [[2.4, 2.0]], [[0.2, 0.8]]).row.tolist()
    [1]
    """
    if not within_km >= 0:
        raise ValueError(f"within_km must be >= 0, got {within_km}")
    north, east, heavy = _points(lat, lon, weights)
    here = [np.asarray(values, dtype=np.float64).reshape(-1) for values in (peak_lat, peak_lon)]
    if {len(values) for values in here} != {len(heavy)}:
        raise ValueError(
            f"{len(here[0])} and {len(here[1])} coordinates of peaks, and points of {len(heavy)} photos"
        )
    if not heavy.shape[1]:
        return Snapped(here[0], here[1], np.full(len(heavy), -1))
    km = great_circle_km(here[0][:, None], here[1][:, None], north, east)
    near = np.where(km <= within_km, heavy, 0.0)
    row = near.argmax(axis=1)
    found, every = near.max(axis=1) > 0, np.arange(len(heavy))
    return Snapped(
        np.where(found, north[every, row], here[0]),
        np.where(found, east[every, row], here[1]),
        np.where(found, row, -1),
    )


def _points(lat: ArrayLike, lon: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Checked points [Q, M]; those that are not there lie at 0, 0 with weight 0."""
    north, east, heavy = (np.asarray(values, dtype=np.float64) for values in (lat, lon, weights))
    if heavy.ndim != 2 or not north.shape == east.shape == heavy.shape:
        raise ValueError(
            f"points must be [Q, M] latitudes, longitudes and weights, got {list(north.shape)}, "
            f"{list(east.shape)} and {list(heavy.shape)}"
        )
    wrong = ~((heavy >= 0) & (heavy < np.inf))
    if wrong.any():
        raise ValueError(f"weights must be numbers >= 0, got {heavy[wrong][0]:g}")
    there = np.isfinite(north) & np.isfinite(east) & (heavy > 0)
    north, east, heavy = (np.where(there, values, 0.0) for values in (north, east, heavy))
    beyond = np.abs(north) > 90
    if beyond.any():
        raise ValueError(f"latitudes must lie in [-90, 90], got {north[beyond][0]:g}")
    return north, east, heavy


def _peaks(lat: Floats, lon: Floats, weights: Floats, sigma: float) -> tuple[Floats, Floats]:
    weights = weights / weights.max(axis=1, keepdims=True)
    rows, columns = _squares(lat, lon, 1)
    south, west = _best(rows, columns, weights, sigma, 1, WORLD, np.zeros((2, len(lat)), np.int64))
    rows, columns = _squares(lat, lon, FINER)
    first = np.stack([south, west]) * FINER + FINER // 2 - REACH * FINER  # round the middle of the square
    side = 2 * REACH * FINER
    south, west = _best(rows, columns, weights, sigma, FINER, (side, side), first)
    return (south + 0.5) / FINER - 90, (west + 0.5) / FINER % WORLD[1] - 180


def _squares(lat: Floats, lon: Floats, finer: int) -> tuple[Ints, Ints]:
    """Row from the south and column from 180 degrees west of the square that each place lies in."""
    rows = np.minimum(np.floor((lat + 90) * finer).astype(np.int64), WORLD[0] * finer - 1)
    return rows, np.floor((lon + 180) * finer).astype(np.int64) % (WORLD[1] * finer)


def _best(
    rows: Ints, columns: Ints, weights: Floats, sigma: float, finer: int, size: tuple[int, int], first: Ints
) -> tuple[Ints, Ints]:
    """Row and column [Q] of the densest square of a window that begins at `first` [2, Q] and has `size` squares."""
    along_lat, along_lon = _curves(sigma, finer)
    height, width = WORLD[0] * finer, WORLD[1] * finer
    starts = first[0][:, None] - rows + len(along_lat) // 2
    tall = sliding_window_view(along_lat, size[0])[starts]  # [Q, M, size[0]]
    wide = sliding_window_view(along_lon, size[1])[(first[1][:, None] - columns) % width]  # [Q, M, size[1]]
    tall = (tall * weights[..., None]).swapaxes(1, 2)
    # by torch's threads, which a head has used just before: those of numpy's own BLAS would fight with them
    density = torch.bmm(torch.from_numpy(tall), torch.from_numpy(wide)).numpy()
    beyond = first[0][:, None] + np.arange(size[0])  # rows; those past a pole are none
    density[(beyond < 0) | (beyond >= height)] = -1
    best = density.reshape(len(density), -1).argmax(axis=1)
    return first[0] + best // size[1], first[1] + best % size[1]


@cache
def _curves(sigma: float, finer: int) -> tuple[Floats, Floats]:
    """The blur by squares from the middle of an array along the latitude, and by squares to the east, twice round."""
    height, width, wide = (n * finer for n in (*WORLD, sigma))
    reach = int(TRUNCATE * wide + 0.5)
    offsets = np.arange(-reach, reach + 1)
    curve = np.exp(-0.5 * (offsets / wide) ** 2)
    curve /= curve.sum()
    middle = int(height + REACH * finer)  # as far as a square of the world can lie from one of a window
    near = np.abs(offsets) <= middle
    along_lat = np.zeros(2 * middle + 1)
    along_lat[offsets[near] + middle] = curve[near]
    along_lon = np.bincount(offsets % int(width), curve, int(width))
    return along_lat, np.tile(along_lon, 2)
