"""What a teacher said of views of images, computed once and kept: shards of numbers that every process maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mbapps.batches import LabelTable
from mbapps.columns import Columns, open_columns, write_columns
from mbapps.images import BrokenImageError, central_view

from .base import stack_images, start_worker
from .cache import data_home
from .labelled import read_row

VERSION = 1  # of the views and of the files; what another one wrote is not used
SHARD_IMAGES = 1024  # a kill loses what the teacher said of so many at most
VIEWS = ("centre", "flip")
READERS = 4  # threads that read files to tell their content

Keys = NDArray[np.uint64]
Floats = NDArray[np.float32]
Answer = Callable[[Tensor], Tensor]  # uint8 [B, 3, T, T] -> [B, K]


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs by row of a table and view; read-only, and pickled as the names of their files."""

    columns: Sequence[Columns]  # the shards
    places: NDArray[np.int64]  # [N, V, 2]: shard, and row in it

    def __getitem__(self, key: tuple[int, int]) -> Floats:
        shard, row = self.places[key]
        return np.array(self.columns[shard].arrays["outputs"][row])


class OutputCache:
    """The shards of one teacher with one preprocessing, in a folder of their own.

    Args:
        asked: what json can hold and the outputs depend on beside the image: the teacher's digest, the size and
            the part of the image that it sees. Shards of anything else are not used.
        home: folder of the caches of all teachers; None is the usual place.
    """

    def __init__(self, asked: Mapping[str, Any], home: Path | None = None):
        self.notes = json.dumps({**asked, "version": VERSION}, sort_keys=True).encode()
        name = hashlib.blake2b(self.notes, digest_size=8).hexdigest()
        self.folder = (home or data_home() / "cache" / "teachers") / name
        self.columns: list[Columns] = []
        self.read()

    def read(self) -> None:
        """Map the shards that are whole and this teacher's; a half-written one has no name yet."""
        self.columns = [
            columns for path in sorted(self.folder.glob("*.safetensors")) if (columns := self._open(path))
        ]

    def _open(self, path: Path) -> Columns | None:
        try:
            columns = open_columns(path)
        except ValueError:  # damaged
            return None
        arrays = columns.arrays
        theirs = arrays["notes"].tobytes() if "notes" in arrays else b""
        return columns if theirs == self.notes and len(arrays["keys"]) == len(arrays["outputs"]) else None

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """[...] keys -> [..., 2] shard and row in it; -1 where the teacher was not asked yet."""
        places = np.full((*keys.shape, 2), -1, dtype=np.int64)
        if not self.columns:
            return places
        parts = [columns.arrays["keys"] for columns in self.columns]
        known = np.concatenate(parts)
        shards = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        rows = np.concatenate([np.arange(len(part)) for part in parts])
        order = np.argsort(known, kind="stable")
        at = order[np.searchsorted(known, keys, sorter=order).clip(max=len(known) - 1)]
        found = known[at] == keys
        places[found] = np.stack([shards[at], rows[at]], axis=-1)[found]
        return places

    def add(self, keys: Keys, outputs: Floats) -> None:
        """Write a shard: [n] keys, [n, K] outputs. It is named after its keys, so that two runs may write at once."""
        arrays: dict[str, NDArray[Any]] = {
            "keys": keys,
            "outputs": outputs,
            "notes": np.frombuffer(self.notes, dtype=np.uint8),
        }
        name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
        write_columns(self.folder / f"{name}.safetensors", arrays)


def content_keys(table: LabelTable, views: int = len(VIEWS)) -> tuple[Keys, dict[int, str]]:
    """Tell the images of a table by what their files hold, wherever they lie: [N, views], one key per view.

    Returns:
        The keys, and the reason for each row whose file can't be read; its keys are 0.
    """
    keys = np.zeros((len(table), views), dtype=np.uint64)
    failed: dict[int, str] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for row, found in enumerate(pool.map(partial(_digests, table, views), range(len(table)))):
            if isinstance(found, str):
                failed[row] = found
            else:
                keys[row] = found
    return keys, failed


