"""Command lines of small trainings of several heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HEADS = {
    "detection": (),
    "fine_grained": (),
    "face_attr": ("metric.resamples=20",),
    "geo": ("metric.resamples=20",),
    "face_embed": ("metric.resamples=20", "head.dim=16"),
}
CELLS = ("cells.max_photos=10", "cells.min_photos=1")
QUICK = (
    "task=multi", "data.num_workers=0", "trainer.max_epochs=2", "trainer.progress=false", "trainer.accelerator=cpu",
)  # fmt: skip
NARROW = "backbone.alpha=0.25"


def words(roots: Mapping[str, Path]) -> list[str]:
    """Words that train heads on sets of their own, at 64 px."""
    found = [*QUICK, f"heads=[{','.join(roots)}]"]
    for name, root in roots.items():
        found += [f"heads.{name}.data.{word}" for word in (f"root={root}", "image_size=64", "batch_size=8")]
        found += [f"heads.{name}.task.{word}" for word in HEADS[name]]
        found += [f"heads.{name}.data.{word}" for word in CELLS if name == "geo"]
    return found
