"""A model folder to a file for a runtime, measured against the original before it is put in its place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mbapps import __version__
from mbapps.files import replacing, write_text
from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .bundle import Bundle
from .eight_bits import Prepared, file_views
from .graph import INPUT, Graph, fold_norms
from .nms import suppression_of
from .parity import Parity, compare, first_divergence
from .passes import view_of
from .quantize import QUANTIZERS, quantize
from .runtimes import FACTS, FAILED, FLOAT, FORMAT, INT8, RuntimeFile, RuntimeNetwork, digest, export_folder
from .saving import fingerprint
from .sessions import RUNTIMES, Session
from .writers import ANY_BATCH, write

PARITY = "parity.json"  # beside each exported file
BATCH = 8  # images that are compared at a time
LAYER_IMAGES = 4  # that the layers are compared on, where something differs


class Metric(NamedTuple):
    """A number of the task's own, and what measures it of a network."""

    name: str
    measure: Callable[[Network], float]


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
        other = RuntimeNetwork(bundle.network, [RuntimeFile(path, facts["fingerprint"])]).eval()
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        compare(bundle, other, batches, parity, suppressed=nms)
        for metric in metrics:
            parity.metrics[metric.name] = metric.measure(bundle.network), metric.measure(other)
        if not parity.passed:
            if not int8:
                parity.layer = find_layer(bundle, folded, runtime, images, batch, tolerance)
            places, path = places.with_name(f"{places.name}_{FAILED}"), rename(folder, path)
            describe_files(folder, facts, path.name)
        write_text(
            folder / PARITY,
            json.dumps({**parity.to_json(), **_layers(int8)}, indent=1, allow_nan=False) + "\n",
        )
        if parity.passed:
            shutil.rmtree(places.with_name(f"{places.name}_{FAILED}"), ignore_errors=True)  # an earlier try
        return Exported(_place(folder, places) / path.name, parity)


def _layers(int8: Prepared | None) -> dict[str, Any]:
    return {"layers": [layer.to_json() for layer in int8.layers]} if int8 and int8.layers else {}


def int8_parity(runtime: str) -> Parity:
    """What is asked of a file in 8 bits: answers that are alike for the most part, and the task's number.

    No raw output may be off by more than twice its range, and something must be told.
    """
    return Parity(runtime, 2.0, near=0.05, least_agreement=0.8, metric_tolerance=0.01, least_told=1)


def _quantize(runtime: str, path: Path, int8: Prepared, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Make a file one in 8 bits, checked to be; tell how many of its layers are."""
    inside = json.dumps({**facts, "int8": int8.facts()}, ensure_ascii=False)
    share = quantize(runtime, path, int8.views, inside, int8.keep, facts["batch"][0])
    return {**share._asdict(), **int8.facts()}


def _place(folder: Path, target: Path) -> Path:
    with replacing(target) as temporary:
        os.replace(folder, temporary)
    return target


def describe(bundle: Bundle, graph: Graph, runtime: str, origin: str, batch: int | None) -> dict[str, Any]:
    """Give the facts of a file: what goes in, what comes out, and what a program needs to make answers of that.

    Args:
        bundle: the model folder's.
        graph: that is written.
        runtime: one of RUNTIMES.
        origin: fingerprint of the model folder.
        batch: the only size that is allowed; None: any where the runtime can, else one image.
    """
    least, most = (batch or 1, batch or (None if runtime in ANY_BATCH else 1))
    side, shown = graph.image_size, most or "batch"
    heads = {
        name: {
            "class": head["class"],
            "class_names": list(getattr(bundle.network.head(name), "finished_names", head["class_names"])),
            "temperature": getattr(bundle.network.head(name), "temperature", 1.0),
            "thresholds": head.get("thresholds"), "view": view_of(head)[1], "settings": head["settings"],
        }
        for name, head in bundle.facts["heads"].items()
        if name in bundle.network.heads
    }  # fmt: skip
    return {
        "format": FORMAT, "runtime": runtime, "fingerprint": origin,
        "versions": {"mbapps": __version__, "torch": torch.__version__, **_version(RUNTIMES[runtime].package)},
        "image_size": side, "batch": [least, most],
        "input": {"name": INPUT, "type": "uint8", "shape": [shown, side, side, 3], "colours": "RGB"},
        "outputs": [
            {**output._asdict(), "type": "float32", "shape": [shown, *shape]}
            for output, shape in zip(graph.outputs, graph.shapes, strict=True)
        ],
        "heads": heads,
    }  # fmt: skip


def _version(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {}


def describe_files(folder: Path, facts: Mapping[str, Any], name: str) -> None:
    """Write export.json: the facts, the main file's name and the sha256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FACTS)
    digests = {path.relative_to(folder).as_posix(): digest(path) for path in files}
    content = {**facts, "file": name, "files": digests}
    write_text(folder / FACTS, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


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
    """Name the first layer that differs from the original; see `first_divergence`."""
    views = file_views(bundle, images[:LAYER_IMAGES])
    views = views[:1] if batch is None and runtime not in ANY_BATCH else views
    views = np.resize(views, (batch or len(views), *views.shape[1:]))

    def opened(graph: Graph, folder: Path) -> Session:
        path = folder / RUNTIMES[runtime].file
        write(runtime, graph, path, "{}", batch)
        names = [output.name for output in graph.outputs]
        session: Session = RUNTIMES[runtime].session(path, names)
        return session

    return first_divergence(bundle.network, folded, views, opened, tolerance)
