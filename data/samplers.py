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

    Rows are repeated until all processes have equally many: in a step that only some of them take, the others
    wait for ever. Metrics count a row that comes twice once.
    """

    def __init__(self, count: int, *, seed: int, shuffle: bool, rank: int = 0, world_size: int = 1):
        self.count = count
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows = np.arange(self.count)
        if self.shuffle:
            rows = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        rows = np.resize(rows, len(self) * self.world_size)
        epoch = self.epoch
        return ((epoch, int(row)) for row in rows[self.rank :: self.world_size])
