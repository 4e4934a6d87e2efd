from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.distance import EARTH_KM, great_circle_km, moved, places_of, unit_vectors


def places(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return np.degrees(np.arcsin(random.uniform(-1, 1, count))), random.uniform(-180, 180, count)


def test_known_distances() -> None:
    assert great_circle_km(51.5074, -0.1278, 48.8566, 2.3522) == pytest.approx(343.6, abs=1)  # London, Paris
    assert great_circle_km(40.7128, -74.006, -33.8688, 151.2093) == pytest.approx(15_990, abs=10)
    half = np.pi * EARTH_KM
    assert great_circle_km([90, 0, 10], [0, 0, 20], [-90, 0, -10], [77, 180, -160]) == pytest.approx(
        [half] * 3
    )
    assert great_circle_km(90, -120, 90, 60) == pytest.approx(0, abs=1e-6)
    assert great_circle_km(5, 180, 5, -180) == pytest.approx(0, abs=1e-6)
    assert np.isnan(great_circle_km(np.nan, 0, 0, 0))


def test_it_is_the_angle_between_vectors() -> None:
    (lat, lon), (other_lat, other_lon) = places(1000), places(2000)
    angle = np.arccos((unit_vectors(lat, lon) * unit_vectors(other_lat[1000:], other_lon[1000:])).sum(axis=1))
    assert great_circle_km(lat, lon, other_lat[1000:], other_lon[1000:]) == pytest.approx(angle * EARTH_KM)
    assert great_circle_km(lat[:3, None], lon[:3, None], lat[:4], lon[:4]).shape == (3, 4)


def test_vectors_and_back() -> None:
    lat, lon = places(1000)
    north, east = places_of(7 * unit_vectors(lat, lon))
    assert north == pytest.approx(lat)
    assert east == pytest.approx(lon)


def test_one_comes_as_far_as_one_goes() -> None:
    lat, lon = places(1000)
    km, bearing = np.random.default_rng(1).uniform(0, 20_000, (2, 1000))
    assert great_circle_km(lat, lon, *moved(lat, lon, km, bearing)) == pytest.approx(km, abs=1e-3)
    north, east = moved(np.zeros(2), np.zeros(2), np.full(2, 111.195), np.array([0, np.pi / 2]))
    assert north == pytest.approx([1, 0], abs=1e-4)
    assert east == pytest.approx([0, 1], abs=1e-4)
