"""A gallery of a million clustered vectors: recall and queries a second of each kind against the exact search.

    python bench/gallery.py [--rows 1000000] [--threads 1]

Vectors: the centres of 20,000 people, drawn evenly from the sphere in 128 dimensions; each photo is its person's
centre plus normal noise of length 0.8, scaled to length 1, so that two photos of a person have a similarity of about
0.6 and those of two people about 0. There are 50 photos of each person in the gallery, in random order. Probes are new
photos of people drawn at random; the right answer is the row that the exact search ranks first, among 50 that lie
nearly as near. Each kind is built, saved, reopened and asked in a process of its own.
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

DIM, PHOTOS, NOISE, PROBES, TIMED = 128, 50, 0.8, 2000, 4.0


def make(rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)

    def unit(vectors: np.ndarray) -> np.ndarray:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def photos(people: np.ndarray) -> np.ndarray:
        noise = random.standard_normal((len(people), DIM), dtype=np.float32)
        noise *= NOISE / DIM**0.5
        noise += centres[people]
        return unit(noise)

    centres = unit(random.standard_normal((rows // PHOTOS, DIM), dtype=np.float32))
    people = np.repeat(np.arange(rows // PHOTOS), PHOTOS)
    random.shuffle(people)
    return photos(people), photos(random.integers(0, rows // PHOTOS, PROBES))


def rate(ask: Any, probes: np.ndarray, batch: int) -> float:
    """Probes answered a second, asked `batch` at a time."""
    asked, started = 0, time.perf_counter()
    while time.perf_counter() - started < TIMED:
        first = asked % (len(probes) - batch + 1)
        ask(probes[first : first + batch])
        asked += batch
    return asked / (time.perf_counter() - started)


def measure(kind: str, rows: int, threads: int, folder: str, answers: Any) -> None:
    from mbapps.search.checks import ModelId
    from mbapps.search.gallery import Gallery
    from mbapps.search.indexes import load_faiss

    faiss = load_faiss()
    vectors, probes = make(rows)
    gallery = Gallery(DIM, ModelId("none", "0" * 32), kind)
    names = [f"person{row % 977}/{row:07}.jpg" for row in range(rows)]
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    started = time.perf_counter()
    gallery.add(
        vectors, names, {"file": [f"/photos/{name}" for name in names], "person": [n[:9] for n in names]}
    )
    build = time.perf_counter() - started
    gallery.save(Path(folder) / kind)
    saved = time.perf_counter() - started - build
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    del gallery, vectors, names
    started = time.perf_counter()
    gallery = Gallery.open(Path(folder) / kind)
    opened = time.perf_counter() - started
    started = time.perf_counter()
    Gallery.open(Path(folder) / kind, verify=False)
    unverified = time.perf_counter() - started
    found = gallery.search(probes, 10).rows
    faiss.omp_set_num_threads(threads)
    answers.put({
        "kind": kind, "build_s": build, "save_s": saved, "peak_gb": peak / 1e9, "open_s": opened,
        "open_unverified_s": unverified, "single_qps": rate(lambda asked: gallery.search(asked, 1), probes, 1),
        "batch_qps": rate(lambda asked: gallery.search(asked, 1), probes, 100),
        "index_mb": (Path(folder) / kind / "index.faiss").stat().st_size / 1e6,
        "raw_share": (Path(folder) / kind / "index.faiss").stat().st_size / (rows * DIM * 4), "found": found,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--threads", type=int, default=1, help="of a search; an index is built with all cores"
    )
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("exact", "hnsw", "ivfpq"):
            answers = context.Queue()
            process = context.Process(target=measure, args=(kind, args.rows, args.threads, folder, answers))
            process.start()
            results.append(answers.get())
            process.join()
            found, right = results[-1]["found"], results[0]["found"]
            results[-1]["recall_1"] = float((found[:, 0] == right[:, 0]).mean())
            results[-1]["recall_1_at_10"] = float((found == right[:, :1]).any(axis=1).mean())
            shown = {key: value for key, value in results[-1].items() if key != "found"}
            print(json.dumps(shown), flush=True)
    exact = results[0]
    print(
        "| kind | recall@1 | first in 10 | single, q/s | batch of 100, q/s | build | peak | index | of raw | reopen |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in results:
        single, batch = (
            f"{row[key]:,.0f} ({row[key] / exact[key]:.0f}x)" for key in ("single_qps", "batch_qps")
        )
        print(
            f"| {row['kind']} | {row['recall_1']:.3f} | {row['recall_1_at_10']:.3f} | {single} | {batch} | "
            f"{row['build_s']:.0f} s | {row['peak_gb']:.1f} GB | {row['index_mb']:.0f} MB | {row['raw_share']:.3f} | "
            f"{row['open_s']:.2f} s |"
        )


if __name__ == "__main__":
    main()
