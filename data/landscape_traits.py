"""What the synthetic world looks like at a place: smooth functions of latitude and longitude."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbapps.geo.distance import unit_vectors

from .synthetic import Floats

WAVES = 7  # that make up a field
NEAR, FAR = (
    9.0,
    2.5,
)  # radians a field turns in one radius of the earth: it changes over 700 km, over 2,500 km

GRASS = np.array(
    [[62, 128, 48], [168, 152, 74], [126, 168, 60], [66, 104, 84], [142, 104, 84]], dtype=np.float32
)
SOIL = np.array([[168, 120, 80], [190, 92, 58], [206, 182, 134], [118, 102, 88]], dtype=np.float32)
WALLS = np.array([
    [226, 214, 190], [178, 86, 66], [240, 240, 236], [214, 172, 92], [142, 152, 162], [206, 148, 138],
    [160, 182, 150],
], dtype=np.float32)  # fmt: skip
ROOFS = np.array(
    [[156, 66, 46], [72, 76, 86], [196, 136, 84], [96, 122, 92], [116, 58, 62]], dtype=np.float32
)


class Traits(NamedTuple):
    """The look of one place, before season, weather and camera."""

    noon: float  # degrees of the sun over the horizon at noon, averaged over the year
    warmth: float  # degrees Celsius, averaged over the year
    swing: float  # degrees by which summer and winter differ from that; negative in the south
    dryness: float  # 0 to 1
    relief: float  # height of the hills, as a share of the picture
    grass: Floats  # RGB
    soil: Floats
    wall: Floats
    other_wall: Floats  # of about a third of the houses
    roof: Floats
    pitch: float  # of the roofs: 0 is flat, 1 as high as half a house is wide
    storeys: float
    slender: float  # width of a house by its height
    windows: tuple[float, float]  # columns, and height by width
    paint: float  # of the road's line: 0 white, 1 yellow
    dashes: float  # of the line in the picture
    poles: float  # share of photos with poles and wires


def field(vectors: NDArray[np.float64], number: int, turns: float) -> NDArray[np.float64]:
    """[N] a smooth function on the sphere, about -1 to 1: a sum of waves.

    Args:
        vectors: [N, 3] of the unit sphere.
        number: which of them.
        turns: how many radians it turns in one radius of the sphere, about.
    """
    rng = np.random.default_rng([number, 6371])
    ways = rng.normal(size=(3, WAVES))
    ways *= turns * rng.uniform(0.6, 1.2, WAVES) / np.linalg.norm(ways, axis=0)
    waves = np.sin(vectors @ ways + rng.uniform(0, 2 * np.pi, WAVES))
    return np.asarray(waves.sum(axis=1) * np.sqrt(2 / WAVES) / 1.6)


def traits_of(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> list[Traits]:
    """The look of N places, [N] degrees each."""
    points = unit_vectors(lat, lon)
    away = np.abs(lat)
    warmth = 28 - 40 * (away / 70) ** 1.7 + 3 * field(points, 1, FAR)
    dryness = _share(1.6 * field(points, 2, 4.0) + 1.3 * np.exp(-(((away - 26) / 11) ** 2)) - 0.7)
    columns = {
        "noon": 90 - away,
        "warmth": warmth,
        "swing": np.sign(lat) * away / 60 * 13,
        "dryness": dryness,
        "relief": 0.02 + 0.2 * _share(2.5 * field(points, 3, 6.0)),
        "grass": _mix(GRASS, points, 10, 4.0),
        "soil": _mix(SOIL, points, 20, 4.0),
        "wall": _mix(WALLS, points, 30, 6.0),
        "other_wall": _mix(WALLS, points, 40, NEAR),
        "roof": _mix(ROOFS, points, 60, 6.0),
        "pitch": _share(2.5 * field(points, 4, 5.0) + (10 - warmth) / 8 - dryness),
        "storeys": 1.6 + 5 * _share(2.2 * field(points, 5, NEAR)),
        "slender": 0.45 + 0.9 * _share(2.2 * field(points, 6, 7.0)),
        "windows": np.stack(
            [1.6 + 3 * _share(3 * field(points, 7, 6.0)), 0.5 + 1.6 * _share(3 * field(points, 8, NEAR))], axis=1
        ),
        "paint": _share(6 * field(points, 9, 4.0)),
        "dashes": 2 + 6 * _share(2.5 * field(points, 70, 6.0)),
        "poles": _share(4 * field(points, 71, 5.0)),
    }  # fmt: skip
    lists = [
        [tuple(row) for row in values.tolist()] if name == "windows" else list(values) if values.ndim > 1
        else values.tolist()
        for name, values in columns.items()
    ]  # fmt: skip
    return [Traits(*row) for row in zip(*lists, strict=True)]


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squeeze numbers into 0 to 1."""
    return np.asarray(1 / (1 + np.exp(-2 * values)))


def _mix(colours: Floats, points: NDArray[np.float64], number: int, turns: float) -> Floats:
    """[N, 3] colours, each for the most part that of the strongest of as many fields as there are colours."""
    strength = np.stack([field(points, number + row, turns) for row in range(len(colours))], axis=1)
    weights = np.exp(4 * strength)
    return np.asarray((weights / weights.sum(axis=1, keepdims=True)) @ colours, dtype=np.float32)
