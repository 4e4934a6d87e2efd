"""Batches of several heads' data sets: which heads a step learns from, and where each set stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from .base import DataModule

DRAWS = ("each", "one")


def check_turns(draw: str, shares: Mapping[str, float], steps: int | None) -> None:
    """Raise ValueError where an argument of `Turns` is out of its range."""
    if draw not in DRAWS:
        raise ValueError(f"draw must be one of {list(DRAWS)}, got {draw!r}")
    for name, share in shares.items():
        if not share > 0:
            raise ValueError(f"heads.{name}.share must be > 0, got {share}")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps_per_epoch must be a whole number >= 1 or null, got {steps!r}")


class Turns:
    """Yields for each step of an epoch the names of the heads that it learns from: decided by (seed, epoch) alone.

    Args:
        lengths: batches of each head's set, >= 1.
        draw: "each": every step has a batch of each head. "one": of one head, each as often as its share says.
        shares: of the steps, > 0; they need not sum to 1.
        steps: of an epoch, >= 1. None: of "each" as many as the largest set has batches, of "one" as all sets together.
        seed: of the order.

    Raises:
        ValueError: an argument is out of its range, or a head's share of an epoch is no whole step.
    """

    def __init__(
        self, lengths: Mapping[str, int], draw: str, shares: Mapping[str, float], steps: int | None, seed: int
    ):
        check_turns(draw, shares, steps)
        self.names, self.draw, self.seed, self.epoch = list(lengths), draw, seed, 0
        longest, total = max(lengths.values()), sum(lengths.values())
        self.steps = steps or (longest if draw == "each" else total)
        self.counts = self._counts(np.array([shares[name] for name in self.names], dtype=float))
        # how often an epoch goes through each set
        self.passes = {
            name: max(1, -(-int(times) // lengths[name]))
            for name, times in zip(self.names, self.counts, strict=True)
        }

    def _counts(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        """[H] steps of each head in an epoch: its share, rounded so that they sum up."""
        if self.draw == "each":
            return np.full(len(shares), self.steps)
        ends = np.cumsum(shares) / shares.sum() * self.steps
        counts = np.diff(ends.round().astype(np.int64), prepend=0)
        if not counts.all():
            name = self.names[int(counts.argmin())]
            raise ValueError(
                f"draw=one: of the {self.steps} steps of an epoch the {name} head would have none; raise "
                f"heads.{name}.share or steps_per_epoch"
            )
        return counts

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        if self.draw == "each":
            return iter([tuple(self.names)] * self.steps)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(
            np.repeat(np.arange(len(self.names)), self.counts)
        )
        return iter([(self.names[row],) for row in order.tolist()])


class JointLoader:
    """Yields {head name: batch} for each step. A set that an epoch uses up is gone through again, in another order.

    Args:
        loaders: of each head's training images; their samplers take the number of a pass as the epoch.
        turns: whose batches a step has.
    """

    def __init__(self, loaders: Mapping[str, DataLoader[Any]], turns: Turns):
        self.loaders = loaders
        self.sampler = turns  # where Lightning looks for what wants to know the epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        streams = {name: self._stream(name) for name in self.loaders}
        for names in self.sampler:
            yield {name: next(streams[name]) for name in names}

    def _stream(self, name: str) -> Iterator[Any]:
        loader, turns = self.loaders[name], self.sampler
        for number in count(turns.epoch * turns.passes[name]):
            loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
            yield from loader


class MultiData(pl.LightningDataModule):
    """The data of several heads: training draws their batches jointly, validation goes through one set after another.

    Args:
        parts: each head's own, by its name.
        draw, shares, steps, seed: as `Turns` has them.
    """

    def __init__(
        self, parts: Mapping[str, DataModule], *, draw: str, shares: Mapping[str, float], steps: int | None, seed: int
    ):  # fmt: skip
        super().__init__()
        self.parts = dict(parts)
        self.draw, self.shares, self.steps, self.seed = draw, shares, steps, seed
        check_turns(draw, shares, steps)

    def of(self, name: str) -> DataModule:
        """Give the data of one head."""
        return self.parts[name]

    def train_dataloader(self) -> JointLoader:
        loaders = {name: self._placed(name).train_dataloader() for name in self.parts}
        lengths = {name: len(loader) for name, loader in loaders.items()}
        return JointLoader(loaders, Turns(lengths, self.draw, self.shares, self.steps, self.seed))

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return [self._placed(name).val_dataloader() for name in self.parts]

    def _placed(self, name: str) -> DataModule:
        self.parts[name].trainer = self.trainer  # whose processes share the images
        return self.parts[name]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        names = list(self.parts)
        for name, one in (batch if isinstance(batch, dict) else {names[dataloader_idx]: batch}).items():
            self.parts[name].on_before_batch_transfer(one, 0)
        return batch
