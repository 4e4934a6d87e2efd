"""A model folder to a file for a runtime, measured against the original before it is put in its place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mbapps.files import replacing, write_text
from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .bundle import Bundle
from .eight_bits import Prepared, file_views
from .export_facts import describe, describe_files
from .graph import Graph, fold_norms
from .layer_names import weighted_layers
from .measured import Measured
from .nms import suppression_of
from .parity import Parity, compare, first_divergence
from .quantize import QUANTIZERS, quantize, should_be_low
from .runtimes import FAILED, FLOAT, INT8, RuntimeFile, RuntimeNetwork, export_folder
from .saving import fingerprint
from .sessions import RUNTIMES, Session
from .writers import ANY_BATCH, write

PARITY = "parity.json"  # beside each exported file
BATCH = 8  # images that are compared at a time
LAYER_IMAGES = 4  # that the layers are compared on: those that differ most


class Metric(NamedTuple):
    """A number of the task's own, and what measures it of a network."""

    name: str
    measure: Callable[[Network], float]
    lower: bool = False  # less is better
    images: int = 0  # that it is measured on; 0: unknown
    head: str = ""  # whose it is; "" of the only one


class Exported(NamedTuple):
    """A file that was written, and what it is worth; a runtime that can't run here leaves parity None."""

    path: Path
    parity: Parity | None

    @property
    def passed(self) -> bool:
        """Whether it may be used in the original's place, as far as could be seen."""
        return self.parity is None or self.parity.passed


def export(
    model: Path,
    bundle: Bundle,
    runtime: str,
    images: Sequence[UInt8Image],
    *,
    batch: int | None = None,
    nms: bool = False,
    tolerance: float = 1e-3,
    metrics: Sequence[Metric] = (),
    int8: Prepared | None = None,
    part: str = "",
) -> Exported:
    """Write a model folder's file for a runtime to `<model>/exports/<runtime>/`, with export.json and parity.json.

    A file that differs from the original replaces nothing: it is kept beside, under a name that says so.

    Args:
        model: the model folder.
        bundle: opened from it, with runtime="torch", and the heads that go into the file.
        runtime: one of RUNTIMES.
        images: [H, W, 3] of any sizes, to compare on.
        batch: the only size of batches that the file takes; None: any where the runtime can, else one image.
        nms: suppress a detector's boxes in the file, so that what is left over has a score of 0.
        tolerance: greatest error of an output, as a share of its range.
        metrics: tasks' numbers, to be measured of the original and of the file.
        int8: the network made ready to be written in 8 bits; None writes it in full precision.
        part: what tells the file from the folder's others, as `parts` names it.

    Raises:
        ValueError: there is no such runtime, or it has no operator for something in the network.
        ImportError: the runtime, or what writes its files, is not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    precision = FLOAT if int8 is None else INT8
    if precision == INT8 and runtime not in QUANTIZERS:
        raise ValueError(
            f"precision=int8 is for runtime={' and runtime='.join(QUANTIZERS)}, not runtime={runtime}"
        )
    kind, places = RUNTIMES[runtime], export_folder(model, runtime, precision, part)
    folded = int8.network if int8 else fold_norms(bundle.network)
    graph = Graph(folded).eval()
    facts = {
        **describe(bundle, graph, runtime, fingerprint(model), batch),
        "nms": nms,
        "precision": precision,
    }
    suppression = suppression_of(bundle.network) if nms else None
    places.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{runtime}.", dir=places.parent) as holder:
        folder = Path(holder) / runtime
        folder.mkdir()
        path = folder / kind.file
        write(runtime, graph, path, json.dumps(facts, ensure_ascii=False), batch, suppression)
        if int8:
            facts["int8"] = _quantize(runtime, path, int8, facts)
        describe_files(folder, facts, path.name)
        if kind.session is None:
            return Exported(_place(folder, places) / path.name, None)
        parity = int8_parity(runtime) if int8 else Parity(runtime, tolerance)
        _measure(bundle, RuntimeFile(path, facts["fingerprint"]), images, metrics, parity)
        if not parity.passed:
            if not int8 and parity.relative > tolerance:
                with suppress(Exception):  # whatever a converter or runtime raises, the file is kept
                    worst = [images[row] for row in parity.furthest(LAYER_IMAGES)]
                    parity.layer = find_layer(bundle, folded, runtime, worst, batch, tolerance)
                    parity.looked = True
            places, path = places.with_name(f"{places.name}_{FAILED}"), rename(folder, path)
            describe_files(folder, facts, path.name)
        write_text(
            folder / PARITY,
            json.dumps({**parity.to_json(), **_layers(int8)}, indent=1, allow_nan=False) + "\n",
        )
        if parity.passed:
            shutil.rmtree(places.with_name(f"{places.name}_{FAILED}"), ignore_errors=True)  # an earlier try
        return Exported(_place(folder, places) / path.name, parity)


def _measure(
    bundle: Bundle, file: RuntimeFile, images: Sequence[UInt8Image], metrics: Sequence[Metric], parity: Parity
) -> None:
    """Add up how a file differs from the original, and close it.

    In full precision wrong suppression must show in whatever is decoded; in 8 bits what lies far below the thresholds
    differs anyway.
    """
    other = RuntimeNetwork(bundle.network, [file]).eval()
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    nms = file.facts["nms"]
    whole = nms and file.facts["precision"] == FLOAT
    try:
        compare(bundle, other, batches, parity, suppressed=nms, thresholds=not whole)
        for metric in metrics:
            ours, theirs = metric.measure(bundle.network), metric.measure(other)
            parity.metrics[metric.name] = Measured(ours, theirs, metric.lower, metric.images, metric.head)
    finally:
        file.close()


def _layers(int8: Prepared | None) -> dict[str, Any]:
    return {"layers": [layer.to_json() for layer in int8.layers]} if int8 and int8.layers else {}


def int8_parity(runtime: str) -> Parity:
    """What is asked of a file in 8 bits: answers that mean the same for the most part, and the task's number."""
    return Parity(runtime, 0.0, most_noise=0.5, least_agreement=0.8, metric_tolerance=0.01, least_told=10)


