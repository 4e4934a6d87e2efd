"""Batches of pooled features in place of images, for a head whose body does not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .base import DataModule
from .samplers import EpochSampler


class Pooled(NamedTuple):
    """What a body said of N images of one split."""

    batch: Any  # the data's kind of batch, of all N: `images` are float32 features [N, C, 1, 1]
    mirrored: Tensor | None  # [N, C, 1, 1] features of the mirror images, where they were asked for


def join(batches: Sequence[Any], views: Sequence[Sequence[Tensor]]) -> Pooled:
    """Put batches and the features of their views, [B, C] each and the mirror image second, together."""
    features = [torch.cat(parts)[:, :, None, None] for parts in zip(*views, strict=True)]
    columns = {
        name: torch.cat([getattr(batch, name) for batch in batches])
        for name in batches[0]._fields
        if name not in ("images", "broken") and getattr(batches[0], name) is not None
    }
    whole = batches[0]._replace(images=features[0], broken=(), **columns)
    return Pooled(whole, features[1] if len(features) > 1 else None)


class PooledDataset(Dataset[Any]):
    """Whole batches by their (epoch, row) keys; rows count the images that could be read.

    Args:
        pooled: of one split.
        flip: probability that an image's features are those of its mirror image, drawn anew in each epoch.
        seed: of these draws, joined with the epoch.
    """

    def __init__(self, pooled: Pooled, flip: float, seed: int):
        self.pooled = pooled
        self.flip = flip
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pooled.batch.images)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Any:
        rows = torch.tensor([row for _, row in keys])
        batch = self.pooled.batch
        parts = {
            name: column[rows] for name, column in batch._asdict().items() if isinstance(column, torch.Tensor)
        }
        if self.pooled.mirrored is not None:
            draws = np.random.default_rng((self.seed, keys[0][0], len(self))).random(len(self))
            turned = torch.from_numpy(draws < self.flip)[rows]
            parts["images"][turned] = self.pooled.mirrored[rows[turned]]
        return batch._replace(**parts)


class PooledData(pl.LightningDataModule):
    """Stands in for a data module while a head trains on what a frozen body said of train and val.

    Args:
        data: the module itself, asked for truth and names.
        pooled: by split.
        flip: probability of the mirror image in training.
    """

    def __init__(self, data: DataModule, pooled: Mapping[str, Pooled], flip: float):
        super().__init__()
        self.data = data
        self.pooled = pooled
        self.flip = flip

    def of(self, name: str) -> PooledData:
        """Give the data of a head: they are one head's alone."""
        return self

    def truth(self, split: str) -> Any:
        return self.data.truth(split)

    def training_names(self, rows: Sequence[int]) -> list[str]:
        return self.data.training_names(rows)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train", self.flip, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val", 0.0, shuffle=False)

    def _loader(self, split: str, flip: float, *, shuffle: bool) -> DataLoader[Any]:
        dataset = PooledDataset(self.pooled[split], flip, self.data.seed)
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        batch = dataset.pooled.batch
        seen = batch._replace(labels=np.asarray(batch.labels))
        order = self.data.training_order(seen, rank, world_size) if shuffle else None
        sampler = order or EpochSampler(
            len(dataset), seed=self.data.seed, shuffle=shuffle, rank=rank, world_size=world_size
        )
        size = self.data.batch_size
        lonely = shuffle and len(sampler) > size and len(sampler) % size == 1  # which no batch norm can take
        return DataLoader(dataset, size, sampler=sampler, collate_fn=_whole, drop_last=lonely)


def _whole(batch: Any) -> Any:
    return batch
