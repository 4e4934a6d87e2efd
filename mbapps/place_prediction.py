"""Where one image was taken, as a head says: `to_json()` for programs, `draw(image)` for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mbapps.geo.distance import EARTH_KM, moved
from mbapps.geo.worldmap import map_points, world_picture

from .images import UInt8Image

MAP_SHARE = 0.42  # of the picture's width that the map takes
LEAST_MAP, MOST_MAP = 96, 640  # px of its width
GROUND, SEA, MARK, RING = (96, 108, 122), (24, 30, 40), (255, 92, 60), (255, 196, 60)


@dataclass(frozen=True)
class Place:
    """A place that an image may have been taken at."""

    lat: float  # degrees, north is positive
    lon: float  # degrees, east is positive
    score: float  # how probable its cell is, in [0, 1]
    radius_km: float | None = (
        None  # within which the true place lies as often as was fitted; None: not fitted
    )
    name: str | None = None  # of the nearest city, or of the country or region where no more may be told

    def to_json(self) -> list[dict[str, Any]]:
        """One dict: lat, lon, score, and radius_km and name where they are known."""
        told: dict[str, Any] = {
            "lat": round(float(self.lat), 6), "lon": round(float(self.lon), 6), "score": round(float(self.score), 5),
        }  # fmt: skip
        if self.radius_km is not None:
            told["radius_km"] = round(float(self.radius_km), 3)
        return [told if self.name is None else {**told, "name": self.name}]

    @property
    def text(self) -> str:
        """The place in words, such as "Arezzo, Italy 0.41, within 120 km".

        >>> Place(43.468, 11.889, 0.41, 120).text
        '43.47° N 11.89° E 0.41, within 120 km'
        """
        where = self.name or (
            f"{abs(self.lat):.2f}° {'N' if self.lat >= 0 else 'S'} {abs(self.lon):.2f}° {'E' if self.lon >= 0 else 'W'}"
        )
        km = self.radius_km
        radius = "" if km is None else f", within {km:,.0f} km" if km >= 10 else f", within {km:.2g} km"
        return f"{where} {self.score:.2f}{radius}"

    def draw(self, image: UInt8Image) -> UInt8Image:
        """The place in words in the upper left corner, and on a small map of the world in the lower right one."""
        height, width = image.shape[:2]
        canvas = Image.fromarray(image)
        side = int(np.clip(width * MAP_SHARE, LEAST_MAP, MOST_MAP))
        if side <= width and side // 2 <= height:
            canvas.paste(Image.fromarray(self._map(side)), (width - side, height - side // 2))
        size = max(10, round(min(height, width) / 24))
        font = ImageFont.load_default(size)
        while size > 6 and font.getlength(self.text) > width - 6:
            size -= 1
            font = ImageFont.load_default(size)
        pen = ImageDraw.Draw(canvas)
        _, _, right, bottom = pen.textbbox((3, 2), self.text, font=font)
        pen.rectangle((0, 0, right + 3, bottom + 3), fill=SEA)
        pen.text((3, 2), self.text, (255, 255, 255), font=font)
        return np.asarray(canvas)

    def _map(self, width: int) -> UInt8Image:
        picture = Image.fromarray(world_picture(width, GROUND, SEA))
        pen = ImageDraw.Draw(picture)
        if self.radius_km and np.isfinite(self.radius_km):
            for line in circle(self.lat, self.lon, self.radius_km):
                points = map_points(line[:, 0], line[:, 1], width)
                pen.line([tuple(point) for point in points.tolist()], fill=RING, width=max(1, width // 200))
        x, y = map_points(self.lat, self.lon, width).tolist()
        half = max(2.0, width / 90)
        pen.ellipse((x - half, y - half, x + half, y + half), fill=MARK, outline=(255, 255, 255))
        return np.asarray(picture)


def circle(lat: float, lon: float, radius_km: float) -> list[NDArray[np.float64]]:
    """Lines [P, 2] of latitude and longitude, in degrees, round a place: one, or more where it is cut at 180 degrees.

    A radius that reaches round the earth has no circle.
    """
    if radius_km >= np.pi * EARTH_KM:
        return []
    bearings = np.linspace(0, 2 * np.pi, 97)
    some = np.ones(len(bearings))
    north, east = moved(lat * some, lon * some, radius_km * some, bearings)
    cuts = np.flatnonzero(np.abs(np.diff(east)) > 180) + 1
    return [line for line in np.split(np.stack([north, east], axis=1), cuts) if len(line) > 1]
