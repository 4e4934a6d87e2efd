"""A geo-index of a million photos: size, build, and a photo placed by its 100 nearest, against the exact search.

    python bench/geo_index.py [--rows 1000000] [--max-mb 150]

Photos: at each of the world's largest cities some sights, by kilometres from its middle, and 50 photos within a few
hundred metres of each. Vectors, of 128 numbers and length 1: a sight's is half its city's and for the rest its own; a
photo's is its sight's plus normal noise of length 0.8. Probes are new photos of sights drawn at random. Each kind is
built, saved, reopened and asked in a process of its own; a query is one photo on one thread: search, weights, density
and snapping. What it is measured by is the exact search over the same rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbapps.geo.cities import largest_cities
from mbapps.geo.density import NEIGHBOURS, density_peaks, neighbour_weights, snap
from mbapps.geo.distance import great_circle_km, moved

DIM, PHOTOS, NOISE, PROBES = 128, 50, 0.8, 1000


def make(rows: int) -> dict[str, Any]:
    """Vectors, places and cities of the rows, and vectors and places of the probes."""
    random = np.random.default_rng(0)
    cities = largest_cities()

    def unit(vectors: np.ndarray) -> np.ndarray:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def away(lat: np.ndarray, lon: np.ndarray, km: float) -> tuple[np.ndarray, np.ndarray]:
        return moved(
            lat, lon, random.lognormal(np.log(km), 0.8, len(lat)), random.uniform(0, 2 * np.pi, len(lat))
        )

    def photos(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        noise = random.standard_normal((len(at), DIM), dtype=np.float32)
        noise *= NOISE / DIM**0.5
        noise += sights[at]
        return unit(noise), *away(lat[at], lon[at], 0.2)

    count = -(-rows // PHOTOS)
    city = random.integers(0, len(cities.names), count)
    own = unit(random.standard_normal((count, DIM), dtype=np.float32))
    sights = unit(unit(random.standard_normal((len(cities.names), DIM), dtype=np.float32))[city] + own)
    lat, lon = away(cities.lat[city], cities.lon[city], 4)
    at = random.permutation(np.repeat(np.arange(count), PHOTOS)[:rows])
    asked = random.integers(0, count, PROBES)
    return {"rows": photos(at), "city": city[at], "probes": photos(asked)}


def measure(kind: str | None, max_mb: float | None, rows: int, folder: str, answers: Any) -> None:
    from mbapps.search.checks import ModelId
    from mbapps.search.gallery import Gallery
    from mbapps.search.indexes import load_faiss

    faiss = load_faiss()
    made = make(rows)
    vectors, lat, lon = made["rows"]
    cities = largest_cities()
    names = [f"photos/{row % 977}/{row:07}.jpg" for row in range(rows)]
    towns = [f"{town}, {country}" for town, country in zip(cities.names, cities.countries, strict=True)]
    columns = {
        "file": [f"/data/{name}" for name in names], "lat": lat, "lon": lon,
        "place": [towns[city] for city in made["city"].tolist()],
    }  # fmt: skip
    gallery = Gallery(DIM, ModelId("none", "0" * 32), kind, max_mb)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    started = time.perf_counter()
    gallery.add(vectors, names, columns)
    build = time.perf_counter() - started
    path = gallery.save(Path(folder) / f"{kind}{max_mb}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    del gallery, vectors, names, columns
    started = time.perf_counter()
    gallery = Gallery.open(path)
    opened = time.perf_counter() - started
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    north, east = (np.asarray(gallery.columns[name]) for name in ("lat", "lon"))
    rows_found, places, seconds = [], [], []
    for probe in made["probes"][0]:
        started = time.perf_counter()
        found = gallery.search(probe[None], NEIGHBOURS)
        searched = time.perf_counter()
        near = [np.where(found.rows >= 0, column[found.rows], np.nan) for column in (north, east)]
        weights = neighbour_weights(found.scores)
        place = snap(*density_peaks(*near, weights), *near, weights)
        seconds.append((searched - started, time.perf_counter() - started))
        rows_found.append(found.rows[0])
        places.append((place.lat[0], place.lon[0]))
    search_ms, query_ms = (1000 * np.array(seconds)).T
    form = gallery._rows.form
    answers.put({
        "kind": f"{gallery.kind}{f', {form.code_bytes} bytes a code' if form.code_bytes else ''}",
        "max_mb": max_mb, "build_s": build, "peak_gb": peak / 1e9, "open_s": opened,
        "index_mb": (path / "index.faiss").stat().st_size / 1e6,
        "folder_mb": sum(file.stat().st_size for file in path.iterdir()) / 1e6,
        "search_ms": float(np.median(search_ms)), "query_ms": float(np.median(query_ms)),
        "query_p99_ms": float(np.percentile(query_ms, 99)), "rows": np.array(rows_found),
        "places": np.array(places).T, "truth": np.stack(made["probes"][1:]),
    })  # fmt: skip


def compare(row: dict[str, Any], exact: dict[str, Any]) -> dict[str, Any]:
    """Recall of the neighbours, and how often the place is that of the exact search, and the true one."""
    apart = great_circle_km(*row["places"], *exact["places"])
    error = great_circle_km(*row["places"], *row["truth"])
    shared = [
        len(np.intersect1d(ours, theirs)) for ours, theirs in zip(row["rows"], exact["rows"], strict=True)
    ]
    return {
        "recall_100": float(np.mean(shared)) / NEIGHBOURS, "same_place": float((apart < 1e-3).mean()),
        "within_1_km": float((apart <= 1).mean()), "within_25_km": float((apart <= 25).mean()),
        "true_1_km": float((error <= 1).mean()), "true_25_km": float((error <= 25).mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--max-mb", type=float, default=150, help="of the last gallery")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, max_mb in (("exact", None), ("hnsw", None), ("ivfpq", None), (None, args.max_mb)):
            answers = context.Queue()
            process = context.Process(target=measure, args=(kind, max_mb, args.rows, folder, answers))
            process.start()
            results.append(answers.get())
            process.join()
            results[-1] |= compare(results[-1], results[0])
            shown = {key: value for key, value in results[-1].items() if not isinstance(value, np.ndarray)}
            print(json.dumps(shown), flush=True)
    print(
        "| kind | build | peak | folder (index) | open | search | query with density, median (99 %) | recall@100 "
        "| same place, within 1 km, 25 km of the exact search's | within 1 km, 25 km of the truth |"
    )
    print("|---|" + "---:|" * 9)
    for row in results:
        budget = f", max_mb={row['max_mb']:g}" if row["max_mb"] else ""
        print(
            f"| {row['kind']}{budget} | {row['build_s']:.0f} s | {row['peak_gb']:.1f} GB | {row['folder_mb']:.0f} MB "
            f"({row['index_mb']:.0f}) | {row['open_s']:.2f} s | {row['search_ms']:.2f} ms | {row['query_ms']:.2f} ms "
            f"({row['query_p99_ms']:.1f}) | {row['recall_100']:.3f} | {row['same_place']:.1%}, "
            f"{row['within_1_km']:.1%}, {row['within_25_km']:.1%} | {row['true_1_km']:.1%}, {row['true_25_km']:.1%} |"
        )


if __name__ == "__main__":
    main()
