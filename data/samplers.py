"""Which rows an epoch reads, in which order and how often: decided by (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

SAMPLINGS = ("class_balanced", "repeat_factor")


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, row): the dataset seeds its augmentation by both, in whatever worker it runs.

    Args:
        count: rows of the data set, > 0.
        seed: of the order; `shuffle` False reads the rows as they come.
        rank, world_size: of this process among the training processes.
        repeats: [count], how often an epoch reads each row on average, >= 0; None reads each once. A row of
            1.3 comes once or twice; an epoch is as long as their sum, whatever is drawn.

    Rows are repeated until all processes have equally many: in a step that only some of them take, the others
    wait for ever. Metrics count a row that comes twice once.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        repeats: NDArray[np.float64] | None = None,
    ):
        self.count = count
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.ends = (
            None if repeats is None else np.cumsum(repeats)
        )  # each row's stretch of the epoch ends here
        self.rows_per_epoch = count if self.ends is None else max(1, round(float(self.ends[-1])))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows_per_epoch // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        rows = np.arange(self.count) if self.ends is None else self._drawn(self.ends, random)
        if self.shuffle:
            rows = random.permutation(rows)
        rows = np.resize(rows, len(self) * self.world_size)
        epoch = self.epoch
        return ((epoch, int(row)) for row in rows[self.rank :: self.world_size])

    def _drawn(self, ends: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int64]:
        """Rows that equally spaced points, shifted at random, fall on: each its share, rounded up or down."""
        points = (random.random() + np.arange(self.rows_per_epoch)) * (ends[-1] / self.rows_per_epoch)
        return np.minimum(np.searchsorted(ends, points, side="right"), self.count - 1)


def repeats_by_class(
    sampling: str, presence: NDArray[np.bool_], threshold: float = 0.001
) -> NDArray[np.float64]:
    """How often an epoch reads each image, from the classes that are on it.

    "repeat_factor" reads an image sqrt(threshold / f) times, once at least, f being the share of the images
    that show its rarest class: common images stay as they are, and an epoch grows. "class_balanced" spends
    equal parts of an epoch of the same length on each class that occurs, and one on the images without objects.

    Args:
        sampling: "repeat_factor" or "class_balanced".
        presence: [N, K], which of K classes is on each of N images.
        threshold: share of the images, in (0, 1], below which a class is repeated.

    Returns:
        [N].

    Source: Gupta et al., LVIS (2019), appendix, "Repeat factor sampling".

    >>> repeats_by_class("repeat_factor", np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool), 1.0).tolist()
    [1.0, 1.0, 1.0, 2.0]
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"data.sampling must be null or one of {list(SAMPLINGS)}, got {sampling!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"data.repeat_threshold must be in (0, 1], got {threshold}")
    images = presence.sum(axis=0)
    if sampling == "repeat_factor":
        by_class = np.sqrt(threshold * len(presence) / np.maximum(images, 1))
        return np.maximum(1.0, (presence * by_class).max(axis=1, initial=0))
    columns = np.column_stack([presence, ~presence.any(axis=1)])  # the last one: no object
    share = columns / np.maximum(columns.sum(axis=0), 1)  # [N, K + 1]: of each class's part
    weights = share.sum(axis=1)
    return weights * (len(presence) / max(weights.sum(), 1e-12))
