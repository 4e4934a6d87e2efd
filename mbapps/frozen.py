"""Trains a head on a body that does not learn: what the body says of each image is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from . import app
from .data.pooled import Pooled, PooledData, join
from .models.norms import fold_norms


class PooledBody(nn.Module):
    """Stands in for the body while its head trains: pooled features [B, C, 1, 1] -> {"c5": the same}."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"c5": features}


class Pooling(pl.LightningModule):
    """Gives each batch, without its images, and the body's pooled c5 of its views: [B, C] float32 each.

    Args:
        body: in evaluation mode while it answers.
        mirror: view the mirror images too.
        seen: called with each batch before it leaves the processor.
    """

    def __init__(self, body: nn.Module, *, mirror: bool, seen: Any):
        super().__init__()
        self.body = body
        self.mirror = mirror
        self.seen = seen

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.seen(batch, dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> tuple[Any, list[Tensor]]:
        views = [batch.images, batch.images.flip(-1)] if self.mirror else [batch.images]
        pooled = [self.body(view)["c5"].mean(dim=(2, 3)).float().cpu() for view in views]
        columns = {
            name: column.cpu() for name, column in batch._asdict().items() if isinstance(column, Tensor)
        }
        return batch._replace(**columns | {"images": columns["images"][:, :0]}), pooled


@contextmanager
def fitting_data(cfg: DictConfig, folder: Path, task: Any, data: Any) -> Iterator[Any]:
    """Give what the task is to be fitted on: the data as they are or, with task.freeze_body, pooled features.

    Until the end of the context the network then takes these in place of images, and its state dict has the
    head alone. Both views an image can have in training are computed: as it is, and mirrored if data.augment.flip
    is set. No other augmentation takes part.

    Raises:
        ValueError: no image of a split could be read.
    """
    if not task.freeze_body:
        yield data
        return
    flip = _flip(cfg)
    body = task.network.body
    pooled = {
        "train": _pool(cfg, folder, body, data, "train", mirror=flip > 0),
        "val": _pool(cfg, folder, body, data, "val", mirror=task.test_flip),
    }
    if pooled["val"].mirrored is not None:  # heads are linear, but for the length of an embedding
        batch = pooled["val"].batch
        mean = (batch.images + pooled["val"].mirrored) / 2
        pooled["val"] = Pooled(batch._replace(images=mean), None)
    task.network.body = PooledBody()
    try:
        yield PooledData(data, pooled, flip)
    finally:
        task.network.body = body


def note(cfg: DictConfig) -> str:
    """What is to be said before it starts."""
    used = "only flip of data.augment has a part in it" if _flip(cfg) else "data.augment has no part in it"
    return f"task.freeze_body=true: the body sees each image once, uncropped by chance; {used}"


def _flip(cfg: DictConfig) -> float:
    return float((cfg.data.augment or {}).get("flip", 0.0))


def _pool(cfg: DictConfig, folder: Path, body: nn.Module, data: Any, split: str, *, mirror: bool) -> Pooled:
    trainer = app.build_trainer(cfg, folder, fitting=False)
    pooling = Pooling(fold_norms(body), mirror=mirror, seen=data.on_before_batch_transfer)
    answers = trainer.predict(pooling, data.view_loader(split))
    kept = [answer for answer in answers or () if len(answer[0].rows)]
    if not kept:
        raise ValueError(f"no image of the {split} split of {data.root} can be read")
    with torch.inference_mode(False):
        return join([batch for batch, _ in kept], [views for _, views in kept])
