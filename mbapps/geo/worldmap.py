"""A map of the world without a network: outlines of land, and a picture of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mbapps.images import UInt8Image

TABLE = Path(__file__).with_name("land.json")
LAND, SEA = (203, 210, 220), (245, 247, 250)


@cache
def land() -> tuple[NDArray[np.float64], ...]:
    """Rings [P, 2] of longitude and latitude, in degrees; a lake runs the other way round than the land round it.

    Source: Natural Earth, land at 1:110 million, public domain, as world-atlas has it (ISC).
    """
    rings = json.loads(TABLE.read_text(encoding="utf-8"))["rings"]
    return tuple(np.array(ring, dtype=np.float64).reshape(-1, 2) / 10 for ring in rings)


def map_points(lat: ArrayLike, lon: ArrayLike, width: int) -> NDArray[np.float64]:
    """[..., 2] x, y px of places, in degrees, on a map of the whole world, `width` by `width / 2` px.

    >>> map_points([90, 0], [-180, 0], 360).tolist()
    [[0.0, 0.0], [180.0, 90.0]]
    """
    north, east = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    return np.stack([(east + 180) * (width / 360), (90 - north) * (width / 360)], axis=-1)


@cache
def _world(width: int, ground: tuple[int, ...], sea: tuple[int, ...]) -> UInt8Image:
    picture = np.full((width // 2, width, 3), sea, dtype=np.uint8)
    points = [map_points(ring[:, 1], ring[:, 0], width) for ring in land()]
    fixed: list[Any] = [np.round((ring - 0.5) * 16).astype(np.int32) for ring in points]
    cv2.fillPoly(picture, fixed, ground, lineType=cv2.LINE_AA, shift=4)
    picture.flags.writeable = False
    return picture


def world_picture(
    width: int, ground: tuple[int, int, int] = LAND, sea: tuple[int, int, int] = SEA
) -> UInt8Image:
    """A map of the whole world, RGB [width / 2, width, 3], north up and Greenwich in the middle."""
    return _world(width, ground, sea).copy()
