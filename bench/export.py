"""Latency of exported files, batch 1: with pixels in and, of the same weights, the bare network with float input.

pip install 'mbapps[openvino,onnx]'
mbapps export model=M runtime=[openvino,onnx] source=photos/
mbapps export model=M runtime=[openvino,onnx] precision=int8 calibration=photos/
python bench/export.py M

All of a runtime run in turn, one by one, so that what else the machine does falls on all alike; medians. With --photos
also images/s of what predict does for a folder: of decoding alone, of OpenVINO's network alone, and of both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.graph import Graph, fold_norms
from mbapps.deploy.runtimes import FLOAT, INT8, export_folder, read_export
from mbapps.deploy.sessions import RUNTIMES
from mbapps.deploy.writers import write
from mbapps.sources import find_sources, read_images


def bare(model: Path, heads: list[str], runtime: str, folder: Path) -> Callable[[], object]:
    """The network without what makes an input of a camera's pixels: float images [1, 3, S, S]."""
    network = fold_norms(Bundle.open(model, heads=heads).network)
    network.body.normalize = nn.Identity()
    graph = Graph(network, planes=True).eval()
    path = folder / RUNTIMES[runtime].file
    write(runtime, graph, path, "{}", 1)
    session = RUNTIMES[runtime].session(path, [output.name for output in graph.outputs], None)
    images = np.random.default_rng(0).normal(size=graph.example(1).shape).astype(np.float32)
    return lambda: session.run(images)


def exported(path: Path) -> Callable[[], object]:
    """A file that `mbapps export` wrote."""
    facts = read_export(path)
    session = RUNTIMES[facts["runtime"]].session(path, [one["name"] for one in facts["outputs"]], None)
    side = facts["image_size"]
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return lambda: session.run(images)


def measure(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(5):
            run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in took.items()}


def stages(model: Path, photos: Path) -> None:
    """Print images/s of decoding, of the network for 16 images and for one at a time, and of the command."""
    files, _ = find_sources(photos)
    path = export_folder(model, "openvino") / RUNTIMES["openvino"].file
    facts = read_export(path)
    session = RUNTIMES["openvino"].session(path, [one["name"] for one in facts["outputs"]], None)
    side = facts["image_size"]

    def decode() -> int:
        return sum(1 for _ in read_images(files, 16))

    def network(batch: int) -> int:
        images = np.zeros((batch, side, side, 3), dtype=np.uint8)
        for _ in range(0, len(files), batch):
            session.run(images)
        return len(files)

    calls = {"decoding": decode, "network, 16": partial(network, 16), "network, 1": partial(network, 1)}
    for _ in range(3):
        for name, call in calls.items():
            call() if name.startswith("network") else None  # kernels are chosen, threads wake up
            start = time.perf_counter()
            print(f"{name:12} {call() / (time.perf_counter() - start):6.1f} images/s")
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "mbapps", "predict", f"model={model}", f"source={photos}"]
            words = ["runtime=openvino", "draw=false", f"out={folder}/run"]
            subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
            found = json.loads((Path(folder) / "run" / "results.json").read_text())
        print(f"{'predict':12} {found['images_per_second']:6.1f} images/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--photos", type=Path)
    words = parser.parse_args()
    if words.photos:
        stages(words.model, words.photos)
        return
    for runtime in ("openvino", "onnx"):
        paths = {
            precision: export_folder(words.model, runtime, precision) / RUNTIMES[runtime].file
            for precision in (FLOAT, INT8)
        }
        runs = {precision: exported(path) for precision, path in paths.items() if path.exists()}
        if not runs:
            continue
        heads = list(read_export(next(path for path in paths.values() if path.exists()))["heads"])
        with tempfile.TemporaryDirectory() as folder:
            runs = {"bare": bare(words.model, heads, runtime, Path(folder)), **runs}
            found = measure(runs, words.seconds)
        for name, middle in found.items():
            print(f"{runtime:9} {name:8} {middle:7.2f} ms  {middle / found['bare']:.3f} of the bare network")


if __name__ == "__main__":
    main()
