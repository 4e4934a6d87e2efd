from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from mbapps.geo.density import density_peaks, neighbour_weights, snap
from mbapps.geo.distance import great_circle_km


def blurred(lat: np.ndarray, lon: np.ndarray, weights: np.ndarray, finer: int, sigma: float) -> np.ndarray:
    """The density on the whole world's squares, counted and blurred as scipy does it."""
    grid = np.zeros((180 * finer, 360 * finer))
    rows = np.minimum(np.floor((lat + 90) * finer).astype(int), 180 * finer - 1)
    np.add.at(grid, (rows, np.floor((lon + 180) * finer).astype(int) % (360 * finer)), weights)
    filled = grid.any(axis=0)  # the rest stays empty, and need not be blurred
    grid[:, filled] = gaussian_filter1d(grid[:, filled], sigma * finer, axis=0, mode="constant")
    filled = grid.any(axis=1)
    grid[filled] = gaussian_filter1d(grid[filled], sigma * finer, axis=1, mode="wrap")
    return grid


def square(lat: float, lon: float, finer: int) -> tuple[int, int]:
    return min(int((lat + 90) * finer), 180 * finer - 1), int((lon + 180) * finer) % (360 * finer)


def dense_peak(
    lat: np.ndarray, lon: np.ndarray, weights: np.ndarray, sigma: float
) -> tuple[float, float, np.ndarray]:
    """The peak of the same two looks, and the density of the second one."""
    coarse = blurred(lat, lon, weights, 1, sigma)
    row, column = np.unravel_index(coarse.argmax(), coarse.shape)
    fine = blurred(lat, lon, weights, 10, sigma)
    rows = np.arange(row * 10 - 195, row * 10 + 205)
    rows = rows[(rows >= 0) & (rows < 1800)]
    columns = np.arange(column * 10 - 195, column * 10 + 205) % 3600
    seen = fine[np.ix_(rows, columns)]
    best = np.unravel_index(seen.argmax(), seen.shape)
    return (rows[best[0]] + 0.5) / 10 - 90, (columns[best[1]] + 0.5) / 10 - 180, fine


@pytest.mark.parametrize("sigma", [4.0, 1.5])
@pytest.mark.parametrize(
    ("middle", "spread"),
    [
        ((48.0, 2.0), 5.0),
        ((-17.0, 179.5), 4.0),
        ((88.0, 10.0), 3.0),
        ((-89.5, -179.9), 2.0),
        ((0.0, 0.0), 60.0),
    ],
)
def test_it_is_the_peak_of_the_dense_grid(middle: tuple[float, float], spread: float, sigma: float) -> None:
    random = np.random.default_rng(0)
    lat = np.clip(random.normal(middle[0], spread, 40), -90, 90)
    lon = (random.normal(middle[1], spread, 40) + 180) % 360 - 180
    weights = random.uniform(0, 1, 40) ** 4
    found = density_peaks(lat[None], lon[None], weights[None], sigma=sigma)
    north, east, density = dense_peak(lat, lon, weights, sigma)
    best = density[square(north, east, 10)]
    assert density[square(found[0][0], found[1][0], 10)] == pytest.approx(best, rel=1e-12)
    assert (found[0][0], found[1][0]) == pytest.approx((north, east), abs=1e-9)


def test_many_at_once_are_each_on_its_own() -> None:
    random = np.random.default_rng(1)
    lat, lon = random.normal(20, 25, (37, 30)).clip(-90, 90), random.uniform(-180, 180, (37, 30))
    weights = random.uniform(0, 1, (37, 30))
    lat[:, 4], weights[:, 7], lon[:, 9] = np.nan, 0, np.inf
    north, east = density_peaks(lat, lon, weights)
    kept = np.setdiff1d(np.arange(30), [4, 7, 9])
    for row in range(37):
        one = density_peaks(lat[[row]][:, kept], lon[[row]][:, kept], weights[[row]][:, kept])
        assert (one[0][0], one[1][0]) == pytest.approx((north[row], east[row]))
    scaled = density_peaks(lat, lon, weights * 1e-12)
    np.testing.assert_array_equal(scaled, (north, east))


def test_a_single_point_is_its_own_peak() -> None:
    lat, lon = (
        np.array([[90.0], [-90.0], [0.0], [51.23], [-16.5]]),
        np.array([[0.0], [77], [180], [-0.04], [-180]]),
    )
    for weights in (np.ones((5, 1)), np.full((5, 1), 1e-33)):
        north, east = density_peaks(lat, lon, weights)
        assert (great_circle_km(north, east, lat[:, 0], lon[:, 0]) < 9).all()  # half a square's diagonal
    assert (np.abs(north) <= 90).all()
    assert (np.abs(east) <= 180).all()
    again = density_peaks(lat.repeat(7, axis=1), lon.repeat(7, axis=1), np.ones((5, 7)))
    np.testing.assert_array_equal(again, (north, east))
    snapped = snap(north, east, lat, lon, np.ones((5, 1)))
    np.testing.assert_array_equal(snapped.lat, lat[:, 0])
    assert snapped.row.tolist() == [0] * 5


