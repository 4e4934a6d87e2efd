"""Exported files opened again: a network whose answers come from a runtime, for whoever takes a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .sessions import RUNTIMES, Session

TORCH = "torch"  # the runtime that needs no exported file
EXPORTS = "exports"  # folder of a model folder: a folder per runtime
FACTS = "export.json"  # beside each exported file
FAILED = "failed_parity"  # in the names of what did not pass
FLOAT, INT8 = "float32", "int8"  # precisions
FORMAT = 1  # of export.json


class RuntimeFile:
    """An exported file, opened.

    Args:
        path: of the file; `export.json` lies beside it.
        fingerprint: of the model folder that it must come from.
        threads: that the runtime may use; None leaves that to it.

    Raises:
        FileNotFoundError: there is no such file, or no export.json beside it.
        ValueError: it was altered, or comes from another model folder; or its runtime does not run here.
        ImportError: its runtime is not installed.
    """

    def __init__(self, path: Path, fingerprint: str, *, threads: int | None = None):
        self.path = path
        self.facts = read_export(path)
        check_origin(path, self.facts, fingerprint)
        runtime = RUNTIMES[self.facts["runtime"]]
        names = [output["name"] for output in self.facts["outputs"]]
        try:
            self.session: Session = runtime.session(path, names, threads)
        except ImportError:
            raise
        except Exception as error:  # each runtime has kinds of its own
            raise ValueError(
                f"{path} can't be opened by {runtime.package} here: {error or type(error).__name__}; its version may "
                "be another than that which wrote it: export it again"
            ) from error

    @property
    def heads(self) -> list[str]:
        """Names of those that it gives outputs of."""
        return list(dict.fromkeys(output["head"] for output in self.facts["outputs"]))

    def run(self, images: UInt8Image) -> dict[str, dict[str, NDArray[Any]]]:
        """uint8 RGB images [B, S, S, 3] -> {head: {output: array}}.

        Raises:
            ValueError: the file does not allow this size or batch.
        """
        least, most = self.facts["batch"]
        side = self.facts["image_size"]
        if images.shape[1:] != (side, side, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"{self.path} takes uint8 images of {side}x{side} px, got {images.dtype} {list(images.shape)}; "
                "a file for another size is another export"
            )
        if not least <= len(images) <= (most or len(images)):
            allowed = f"{least} images at a time" if least == most else f"{least} to {most} images at a time"
            raise ValueError(f"{self.path} takes {allowed}, got {len(images)}; export batch= sets that")
        arrays = self.session.run(np.ascontiguousarray(images))
        found: dict[str, dict[str, NDArray[Any]]] = {}
        for output, array in zip(self.facts["outputs"], arrays, strict=True):
            found.setdefault(output["head"], {})[output["output"]] = array
        return found


class RuntimeNetwork(Network):
    """A network whose heads' outputs come from exported files; the heads decode them as ever.

    Images run in parts as large as a file takes; where it takes no fewer, the last part is filled up.

    Args:
        network: of the same model folder.
        files: exported from it; each head is in one of them.
    """

    def __init__(self, network: Network, files: Sequence[RuntimeFile]):
        super().__init__(network.body, dict(network.heads.items()))
        self.norm = network.norm
        self.files = files

    def only(self, names: Sequence[str]) -> RuntimeNetwork:
        """Give the same files, asked for some of their heads."""
        return RuntimeNetwork(super().only(names), self.files)

    def forward(self, images: Tensor, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
        wanted = list(self.heads) if names is None else names
        found: dict[str, dict[str, Tensor]] = {}
        for file in self.files:
            if not set(wanted).isdisjoint(file.heads):
                found |= self._run(file, images)
        return {head: found[head] for head in wanted}

    def _run(self, file: RuntimeFile, images: Tensor) -> dict[str, dict[str, Tensor]]:
        pixels = images.permute(0, 2, 3, 1).cpu().numpy()
        least, most = file.facts["batch"]
        parts = []
        for start in range(0, len(pixels), most or len(pixels)):
            part = pixels[start : start + (most or len(pixels))]
            filled = np.resize(part, (least, *part.shape[1:])) if len(part) < least else part
            parts.append({
                head: {name: array[: len(part)] for name, array in outputs.items()}
                for head, outputs in file.run(filled).items()
            })  # fmt: skip
        return {
            head: {
                name: torch.from_numpy(np.concatenate([part[head][name] for part in parts])).to(images.device)
                for name in outputs
            }
            for head, outputs in parts[0].items()
        }


def export_folder(model: str | Path, runtime: str, precision: str = FLOAT, part: str = "") -> Path:
    """Where the file of a model folder for a runtime lies; `part` tells which, where there are several."""
    words = [runtime, "" if precision == FLOAT else precision, part]
    return Path(model) / EXPORTS / "_".join(filter(None, words))


def open_runtime(
    model: str | Path,
    runtime: str,
    fingerprint: str,
    *,
    file: str | Path | None = None,
    precision: str = FLOAT,
    part: str = "",
) -> RuntimeFile:
    """Open a model folder's file for a runtime, that of a part of its heads, or `file`.

    Raises:
        FileNotFoundError: the model was not exported to that runtime.
        ValueError: there is no such runtime, `file` is for another one, or see `RuntimeFile`.
        ImportError: the runtime is not installed.
    """
    if runtime not in (TORCH, *RUNTIMES):
        raise ValueError(f"runtime must be one of {', '.join((TORCH, *RUNTIMES))}, got {runtime!r}")
    check_precision(precision)
    if runtime != TORCH and RUNTIMES[runtime].session is None:
        raise ValueError(
            f"runtime={runtime} does not run from Python on this system; its files are for devices"
        )
    path = Path(file) if file else export_folder(model, runtime, precision, part) / RUNTIMES[runtime].file
    if not path.exists():
        named = f"runtime_file={file}" if file else f"{path}"
        asked = f"runtime={runtime}" + ("" if precision == FLOAT else f" precision={precision}")
        failed = Path(f"{path.parent}_{FAILED}")
        tried = (
            f"; the last one did not give the model's answers and is kept in {failed}"
            if failed.exists()
            else ""
        )
        raise FileNotFoundError(f"no file at {named}: mbapps export model={model} {asked} writes one{tried}")
    own = read_export(path)
    if own["runtime"] != runtime:
        raise ValueError(f"runtime_file={path} is for runtime={own['runtime']}, not runtime={runtime}")
    if precision == INT8 != own["precision"]:
        raise ValueError(f"runtime_file={path} is in {own['precision']}, not in precision={precision}")
    return RuntimeFile(path, fingerprint)


def check_precision(precision: str) -> None:
    """Check that there is such a precision.

    Raises:
        ValueError: there is none.
    """
    if precision not in (FLOAT, INT8):
        raise ValueError(f"precision must be {FLOAT} or {INT8}, got {precision!r}")


def read_export(path: Path) -> dict[str, Any]:
    """Read the export.json beside a file, checked to be about it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, newer, or about another file.
    """
    about = path.parent / FACTS
    if not about.is_file():
        raise FileNotFoundError(f"no {FACTS} beside {path}: it tells what the file is, so keep both together")
    try:
        facts = json.loads(about.read_text(encoding="utf-8"))
        _check(facts, path.name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{about} does not describe {path.name}: {error!r}") from error
    return dict(facts)


def _check(facts: Any, name: str) -> None:
    if not isinstance(facts["format"], int) or facts["format"] > FORMAT:
        raise ValueError(f"format is {facts['format']}, this mbapps reads {FORMAT}; update mbapps")
    if facts["runtime"] not in RUNTIMES or not isinstance(facts["fingerprint"], str):
        raise ValueError(f"there is no runtime {facts['runtime']!r}")
    if facts["file"] != name:
        raise ValueError(f"it is about {facts['file']}")
    parts = [Path(file).parts for file in facts["files"]]
    if not any(part[0] == name for part in parts) or any(
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
