"""Embeddings in a file: an .npz of "files" [N] and "embeddings" [N, D]."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import IdentityTable
from mbapps.files import replacing

from .matching import Rows
from .names import rows_by_file

KEYS = ("files", "embeddings")
FORM = 'an .npz of "files" [N], their names, and "embeddings" [N, D], numbers'


class Embeddings(NamedTuple):
    """Vectors of a file for images of the truth, and what was odd about it."""

    rows: Rows  # [N] of the truth's table
    vectors: NDArray[np.float32]  # [N, D] of length 1
    problems: dict[str, list[str]]  # as the table has them


def write_embeddings(path: str | Path, files: Sequence[str], vectors: NDArray[np.floating[Any]]) -> Path:
    """Write an .npz that `read_embeddings` reads; `files` are the names of the N images, `vectors` [N, D]."""
    path = Path(path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, files=np.array(files, dtype=np.str_), embeddings=vectors.astype(np.float32))
    return path


def read_embeddings(path: str | Path, truth: IdentityTable) -> Embeddings:
    """Read an .npz of embeddings and match them to the images of the truth by name, whatever their ending.

    Vectors are brought to length 1. Names that the truth does not list are skipped, images that the file lacks are
    left out, and both are told.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such .npz, holds pickled objects, a number that is not finite, a vector of zeros or a
            name twice, or has no image in common with the truth.
    """
    path = Path(path)
    files, vectors = _arrays(path)
    rows = rows_by_file(files.tolist(), truth.files.tolist())
    if rows is None:
        raise ValueError(
            f"{path}: images can't be matched by name: a name in it is empty, or two of the truth's files differ in "
            "their ending alone"
        )
    if not (rows >= 0).any():
        theirs = ", ".join(truth.files[:3].tolist())
        raise ValueError(
            f"{path}: no name is one of the truth's: the file has {', '.join(files[:3].tolist())} …, the truth "
            f"{theirs} …; the two are of different data"
        )
    known = np.flatnonzero(rows >= 0)
    used, counts = np.unique(rows[known], return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path}: {truth.files[used[counts > 1][0]]} has more than one embedding")
    problems = {}
    if skipped := files[rows < 0].tolist():
        problems["name in the embeddings that the truth does not list, skipped"] = skipped
    missing = np.setdiff1d(np.arange(len(truth)), used)
    if len(missing):
        problems["image without an embedding, left out"] = truth.files[missing].tolist()
    vectors = vectors[known].astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(rows[known], (vectors / lengths).astype(np.float32), problems)


def _arrays(path: Path) -> tuple[NDArray[np.str_], NDArray[np.floating[Any]]]:
    """Names [N] and vectors [N, D], of which each is finite and none is zero."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of embeddings at {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if lacking := [key for key in KEYS if key not in archive]:
                raise ValueError(f"it has no {' and no '.join(lacking)}")
            files, vectors = (np.asarray(archive[key]) for key in KEYS)
    except (ValueError, EOFError, OSError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not {FORM}: {error}") from None
    if files.ndim != 1 or files.dtype.kind != "U" or vectors.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} is not {FORM}: files is {files.dtype} {list(files.shape)}, embeddings is {vectors.dtype}"
        )
    if vectors.ndim != 2 or len(vectors) != len(files) or not vectors.size:
        raise ValueError(
            f"{path}: {len(files)} files go with embeddings [{len(files)}, D], got {list(vectors.shape)}"
        )
    broken = ~np.isfinite(vectors).all(axis=1)
    if broken.any():
        first = files[np.argmax(broken)]
        raise ValueError(f"{path}: {broken.sum()} embeddings hold NaN or infinity, the first that of {first}")
    zero = ~(vectors != 0).any(axis=1)
    if zero.any():
        first = files[np.argmax(zero)]
        raise ValueError(f"{path}: {zero.sum()} embeddings are all zeros, the first that of {first}")
    return files, vectors
