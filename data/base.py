"""What every data set shares: loaders, batching, seeds, and the count of images that could not be read."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mbapps.images import UInt8Image, default_workers

from .samplers import EpochSampler, IdentitySampler
from .transforms import limit_threads


class DataModule(pl.LightningDataModule, ABC):
    """Loaders of the three splits of one data set.

    A subclass sets `class_names`, `collate` and `tables`, and gives what is abstract here.

    Args:
        batch_size: images a step and process, >= 1.
        num_workers: processes that read images; None takes half the cores, 8 at most.
        seed: of order and augmentation.
        max_broken: share of unreadable images, in [0, 1], above which the run stops.
    """

    class_names: tuple[str, ...]
    tables: Mapping[str, Any]  # by split, those that were read: not always all three
    collate: Callable[[list[Any]], Any]

    def __init__(self, *, batch_size: int, num_workers: int | None, seed: int, max_broken: float):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size must be >= 1, got {batch_size}")
        self.batch_size = batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.seed = seed
        self.max_broken = max_broken
        self.broken: dict[str, None] = {}  # unreadable images with their reasons, in the order they were met
        self.lessons: Any = None  # a StudentDataset that training reads in place of its own images

    @abstractmethod
    def dataset(self, split: str) -> Dataset[Any]:
        """Samples of one split, by (epoch, row)."""

    @abstractmethod
    def truth(self, split: str) -> Any:
        """Table that the metric of this split compares with."""

    @abstractmethod
    def check_measurable(self) -> None:
        """Raise ValueError where validation has nothing to choose the best epoch by."""

    @abstractmethod
    def names(self, split: str, rows: Sequence[int]) -> list[str]:
        """File names of some rows, for messages."""

    def of(self, name: str) -> DataModule:
        """Give the data of a head: they are one head's alone."""
        return self

    def training_names(self, rows: Sequence[int]) -> list[str]:
        """File names of some rows of what training reads."""
        return self.names("train", rows) if self.lessons is None else self.lessons.names(rows)

    def repeats(self) -> NDArray[np.float64] | None:
        """How often an epoch of training reads each row on average, or None for once each."""
        return None

    def training_order(self, table: Any, rank: int, world_size: int) -> EpochSampler | IdentitySampler | None:
        """Order in which training reads a table, its own or a student's; None shuffles it."""
        return None

    def inform(self, head: Any) -> list[str]:
        """Give a new head what it must know of the data beside the classes; say what there is to say about it."""
        return []

    def write(self, folder: Path) -> Path | None:
        """Keep in a run's folder what is worth keeping of the data, and give its place."""
        return None

    @abstractmethod
    def preview(self, count: int) -> list[UInt8Image]:
        """Give the first augmented training samples with their truth drawn on them, for the report."""

    @abstractmethod
    def picture(self, split: str, row: int) -> tuple[UInt8Image, UInt8Image]:
        """One image, plain and with its truth drawn on it."""

    @abstractmethod
    def lineage(self) -> dict[str, Any]:
        """Name, licence, sizes and fingerprint of the data, for the model card."""

    @abstractmethod
    def problems(self) -> dict[str, list[str]]:
        """What reading the annotations dropped or mended: reason -> places."""

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def views(self, split: str) -> Dataset[Any]:
        """Samples of one split as validation sees them, for bodies that see each image once."""
        raise ValueError(f"{type(self).__name__} shows no images but augmented ones")

    def view_loader(self, split: str) -> DataLoader[Any]:
        """Batches of `views`, each image once, in every process alike."""
        dataset = self.views(split)
        sampler = EpochSampler(len(dataset), seed=self.seed, shuffle=False)  # type: ignore[arg-type]
        return self._batches(dataset, sampler, self.collate, drop_last=False)

    def _loader(self, split: str) -> DataLoader[Any]:
        training = split == "train"
        taught = training and self.lessons is not None
        dataset: Any = self.lessons if taught else self.dataset(split)
        count = len(dataset)
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        order = self.training_order(dataset.table, rank, world_size) if training else None
        sampler = order or EpochSampler(
            count, seed=self.seed, shuffle=training, rank=rank, world_size=world_size,
            repeats=self.repeats() if training and not taught else None,
        )  # fmt: skip
        drop_last = training and len(sampler) > self.batch_size  # a last batch of one upsets batch norm
        collate = self.lessons.collate if taught else self.collate
        return self._batches(dataset, sampler, collate, drop_last=drop_last)

    def _batches(
        self,
        dataset: Dataset[Any],
        sampler: EpochSampler | IdentitySampler,
        collate: Callable[[list[Any]], Any],
        *,
        drop_last: bool,
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=start_worker,
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.count_broken(batch.broken)
        return batch

    def count_broken(self, messages: Sequence[str]) -> None:
        """Note images that can't be read.

        Raises:
            ValueError: they have become more than `max_broken` allows.
        """
        if not messages:
            return
        self.broken.update(dict.fromkeys(messages))
        total = sum(len(table) for table in self.tables.values())
        if self.lessons is not None:
            total += self.lessons.total - len(self.tables["train"])
        if len(self.broken) > max(1, self.max_broken * total):
            listing = "\n  ".join(list(self.broken)[:10])
            raise ValueError(
                f"{len(self.broken)} of {total} images can't be read, more than data.max_broken={self.max_broken} "
                f"allows; mend them or raise data.max_broken. The first:\n  {listing}"
            )


def start_worker(worker: int) -> None:
    limit_threads()
    os.nice(10)  # what trains goes first where cores are few; reading is far ahead of it anyway


def stack_images(images: Sequence[UInt8Image], size: int) -> Tensor:
    """[S, S, 3] arrays -> uint8 [B, 3, S, S], channels-last in memory: stacking channels-first views is slower."""
    stacked = np.stack(images) if images else np.empty((0, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)
