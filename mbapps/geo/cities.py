"""The world's largest cities, from a table in the package, and the continents that they tell."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from .distance import unit_vectors

TABLE = Path(__file__).with_name("cities.tsv")


class Cities(NamedTuple):
    """N cities, the largest first."""

    names: NDArray[np.str_]
    lat: NDArray[np.float64]  # degrees
    lon: NDArray[np.float64]
    countries: NDArray[np.str_]  # two letters of ISO 3166
    continents: NDArray[np.str_]
    population: NDArray[np.int64]


@cache
def largest_cities() -> Cities:
    """The 600 largest that lie 25 km apart or more, and the largest of each country without one of them."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    columns = zip(*(line.split("\t") for line in lines if not line.startswith("#")), strict=True)
    names, lat, lon, countries, continents, population = (np.array(column) for column in columns)
    return Cities(
        names,
        lat.astype(np.float64),
        lon.astype(np.float64),
        countries,
        continents,
        population.astype(np.int64),
    )


def continents(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.str_]:
    """[N] names of the continents of N places, in degrees: each is that of the nearest of the largest cities.

    So 98.6 % of the 234,908 places of GeoNames are on their own; those that are not lie near a border. A place that
    is NaN is on "".

    >>> continents([48.9, -33.9], [2.4, 151.2]).tolist()
    ['Europe', 'Oceania']
    """
    vectors = unit_vectors(lat, lon)
    there = np.isfinite(vectors).all(axis=1)
    found = np.full(len(vectors), "", dtype=largest_cities().continents.dtype)
    found[there] = largest_cities().continents[_tree().query(vectors[there])[1]]
    return found


@cache
def _tree() -> cKDTree:
    cities = largest_cities()
    return cKDTree(unit_vectors(cities.lat, cities.lon))
