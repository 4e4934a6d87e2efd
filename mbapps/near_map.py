"""A map of an answer's surroundings: what the map of the world is too small to show, and large cities by name."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from mbapps.geo.cities import largest_cities
from mbapps.geo.distance import EARTH_KM, great_circle_km, ways
from mbapps.geo.worldmap import land

from .images import UInt8Image
from .lettering import font
from .place_map import EVEN, GROUND, HEAT, LIKE, MARK, RING, SEA, TRUTH, circle, dot
from .place_prediction import Place

LEAST_KM, MOST_KM = 300, 2500  # less has no coast or city in it, more is for the map of the world
ROOM = 1.3  # times what is to be seen
CITIES = 7  # named at most
CITY, LETTERS = (214, 219, 226), 12  # px
FRAME = (240, 240, 240)
SCALES = (10, 20, 50, 100, 200, 500, 1000)  # km of the bar

Floats = NDArray[np.float64]


def reach_km(place: Place, truth: tuple[float, float] | None) -> float | None:
    """How far from its middle a map of the surroundings must reach to show radius and truth, as far as they are near.

    None where neither is: the map of the world shows them well enough.
    """
    seen = [place.radius_km] if place.radius_km is not None else []
    if truth is not None:
        seen.append(float(great_circle_km(place.lat, place.lon, *truth)))
    near = [km for km in seen if km <= MOST_KM]
    return max(LEAST_KM, ROOM * max(near)) if near else None


def draw_near(place: Place, side: int, reach: float, truth: tuple[float, float] | None = None) -> UInt8Image:
    """Draw the surroundings of an answer, RGB [side, side, 3], north up, true to scale at its middle.

    Args:
        place: the answer, in the middle.
        side: px.
        reach: km from the middle to the sides.
        truth: latitude and longitude, degrees.
    """
    view = _View(place, side, reach)
    canvas = Image.fromarray(view.ground())
    pen = ImageDraw.Draw(canvas)
    if place.radius_km:
        for line in circle(place.lat, place.lon, place.radius_km):
            view.line(pen, line, RING)
    if place.neighbours is not None:
        for at in view.points(place.neighbours.lat, place.neighbours.lon).tolist():
            dot(pen, at, 3, LIKE)
    _cities(pen, view)
    if truth is not None:
        view.line(pen, ways([place.lat], [place.lon], [truth[0]], [truth[1]])[0], TRUTH)
        dot(pen, view.points(*truth).tolist(), 8, TRUTH, (0, 0, 0))  # seen below the answer too
    dot(pen, view.points(place.lat, place.lon).tolist(), 5, MARK, (255, 255, 255))
    _scale(pen, view)
    pen.rectangle((0, 0, side - 1, side - 1), outline=FRAME)
    return np.asarray(canvas)


class _View:
    """From places to the px of a map round one of them."""

    def __init__(self, place: Place, side: int, reach: float):
        self.place, self.side = place, side
        self.per_km = side / 2 / reach
        north = np.radians(EARTH_KM) * self.per_km  # px of a degree
        self.scale = np.array([north * max(0.05, np.cos(np.radians(place.lat))), -north])
        self.middle = np.array([place.lon, place.lat])

    def points(self, lat: ArrayLike, lon: ArrayLike) -> Floats:
        """[..., 2] x, y px; the way round the earth that is shorter."""
        east = (np.asarray(lon, dtype=np.float64) - self.middle[0] + 180) % 360 - 180
        north = np.asarray(lat, dtype=np.float64) - self.middle[1]
        return np.stack([east, north], axis=-1) * self.scale + self.side / 2

    def line(self, pen: ImageDraw.ImageDraw, line: Floats, colour: tuple[int, int, int]) -> None:
        """Draw a line [P, 2] of latitude and longitude."""
        at = self.points(line[:, 0], line[:, 1])
        for piece in np.split(at, np.flatnonzero(np.abs(np.diff(at[:, 0])) > 180 * self.scale[0]) + 1):
            pen.line([tuple(point) for point in piece.tolist()], fill=colour, width=2)

    def ground(self) -> UInt8Image:
        """Land, sea and the glow of the probable cells."""
        picture = np.full((self.side, self.side, 3), SEA, dtype=np.uint8)
        for turn in (-360, 0, 360):
            rings = [(ring + [turn, 0] - self.middle) * self.scale + self.side / 2 for ring in land()]
            seen = [ring for ring in rings if self._seen(ring)]
            cv2.fillPoly(picture, [_fixed(ring) for ring in seen], GROUND, lineType=cv2.LINE_AA, shift=4)
        cells, shares = self.place.cells, self.place.probabilities
        if cells is None or shares is None:
            return picture
        rows = np.flatnonzero(shares > 1e-4 * shares.max())
        rows = rows[np.argsort(shares[rows])]
        outlines = cells.outlines(rows)
        heat = np.zeros(picture.shape[:2], dtype=np.float32)
        for square, share in zip(
            self.points(outlines[..., 0], outlines[..., 1]), shares[rows].tolist(), strict=True
        ):
            if np.ptp(square[:, 0]) < 180 * self.scale[0] and self._seen(square):
                cv2.fillConvexPoly(heat, _fixed(square), 0.6 * (share / shares.max()) ** EVEN, shift=4)
        mixed = picture * (1 - heat[..., None]) + np.array(HEAT, dtype=np.float32) * heat[..., None]
        return np.asarray(mixed.astype(np.uint8))

    def _seen(self, ring: Floats) -> bool:
        return bool((ring.max(axis=0) > 0).all() and (ring.min(axis=0) < self.side).all())


def _cities(pen: ImageDraw.ImageDraw, view: _View) -> None:
    """Name the largest cities in view that do not hide each other or the answer."""
    cities, letters = largest_cities(), font(LETTERS)
    points = view.points(cities.lat, cities.lon)
    taken = [(view.side / 2 - 8, view.side / 2 - 8, view.side / 2 + 8, view.side / 2 + 8)]
    for row in np.flatnonzero(((points > 6) & (points < view.side - 6)).all(axis=1)).tolist():
        x, y = points[row].tolist()
        text = str(cities.names[row])
        box = (x - 3, y - 9, x + 8 + letters.getlength(text), y + 9)
        free = all(box[2] < left or box[0] > right or box[3] < top or box[1] > bottom
                   for left, top, right, bottom in taken)  # fmt: skip
        if free and box[2] < view.side - 2 and y < view.side - 24:
            taken.append(box)
            dot(pen, [x, y], 2, CITY)
            pen.text((x + 6, y - 8), text, CITY, font=letters)
        if len(taken) > CITIES:
            return


def _scale(pen: ImageDraw.ImageDraw, view: _View) -> None:
    """A bar of so many km in the lower left corner."""
    km = max((km for km in SCALES if km * view.per_km < view.side / 3), default=SCALES[0])
    bottom = view.side - 9
    pen.line((9, bottom, 9 + km * view.per_km, bottom), fill=FRAME, width=2)
    pen.text((9, bottom - LETTERS - 6), f"{km:,} km", FRAME, font=font(LETTERS))


def _fixed(points: Floats) -> NDArray[np.int32]:
    return np.clip(points * 16, -(2**28), 2**28).round().astype(np.int32)
