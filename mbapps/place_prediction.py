"""Where one image was taken, as a head says: `to_json()` for programs, `draw(image)` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mbapps.geo.cell_map import CellMap, most_probable
from mbapps.geo.distance import EARTH_KM

from . import lettering
from .images import UInt8Image

COARSE_LEVELS = {"country": 3, "region": 5}  # finest S2 level: cells about 1,150 and 290 km across
FARTHEST_KM = np.pi * EARTH_KM
MAP_SHARE = 0.42  # of the picture's width that the map takes
LEAST_MAP, MOST_MAP = 96, 640  # px of its width
TOLD = 5  # cells and neighbours in JSON
GROUND = (24, 30, 40)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PhotosLike:
    """The k photos of a geo-index that are most like one image, best first."""

    ids: Sequence[str]
    similarities: Floats  # [k] inner products
    lat: Floats  # [k] degrees
    lon: Floats
    weights: Floats  # [k] in the density, of sum 1

    def to_json(self) -> list[dict[str, Any]]:
        """One dict for each of the first few: id, similarity, lat, lon."""
        columns = zip(self.ids[:TOLD], self.similarities, self.lat, self.lon, strict=False)
        return [
            {"id": name, "similarity": round(float(one), 5), "lat": round(float(y), 6), "lon": round(float(x), 6)}
            for name, one, y, x in columns
        ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Place:
    """A place that an image may have been taken at."""

    lat: float  # degrees, north is positive
    lon: float  # degrees, east is positive
    score: float  # how probable its surroundings are, in [0, 1]: its cell, or what lies near it
    radius_km: float | None = None  # that holds the true place as often as was fitted; None: not fitted
    name: str | None = None  # of the nearest city, or of the country where no more may be told
    spread_km: float | None = None  # expected distance of the true place; radii are multiples of it
    cells: CellMap | None = None
    probabilities: Floats | None = None  # [K] of the cells
    neighbours: PhotosLike | None = None  # where a geo-index was asked
    others: Mapping[str, Place] = field(default_factory=dict)  # what else was found on the way, by method

    def named(self, name: str) -> Place:
        """Give the same place with a name."""
        return replace(self, name=name)

    def to_json(self) -> list[dict[str, Any]]:
        """One dict: lat, lon, score; where known radius_km, name; the likeliest cells and the neighbours."""
        told: dict[str, Any] = {
            "lat": round(float(self.lat), 6), "lon": round(float(self.lon), 6), "score": round(float(self.score), 5),
        }  # fmt: skip
        if self.radius_km is not None:
            told["radius_km"] = round(float(self.radius_km), 3)
        if self.name is not None:
            told["name"] = self.name
        if self.cells is not None and self.probabilities is not None:
            (rows,) = most_probable(self.probabilities[None], TOLD)
            told["cells"] = [
                {"cell": cell, "score": round(float(self.probabilities[row]), 5),
                 "lat": round(float(self.cells.lat[row]), 6), "lon": round(float(self.cells.lon[row]), 6)}
                for cell, row in zip(self.cells.tokens(rows), rows.tolist(), strict=True)
            ]  # fmt: skip
        if self.neighbours is not None:
            told["neighbours"] = self.neighbours.to_json()
        return [told]

    @property
    def text(self) -> str:
        """The place in words, such as "Arezzo, Italy 0.41, within 120 km".

        >>> Place(43.468, 11.889, 0.41, 120).text
        '43.47° N 11.89° E 0.41, within 120 km'
        """
        where = self.name or degrees_text(self.lat, self.lon)
        km = self.radius_km
        radius = "" if km is None else f", within {km:,.0f} km" if km >= 10 else f", within {km:.2g} km"
        return f"{where} {self.score:.2f}{radius}"

    def draw(self, image: UInt8Image) -> UInt8Image:
        """The place in words in the upper left corner, and on a small map of the world in the lower right one."""
        from .place_map import draw_map

        height, width = image.shape[:2]
        canvas = Image.fromarray(image)
        side = int(np.clip(width * MAP_SHARE, LEAST_MAP, MOST_MAP))
        if side <= width and side // 2 <= height:
            canvas.paste(Image.fromarray(draw_map(self, side)), (width - side, height - side // 2))
        size = max(10, round(min(height, width) / 24))
        letters = lettering.font(size)
        while size > 6 and letters.getlength(self.text) > width - 6:
            size -= 1
            letters = lettering.font(size)
        pen = ImageDraw.Draw(canvas)
        _, _, right, bottom = pen.textbbox((3, 2), self.text, font=letters)
        pen.rectangle((0, 0, right + 3, bottom + 3), fill=GROUND)
        pen.text((3, 2), self.text, (255, 255, 255), font=letters)
        return np.asarray(canvas)


def degrees_text(lat: float, lon: float) -> str:
    """A place in degrees as people write it.

    >>> degrees_text(-33.868, 151.209)
    '33.87° S 151.21° E'
    """
    return f"{abs(lat):.2f}° {'N' if lat >= 0 else 'S'} {abs(lon):.2f}° {'E' if lon >= 0 else 'W'}"
