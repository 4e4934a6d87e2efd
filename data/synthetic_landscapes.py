"""Renders the embedded default of geo-localization: a world whose look is a smooth function of place.

Photos are scattered by kilometres round real cities, weighted by population, and taken by users who each keep to few
of them. Sun, plants and snow go with the latitude; the colours and shapes of soil, walls, roofs and roads with fields
that change over hundreds to thousands of kilometres. Weather, season, hour and camera are each photo's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mbapps.geo.cities import largest_cities
from mbapps.geo.distance import moved

from .landscape_painting import paint
from .landscape_traits import traits_of
from .synthetic import RENDERING, SPLITS, Image, write_jpeg, write_once

VERSION = 1  # raise it when the pictures change: old caches are then left alone and not read
PHOTOS = 5.0  # of a user on average; geometric, so that many users have one or two
AWAY = 0.15  # share of a user's photos taken round another city
WEIGHT = 0.75  # power of a city's population: by its own, two thirds of the photos would be Asia's
SCATTER = 6.0  # km from the city's middle, median
SPREAD = 1.0  # of the logarithm of that: one in a hundred lies more than 60 km out


class Photos(NamedTuple):
    """N photos before they are rendered."""

    lat: NDArray[np.float64]  # [N] degrees
    lon: NDArray[np.float64]
    users: NDArray[np.int64]  # [N] numbers


def scatter_photos(seed: int, split: str, count: int) -> Photos:
    """Places of `count` photos of a split; no user has photos in two splits."""
    place = SPLITS.index(split)
    rng = np.random.default_rng([seed, place, VERSION])
    each = rng.geometric(1 / PHOTOS, count)
    users = np.repeat(np.arange(count), each)[:count]
    cities = largest_cities()
    weights = cities.population**WEIGHT
    weights /= weights.sum()
    homes = rng.choice(len(weights), users[-1] + 1, p=weights)[users]
    city = np.where(rng.random(count) < AWAY, rng.choice(len(weights), count, p=weights), homes)
    km = SCATTER * np.exp(rng.normal(0, SPREAD, count))
    lat, lon = moved(cities.lat[city], cities.lon[city], km, rng.uniform(0, 2 * np.pi, count))
    return Photos(lat.round(6), lon.round(6), users * len(SPLITS) + place + 70_000_000)


def render_landscape(lat: float, lon: float, seed: int, split: str, index: int) -> Image:
    """Render one photo of a place, RGB [SIDE, SIDE, 3]; the same for the same arguments."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index, VERSION])
    return paint(rng, traits_of(np.array([lat]), np.array([lon]))[0])


def write_landscapes(
    folder: Path, *, seed: int = 0, train: int = 6000, val: int = 1200, test: int = 1200
) -> Path:
    """Render photos into `folder`, with lists of places in train.csv, val.csv and test.csv; a complete one stays.

    The lists are as those of MP-16 and Im2GPS: IMG_ID, AUTHOR, LAT, LON; the pictures lie in `images`.

    Raises:
        FileExistsError: `folder` holds something else.
        ValueError: a split has no photo.
    """
    wanted = {"version": VERSION, "seed": seed, "train": train, "val": val, "test": test}
    if min(train, val, test) < 1:
        raise ValueError(
            f"each split of the synthetic world has a photo or more, got {train}, {val} and {test}"
        )

    def render(temporary: Path) -> None:
        jobs = []
        for split in SPLITS:
            photos = scatter_photos(seed, split, wanted[split])
            traits = traits_of(photos.lat, photos.lon)
            names = [f"{index % 256:02x}/{split}{index:06d}.jpg" for index in range(len(traits))]
            rows = zip(names, photos.users.tolist(), photos.lat.tolist(), photos.lon.tolist(), strict=True)
            lines = [f"{name},{user}@N00,{lat:.6f},{lon:.6f}" for name, user, lat, lon in rows]
            (temporary / f"{split}.csv").write_text("\n".join(["IMG_ID,AUTHOR,LAT,LON", *lines]) + "\n")
            jobs += [
                (split, index, name, look)
                for index, (name, look) in enumerate(zip(names, traits, strict=True))
            ]
        for split, index, name, look in track(jobs, RENDERING.format(len(jobs)), transient=True):
            rng = np.random.default_rng([seed, SPLITS.index(split), index, VERSION])
            write_jpeg(temporary / "images" / name, paint(rng, look), quality=80 + index % 16)

    return write_once(folder, wanted, render)
