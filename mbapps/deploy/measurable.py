"""Which files of a model folder can be measured, and which of those asked for are not there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from .quantize import QUANTIZERS
from .runtimes import FLOAT, INT8, TORCH, export_folder
from .sessions import RUNTIMES

File = tuple[str, str, str]  # runtime, precision, part


def find_files(
    model: Path, runtimes: Sequence[str] | None, precisions: Sequence[str] | None, several: Sequence[str]
) -> tuple[list[File], list[str]]:
    """List the files that are there, and what is missing of those asked for; torch needs no file of its own.

    Args:
        model: the model folder.
        runtimes: None takes torch and all that have a file.
        precisions: None takes those that are there.
        several: parts, each with a file of its own.

    Raises:
        FileNotFoundError: a runtime that was named has no file.
        ValueError: there is no such runtime or precision, or a runtime that was named does not have it.
    """
    runnable = [name for name, runtime in RUNTIMES.items() if runtime.session is not None]
    if unknown := [str(name) for name in runtimes or () if name not in (TORCH, *runnable)]:
        raise ValueError(f"runtime must be of {', '.join((TORCH, *runnable))}, got {', '.join(unknown)}")
    if unknown := [str(name) for name in precisions or () if name not in (FLOAT, INT8)]:
        raise ValueError(f"precision must be {FLOAT} or {INT8}, got {', '.join(unknown)}")
    files: list[File] = []
    left_out: list[str] = []
    for runtime in runtimes or (TORCH, *runnable):
        has = [FLOAT, INT8] if runtime in QUANTIZERS else [FLOAT]
        wanted = [precision for precision in precisions or has if precision in has]
        if runtimes and not wanted:
            raise ValueError(
                f"runtime={runtime} runs in {FLOAT} only, got precision={INT8}: leave one of both out"
            )
        there = [file for file in product([runtime], has, several) if _exists(model, *file)]
        found = [file for file in there if file[1] in wanted]
        if runtimes and not found:
            raise FileNotFoundError(f"{model} has no file for {_writes(model, runtime, wanted[0])}")
        files += found
        if runtimes:
            lacking = [precision for precision in precisions or () if precision not in has]
            left_out += [f"{runtime} {precision}: it runs in {FLOAT} only" for precision in lacking]
        for precision in wanted:
            missing = [part for part in several if (runtime, precision, part) not in there]
            if (precisions and (runtimes or there)) or len(missing) < len(several):
                left_out += [
                    f"{' '.join(filter(None, [runtime, precision, part]))}: there is no file for "
                    f"{_writes(model, runtime, precision)}"
                    for part in missing
                ]
    return files, left_out


def _exists(model: Path, runtime: str, precision: str, part: str) -> bool:
    if runtime == TORCH:
        return True
    return (export_folder(model, runtime, precision, part) / RUNTIMES[runtime].file).exists()


def _writes(model: Path, runtime: str, precision: str) -> str:
    asked = f"runtime={runtime}" + ("" if precision == FLOAT else f" precision={precision}")
    return f"{asked}: mbapps export model={model} {asked} writes one"
