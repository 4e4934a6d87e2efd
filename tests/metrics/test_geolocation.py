from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import GeoTable
from mbapps.geo.cell_map import CellMap
from mbapps.geo.cells import cell_ids
from mbapps.geo.distance import great_circle_km, moved
from mbapps.geo.shapes import centres
from mbapps.locating import Fitted, Locator
from mbapps.metrics.geolocation import WITHIN_KM, GeoMetric, _medians, _spread
from mbapps.place_prediction import Place
from mbapps.report import write_report

PARIS, SYDNEY, LAGOS = (48.857, 2.352), (-33.869, 151.209), (6.455, 3.394)


def table(places: list[tuple[float, float]]) -> GeoTable:
    lat, lon = np.array(places, dtype=np.float64).reshape(-1, 2).T
    files = np.array([f"{row}.jpg" for row in range(len(places))], dtype=np.str_)
    return GeoTable(Path("photos"), files, np.full(len(places), -1, np.int32), (), lat=lat, lon=lon)


def placed(
    places: list[tuple[float, float]], km: list[float], radii: list[float | None] | None = None
) -> GeoMetric:
    """Each guess lies so many km east of its truth."""
    truth = table(places)
    metric = GeoMetric(truth, resamples=200)
    lat, lon = moved(truth.lat, truth.lon, np.array(km), np.full(len(km), np.pi / 2))
    known = radii or [None] * len(km)
    guesses = [Place(*guess, 0.5, radius) for *guess, radius in zip(lat, lon, known, strict=True)]
    metric.update(range(len(km)), guesses)
    return metric


def test_shares_within_distances() -> None:
    numbers = placed([PARIS, SYDNEY, LAGOS, PARIS], [0.5, 24, 740, 2600]).compute()
    assert numbers == {
        "median_error_km": pytest.approx((24 + 740) / 2), "share_within_1_km": 0.25, "share_within_25_km": 0.5,
        "share_within_200_km": 0.5, "share_within_750_km": 0.75, "share_within_2500_km": 0.75,
    }  # fmt: skip


def test_by_continent() -> None:
    numbers = placed([PARIS, SYDNEY, PARIS], [10, 300, 1000]).conclude()
    assert (numbers["continent_images/Europe"], numbers["continent_images/Oceania"]) == (2, 1)
    assert numbers["continent_share_within_25_km/Europe"] == 0.5
    assert numbers["continent_share_within_750_km/Oceania"] == 1
    assert numbers["continent_median_error_km/Europe"] == pytest.approx(505)
    assert (
        numbers["continent_share_within_25_km_low/Europe"]
        <= 0.5
        <= numbers["continent_share_within_25_km_high/Europe"]
    )
    assert not any(name.endswith("/Asia") for name in numbers)


def test_coverage_of_those_that_have_a_radius() -> None:
    metric = placed([PARIS, SYDNEY, LAGOS, PARIS], [10, 300, 100, 5], [20, 200, 100.001, None])
    assert metric.compute()["coverage"] == pytest.approx(2 / 3)
    numbers = metric.conclude()
    assert numbers["continent_coverage/Europe"] == 1
    assert numbers["continent_coverage/Oceania"] == 0
    assert numbers["median_radius_km"] == pytest.approx(100.001)
    assert numbers["coverage_low"] <= 2 / 3 <= numbers["coverage_high"]
    assert metric.answer(3).radius_km is None
    answer = metric.answer(0)
    guess = metric.rows[0][1].guess
    assert (answer.lat, answer.lon, answer.score, answer.radius_km) == (guess.lat, guess.lon, 0.5, 20)


def test_intervals_hold_their_number_and_shrink() -> None:
    random = np.random.default_rng(0)
    widths = []
    for count in (100, 1600):
        km = np.exp(random.normal(6, 2, count))
        metric = placed([PARIS] * count, km.clip(0, 15_000).tolist())
        numbers = metric.compute() | metric.conclude()
        for name in ("median_error_km", *(f"share_within_{at}_km" for at in WITHIN_KM)):
            assert numbers[f"{name}_low"] <= numbers[name] <= numbers[f"{name}_high"]
        widths.append(numbers["share_within_750_km_high"] - numbers["share_within_750_km_low"])
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.4)
    share = np.full(1600, 0.0)
    share[:400] = 1
    assert np.std(_spread(share, 1000)) == pytest.approx(math.sqrt(0.25 * 0.75 / 1600), rel=0.1)