def _quantize(runtime: str, path: Path, int8: Prepared, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Make a file one in 8 bits, checked to be; tell how many of its layers are."""
    inside = json.dumps({**facts, "int8": int8.facts()}, ensure_ascii=False)
    wanted = should_be_low(runtime, list(weighted_layers(int8.network)), int8.keep)
    share = quantize(runtime, path, int8.views, inside, int8.keep, facts["batch"][0], wanted)
    return {**share._asdict(), **int8.facts()}


def _place(folder: Path, target: Path) -> Path:
    with replacing(target) as temporary:
        os.replace(folder, temporary)
    return target


def rename(folder: Path, path: Path) -> Path:
    """Give the files of an export a name that says that it did not pass; give the main one's path."""
    for file in folder.glob(f"{path.stem}.*"):
        file.rename(file.with_name(f"{file.stem}_{FAILED}{file.suffix}"))
    return path.with_name(f"{path.stem}_{FAILED}{path.suffix}")


def find_layer(
    bundle: Bundle,
    folded: Network,
    runtime: str,
    images: Sequence[UInt8Image],
    batch: int | None,
    tolerance: float,
) -> str | None:
    """Name the first layer that differs from the original on images, as each head sees them; see `first_divergence`."""
    views = file_views(bundle, [image for image in images for _ in bundle.network.heads])

    def opened(graph: Graph, folder: Path) -> Session:
        path = folder / RUNTIMES[runtime].file
        write(runtime, graph, path, "{}", batch)
        names = [output.name for output in graph.outputs]
        session: Session = RUNTIMES[runtime].session(path, names)
        return session

    size = batch or (None if runtime in ANY_BATCH else 1)
    return first_divergence(bundle.network, folded, views, opened, tolerance, batch=size)
