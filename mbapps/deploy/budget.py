"""Which widths, resolutions and precisions fit a budget on this machine: each is built, exported and measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbapps.models.complexity import count
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.tasks.fine_grained import FineGrainedHead

from .benchmark import Case
from .graph import Graph, fold_norms
from .layer_names import weighted_layers
from .quantize import QUANTIZERS, quantize, should_be_low
from .runtimes import FLOAT, INT8
from .sessions import RUNTIMES
from .writers import MODULES, write

# Top-1 on ImageNet in percent of the weights that were released with the paper, float and in 8 bits, by alpha and px.
# Source: TF-Slim's mobilenet_v1.md, release 2018_02_22.
TOP1 = {
    (1.0, 224): (70.9, 69.7), (1.0, 192): (70.0, 69.0), (1.0, 160): (68.0, 67.3), (1.0, 128): (65.2, 64.0),
    (0.75, 224): (68.4, 67.9), (0.75, 192): (67.2, 66.2), (0.75, 160): (65.3, 63.9), (0.75, 128): (62.1, 59.8),
    (0.5, 224): (63.3, 62.2), (0.5, 192): (61.7, 60.4), (0.5, 160): (59.1, 57.7), (0.5, 128): (56.3, 54.9),
    (0.25, 224): (49.8, 48.2), (0.25, 192): (47.7, 45.8), (0.25, 160): (45.5, 43.5), (0.25, 128): (41.5, 39.9),
}  # fmt: skip
QUANTIZED_ON = 4  # images of noise: ranges do not matter to the clock
PREFERRED = ("openvino", "onnx", "litert")


@dataclass
class Budget:
    """What a network may cost; None is no limit.

    ms: half of the runs take no longer.
    macs: mult-adds of an image.
    mb: of the file, in millions of bytes.
    """

    ms: float | None = None
    macs: float | None = None
    mb: float | None = None

    def __str__(self) -> str:
        limits = {"budget.ms": self.ms, "budget.macs": self.macs, "budget.mb": self.mb}
        return " ".join(f"{name}={limit:.10g}" for name, limit in limits.items() if limit is not None)


@dataclass
class Candidate:
    """A network of the paper's grid, and what it costs.

    top1: in percent, of the weights that were released for it.
    case: of its file; None where there is none, since its mult-adds alone are too many.
    refused: the runtime has no such file.
    """

    alpha: float
    side: int
    precision: str
    top1: float
    macs: int
    case: Case | None = None
    refused: bool = False

    @property
    def name(self) -> str:
        """What results.json calls it, before what was measured."""
        return f"alpha{self.alpha:g}_{self.side}px_{self.precision}"

    @property
    def title(self) -> str:
        """The same, for people."""
        return f"alpha {self.alpha:g} at {self.side} px, {self.precision}"

    @property
    def unknown(self) -> bool:
        """Whether it could not be measured at all."""
        return self.case is not None and bool(self.case.failed) and not self.case.took

    def numbers(self) -> dict[str, Any]:
        """What is known of it, by name; what was not measured is None."""
        case = self.case
        measured = case.numbers() if case and case.took else {}
        return {
            "top1": self.top1, "macs": self.macs, "megabytes": case.megabytes if case and not self.unknown else None,
            **{name: measured.get(name) for name in ("p50_ms", "p95_ms", "peak_megabytes")},
        }  # fmt: skip

    def excess(self, budget: Budget) -> float:
        """The greatest of what it is known to cost, as a share of what it may: by 1 and less it fits."""
        numbers = self.numbers()
        limits = {"p50_ms": budget.ms, "macs": budget.macs, "megabytes": budget.mb}
        return max((numbers[name] or 0.0) / limit for name, limit in limits.items() if limit is not None)


def pick_runtime(asked: str | None) -> str:
    """The runtime that is asked for, or the first that is installed.

    Raises:
        ValueError: there is no such runtime, or it does not run here.
        ImportError: none is installed.
    """
    here = [name for name, runtime in RUNTIMES.items() if runtime.session is not None]
    if asked is not None:
        if asked not in here:
            raise ValueError(f"runtime must be one of {', '.join(here)} for a budget, got {asked}")
        return asked
    for name in PREFERRED:
        if all(find_spec(module) for module in MODULES[name]):
            return name
    raise ImportError("a budget is measured in an exported file: pip install 'mbapps[openvino,int8]'")


def candidates(classes: int, precisions: Sequence[str]) -> list[Candidate]:
    """List the grid, the most accurate first."""
    found = []
    for (alpha, side), accuracy in TOP1.items():
        macs = count(_network(alpha, side, classes), side).macs
        found += [
            Candidate(alpha, side, precision, accuracy[precision == INT8], macs) for precision in precisions
        ]
    return sorted(found, key=lambda one: (-one.top1, one.macs))


def _network(alpha: float, side: int, classes: int) -> Network:
    body = MobileNetV1(alpha)
    head = FineGrainedHead(body, [str(number) for number in range(classes)], side)
    return Network(body, {"fine_grained": head}).eval()


def export_candidates(
    found: Sequence[Candidate],
    folder: Path,
    runtime: str,
    classes: int,
    *,
    batch: int,
    threads: int | None,
) -> Iterator[Candidate]:
    """Write the file of each candidate, with weights drawn at random, and give it a case to be measured.

    The case of one whose file can't be had, as in 8 bits where layers stay in float, has failed.

    Raises:
        ImportError: the runtime, or what quantises for it, is not installed.
    """
    noise = np.random.default_rng(0).integers(0, 256, (QUANTIZED_ON, 224, 224, 3), dtype=np.uint8)
    for one in found:
        network = _network(one.alpha, one.side, classes)
        torch.manual_seed(0)
        initialise(network)
        graph = Graph(fold_norms(network)).eval()
        place = folder / one.name
        place.mkdir()
        path = place / RUNTIMES[runtime].file
        failed = ""
        try:
            write(runtime, graph, path, "{}", batch)
            if one.precision == INT8:
                views = np.ascontiguousarray(noise[:, : one.side, : one.side])
                wanted = should_be_low(runtime, list(weighted_layers(network)), ())
                quantize(runtime, path, views, json.dumps({}), batch=batch, wanted=wanted)
        except ValueError as error:  # the others may do
            failed, one.refused = str(error), True
        size = sum(file.stat().st_size for file in place.iterdir())
        asked = {
            "runtime": runtime, "file": str(path), "outputs": [output.name for output in graph.outputs],
            "image_size": one.side, "threads": threads, "batch": batch, "seconds": None,
        }  # fmt: skip
        one.case = Case(runtime, one.precision, threads, batch, size / 1e6, asked, failed=failed)
        yield one


def precisions_of(runtime: str, asked: Sequence[str] | None) -> list[str]:
    """Precisions that a runtime has.

    Raises:
        ValueError: one that was asked for is none, or the runtime does not have it.
    """
    have = [FLOAT, INT8] if runtime in QUANTIZERS else [FLOAT]
    if missing := [name for name in asked or () if name not in have]:
        raise ValueError(
            f"runtime={runtime} has precision={' and '.join(have)}, not {', '.join(map(str, missing))}"
        )
    return list(asked or have)