def test_the_antimeridian_parts_nothing() -> None:
    """Two of three lie on either side of it, a degree apart."""
    north, east = density_peaks([[-17.0, -17.0, 40.0]], [[179.6, -179.6, 0.0]], [[0.3, 0.3, 0.5]])
    assert abs(east[0]) > 179.5
    found = snap(north, east, [[-17.0, -17.0, 40.0]], [[179.6, -179.6, 0.0]], [[0.3, 0.3, 0.5]])
    assert found.row.tolist() == [0]


def test_nearer_neighbours_weigh_more_by_the_tenth_power() -> None:
    distances = np.array([[0.5, 1.0, 2.0]])
    weights = neighbour_weights(1 - distances**2 / 2)
    assert weights[0, :2] / weights[0, 1:] == pytest.approx([2**10, 2**10])
    assert weights.sum() == pytest.approx(1)
    assert neighbour_weights([[-1.0]]).tolist() == [[1.0]]
    same = neighbour_weights(np.array([[1.0, 1.0000002, 0.999], [-np.inf, 0.3, -np.inf]], dtype=np.float32))
    assert np.isfinite(same).all()
    assert same[0, 0] == same[0, 1] == pytest.approx(0.5, abs=1e-6)
    assert same[1].tolist() == [0, 1, 0]
    assert neighbour_weights(np.full((2, 3), -np.inf)).tolist() == [[0] * 3] * 2


def test_snapping() -> None:
    lat, lon = np.array([[10.0, 10.5, 12.0, np.nan]] * 3), np.array([[20.0, 20.0, 20.0, 20.0]] * 3)
    weights = [[0.1, 0.2, 0.6, 0.9], [0.2, 0.2, 0.0, 0.9], [0.0, 0.0, 0.5, 0.5]]
    found = snap([10.2] * 3, [20.0] * 3, lat, lon, weights)
    assert found.row.tolist() == [1, 0, -1]
    assert found.lat.tolist() == [10.5, 10.0, 10.2]
    assert snap([10.2] * 3, [20.0] * 3, lat, lon, weights, within_km=201).row.tolist() == [2, 0, 2]
    assert snap([10.2], [20.0], np.empty((1, 0)), np.empty((1, 0)), np.empty((1, 0))).row.tolist() == [-1]


def test_bad_arguments() -> None:
    place = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"1 of 2 photos, the first in row 1, have no point with a place"):
        density_peaks(place, place, [[1, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"2 of 2 photos, the first in row 0, have no point"):
        density_peaks(np.full((2, 3), np.nan), place, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"2 of 2 photos"):
        density_peaks(*[np.empty((2, 0))] * 3)
    with pytest.raises(ValueError, match=r"points must be \[Q, M\] .*, got \[2, 3\], \[2, 3\] and \[2, 2\]"):
        density_peaks(place, place, np.ones((2, 2)))
    for weight in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"weights must be numbers >= 0, got {weight}"):
            density_peaks(place, place, [[1, 1, weight]] * 2)
    with pytest.raises(ValueError, match=r"latitudes must lie in \[-90, 90\], got 91"):
        snap([0, 0], [0, 0], place + 91, place, np.ones((2, 3)))
    for sigma in (0, -1, 181, np.nan, "4"):
        with pytest.raises(ValueError, match=r"sigma is degrees in \(0, 180\], got"):
            density_peaks(place, place, np.ones((2, 3)), sigma=sigma)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="within_km must be >= 0, got -1"):
        snap([0, 0], [0, 0], place, place, np.ones((2, 3)), within_km=-1)
    with pytest.raises(ValueError, match="3 and 2 coordinates of peaks, and points of 2 photos"):
        snap([0, 0, 0], [0, 0], place, place, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"similarities must be numbers \[Q, k\], .*, got \[3\]"):
        neighbour_weights([1, 2, 3])
    with pytest.raises(ValueError, match="similarities must be numbers .* NaN in row 1"):
        neighbour_weights([[1, 1], [0, np.nan]])


def test_no_photos_are_no_peaks() -> None:
    assert neighbour_weights(np.empty((0, 5))).shape == (0, 5)
    assert [len(part) for part in density_peaks(*[np.empty((0, 5))] * 3)] == [0, 0]
    assert len(snap([], [], *[np.empty((0, 5))] * 3).row) == 0
