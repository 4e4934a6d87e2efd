"""Latency of exported files, batch 1: with pixels in and, of the same weights, the bare network with float input.

pip install 'mbapps[openvino,onnx]'
mbapps export model=M runtime=[openvino,onnx] precision=[float32,int8] calibration=photos/
python bench/export.py M

All of a runtime run in turn, one by one, so that what else the machine does falls on all alike; medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.graph import Graph, fold_norms
from mbapps.deploy.runtimes import FLOAT, INT8, export_folder, read_export
from mbapps.deploy.sessions import RUNTIMES
from mbapps.deploy.writers import write


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    words = parser.parse_args()
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
