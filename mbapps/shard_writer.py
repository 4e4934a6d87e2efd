"""Many files embedded by a trainer: a shard of vectors at a time, in as many processes as there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .deploy.bundle import stack_views
from .embedding import Embedder
from .images import BrokenImageError, UInt8Image, central_view, read_image
from .search.shards import Shard, contents_key, read_shard, shard_path, write_shard


class Batch(NamedTuple):
    """Some files that were opened: their rows, the rows and views of those that could be read, others' reasons."""

    rows: list[int]
    read: list[int]
    views: Tensor | None  # uint8 [B, 3, S, S]; None if none could be read
    broken: list[str]


class Photos(Dataset[Batch]):
    """Batches of files, each read by one worker."""

    def __init__(self, files: Sequence[Path], batches: Sequence[range], size: int, crop: float):
        self.files, self.batches, self.size, self.crop = files, batches, size, crop

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        views: dict[int, UInt8Image] = {}
        broken = []
        for row in self.batches[number]:
            try:
                views[row] = central_view(read_image(self.files[row]), self.size, self.crop)
            except (BrokenImageError, FileNotFoundError) as error:
                broken.append(str(error))
        stacked = stack_views(list(views.values())) if views else None
        return Batch(list(self.batches[number]), list(views), stacked, broken)


class ShardWriter(pl.LightningModule):
    """Embeds files and writes a shard as soon as its last file is through; shards that are there are not done again.

    Shard k holds `shard_size` files in their order and is made by process k modulo their number. Batches end where
    shards end, so a shard's vectors do not depend on what was done before.

    Args:
        embedder: its network moves to the trainer's device.
        files: all of them, alike in every process.
        folder: of the shards.
    """

    def __init__(
        self, embedder: Embedder, files: Sequence[Path], folder: Path, *, shard_size: int, batch_size: int,
        num_workers: int,
    ):  # fmt: skip
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # of few files a process may have none
        self.network = embedder.bundle.network
        self.embedder, self.files, self.folder = embedder, files, folder
        self.batch_size, self.num_workers, self.shard_size = batch_size, num_workers, shard_size
        starts = range(0, len(files), shard_size)
        self.keys = [contents_key(files[start : start + shard_size], embedder.model) for start in starts]
        self.found: list[tuple[list[int], NDArray[np.float32] | None, list[str]]] = []  # of the shard at hand
        self.passed = 0  # files of it

    def shard(self, number: int) -> Shard | None:
        """A shard that is there and holds."""
        return read_shard(shard_path(self.folder, number), self.keys[number])

    def predict_dataloader(self) -> DataLoader[Any]:
        mine = range(self.trainer.global_rank, len(self.keys), self.trainer.world_size)
        batches: list[range] = []
        for number in mine:
            if self.shard(number) is None:
                end = min((number + 1) * self.shard_size, len(self.files))
                starts = range(number * self.shard_size, end, self.batch_size)
                batches += [range(start, min(start + self.batch_size, end)) for start in starts]
        return DataLoader(
            Photos(self.files, batches, self.embedder.facts["image_size"], self.embedder.crop), batch_size=None,
            num_workers=self.num_workers if batches else 0, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def predict_step(self, batch: Batch, batch_idx: int) -> int:
        vectors = self.embedder.embed(batch.views) if batch.views is not None else None
        self.found.append((batch.read, vectors, batch.broken))
        self.passed += len(batch.rows)
        number = batch.rows[0] // self.shard_size
        first = number * self.shard_size
        if self.passed < min(self.shard_size, len(self.files) - first):
            return len(batch.rows)
        parts = [vectors for _, vectors, _ in self.found if vectors is not None]
        empty = np.empty((0, 0), dtype=np.float32)
        made = Shard(
            np.concatenate(parts) if parts else empty,
            np.array([row - first for read, _, _ in self.found for row in read], dtype=np.int64),
            [reason for _, _, reasons in self.found for reason in reasons],
        )
        write_shard(shard_path(self.folder, number), self.keys[number], made)
        self.found, self.passed = [], 0
        return len(batch.rows)