@pytest.mark.parametrize("count", [1, 2, 7, 10])
def test_medians_of_samples(count: int) -> None:
    """The same as numpy's of the drawn values."""
    from mbapps.metrics.average_precision import resamples

    values = np.random.default_rng(0).random(count)
    slow = [np.median(np.repeat(values[np.argsort(values)], row.astype(int)))
            for part in resamples(count, 50) for row in part]  # fmt: skip
    assert _medians(values, 50) == pytest.approx(np.array(slow))


def test_an_image_that_comes_twice_counts_once() -> None:
    metric = placed([PARIS, SYDNEY], [10, 300])
    before = metric.compute(), metric.conclude()
    metric.update([1], [metric.answer(1)])
    assert (metric.compute(), metric.conclude()) == before
    other = GeoMetric(metric.truth, resamples=200)
    other.rows = pickle.loads(pickle.dumps(metric.rows))[::-1]
    assert (other.compute(), other.conclude()) == before


def test_nothing_was_placed() -> None:
    metric = GeoMetric(table([PARIS]), resamples=10)
    assert all(math.isnan(value) for value in metric.compute().values())
    assert all(math.isnan(value) for value in metric.conclude().values())
    assert metric.worst(3) == []
    assert len(metric.sections(metric.compute(), None, "")) == 3


def test_the_worst_come_first() -> None:
    metric = placed([PARIS, SYDNEY, LAGOS], [10, 3000, 100])
    assert [row for row, _ in metric.worst(2)] == [1, 2]
    assert metric.worst(1)[0][1].startswith("3,000 km from -33.87, 151.21 (Oceania), placed at ")
    assert metric.worst(1)[0][1].endswith("0.50: 1.jpg")


@pytest.mark.parametrize(
    "place", [Place(math.nan, 0, 1), Place(0, math.inf, 1), Place(90.1, 0, 1), Place(0, 0, 1, -1)]
)
def test_places_that_are_none(place: Place) -> None:
    with pytest.raises(
        ValueError, match="0.jpg was placed at .* a place must be finite, its latitude in -90..90"
    ):
        GeoMetric(table([PARIS])).update([0], [place])


def test_settings_and_truths_that_cant_be() -> None:
    with pytest.raises(ValueError, match="task.metric.resamples must be >= 1, got 0"):
        GeoMetric(table([PARIS]), resamples=0)
    with pytest.raises(ValueError, match="1 of 2 images, such as 1.jpg, have no place"):
        GeoMetric(table([PARIS, (math.nan, 0)]))


