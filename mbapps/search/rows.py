"""The vectors of a gallery in one faiss index, which they may be added to, taken out of, and moved from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .budget import MEGABYTE, Form, choose_form, index_bytes
from .indexes import KINDS, build_index, choose_kind, codes_of, own_index, search_index, vectors_of

MAX_TOMBSTONES = 0.2  # of HNSW's rows: beyond it a search walks over many rows for nothing


class Found(NamedTuple):
    """The k rows most like each of Q probes, best first."""

    scores: NDArray[np.float32]  # [Q, k] inner products in [-1, 1]; -inf beside row -1
    rows: NDArray[np.int64]  # [Q, k] of ids and columns; -1 where an approximate kind found no more


class Rows:
    """N vectors [N, D] of length 1, and the number that the index knows each by.

    Args:
        dim: D.
        kind: of the index.
        index: of faiss, mapped from a file and not to be changed; None without rows.
        labels: [N] its numbers of the rows.

    Raises:
        ValueError: the numbers are not the index's.
    """

    def __init__(self, dim: int, kind: str, index: Any = None, labels: NDArray[np.int64] | None = None):
        self.dim, self.kind, self.index = dim, kind, index
        self.labels = np.empty(0, dtype=np.int64) if labels is None else labels
        self._mapped = index is not None
        if (np.diff(self.labels, prepend=-1) <= 0).any():
            raise ValueError("its labels do not ascend")
        if index is not None and kind != "ivfpq" and len(self) and self.labels[-1] >= index.ntotal:
            raise ValueError("its labels lie beyond the index")
        if index is not None and kind != "hnsw" and index.ntotal != len(self):
            raise ValueError(f"it has {len(self)} rows, the index {index.ntotal}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def form(self) -> Form:
        """How they are kept."""
        return Form(self.kind, 0 if self.index is None else codes_of(self.kind, self.index)[0])

    def form_of(self, count: int, wanted: str | None, max_mb: float | None, others: int) -> Form | None:
        """How `count` rows, these and new ones, are to be kept; None is as now. See `choose_form`."""
        now, usual = self.form, choose_kind(count)
        kept = now.kind == wanted or (not wanted and KINDS.index(usual) <= KINDS.index(now.kind))
        fits = max_mb is None or self.bytes(count - len(self)) + others <= max_mb * MEGABYTE
        if len(self) and kept and fits:
            return None
        coded = len(self) > 0 and now.kind == "ivfpq"  # then it stays so: what codes lost never comes back
        return choose_form(
            count, self.dim, wanted=wanted or ("ivfpq" if coded else None), max_mb=max_mb, others=others,
            code_bytes=now.code_bytes if coded else None,
        )  # fmt: skip

    def bytes(self, more: int = 0) -> int:
        """Most that the index takes in a file, with so many rows more."""
        if self.index is None:
            return 0
        lists = codes_of(self.kind, self.index)[1]
        return index_bytes(self.form, self.index.ntotal + more, self.dim, lists)

    @property
    def tombstones(self) -> int:
        """Rows that were taken out and still lie in the index."""
        return 0 if self.index is None else int(self.index.ntotal) - len(self)

    @property
    def worn(self) -> bool:
        """Tell whether there are so many tombstones that the index should be built anew."""
        return self.tombstones > MAX_TOMBSTONES * (len(self) + self.tombstones)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add vectors at the end, to an index that has some."""
        self._own()
        first = self.index.ntotal if self.kind != "ivfpq" else int(self.labels[-1]) + 1
        labels = np.arange(first, first + len(vectors))
        if self.kind == "ivfpq":
            self.index.add_with_ids(vectors, labels)
        else:
            self.index.add(vectors)
        self.labels = np.concatenate([self.labels, labels])

    def remove(self, gone: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take rows out, and give those that stay, in their order."""
        kept = np.setdiff1d(np.arange(len(self)), gone)
        if not len(kept):
            self.index = None
        elif self.kind != "hnsw":
            self._own()
            self.index.remove_ids(self.labels[gone])
        self.labels = self.labels[kept] if self.kind != "exact" else np.arange(len(kept))
        return kept

    def search(self, probes: NDArray[np.float32], top_k: int) -> Found:
        """Find the `top_k` rows most like each probe [Q, D]."""
        scores, labels = search_index(self.kind, self.index, probes, top_k, self.labels)
        rows = np.searchsorted(self.labels, labels)
        rows[labels < 0] = -1
        return Found(np.where(rows < 0, -np.inf, scores).astype(np.float32), rows)

    def vectors(self) -> NDArray[np.float32]:
        """The vectors [N, D]; those of "ivfpq" are only what its codes say."""
        if self.index is None:
            return np.empty((0, self.dim), dtype=np.float32)
        return vectors_of(self.kind, self.index, self.labels)

    def build(self, vectors: NDArray[np.float32], form: Form) -> None:
        """Keep these vectors instead, in an index built anew."""
        self.index, self.kind = build_index(form.kind, vectors, form.code_bytes), form.kind
        self._mapped = False
        self.labels = np.arange(len(vectors))

    def _own(self) -> None:
        if self._mapped:  # then it must not be changed
            self.index, self._mapped = own_index(self.index), False
