"""Numpy columns in one file that every process maps: they are in memory once, however many read them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import replacing

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Columns:
    """Read-only arrays by name, mapped from a file. Pickled as the file's name: who unpickles maps it too."""

    path: Path  # absolute
    arrays: Arrays
    digest: str  # of names, types, shapes and numbers

    def __reduce__(self) -> tuple[Callable[..., Columns], tuple[Path, str]]:
        return open_columns, (self.path, self.digest)

    def in_place(self) -> bool:
        """Tell whether `path` still holds these arrays; they themselves live on where it does not."""
        try:
            return open_columns(self.path, self.digest).digest == self.digest
        except ValueError:
            return False


def write_columns(path: Path, arrays: Arrays) -> None:
    """Write arrays of numbers, bools or strings to a safetensors file, by rename.

    Raises:
        OSError: there is no room, or no right to write.
    """
    from safetensors.numpy import save

    stored = {
        name: _bytes(array).reshape(len(array), -1)
        if array.dtype.kind == "U"
        else np.ascontiguousarray(array)
        for name, array in arrays.items()
    }
    strings = {name: array.dtype.str for name, array in arrays.items() if array.dtype.kind == "U"}
    content = save(stored, {"digest": _digest(arrays), "strings": json.dumps(strings)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def open_columns(path: Path, digest: str | None = None) -> Columns:
    """Map the arrays of a file and check them against their digest.

    Args:
        path: as written by `write_columns`.
        digest: what the file is known to hold; then it is only compared, and no number is read. None reads all.

    Raises:
        ValueError: there is no such file, or it is damaged, or it holds something else than `digest`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:  # as torch tensors they are mapped, as numpy arrays copied
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118  it is no dict
        for name, dtype in json.loads(facts.get("strings", "{}")).items():
            arrays[name] = arrays[name].view(dtype).reshape(-1)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is not there or damaged: {error}") from error
    for array in arrays.values():
        array.flags.writeable = False
    found = facts.get("digest", "")
    if digest is not None and found != digest:
        raise ValueError(f"{path} was replaced while its data set was in use; start again")
    if digest is None and found != _digest(arrays):
        raise ValueError(f"{path} is damaged: its numbers are not those that were written")
    return Columns(path.absolute(), arrays, found)


def lend_columns(arrays: Arrays) -> Columns:
    """Write arrays to a temporary file, removed with the returned object, and map them from there.

    Raises:
        OSError: there is no room.
    """
    folder = Path(tempfile.mkdtemp(prefix="mbapps-"))
    try:
        write_columns(folder / "columns.safetensors", arrays)
        columns = open_columns(folder / "columns.safetensors")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(columns, _remove, folder, os.getpid())
    return columns


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker ends before those that still read
        shutil.rmtree(folder, ignore_errors=True)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(_bytes(array).data)
    return digest.hexdigest()