def test_the_report(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    places = [(math.degrees(math.asin(y)), x) for y, x in zip(random.uniform(-0.9, 0.9, 600),
                                                            random.uniform(-180, 180, 600), strict=True)]  # fmt: skip
    metric = placed(places, np.exp(random.normal(6, 2, 600)).clip(0, 20_000).tolist(), [500.0] * 600)
    numbers = metric.compute() | metric.conclude()
    sections = metric.sections(numbers, None, "")
    assert [section.title for section in sections] == [
        "Truth and guess", "Errors", "Shares within", "By continent",
    ]  # fmt: skip
    assert "400 of 600 are drawn" in sections[0].html()
    assert len(sections[2].rows) == 6
    assert set(sections[3].rows) >= {"Africa", "Asia", "Europe"}
    path = write_report(tmp_path / "report.html", "Places", sections)
    assert path.stat().st_size > 50_000


def test_great_circles_join_truth_and_guess() -> None:
    from mbapps.plots_places import great_circles

    ends = [np.array([column]) for column in (35.68, 139.69, 34.05, -118.24)]  # Tokyo to Los Angeles
    lines = great_circles(*ends)
    assert len(lines) == 2  # one reaches beyond 180 degrees, the other begins before -180
    joined = lines[0]
    assert lines[1] == pytest.approx(joined - [360, 0])
    assert joined[0] == pytest.approx([139.69, 35.68])
    assert joined[-1] == pytest.approx([-118.24 + 360, 34.05])
    back = great_circles(*ends[2:], *ends[:2])
    assert len(back) == 2
    assert back[0] == pytest.approx(joined[::-1] - [360, 0])
    steps = great_circle_km(joined[:-1, 1], joined[:-1, 0], joined[1:, 1], joined[1:, 0])
    assert steps.sum() == pytest.approx(great_circle_km(*(end[0] for end in ends)), rel=1e-6)
    assert steps == pytest.approx(steps.mean(), rel=1e-6)
    opposite = np.concatenate(great_circles(*(np.array([x], dtype=float) for x in (0, 0, 0, 180))))
    assert np.isfinite(opposite).all()
    same = great_circles(*(np.array([x], dtype=float) for x in (5, 6, 5, 6)))
    assert np.concatenate(same) == pytest.approx(np.tile([6.0, 5.0], (48, 1)))


def tempered(temperature: float, count: int = 400) -> GeoMetric:
    """Cells of a line are answered by probabilities that are too sharp, so that `temperature` mends them."""
    random = np.random.default_rng(0)
    cells = cell_ids(np.zeros(30), np.linspace(-170, 170, 30), 4)
    cells.sort()
    world = CellMap.of(cells, centres(cells))
    logits = random.normal(0, 2, (count, 30))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = np.array([random.choice(30, p=row) for row in honest])
    sharp = np.exp(temperature * logits)
    sharp /= sharp.sum(axis=1, keepdims=True)
    places = centres(cells)[own]
    truth = replace(table([tuple(place) for place in places]), labels=own[:, None].astype(np.int32))
    metric = GeoMetric(truth, resamples=10)
    metric.update(range(count), Locator(None).locate(world, sharp, None, Fitted()))
    return metric


def test_the_temperature_that_makes_the_own_cells_likeliest() -> None:
    for temperature in (0.7, 1.0, 2.5):
        fitted = tempered(temperature).fit(Fitted(), 0.9)
        assert fitted.temperature == pytest.approx(temperature, rel=0.15)
    twice = tempered(2.5).fit(Fitted(temperature=3.0), 0.9)
    assert twice.temperature == pytest.approx(7.5, rel=0.15)  # it multiplies with the one that was used


def test_radii_hold_as_often_as_wanted() -> None:
    for coverage in (0.5, 0.9):
        metric = tempered(1.0)
        fitted = metric.fit(Fitted(), coverage)
        km = metric.errors()[0]
        spreads = np.array([answer.guess.spread for _, answer in metric.rows])
        held = (km <= fitted.radius["cells"] * spreads).mean()
        assert held == pytest.approx(coverage, abs=0.02)  # the temperature moves the spreads a little


def test_too_few_photos_give_no_radius() -> None:
    assert tempered(1.0, 8).fit(Fitted(), 0.9).radius == {}
    assert tempered(1.0, 9).fit(Fitted(), 0.9).radius.keys() == {"cells"}


def test_the_weight_by_which_errors_are_least_is_taken() -> None:
    truth = table([PARIS] * 12)
    near, far = moved(*np.array(PARIS)[:, None], np.array([50.0]), np.zeros(1)), (0.0, 0.0)
    others = {
        "cells": Place(*far, 0.5, None, None, 10.0), "neighbours": Place(*far, 0.5, None, None, 20.0),
        "0.25": Place(*far, 0.5, None, None, 1.0), "0.75": Place(near[0][0], near[1][0], 0.5, None, None, 25.0),
    }  # fmt: skip
    metric = GeoMetric(truth, resamples=10)
    metric.update(range(12), [Place(*far, 0.5, None, None, 1.0, others=others)] * 12)
    fitted = metric.fit(Fitted(temperature=2.0), 0.9)
    assert (fitted.temperature, fitted.weight) == (2.0, 0.75)
    assert fitted.radius["hybrid"] == pytest.approx(2, abs=0.01)
    assert fitted.radius["cells"] == pytest.approx(2 * fitted.radius["neighbours"])


def test_methods_have_their_own_numbers() -> None:
    truth = table([PARIS, SYDNEY])
    here = [Place(*place, 0.5, 10.0, others={"cells": Place(*PARIS, 0.5), "neighbours": Place(*LAGOS, 0.5)})
            for place in (PARIS, SYDNEY)]  # fmt: skip
    metric = GeoMetric(truth, resamples=10)
    metric.update([0, 1], here)
    numbers = {**metric.compute(), **metric.conclude()}
    rows = metric.method_rows(numbers)
    assert list(rows) == ["cells", "neighbours", "hybrid"]
    assert [rows[method]["25 km"] for method in rows] == [0.5, 0.0, 1.0]
    assert rows["hybrid"]["coverage"] == 1
    assert "coverage" not in rows["cells"]
    assert placed([PARIS], [1]).method_rows(numbers) == {}
