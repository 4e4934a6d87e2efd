"""A map of the world with an answer on it: where it may be, what is like it, and where it truly was."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mbapps.geo.distance import moved, ways
from mbapps.geo.worldmap import map_points, world_picture

from .images import UInt8Image
from .place_prediction import FARTHEST_KM, Place

GROUND, SEA = (96, 108, 122), (24, 30, 40)
MARK, RING, LIKE, TRUTH = (255, 92, 60), (255, 196, 60), (90, 200, 255), (70, 230, 110)
HEAT = (255, 120, 40)  # where a cell is probable, the more the stronger
BLUR = 1 / 160  # of the map's width: how far a cell's probability is smeared
EVEN = 0.35  # power of the probability: small ones are to be seen too


def draw_map(place: Place, width: int, truth: tuple[float, float] | None = None) -> UInt8Image:
    """Draw the world, RGB [width / 2, width, 3].

    Probable cells glow; blue dots are the photos of a geo-index that are most like the image, the red one is the
    answer, with its radius; the true place, where it is known, is green and joined with it.

    Args:
        place: the answer.
        width: px.
        truth: latitude and longitude, degrees.
    """
    picture = world_picture(width, GROUND, SEA)
    if place.cells is not None and place.probabilities is not None:
        picture = _glow(picture, place)
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    thin, size = max(1, width // 400), max(1.5, width / 240)
    if place.radius_km and np.isfinite(place.radius_km):
        for line in circle(place.lat, place.lon, place.radius_km):
            _line(pen, line, width, RING, thin)
    if place.neighbours is not None:
        for at in map_points(place.neighbours.lat, place.neighbours.lon, width).tolist():
            dot(pen, at, size * 0.7, LIKE)
    if truth is not None:
        way = ways([place.lat], [place.lon], [truth[0]], [truth[1]])[0]
        for line in _cut(way):
            _line(pen, line, width, TRUTH, thin)
        dot(
            pen, map_points(*truth, width).tolist(), size * 2.4, TRUTH, (0, 0, 0)
        )  # seen below the answer too
    dot(pen, map_points(place.lat, place.lon, width).tolist(), size * 1.6, MARK, (255, 255, 255))
    return np.asarray(canvas)


def _glow(picture: UInt8Image, place: Place) -> UInt8Image:
    """Lay the probabilities of the cells over a map: each over its own square and a little beyond."""
    assert place.cells is not None
    assert place.probabilities is not None
    height, width = picture.shape[:2]
    rows = np.flatnonzero(place.probabilities > 1e-4 * place.probabilities.max())
    rows = rows[np.argsort(place.probabilities[rows])]
    heat = np.zeros((height, width), dtype=np.float32)
    outlines = place.cells.outlines(rows)
    points = map_points(outlines[..., 0], outlines[..., 1], width)  # [R, 4, 2]
    middles = map_points(place.cells.lat[rows], place.cells.lon[rows], width)
    strength = (place.probabilities[rows] / place.probabilities.max()) ** EVEN
    for square, middle, value in zip(points, middles, strength.tolist(), strict=True):
        if np.ptp(square[:, 0]) < width / 2:  # else it lies over a pole or where the map is cut
            cv2.fillConvexPoly(heat, (square * 16).round().astype(np.int32), value, shift=4)
        x, y = np.clip(middle.astype(int), 0, [width - 1, height - 1])
        heat[y, x] = value
    sigma = max(0.6, width * BLUR)
    heat = np.maximum(heat, cv2.GaussianBlur(heat, (0, 0), sigma))
    share = 0.8 * (heat / max(float(heat.max()), 1e-9))[..., None]
    mixed: NDArray[np.float32] = picture * (1 - share) + np.array(HEAT, dtype=np.float32) * share
    return mixed.astype(np.uint8)


def dot(
    pen: ImageDraw.ImageDraw, at: list[float], half: float, fill: tuple[int, int, int],
    outline: tuple[int, int, int] | None = None,
) -> None:  # fmt: skip
    """Draw a dot, `half` px from its middle to its edge, at x, y px."""
    x, y = at
    pen.ellipse((x - half, y - half, x + half, y + half), fill=fill, outline=outline)


def _line(
    pen: ImageDraw.ImageDraw, line: NDArray[np.float64], width: int, fill: tuple[int, int, int], thick: int
) -> None:
    points = map_points(line[:, 0], line[:, 1], width)
    pen.line([tuple(point) for point in points.tolist()], fill=fill, width=thick)


def circle(lat: float, lon: float, radius_km: float) -> list[NDArray[np.float64]]:
    """Lines [P, 2] of latitude and longitude, in degrees, round a place: one, or more where it is cut at 180 degrees.

    A radius that reaches round the earth has no circle.
    """
    if radius_km >= FARTHEST_KM:
        return []
    bearings = np.linspace(0, 2 * np.pi, 97)
    some = np.ones(len(bearings))
    return _cut(np.stack(moved(lat * some, lon * some, radius_km * some, bearings), axis=1))


def _cut(line: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """A line [P, 2] in pieces where it jumps at 180 degrees."""
    cuts = np.flatnonzero(np.abs(np.diff(line[:, 1])) > 180) + 1
    return [piece for piece in np.split(line, cuts) if len(piece) > 1]
