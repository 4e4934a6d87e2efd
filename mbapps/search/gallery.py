"""A gallery: vectors with ids and metadata, asked for the rows that are most like a probe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .budget import Form, check_max_mb, other_bytes
from .checks import ModelId, check_new, check_vectors, some
from .folder import METADATA, read_folder, write_folder
from .indexes import KINDS, choose_kind
from .rows import Found, Rows
from .texts import Column, Texts, as_column, from_arrays, holds, join, to_arrays


class Gallery:
    """Vectors [N, D] of length 1 with ids and columns.

    Kinds: "exact" compares a probe with all rows. "hnsw" walks a graph: it keeps the vectors whole, and rows that were
    removed stay as tombstones until they are a fifth, when saving builds the graph anew. "ivfpq" keeps a code of 3/8
    byte a number, or of less where the budget asks for it, learned from the first vectors that are added, so its scores
    are approximate too, and what it lost never comes back.

    Args:
        dim: D.
        model: what makes the vectors.
        kind: one of KINDS; None chooses by the number of rows and the budget, and again as the gallery grows.
        max_mb: most megabytes (of 1,000,000 bytes) of the folder that `save` writes, ids and columns among them; None
            is any number. The budget is saved too, and holds for rows that are added later.

    Attributes:
        ids: N unique texts.
        columns: by name, N texts or numbers.
        wanted, max_mb: as the arguments; what is set anew counts from the next `add` or `save` on.

    Raises:
        ValueError: an argument is out of its range.
        ImportError: faiss is missing, as soon as there is a row.
    """

    def __init__(self, dim: int, model: ModelId, kind: str | None = None, max_mb: float | None = None):
        if dim < 1:
            raise ValueError(f"a gallery's vectors need dim >= 1, got {dim}")
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, or null, got {kind!r}")
        check_max_mb(max_mb)
        self.dim = dim
        self.model = model
        self.wanted = kind
        self.max_mb = max_mb
        self.ids = Texts.pack([])
        self.columns: dict[str, Column] = {}
        self._rows = Rows(dim, kind or choose_kind(0))
        self._row_of: dict[str, int] | None = None  # made when it is needed: opening must not take a loop

    @property
    def kind(self) -> str:
        """How the rows are kept now."""
        return self._rows.kind

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._by_id()

    def row(self, name: str) -> int | None:
        """Row of an id, or None."""
        return self._by_id().get(name)

    def facts(self, row: int) -> dict[str, Any]:
        """What the columns say of one row: texts and numbers by name."""
        return {
            name: column[row] if isinstance(column, Texts) else column[row].item()
            for name, column in self.columns.items()
        }

    def _by_id(self) -> dict[str, int]:
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
            wanted = None if meta["chosen"] else meta["kind"]
            gallery = cls(meta["dim"], ModelId(**meta["model"]), wanted, meta.get("max_mb"))
            columns = from_arrays({key: arrays[key] for key in arrays if "/" in key}, meta["count"])
            if len(arrays["labels"]) != meta["count"]:
                raise ValueError(f"it has {len(arrays['labels'])} labels")
            gallery._rows = Rows(gallery.dim, meta["kind"], index, arrays["labels"])
            ids = columns.pop("ids")
            if not isinstance(ids, Texts):
                raise TypeError("ids must be texts")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / METADATA} does not belong to this gallery: {error}") from error
        gallery.ids = ids
        gallery.columns = {name.removeprefix("column/"): column for name, column in columns.items()}
        return gallery

    def save(self, folder: str | Path) -> Path:
        """Write the gallery by rename: `folder` holds it whole, or what was there before.

        Raises:
            OSError: there is no room, or no right to write.
            ValueError: no way to keep the rows fits into the budget.
        """
        self.settle()
        write_folder(Path(folder), self._rows.index, self._arrays(self.ids, self.columns), self._meta())
        return Path(folder)

    def settle(self) -> bool:
        """Build the index anew if it is not what is wanted, does not fit or has many tombstones; tell if it was.

        Raises:
            ValueError: no way to keep the rows fits into the budget.
        """
        form = self._form(0, self.ids, self.columns) if len(self) else None
        if form is None and not self._rows.worn:
            return False
        self._rows.build(self._rows.vectors(), form or self._rows.form)
        return True

    def _arrays(self, ids: Texts, columns: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
        named = {"ids": ids, **{f"column/{name}": column for name, column in columns.items()}}
        return {"labels": self._rows.labels, **to_arrays(named)}

    def _meta(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "chosen": self.wanted is None, "dim": self.dim, "count": len(self),
            "max_mb": None if self.max_mb == math.inf else self.max_mb,
            "model": asdict(self.model) | {"view": dict(self.model.view)},
        }  # fmt: skip

    def _form(self, more: int, ids: Texts, columns: Mapping[str, Column]) -> Form | None:
        """How to keep the rows and so many more, with these ids and columns; None is as now."""
        others = other_bytes(self._arrays(ids, columns), self._meta()) + 8 * more  # labels
        return self._rows.form_of(len(self) + more, self.wanted, self.max_mb, others)

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
            ValueError: vectors are of another model, width or length, or not finite; an id is there twice; columns are
                missing or too short; or no way to keep the rows fits into the budget.
        """
        if model is not None:
            self.expect(model)
        added = Texts.pack(ids)
        vectors = check_vectors(vectors, self.dim, added)
        check_new(added.plain(), self._by_id())
        named = {name: as_column(name, values, len(added)) for name, values in (columns or {}).items()}
        kinds, known = ({n: holds(column) for n, column in cs.items()} for cs in (named, self.columns))
        if len(self) and kinds != known:
            raise ValueError(
                f"the gallery's columns are {known}, the new rows' {kinds}; they must be the same"
            )
        if not len(added):
            return
        before = len(self)
        joined = join([self.ids, added]) if before else added
        columns = {n: join([self.columns[n], c]) if before else c for n, c in named.items()}
        form = self._form(len(added), joined, columns)  # type: ignore[arg-type]
        if form is None:
            self._rows.add(vectors)
        else:
            self._rows.build(np.concatenate([self.vectors(), vectors]) if before else vectors, form)
        self.ids, self.columns, self._row_of = joined, columns, None  # type: ignore[assignment]

    def remove(self, ids: Iterable[str]) -> None:
        """Take rows out: all that are named, or none where there is an error.

        Raises:
            ValueError: an id is not there.
        """
        rows, wanted = self._by_id(), list(dict.fromkeys(ids))
        if unknown := [name for name in wanted if name not in rows]:
            raise ValueError(f"no {some(unknown)} in the gallery; nothing was removed")
        if not wanted:
            return
        gone = np.array([rows[name] for name in wanted], dtype=np.int64)
        kept = self._rows.remove(gone)
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
        if not len(self):
            raise ValueError("the gallery is empty; add vectors to it first")
        probes = check_vectors(probes, self.dim)
        return self._rows.search(probes, min(top_k, len(self)))

    def vectors(self) -> NDArray[np.float32]:
        """The vectors [N, D]; those of "ivfpq" are only what its codes say."""
        return self._rows.vectors()
