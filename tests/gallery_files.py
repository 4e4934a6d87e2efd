"""Galleries for tests."""

from __future__ import annotations

import numpy as np

from mbapps.search.checks import ModelId
from mbapps.search.gallery import Gallery

MODEL = ModelId("runs/a/model", "a" * 32, {"flip": False})
OTHER = ModelId("runs/b/model", "b" * 32, {"flip": False})
DIM = 16


def unit(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def names(count: int, start: int = 0) -> list[str]:
    return [f"{row}.jpg" for row in range(start, start + count)]


def filled(kind: str | None, count: int = 600, seed: int = 0) -> Gallery:
    gallery = Gallery(DIM, MODEL, kind)
    columns = {"person": [f"p{row % 7}" for row in range(count)], "lat": np.arange(count) / 2}
    gallery.add(unit(count, seed), names(count), columns)
    return gallery
