"""What a gallery asks of vectors and ids before it takes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .texts import Texts

LENGTH_TOLERANCE = 1e-2  # from 1: embeddings that were computed in half precision are let in
SHOWN_IDS = 5  # in an error


@dataclass(frozen=True)
class ModelId:
    """What made a gallery's vectors: only vectors of the same fingerprint and view can be compared.

    name: what people know the model by: its folder.
    fingerprint: of its weights and settings.
    view: how it looked at the images, as far as that can be set.
    """

    name: str
    fingerprint: str
    view: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        view = "".join(f", {key}={value}" for key, value in self.view.items())
        return f"{self.name} ({self.fingerprint[:12]}{view})"

    def same(self, other: ModelId) -> bool:
        """Tell whether their vectors can be compared; the name does not matter."""
        return (self.fingerprint, dict(self.view)) == (other.fingerprint, dict(other.view))


def is_share(value: object) -> bool:
    """Tell whether a value is a number in (0, 1].

    >>> is_share(0.5), is_share(1), is_share(0), is_share(True), is_share("0.5")
    (True, True, False, False, False)
    """
    return type(value) in (int, float) and 0 < value <= 1  # type: ignore[operator]


def check_vectors(vectors: NDArray[np.float32], dim: int, ids: Texts | None = None) -> NDArray[np.float32]:
    """Vectors as faiss takes them: float32 [N, dim] in one piece.

    Raises:
        ValueError: they have another width, are not finite or not of length 1; the first such row is named.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"vectors must be [N, {dim}] as the gallery's, got {list(vectors.shape)}")
    if ids is not None and len(ids) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors came with {len(ids)} ids")
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= LENGTH_TOLERANCE))
    if len(wrong):
        row = int(wrong[0])
        name = f" ({ids[row]})" if ids is not None else ""
        more = "" if len(wrong) == 1 else f", and {len(wrong) - 1} more are like it"
        raise ValueError(
            f"vectors must be finite and of length 1, but row {row}{name} has length {lengths[row]:.4g}{more}"
        )
    return vectors


def check_new(ids: Sequence[str], present: Collection[str]) -> None:
    """Check that no id is there twice.

    Raises:
        ValueError: one is; the first of them are named.
    """
    seen: set[str] = set()
    twice: list[str] = []
    for name in ids:
        if name in present or name in seen:
            twice.append(name)
        seen.add(name)
    if twice:
        raise ValueError(
            f"ids must be unique, but {some(twice)} would be there twice; remove the old rows first, or leave the new "
            "ones out"
        )


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - SHOWN_IDS} more" if len(names) > SHOWN_IDS else ""
    return ", ".join(names[:SHOWN_IDS]) + more
