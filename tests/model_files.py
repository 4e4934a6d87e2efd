"""Model folders for tests of exports: small networks that were never trained, with norms that do something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mbapps.deploy.saving import describe, save_bundle
from mbapps.deploy.writers import MODULES
from mbapps.geo.cells import cell_ids, tokens
from mbapps.geo.partition import cells_of
from mbapps.geo.shapes import centres
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.face_attr import FaceAttrHead
from mbapps.tasks.face_embed import FaceEmbedHead
from mbapps.tasks.fine_grained import FineGrainedHead
from mbapps.tasks.geo import GeoHead

NAMES = ("cat", "dog", "pug")
SIDE = 64
HEADS: dict[str, type[Any]] = {
    "detection": DetectionHead,
    "fine_grained": FineGrainedHead,
    "face_attr": FaceAttrHead,
    "face_embed": FaceEmbedHead,
    "geo": GeoHead,
}
TOWNS = np.array(
    [(48.9, 2.3), (48.1, 11.6), (40.4, -3.7), (-33.9, 151.2), (35.7, 139.7), (43.5, 11.9)]
)  # degrees
CELLS = [  # of two nested partitions
    f"{name}/{token}"
    for name, level in (("coarse", 1), ("fine", 6))
    for token in tokens(np.unique(cell_ids(*TOWNS.T, level))).tolist()
]
CLASSES: dict[str, Sequence[str]] = {"face_embed": (), "geo": CELLS}
OWN: dict[str, dict[str, Any]] = {"geo": {"fitted": {"temperature": 2.5}}}


def network(
    *heads: str,
    seed: int = 0,
    names: Sequence[str] = NAMES,
    norm: str = "shared",
    sides: Mapping[str, int] | None = None,
    **settings: Any,
) -> Network:
    """A network whose every norm has statistics and factors of its own, and whose detector is sure of some boxes."""
    torch.manual_seed(seed)
    body = MobileNetV1(alpha=0.25, shallow=True)
    initialise(body)
    made = Network(
        body,
        {
            name: HEADS[name](
                body, CLASSES.get(name, names), (sides or {}).get(name, SIDE), **OWN.get(name, {}), **settings
            )
            for name in heads
        },
        norm,
    )
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.8, 1.4)
                module.bias.normal_(std=0.3)
        for head in made.heads.values():
            for layer in getattr(head, "classes", ()):
                layer.weight.mul_(8)
            if isinstance(head, GeoHead):
                head.place_cells(np.concatenate([centres(cells) for cells in cells_of(CELLS).values()]))
                head.linear.weight.mul_(8)
    return made.eval()


def save(folder: Path, *heads: str, names: Sequence[str] = NAMES, **settings: Any) -> Path:
    made = network(*heads, names=names, **settings)
    facts = {"detection": {"thresholds": [0.3] * len(names)}}
    described = describe(
        made, {name: facts.get(name, {}) for name in heads}, lineage={"data": [], "weights": None}
    )
    return save_bundle(folder, made, described)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """RGB [H, W, 3] of several sizes: coloured blocks under noise."""
    random = np.random.default_rng(seed)
    blocks = [random.integers(0, 256, (6, 8, 3)) for _ in range(count)]
    large = [np.repeat(np.repeat(block, 9 + row % 3, 0), 11, 1) for row, block in enumerate(blocks)]
    return [(image + random.integers(-20, 21, image.shape)).clip(0, 255).astype(np.uint8) for image in large]


def need_runtime(runtime: str) -> None:
    """Skip where a runtime is not installed."""
    for module in MODULES[runtime]:
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'mbapps[{runtime}]'")
