"""Vectors of a part of the files, kept until the gallery is built: what an interrupted build does not do again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.columns import open_columns, write_columns

from .checks import ModelId
from .texts import Texts, to_arrays


@dataclass(frozen=True)
class Shard:
    """What came out of some files.

    vectors: [N, D] of those that could be read.
    rows: [N] ascending: which of the files these are.
    broken: reasons why the others could not.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    broken: Sequence[str]


def shard_path(folder: Path, number: int) -> Path:
    """File of one shard."""
    return folder / f"{number:06}.safetensors"


def remove_shards(folder: Path) -> None:
    """Remove the shards of a folder, also one that a kill left half written, and the folder unless it holds more."""
    name = "[0-9]" * 6 + ".safetensors"
    for path in folder.glob(name):
        path.unlink()
    for path in folder.glob(f".{name}.*"):  # as `replacing` names what it writes to
        shutil.rmtree(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def contents_key(files: Sequence[Path], model: ModelId) -> str:
    """A hash of names, sizes and times of files, and of what makes the vectors: it tells whether a shard still holds.

    Raises:
        FileNotFoundError: a file is gone since it was listed.
    """
    digest = hashlib.blake2b(f"{model.fingerprint} {sorted(model.view.items())}".encode(), digest_size=16)
    for file in files:
        facts = file.stat()
        digest.update(
            f"{file.absolute()}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def write_shard(path: Path, key: str, shard: Shard) -> None:
    """Write a shard by rename.

    Raises:
        OSError: there is no room, or no right to write.
    """
    texts = to_arrays({"key": Texts.pack([key]), "broken": Texts.pack(shard.broken)})
    write_columns(path, {"vectors": shard.vectors, "rows": shard.rows, **texts})


def read_shard(path: Path, key: str) -> Shard | None:
    """Map a shard; None if it is not there, is damaged, or holds something else than `key`."""
    try:
        arrays: Mapping[str, NDArray[Any]] = open_columns(path).arrays
        stored, broken = (
            Texts(arrays[f"{name}/content"], arrays[f"{name}/cuts"]) for name in ("key", "broken")
        )
        if stored.plain() != [key]:
            return None
        return Shard(arrays["vectors"], arrays["rows"], broken.plain())
    except (ValueError, KeyError):
        return None
