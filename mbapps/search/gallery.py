"""A gallery: vectors with ids and metadata, asked for the rows that are most like a probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import ModelId, check_new, check_vectors, some
from .folder import INDEX, METADATA, read_folder, write_folder
from .indexes import KINDS, build_index, choose_kind, own_index, search_index, vectors_of
from .texts import Column, Texts, as_column, from_arrays, holds, join, to_arrays

MAX_TOMBSTONES = 0.2  # of HNSW's rows: beyond it a search walks over many rows for nothing


class Found(NamedTuple):
    """The k rows most like each of Q probes, best first."""

    scores: NDArray[np.float32]  # [Q, k] inner products in [-1, 1]; -inf beside row -1
    rows: NDArray[np.int64]  # [Q, k] of ids and columns; -1 where an approximate kind found no more


class Gallery:
    """Vectors [N, D] of length 1 with ids and columns.

    Kinds: "exact" compares a probe with all rows. "hnsw" walks a graph: it keeps the vectors whole, and rows that were
    removed stay as tombstones until they are a fifth, when saving builds the graph anew. "ivfpq" keeps a code of 3/8
    byte a number, learned from the first vectors that are added, so its scores are approximate too.

    Args:
        dim: D.
        model: what makes the vectors.
        kind: one of KINDS; None chooses by the number of rows, and again as it grows.

    Attributes:
        ids: N unique texts.
        columns: by name, N texts or numbers.

    Raises:
        ValueError: an argument is out of its range.
        ImportError: faiss is missing, as soon as there is a row.
    """

    def __init__(self, dim: int, model: ModelId, kind: str | None = None):
        if dim < 1:
            raise ValueError(f"a gallery's vectors need dim >= 1, got {dim}")
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, or null, got {kind!r}")
        self.dim = dim
        self.model = model
        self.kind = kind or choose_kind(0)
        self.chosen = kind is None
        self.ids = Texts.pack([])
        self.columns: dict[str, Column] = {}
        self._index: Any = None  # None without rows
        self._mapped = False  # then the index must not be changed
        self._labels = np.empty(0, dtype=np.int64)  # [N] ascending: the index's number of each row
        self._row_of: dict[str, int] | None = None  # made when it is needed: opening must not take a loop

    def __len__(self) -> int:
        return len(self._labels)

    def __contains__(self, key: object) -> bool:
        return key in self._rows()

    def row(self, name: str) -> int | None:
        """Row of an id, or None."""
        return self._rows().get(name)

    def facts(self, row: int) -> dict[str, Any]:
        """What the columns say of one row: texts and numbers by name."""
        return {
            name: column[row] if isinstance(column, Texts) else column[row].item()
            for name, column in self.columns.items()
        }

    def _rows(self) -> dict[str, int]:
        if self._row_of is None:
            self._row_of = {name: row for row, name in enumerate(self.ids.plain())}
        return self._row_of

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> Gallery:
        """Open a folder that `save` wrote.

        With `verify` every byte of its files is compared with the checksums in meta.json, else their sizes are. Both
        guard against accidents, not against malice: who can write meta.json can write checksums, and faiss reads its
        files with little suspicion. Nothing is unpickled, but open galleries of people whom you trust.

        Raises:
            FileNotFoundError: there is no gallery.
            ValueError: a file was cut short or altered, or is newer than this version.
        """
        folder = Path(folder)
        meta, index, arrays = read_folder(folder, verify=verify)
        try:
            gallery = cls(meta["dim"], ModelId(**meta["model"]), None if meta["chosen"] else meta["kind"])
            gallery.kind = meta["kind"]
            columns = from_arrays({key: arrays[key] for key in arrays if "/" in key}, meta["count"])
            labels = arrays["labels"]
            if len(labels) != meta["count"] or (np.diff(labels, prepend=-1) <= 0).any():
                raise ValueError("its labels do not ascend")
            if len(labels) and gallery.kind != "ivfpq" and labels[-1] >= index.ntotal:
                raise ValueError("its labels lie beyond the index")
            if len(labels) and gallery.kind != "hnsw" and index.ntotal != len(labels):
                raise ValueError(f"it has {len(labels)} rows, {INDEX} {index.ntotal}")
            ids = columns.pop("ids")
            if not isinstance(ids, Texts):
                raise TypeError("ids must be texts")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / METADATA} does not belong to this gallery: {error}") from error
        gallery.ids, gallery._index, gallery._labels, gallery._mapped = ids, index, labels, True
        gallery.columns = {name.removeprefix("column/"): column for name, column in columns.items()}
        return gallery

    def save(self, folder: str | Path) -> Path:
        """Write the gallery by rename: `folder` holds it whole, or what was there before.

        Raises:
            OSError: there is no room, or no right to write.
        """
        if self._index is not None and self._index.ntotal - len(self) > MAX_TOMBSTONES * self._index.ntotal:
            self._rebuild(self.vectors(), self.kind)
        meta = {
            "kind": self.kind, "chosen": self.chosen, "dim": self.dim, "count": len(self),
            "model": asdict(self.model) | {"view": dict(self.model.view)},
        }  # fmt: skip
        columns = {"ids": self.ids, **{f"column/{name}": column for name, column in self.columns.items()}}
        write_folder(Path(folder), self._index, {"labels": self._labels, **to_arrays(columns)}, meta)
        return Path(folder)

    def expect(self, model: ModelId) -> None:
        """Check that vectors of `model` can be compared with these.

        Raises:
            ValueError: another model made these, or it looked at the images in another way; both are named.
        """
        if not self.model.same(model):
            raise ValueError(
                f"the gallery holds vectors of the model {self.model}, which can't be compared with those of {model}; "
                "use that model, or build a gallery with this one"
            )

    def add(
        self,
        vectors: NDArray[np.float32],
        ids: Sequence[str],
        columns: Mapping[str, Sequence[Any] | NDArray[Any] | Texts] | None = None,
        *,
        model: ModelId | None = None,
    ) -> None:
        """Add rows at the end: all of them, or none where there is an error.

        Args:
            vectors: [N, D] of length 1.
            ids: N texts that are in the gallery not yet.
            columns: by name N texts or numbers each; the same names as those of the rows that are there.
            model: what made the vectors, compared with the gallery's; None if the caller knows.

        Raises:
            ValueError: vectors are of another model, width or length, or not finite; an id is there twice; or columns
                are missing or too short.
        """
        if model is not None:
            self.expect(model)
        added = Texts.pack(ids)
        vectors = check_vectors(vectors, self.dim, added)
        check_new(added.plain(), self._rows())
        named = {name: as_column(name, values, len(added)) for name, values in (columns or {}).items()}
        kinds, known = ({n: holds(column) for n, column in cs.items()} for cs in (named, self.columns))
        if len(self) and kinds != known:
            raise ValueError(
                f"the gallery's columns are {known}, the new rows' {kinds}; they must be the same"
            )
        if not len(added):
            return
        wanted = choose_kind(len(self) + len(added)) if self.chosen else self.kind
        if self._index is None or KINDS.index(wanted) > KINDS.index(self.kind):
            self._rebuild(np.concatenate([self.vectors(), vectors]) if len(self) else vectors, wanted)
        else:
            first = self._index.ntotal if self.kind != "ivfpq" else int(self._labels[-1]) + 1
            labels = np.arange(first, first + len(added))
            if self.kind == "ivfpq":
                self._own().add_with_ids(vectors, labels)
            else:
                self._own().add(vectors)
            self._labels = np.concatenate([self._labels, labels])
        before = len(self.ids)
        self.ids = join([self.ids, added]) if before else added  # type: ignore[assignment]
        self.columns = {n: join([self.columns[n], c]) if before else c for n, c in named.items()}
        self._row_of = None

    def remove(self, ids: Iterable[str]) -> None:
        """Take rows out: all that are named, or none where there is an error.

        Raises:
            ValueError: an id is not there.
        """
        rows, wanted = self._rows(), list(dict.fromkeys(ids))
        if unknown := [name for name in wanted if name not in rows]:
            raise ValueError(f"no {some(unknown)} in the gallery; nothing was removed")
        if not wanted:
            return
        gone = np.array([rows[name] for name in wanted], dtype=np.int64)
        kept = np.setdiff1d(np.arange(len(self)), gone)
        if not len(kept):
            self._index = None
        elif self.kind != "hnsw":
            self._own().remove_ids(self._labels[gone])
        self._labels = self._labels[kept] if self.kind != "exact" else np.arange(len(kept))
        self.ids = self.ids.take(kept)
        self.columns = {
            name: column.take(kept) if isinstance(column, Texts) else column[kept]
            for name, column in self.columns.items()
        }
        self._row_of = None

    def search(self, probes: NDArray[np.float32], top_k: int = 5, *, model: ModelId | None = None) -> Found:
        """Find the rows that are most like each probe.

        Args:
            probes: [Q, D] of length 1.
            top_k: rows wanted, >= 1; of a smaller gallery all come.
            model: what made the probes, compared with the gallery's; None if the caller knows.

        Raises:
            ValueError: the gallery is empty, or probes are of another model, width or length, or not finite.
        """
        if model is not None:
            self.expect(model)
        if top_k < 1:
            raise ValueError(f"top_k must be >= 1, got {top_k}")
        if self._index is None:
            raise ValueError("the gallery is empty; add vectors to it first")
        probes = check_vectors(probes, self.dim)
        scores, labels = search_index(self.kind, self._index, probes, min(top_k, len(self)), self._labels)
        rows = np.searchsorted(self._labels, labels)
        rows[labels < 0] = -1
        return Found(np.where(rows < 0, -np.inf, scores).astype(np.float32), rows)

    def vectors(self) -> NDArray[np.float32]:
        """The vectors [N, D]; those of "ivfpq" are only what its codes say."""
        if self._index is None:
            return np.empty((0, self.dim), dtype=np.float32)
        return vectors_of(self.kind, self._index, self._labels)

    def _own(self) -> Any:
        """The index, to be changed."""
        if self._mapped:
            self._index, self._mapped = own_index(self._index), False
        return self._index

    def _rebuild(self, vectors: NDArray[np.float32], kind: str) -> None:
        self._index, self.kind, self._mapped = build_index(kind, vectors), kind, False
        self._labels = np.arange(len(vectors))
