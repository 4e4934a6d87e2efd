"""Columns of texts and of numbers that open without a loop over their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Texts:
    """N texts as one run of UTF-8 bytes, cut at N + 1 places: a text is made when it is asked for.

    >>> texts = Texts.pack(["a", "", "ü/b.jpg"])
    >>> len(texts), texts[2], list(texts.take(np.array([2, 0])))
    (3, 'ü/b.jpg', ['ü/b.jpg', 'a'])
    """

    def __init__(self, content: NDArray[np.uint8], cuts: NDArray[np.int64]):
        self.content = content
        self.cuts = cuts

    @classmethod
    def pack(cls, texts: Iterable[str]) -> Texts:
        """Pack texts.

        Raises:
            ValueError: one of them is no text, or none that UTF-8 can hold.
        """
        try:
            encoded = [text.encode() for text in texts]
        except (AttributeError, UnicodeEncodeError) as error:
            raise ValueError(f"ids and columns of texts take only texts: {error}") from None
        cuts = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in encoded], out=cuts[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), cuts)

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def __getitem__(self, row: int) -> str:
        return self.content[self.cuts[row] : self.cuts[row + 1]].tobytes().decode()

    def take(self, rows: NDArray[np.int64]) -> Texts:
        """The texts of some rows, in their order."""
        return Texts.pack(self[row] for row in rows.tolist())

    def plain(self) -> list[str]:
        """All of them."""
        content, cuts = self.content.tobytes(), self.cuts.tolist()
        return [content[start:end].decode() for start, end in zip(cuts[:-1], cuts[1:], strict=True)]


Column = Texts | NDArray[Any]


def as_column(name: str, values: Sequence[Any] | NDArray[Any] | Texts, count: int) -> Column:
    """Make a column of texts, or of numbers if it has any.

    Raises:
        ValueError: its length is another, or it holds neither.
    """
    if len(values) != count:
        raise ValueError(f"the column {name} has {len(values)} values for {count} ids")
    if isinstance(values, Texts):
        return values
    if len(values) and isinstance(values[0], str):
        return Texts.pack(values)
    numbers = np.asarray(values)
    if count and (numbers.ndim != 1 or numbers.dtype.kind not in "iuf"):
        raise ValueError(f"the column {name} must hold texts or numbers, got {numbers.dtype} {numbers.shape}")
    return numbers


def join(columns: Sequence[Column]) -> Column:
    """Put columns of one kind below one another."""
    if isinstance(columns[0], Texts):
        return Texts.pack(chain.from_iterable(column.plain() for column in columns))  # type: ignore[union-attr]
    return np.concatenate(columns)  # type: ignore[arg-type]


def holds(column: Column) -> str:
    """What a column holds."""
    return "texts" if isinstance(column, Texts) else "numbers"


def to_arrays(columns: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
    """Arrays that a file of columns holds: texts become two."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, column in columns.items():
        if isinstance(column, Texts):
            arrays |= {f"{name}/content": column.content, f"{name}/cuts": column.cuts}
        else:
            arrays[f"{name}/numbers"] = column
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]], count: int) -> dict[str, Column]:
    """Columns of `count` rows out of what `to_arrays` gave; the rows themselves are not looked at.

    Raises:
        ValueError: they are none, or of another length.
    """
    columns: dict[str, Column] = {}
    for key, array in arrays.items():
        name, _, part = key.rpartition("/")
        if part == "numbers":
            columns[name] = array
        elif part == "cuts" and f"{name}/content" in arrays:
            columns[name] = Texts(arrays[f"{name}/content"], array)
    if any(len(column) != count for column in columns.values()):
        raise ValueError(f"its columns do not have {count} rows each")
    return columns
