"""The plots and tables of a report on places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .geolocation import WITHIN_KM, GeoMetric

NAMES = ("street", "city", "region", "country", "continent")
ABOUT_SHARES = (
    "Share of the images whose place is guessed to within a distance; between low and high lie 95 % of bootstrap "
    "samples of the images."
)
ABOUT_CONTINENTS = "By the continent of the truth, which is that of the nearest large city."
ABOUT_METHODS = (
    "Cells: the most probable one. Neighbours: the density of the photos of the geo-index that are most like the "
    "image. Hybrid: the density of both."
)


def sections(metric: GeoMetric, numbers: Mapping[str, float]) -> list[Any]:
    """The report's plots and tables."""
    from mbapps.plots_places import MOST_LINES, error_histogram, truths_and_guesses
    from mbapps.sections import Plot, Rows

    km, _, _, images = metric.errors()
    guesses = np.array([answer.guess[:2] for answer in metric.answers().values()]).reshape(-1, 2)
    drawn = f" {MOST_LINES} of {len(km):,} are drawn." if len(km) > MOST_LINES else ""
    parts: list[Any] = [
        Plot(
            "Truth and guess",
            truths_and_guesses(metric.truth.lat[images], metric.truth.lon[images], guesses[:, 0], guesses[:, 1], km),
            f"Each truth is joined with its guess by the shortest way, green for near and red for far.{drawn}",
        ),
        Plot(
            "Errors", error_histogram(km, WITHIN_KM, numbers["median_error_km"]),
            f"Dotted at {', '.join(map(str, WITHIN_KM))} km.",
        ),
        Rows("Shares within", _shares(numbers), ABOUT_SHARES),
    ]  # fmt: skip
    if methods := metric.method_rows(numbers):
        parts.append(Rows("By method", methods, ABOUT_METHODS))
    columns = ["images", "median_error_km", *(f"share_within_{at}_km" for at in WITHIN_KM), "coverage"]
    by_continent = {
        name.partition("/")[2]: {
            column.replace("_", " "): numbers[key]
            for column in columns
            if (key := f"continent_{column}/{name.partition('/')[2]}") in numbers
        }
        for name in numbers
        if name.startswith("continent_images/")
    }
    return [*parts, Rows("By continent", by_continent, ABOUT_CONTINENTS)] if by_continent else parts


def _shares(numbers: Mapping[str, float]) -> dict[str, dict[str, Any]]:

    rows = {}
    for at, name in zip(WITHIN_KM, NAMES, strict=True):
        key = f"share_within_{at}_km"
        ends = {end: numbers.get(f"{key}_{end}") for end in ("low", "high")}
        rows[f"{name}, {at} km"] = {"share": numbers[key], **ends}
    if "coverage" in numbers:
        ends = {end: numbers.get(f"coverage_{end}") for end in ("low", "high")}
        rows["the radius of each"] = {"share": numbers["coverage"], **ends}
    return rows
