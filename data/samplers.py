"""Which rows an epoch reads, in which order and how often: decided by (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mbapps.batches import UNKNOWN

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


def check_batches(batch_size: int, images_per_person: int) -> None:
    """Raise ValueError where a batch can't hold two people or more with `images_per_person` pictures each."""
    if not isinstance(images_per_person, int) or images_per_person < 2:
        raise ValueError(
            f"data.images_per_person must be a whole number >= 2, or null for none, got {images_per_person!r}"
        )
    if batch_size % images_per_person or batch_size < 2 * images_per_person:
        raise ValueError(
            f"data.batch_size={batch_size} must be a multiple of data.images_per_person={images_per_person}, "
            "twice at least: a batch holds several people with as many pictures each"
        )


class IdentitySampler(Sampler[tuple[int, int]]):
    """Yields (epoch, row) so that each batch holds P groups of K rows, each group of another person.

    An epoch reads each row once, and some of them once more: to fill the groups of people with less than K rows
    left, and the last batches. Rows without a partner, of people with one picture and of nobody known, are put
    into groups together and spread over the batches. Where one person has more groups than there are batches, an
    epoch reads a part of them; only where there are less than P people does a batch hold one twice.

    Args:
        labels: [N] the person of each row; UNKNOWN where nobody tells.
        batch_size: P times K.
        images_per_person: K, >= 2.
        seed: of the order.
        rank, world_size: of this process among the training processes; all take equally many steps.

    Raises:
        ValueError: `batch_size` does not hold whole groups.
    """

    def __init__(
        self,
        labels: NDArray[np.integer[Any]],
        *,
        batch_size: int,
        images_per_person: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        check_batches(batch_size, images_per_person)
        self.group, self.groups = images_per_person, batch_size // images_per_person
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        _, person, count = np.unique(labels, return_inverse=True, return_counts=True)
        single = (count[person] < 2) | (labels == UNKNOWN)
        self.loose = np.flatnonzero(single)
        rows = np.flatnonzero(~single)
        self.rows = rows[np.argsort(labels[rows], kind="stable")]  # person by person
        _, self.owners, self.counts = np.unique(labels[self.rows], return_inverse=True, return_counts=True)
        self.whole = -(-self.counts // self.group)  # groups that show all of a person
        self.batches = self._plan()

    def _plan(self) -> int:
        """How many batches an epoch has: enough for all, but no more groups of a person than fit."""
        loose = -(-len(self.loose) // self.group)
        batches, before = 0, -1
        taken = self.whole
        while batches != before:
            before = batches
            needed = int(taken.sum()) + loose
            batches = max(1, -(-needed // (self.groups * self.world_size))) * self.world_size
            taken = np.minimum(self.whole, self._most(batches))
        return batches

    def _most(self, batches: int) -> int:
        """How many groups of a person an epoch has room for."""
        return batches * -(-self.groups // max(1, len(self.counts)))

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches // self.world_size * self.groups * self.group

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        room = self.batches * self.groups
        taken = self._taken(room - -(-len(self.loose) // self.group), random)
        groups = np.concatenate([self._of_people(taken, random), self._of_loose(room - taken.sum(), random)])
        # dealt in turn: a person's groups, which lie together, go to as many batches, and the loose ones to all
        batches = groups.reshape(self.groups, self.batches, self.group).swapaxes(0, 1)
        batches = random.permutation(batches)[self.rank :: self.world_size]
        epoch = self.epoch
        return ((epoch, row) for row in batches.reshape(-1).tolist())

    def _taken(self, room: int, random: np.random.Generator) -> NDArray[np.int64]:
        """[M] groups of each person: all of theirs that fit, and then more of some until the room is filled."""
        most = self._most(self.batches)
        taken = np.minimum(self.whole, most)
        while len(taken) and (left := room - int(taken.sum())) > 0:
            able = np.flatnonzero(taken < most)
            taken[random.permutation(able)[:left]] += 1
        return taken

    def _of_people(self, taken: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """[G, K] rows of each person in random order, begun again where they are used up."""
        order = random.permutation(len(self.counts))  # of the people
        mixed = random.permutation(len(self.rows))
        rows = self.rows[mixed[np.argsort(self.owners[mixed], kind="stable")]]
        starts = np.cumsum(self.counts) - self.counts
        length = taken[order] * self.group
        person = np.repeat(order, length)
        place = np.arange(len(person)) - np.repeat(np.cumsum(length) - length, length)
        return rows[starts[person] + place % self.counts[person]].reshape(-1, self.group)

    def _of_loose(self, groups: int, random: np.random.Generator) -> NDArray[np.int64]:
        """[groups, K] rows without a partner, in random order."""
        return np.resize(random.permutation(self.loose), (groups, self.group)).astype(np.int64)


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
