"""Distances on the sphere, in kilometres, between places in degrees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_KM = 6371.0088  # mean radius of the earth, as IUGG has it

Floats = NDArray[np.float64]


def great_circle_km(lat: ArrayLike, lon: ArrayLike, other_lat: ArrayLike, other_lon: ArrayLike) -> Floats:
    """Great-circle distance of places, in kilometres, by the haversine formula; NaN where one is NaN.

    Args:
        lat: degrees, of any shapes that broadcast.
        lon: likewise.
        other_lat: likewise.
        other_lon: likewise.

    >>> round(float(great_circle_km(51.5074, -0.1278, 48.8566, 2.3522)))  # London to Paris
    344
    """
    north, east, other_north, other_east = (
        np.radians(np.asarray(part, dtype=np.float64)) for part in (lat, lon, other_lat, other_lon)
    )
    part = np.sin((other_north - north) / 2) ** 2
    part = part + np.cos(north) * np.cos(other_north) * np.sin((other_east - east) / 2) ** 2
    return np.asarray(2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(part, 0, 1))))


def unit_vectors(lat: ArrayLike, lon: ArrayLike) -> Floats:
    """[..., 3] the points of the unit sphere at some places, in degrees."""
    north, east = np.radians(np.asarray(lat, dtype=np.float64)), np.radians(np.asarray(lon, dtype=np.float64))
    flat = np.cos(north)
    return np.stack([np.cos(east) * flat, np.sin(east) * flat, np.sin(north)], axis=-1)


def places_of(vectors: NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Latitude and longitude, in degrees, of vectors [..., 3] of any length but zero."""
    x, y, z = np.moveaxis(np.asarray(vectors, dtype=np.float64), -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def moved(lat: Floats, lon: Floats, km: Floats, bearing: Floats) -> tuple[Floats, Floats]:
    """Where one comes from places, in degrees, by `km` along great circles that start at `bearing`.

    Args:
        lat: [N] degrees.
        lon: [N] degrees.
        km: [N].
        bearing: [N] radians, clockwise from north.

    >>> north, east = moved(np.zeros(1), np.array([179.0]), np.array([222.39]), np.array([np.pi / 2]))
    >>> north.round(3).tolist(), east.round(3).tolist()
    ([0.0], [-179.0])
    """
    here, angle = unit_vectors(lat, lon), (km / EARTH_KM)[:, None]
    north, east = np.radians(lat), np.radians(lon)
    to_east = np.stack([-np.sin(east), np.cos(east), np.zeros_like(east)], axis=1)
    to_north = np.stack([-np.sin(north) * np.cos(east), -np.sin(north) * np.sin(east), np.cos(north)], axis=1)
    ahead = np.cos(bearing)[:, None] * to_north + np.sin(bearing)[:, None] * to_east
    return places_of(np.cos(angle) * here + np.sin(angle) * ahead)


def ways(
    lat: ArrayLike, lon: ArrayLike, other_lat: ArrayLike, other_lon: ArrayLike, steps: int = 48
) -> Floats:
    """[N, steps, 2] latitude and longitude, in degrees, along the shortest ways between N pairs of places.

    Args:
        lat: [N] degrees.
        lon: likewise.
        other_lat: likewise.
        other_lon: likewise.
        steps: points on each, with both ends.

    >>> ways([0.0], [0.0], [0.0], [90.0], steps=3).round(3).tolist()
    [[[0.0, 0.0], [0.0, 45.0], [0.0, 90.0]]]
    """
    start, end = unit_vectors(lat, lon), unit_vectors(other_lat, other_lon)
    opposite = ((start + end) ** 2).sum(axis=1, keepdims=True) < 1e-12
    end = np.where(opposite, end + 1e-4, end)  # any way is as short
    share = np.linspace(0, 1, steps)[:, None]
    angle = np.arctan2(np.linalg.norm(np.cross(start, end), axis=1), (start * end).sum(axis=1))[:, None, None]
    weight = np.sinc(angle * share / np.pi) * share  # sin(share * angle) / angle
    back = np.sinc(angle * (1 - share) / np.pi) * (1 - share)
    return np.stack(places_of(back * start[:, None] + weight * end[:, None]), axis=-1)
