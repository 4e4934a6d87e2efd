"""export.json: what a file says of itself and of the model folder that it comes from, written and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mbapps import __version__
from mbapps.files import write_text

from .bundle import Bundle
from .graph import INPUT, Graph
from .passes import view_of
from .sessions import RUNTIMES
from .writers import ANY_BATCH

FACTS = "export.json"  # beside each exported file
FORMAT = 1  # of export.json
OWN = "sha256"  # its key for the digest of its other keys


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
    """Write export.json: the facts, the main file's name, the sha256 of every file, and that of all this."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FACTS)
    digests = {path.relative_to(folder).as_posix(): digest(path) for path in files}
    content = {**facts, "file": name, "files": digests}
    content[OWN] = own_digest(content)
    write_text(folder / FACTS, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_export(path: Path) -> dict[str, Any]:
    """Read the export.json beside a file, checked to be about it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, newer, or about another file, or was altered.
    """
    about = path.parent / FACTS
    if not about.is_file():
        raise FileNotFoundError(f"no {FACTS} beside {path}: it tells what the file is, so keep both together")
    try:
        facts = json.loads(about.read_text(encoding="utf-8"))
        _check(facts, path.name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{about} does not describe {path.name}: {error!r}") from error
    if facts.get(OWN, own := own_digest(facts)) != own:  # files of earlier versions have none
        raise ValueError(f"{about} was altered since it was exported: it has another {OWN}; export it again")
    return dict(facts)


def _check(facts: Any, name: str) -> None:
    if not isinstance(facts["format"], int) or facts["format"] > FORMAT:
        raise ValueError(f"format is {facts['format']}, this mbapps reads {FORMAT}; update mbapps")
    if facts["runtime"] not in RUNTIMES or not isinstance(facts["fingerprint"], str):
        raise ValueError(f"there is no runtime {facts['runtime']!r}")
    if facts["file"] != name:
        raise ValueError(f"it is about {facts['file']}")
    parts = [Path(file).parts for file in facts["files"]]
    if not any(part[:1] == (name,) for part in parts) or any(
        Path(*part).is_absolute() or ".." in part for part in parts
    ):
        raise ValueError("files must be those below its own folder")
    least, most = facts["batch"]
    if type(least) is not int or not 1 <= least <= (least if most is None else most):
        raise ValueError(f"batch must be the least and the most, got {facts['batch']}")
    if type(facts["image_size"]) is not int:
        raise TypeError("image_size must be a whole number")
    for output in facts["outputs"]:
        if not all(isinstance(output[key], str) for key in ("name", "head", "output")):
            raise TypeError("each output needs its name, head and output")


def check_origin(path: Path, facts: Mapping[str, Any], fingerprint: str) -> None:
    """See that an exported file comes from a model folder as it is now, and is what was written.

    Raises:
        ValueError: it was exported from another one, or one of its files is missing or was altered.
    """
    if facts["fingerprint"] != fingerprint:
        raise ValueError(
            f"{path} was exported from another model, or from this one before it was changed; export it again "
            "from the folder that model= names"
        )
    _check_digests(path.parent, facts)


def _check_digests(folder: Path, facts: Mapping[str, Any]) -> None:
    for name, wanted in facts["files"].items():
        path = folder / name
        if not path.is_file() or digest(path) != wanted:
            state = "was altered" if path.is_file() else "is gone"
            raise ValueError(
                f"{path} {state} since it was exported: {FACTS} has another sha256; export it again"
            )


def digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def own_digest(facts: Mapping[str, Any]) -> str:
    """sha256 of what export.json says, but for that digest itself; neither order nor spacing matters."""
    content = {key: value for key, value in facts.items() if key != OWN}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
