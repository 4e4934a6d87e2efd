"""The one LightningModule: it owns the network, logs, optimises, schedules, keeps EMA and freezes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from mbapps.models.network import Network
from mbapps.predictions import Prediction

from .multi import Metric, Part, mean_relative
from .optimising import OPTIMIZERS, WarmedUpEma, parameter_groups, warmup_cosine


class Task(pl.LightningModule):
    """Trains and measures a network of one body and one head, or several.

    A batch is that of the one head, or {name: batch} of those that a step draws; numbers of several heads have the
    name of theirs before them.

    Args:
        network: the body and its heads.
        metric: makes a metric of a split's truth; of several heads, the `Part` of each by its name.
        monitor: the validation number that picks the best epoch, the highest, or with a minus before it the lowest.
            Of several heads "relative": see `mean_relative`.
        optimizer: "adamw", "sgd" or "rmsprop".
        lr: peak learning rate, > 0, for the batch size it was chosen with.
        weight_decay: on all weights but depthwise filters, norms and biases.
        warmup_epochs: over which the rate rises linearly from 0; may be a fraction.
        final_lr: share of the peak rate, in [0, 1], that the rate falls to along half a cosine; 1 keeps it constant.
        ema_decay: of the weights' moving average that is validated and shipped; 0 switches it off.
        body_lr: share of lr that the body learns with, in (0, 1]; a pretrained body under a new head takes less.
        freeze_epochs: epochs at the start in which only the heads learn.
        freeze_blocks: stages of the body (stem first) that do not learn, 0-14.
        freeze_body: only the head learns, on features that are computed once; for one head, on pooled features.
        freeze_bn: keep the body's batch norm statistics as loaded; a number: as they are after so many epochs, so that
            what follows learns with those that it will be measured with.
        test_flip: measure by the mean over each image and its mirror image, for twice the time; of several heads their
            parts say it.

    Source: MobileNets (2017), section 3.2: little or no weight decay on the depthwise filters.
    """

    def __init__(
        self,
        network: Network,
        metric: Callable[[Any], Metric] | Mapping[str, Part],
        *,
        monitor: str,
        optimizer: str = "adamw",
        lr: float = 0.01,
        weight_decay: float = 0.01,
        warmup_epochs: float = 1.0,
        final_lr: float = 0.01,
        ema_decay: float = 0.998,
        body_lr: float = 1.0,
        freeze_epochs: int = 0,
        freeze_blocks: int = 0,
        freeze_body: bool = False,
        freeze_bn: bool | int = False,
        test_flip: bool = False,
    ):
        super().__init__()
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"task.optimizer must be one of {sorted(OPTIMIZERS)}, got {optimizer!r}")
        if lr <= 0:
            raise ValueError(f"task.lr must be > 0, got {lr}")
        if not 0 <= final_lr <= 1:
            raise ValueError(f"task.final_lr must be in [0, 1], got {final_lr}")
        if not 0 <= ema_decay < 1:
            raise ValueError(f"task.ema_decay must be in [0, 1), got {ema_decay}")
        if not 0 < body_lr <= 1:
            raise ValueError(f"task.body_lr must be in (0, 1], got {body_lr}")
        if freeze_epochs < 0:
            raise ValueError(f"task.freeze_epochs must be >= 0, got {freeze_epochs}")
        if not isinstance(freeze_bn, int) or freeze_bn < 0:
            raise ValueError(
                f"task.freeze_bn must be true, false or a number of epochs >= 0, got {freeze_bn}"
            )
        stages = network.body.stages()
        if not 0 <= freeze_blocks <= len(stages):
            raise ValueError(f"task.freeze_blocks must be 0 to {len(stages)}, got {freeze_blocks}")
        self.network = network
        self.several = isinstance(metric, Mapping)  # named as several, though it may be one
        self.parts = (
            dict(metric)
            if isinstance(metric, Mapping)
            else {self.head_name: Part(metric, monitor, test_flip)}
        )
        for name in self.parts if freeze_body else ():
            if len(self.parts) > 1 or not getattr(network.head(name), "POOLED", False):
                raise ValueError(
                    f"task.freeze_body=true is for heads on pooled features, which are computed once; the {name} "
                    f"head sees whole maps: set task.freeze_blocks={len(stages)}"
                )
        self.monitor = monitor
        self.optimizer_name = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.final_lr = final_lr
        self.ema_decay = ema_decay
        self.body_lr = body_lr
        self.freeze_epochs = freeze_epochs
        self.freeze_body = freeze_body
        self.frozen: list[nn.Module] = [
            network.body.normalize, *stages[: len(stages) if freeze_body else freeze_blocks]
        ]  # fmt: skip
        # the epoch from which they rest
        self.freeze_bn = {True: 0, False: math.inf}[freeze_bn] if isinstance(freeze_bn, bool) else freeze_bn
        for stage in self.frozen:
            stage.requires_grad_(False)
        self.metrics: dict[str, Metric] = {}  # by split, of several heads as `_called` has it: what was found
        self.numbers: dict[str, dict[str, float]] = {}  # by the same: what it was worth
        self.images_seen = 0

    @property
    def head_name(self) -> str:
        """The name of the one head."""
        (name,) = self.network.heads
        return name

    @property
    def head(self) -> Any:
        """The one head, a part of `network`."""
        return self.network.head(self.head_name)

    @property
    def test_flip(self) -> bool:
        """Whether the one head is measured by mirror images too."""
        return self.parts[self.head_name].test_flip

    @test_flip.setter
    def test_flip(self, flip: bool) -> None:
        self.parts[self.head_name].test_flip = flip

    def _called(self, kind: str, name: str) -> str:
        """What is logged of a head: "val", or "val_detection" where there are several."""
        return f"{kind}_{name}" if self.several else kind

    def forward(self, images: Tensor, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
        return self.network(images, names)

    def train(self, mode: bool = True) -> Task:
        super().train(mode)
        for stage in self.frozen:
            stage.eval()
        if self.current_epoch >= self.freeze_bn or self.body_rests:
            for module in self.network.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @property
    def body_rests(self) -> bool:
        """Whether this is one of the first epochs, in which only the head learns."""
        return self.current_epoch < self.freeze_epochs

    def on_train_epoch_start(self) -> None:
        self.train()  # norms of a body that rests keep their statistics

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        batches = batch if isinstance(batch, dict) else {self.head_name: batch}
        # of a batch none may be readable: what counts the broken ones has had its say
        losses = [self._learn(name, one) for name, one in batches.items() if len(one.images)]
        return torch.stack(losses).sum() if losses else None

    def _learn(self, name: str, batch: Any) -> Tensor:
        """Loss of one head, by its weight."""
        part, head = self.parts[name], self.network.head(name)
        outputs = self._training_outputs(batch.images, name)
        losses = part.lessons.loss(head, outputs, batch) if part.lessons else head.loss(outputs, batch)
        if not torch.isfinite(losses["loss"]):
            data = self.trainer.datamodule.of(name)  # type: ignore[attr-defined]
            whose = f" of the {name} head" if self.several else ""
            raise FloatingPointError(
                f"the loss{whose} is {losses['loss'].item()} in epoch {self.current_epoch}, step {self.global_step}; "
                f"images of that batch: {', '.join(data.training_names(batch.rows.tolist()))}; lower task.lr, or look "
                "at these images' boxes"
            )
        self.images_seen += len(batch.images) * self.trainer.world_size
        self.log_dict(
            {f"{self._called('train', name)}_{key}": value for key, value in losses.items()},
            prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch.images),
        )  # fmt: skip
        return part.weight * losses["loss"]

    def _training_outputs(self, images: Tensor, name: str) -> dict[str, Tensor]:
        if self.body_rests and self.trainer.world_size == 1:  # several processes wait for all gradients
            with torch.no_grad():
                features = self.network.features(images, name)
            return self.network.head(name)(features)  # type: ignore[no-any-return]
        return self(images, [name])[name]

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, "val", dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, "test", dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        self._start("val")

    def on_test_epoch_start(self) -> None:
        self._start("test")

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def predictions(self, batch: Any, name: str) -> list[Prediction]:
        """Decoded answers of one head for one batch, in the original images' pixels."""
        outputs = self.network.answer(batch.images, name, flip=self.parts[name].test_flip)
        return self.network.head(name).decode(outputs, batch.sizes)  # type: ignore[no-any-return]

    def _start(self, split: str) -> None:
        for name, part in self.parts.items():
            truth = self.trainer.datamodule.of(name).truth(split)  # type: ignore[attr-defined]
            self.metrics[self._called(split, name)] = part.metric(truth)

    def _measure(self, batch: Any, split: str, head: int) -> None:
        if len(batch.images):  # a batch of which every image was broken has none
            name = list(self.parts)[head]
            metric = self.metrics[self._called(split, name)]
            metric.update(batch.rows.tolist(), self.predictions(batch, name))

    def _finish(self, split: str) -> None:
        found = {}
        for name in self.parts:
            called = self._called(split, name)
            metric = self.metrics[called]
            if self.trainer.world_size > 1:
                parts: list[list[Any]] = [[] for _ in range(self.trainer.world_size)]
                torch.distributed.all_gather_object(parts, metric.rows)
                metric.rows = list(
                    {row[0]: row for part in parts for row in part}.values()
                )  # some came twice
            self.numbers[called] = found[name] = metric.compute()
            self.log_dict(
                {f"{called}_{key}": value for key, value in found[name].items()}, rank_zero_only=False
            )
        if self.several:
            self.log(f"{split}_relative", mean_relative(self.parts, found), rank_zero_only=False)

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.network, self.weight_decay, self.lr, self.body_lr)
        optimizer = OPTIMIZERS[self.optimizer_name](groups, lr=self.lr)
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise ValueError(
                "the schedule needs an end: set trainer.max_epochs; trainer.max_time may stop it earlier"
            )
        steps_per_epoch = total / max(1, self.trainer.max_epochs or 1)
        warmup = round(self.warmup_epochs * steps_per_epoch)
        # a function, not an object: LambdaLR would restore an object's old length when a run is resumed for longer
        shape = warmup_cosine(warmup, max(1, int(total)), self.final_lr)
        rest = round(self.freeze_epochs * steps_per_epoch)  # the body's own rise starts when it wakes
        late = warmup_cosine(warmup, max(1, int(total)), self.final_lr, rest)
        shapes = [late if group["body"] else shape for group in groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shapes)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[pl.Callback]:
        if not self.ema_decay:
            return []
        return [WeightAveraging(multi_avg_fn=WarmedUpEma(self.ema_decay))]
