"""Exported files opened again: a network whose answers come from a runtime, for whoever takes a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .export_facts import check_origin, read_export
from .passes import file_folder
from .sessions import RUNTIMES, Session

TORCH = "torch"  # the runtime that needs no exported file
EXPORTS = "exports"  # folder of a model folder: a folder per runtime
FAILED = "failed_parity"  # in the names of what did not pass
FLOAT, INT8 = "float32", "int8"  # precisions


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
                f"{path} can't be opened by {runtime.package} here: {str(error) or type(error).__name__}; its version "
                "may be another than that which wrote it: export it again"
            ) from error

    @property
    def heads(self) -> list[str]:
        """Names of those that it gives outputs of."""
        return list(dict.fromkeys(output["head"] for output in self.facts["outputs"]))

    def close(self) -> None:
        """Let go of the file, so that every system lets it be moved; it does not run again."""
        vars(self.session).clear()  # OpenVINO's queue holds the session that holds it

    def run(self, images: UInt8Image) -> dict[str, dict[str, NDArray[Any]]]:
        """uint8 RGB images [B, S, S, 3] -> {head: {output: array}}.

        Raises:
            ValueError: the file does not allow this size or batch, or its runtime fails.
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
        try:
            arrays = self.session.run(np.ascontiguousarray(images))
        except MemoryError:
            raise
        except Exception as error:  # each runtime has kinds of its own
            raise ValueError(
                f"{self.path} can't be run by {RUNTIMES[self.facts['runtime']].package} on {len(images)} images: "
                f"{str(error) or type(error).__name__}; export it again"
            ) from error
        if len(arrays) != len(self.facts["outputs"]):
            raise ValueError(
                f"{self.path} must give {len(self.facts['outputs'])} outputs, as its export.json says, got "
                f"{len(arrays)}; export it again"
            )
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
        if missing := [head for head in wanted if head not in found]:
            given = ", ".join(head for file in self.files for head in file.heads) or "none"
            raise ValueError(
                f"{', '.join(str(file.path) for file in self.files)} must give outputs of {', '.join(missing)}, got "
                f"those of heads {given}; export the model again"
            )
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
    return Path(model) / EXPORTS / file_folder(runtime, precision, part)


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