def _digests(table: LabelTable, views: int, row: int) -> list[int] | str:
    try:
        digest = hashlib.blake2b((table.folder / str(table.files[row])).read_bytes(), digest_size=8)
    except OSError as error:
        return f"{table.folder / str(table.files[row])}: {error.strerror or error}"
    digest.update(table.part_key(row))
    found = []
    for view in range(views):
        one = digest.copy()
        one.update(VIEWS[view].encode())
        found.append(int.from_bytes(one.digest(), "little"))
    return found


class _Views(Dataset[tuple[int, NDArray[np.uint8] | str]]):
    """The centre view of some rows at the teacher's size, or why there is none."""

    def __init__(self, table: LabelTable, rows: NDArray[np.int64], size: int, central_crop: float):
        self.table, self.rows, self.size, self.central_crop = table, rows, size, central_crop

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, NDArray[np.uint8] | str]:
        row = int(self.rows[index])
        try:
            return row, central_view(read_row(self.table, row), self.size, self.central_crop)
        except (BrokenImageError, FileNotFoundError) as error:
            return row, str(error)


def teacher_outputs(
    table: LabelTable,
    answer: Answer,
    cache: OutputCache,
    *,
    size: int,
    central_crop: float,
    views: int,
    batch_size: int,
    num_workers: int,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda batches, count: batches,
) -> tuple[TeacherOutputs, dict[int, str]]:
    """Give a teacher's outputs for each image of a table: from the cache, or else asked for now and put there.

    Args:
        answer: asks the teacher.
        size: side of the views that the teacher sees, px.
        central_crop: share of each side of an image that is seen.
        views: 1 for the centre, 2 for its mirror image too.
        batch_size, num_workers: for asking.
        progress: wraps the batches to be asked, of which it is told the number.

    Returns:
        The outputs, and the reason for each row that can't be read and has none.
    """
    keys, failed = content_keys(table, views)
    missing: NDArray[Any] = np.any(cache.find(keys)[..., 0] < 0, axis=1)
    missing[list(failed)] = False
    rows = np.flatnonzero(missing)
    _, first = np.unique(
        keys[rows, 0], return_index=True
    )  # a picture that is there twice is asked about once
    dataset = _Views(table, rows[np.sort(first)], size, central_crop)
    loader = DataLoader(
        dataset, batch_size, collate_fn=list, num_workers=num_workers, worker_init_fn=start_worker
    )
    done: list[tuple[Keys, Floats]] = []

    def write() -> None:
        if done:
            cache.add(np.concatenate([part for part, _ in done]), np.concatenate([part for _, part in done]))
            done.clear()

    unreadable: dict[int, str] = {}  # by the first of its copies
    for batch in progress(loader, len(loader)):
        unreadable |= {row: view for row, view in batch if isinstance(view, str)}
        good = [(row, view) for row, view in batch if not isinstance(view, str)]
        if not good:
            continue
        images = stack_images([view for _, view in good], size)
        seen = keys[[row for row, _ in good]]
        for view in range(views):
            outputs = answer(images.flip(-1) if view else images).float().cpu()
            if not torch.isfinite(outputs).all():
                raise FloatingPointError(
                    "the teacher answers with numbers that are not finite: train it anew"
                )
            done.append((seen[:, view].copy(), outputs.numpy()))
        if sum(len(part) for part, _ in done) >= SHARD_IMAGES * views:
            write()
    write()
    if len(dataset):
        cache.read()
    for row, reason in unreadable.items():
        copies = np.flatnonzero(keys[:, 0] == keys[row, 0])
        failed |= {
            int(copy): f"{table.folder / str(table.files[copy])}: a copy of {reason}" for copy in copies
        }
        failed[row] = reason
    places = cache.find(keys)
    if ((places[..., 0] < 0).any(axis=1) & ~np.isin(np.arange(len(table)), list(failed))).any():
        raise OSError(f"{cache.folder} was changed while it was in use; start again")
    return TeacherOutputs(cache.columns, places), failed
