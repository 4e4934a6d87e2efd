"""Which rows an epoch reads, in which order: decided by (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, row): the dataset seeds its augmentation by both, in whatever worker it runs.

    Args:
        count: rows of the data set, > 0.
        seed: of the order; `shuffle` False reads the rows as they come.
        rank, world_size: of this process among the training processes.
        pad: repeat rows until all processes have equally many, as training needs; evaluation counts each
            row once and leaves it False.
    """

    def __init__(
        self, count: int, *, seed: int, shuffle: bool, rank: int = 0, world_size: int = 1, pad: bool = False
    ):
        self.count = count
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.pad = pad
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.count, self.world_size)
        return whole + (rest > 0 if self.pad else self.rank < rest)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows = np.arange(self.count)
        if self.shuffle:
            rows = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        if self.pad:
            rows = np.resize(rows, -(-self.count // self.world_size) * self.world_size)
        epoch = self.epoch
        return ((epoch, int(row)) for row in rows[self.rank :: self.world_size])
