"""Several threads that run a network, each on cores of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from mbapps.deploy.bundle import Bundle

MOST = 4  # threads: each has the activations of its part in memory

S = TypeVar("S")
T = TypeVar("T")


class Pool:
    """Threads of a network; see `own_cores`."""

    def __init__(self, executor: ThreadPoolExecutor, threads: int):
        self.executor, self.threads = executor, threads

    def map(self, call: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """Results in order; the items run at the same time."""
        return self.executor.map(call, items)


@contextmanager
def own_cores(bundle: Bundle) -> Iterator[Pool | None]:
    """Give threads that share out the cores, where the network may run in several at a time; else None.

    Half of a batch on each of two cores takes less time than each layer of all of it on both, since no layer waits for
    the slower core, and most of all where other work takes its part of them.
    """
    cores = torch.get_num_threads()
    threads = min(MOST, cores)
    shared = bundle.network.norm == "shared"  # else each pass puts its own norms in the body
    if bundle.device != "cpu" or bundle.runtime != "torch" or not shared or threads < 2:
        yield None
        return
    each = max(1, cores // threads)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(each,)) as executor:
            yield Pool(executor, threads)
    finally:
        torch.set_num_threads(cores)
