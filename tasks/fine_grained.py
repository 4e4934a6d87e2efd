"""Fine-grained classification: one linear layer on the pooled features, as in the paper's ImageNet models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.batches import ClassificationBatch
from mbapps.models.mobilenet import MobileNetV1
from mbapps.ops.distill import softened_kl
from mbapps.predictions import Classification


class FineGrainedHead(nn.Module):
    """Feature maps -> {"logits": [B, K], "map": [B, C, H, W]} for K classes; the map, c5, in evaluation only.

    Args:
        body: asked for the width of c5; not kept.
        class_names: K names.
        image_size: side of the square input it is meant for, px; pooled features allow any other.
        dropout: share of the pooled features dropped in training, in [0, 1).
        label_smoothing: share of the target spread over all classes, in [0, 1); the paper has none.
        central_crop: share of each side of an image that is seen, in (0, 1].
        temperature: what logits are divided by, > 0: fitted on validation, so that probabilities mean what they say.
        teacher_temperature: that softens a teacher's answers and its own where it learns from one, > 0.
        top_k: classes that an answer tells, best first, >= 1; all of them where there are fewer.

    Source: Howard et al., MobileNets (2017), Table 1 and section 4.3.
    """

    CLASS_LAYERS = ("linear.",)  # state dict prefixes that are void for other class names
    DRAWN = ("map",)  # outputs that are for pictures alone
    POOLED = True  # what it says is linear in the pooled c5, all that it sees
    SCORED = False  # its answers are the best classes, however sure

    def __init__(
        self,
        body: MobileNetV1,
        class_names: Sequence[str],
        image_size: int = 224,
        *,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        central_crop: float = 0.875,
        temperature: float = 1.0,
        teacher_temperature: float = 2.0,
        top_k: int = 5,
    ):
        super().__init__()
        if not class_names:
            raise ValueError("task=fine_grained needs at least one class, got none")
        for name, value in {"dropout": dropout, "label_smoothing": label_smoothing}.items():
            if not 0 <= value < 1:
                raise ValueError(f"task.head.{name} must be in [0, 1), got {value}")
        if not 0 < central_crop <= 1:
            raise ValueError(f"task.head.central_crop must be in (0, 1], got {central_crop}")
        if temperature <= 0:
            raise ValueError(f"task.head.temperature must be > 0, got {temperature}")
        if teacher_temperature <= 0:
            raise ValueError(f"task.head.teacher_temperature must be > 0, got {teacher_temperature}")
        if top_k < 1:
            raise ValueError(f"task.head.top_k must be >= 1, got {top_k}")
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.settings: dict[str, Any] = {
            "dropout": dropout, "label_smoothing": label_smoothing, "central_crop": central_crop,
            "temperature": temperature, "teacher_temperature": teacher_temperature, "top_k": top_k,
        }  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(body.features["c5"].channels, len(self.class_names))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = features["c5"].mean(dim=(2, 3))  # [B, C]
        outputs = {"logits": self.linear(self.dropout(pooled))}
        if not self.training:
            outputs["map"] = features["c5"]
        return outputs

    def loss(self, outputs: dict[str, Tensor], batch: ClassificationBatch) -> dict[str, Tensor]:
        """Give {"loss"}: cross-entropy with the labels."""
        smoothing = self.settings["label_smoothing"]
        return {"loss": F.cross_entropy(outputs["logits"].float(), batch.labels, label_smoothing=smoothing)}

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return float(self.settings["temperature"])

    def distill_loss(self, outputs: dict[str, Tensor], teacher_logits: Tensor) -> Tensor:
        """Divergence from the teacher's softened probabilities, averaged over images.

        Args:
            outputs: of this head, for B images.
            teacher_logits: [B, K], the classes in this head's order.

        Source: Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2.
        """
        return softened_kl(outputs["logits"], teacher_logits, self.settings["teacher_temperature"])

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of images flipped left to right -> what they say of the images as they were."""
        return {**outputs, "map": outputs["map"].flip(-1)}

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[Classification]:
        """Raw outputs -> the classes of each image, and where the best one was seen; `sizes` does not matter.

        Where is the class activation map: the best class's weights applied to each cell of c5, from its least
        value to its greatest.

        Source: Zhou et al., Learning Deep Features for Discriminative Localization (2016), section 2.
        """
        logits = outputs["logits"].float() / self.temperature
        heats: Any = [None] * len(logits)
        if "map" in outputs:
            best = self.linear.weight[logits.argmax(dim=1)].float()  # [B, C]
            heat = torch.einsum(
                "bchw,bc->bhw", outputs["map"].float(), best
            ).float()  # autocast would halve it
            low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
            heats = ((heat - low) / (high - low).clamp(min=1e-6)).cpu().numpy()
        margin = (1 - self.settings["central_crop"]) / 2
        window = (margin, margin, 1 - margin, 1 - margin)
        return [
            Classification(row, self.class_names, self.settings["top_k"], heat, window)
            for row, heat in zip(logits.cpu().numpy(), heats, strict=True)
        ]

    def calibrate(self, metric: Any) -> None:
        """Take the temperature that suits the answers a metric has collected; it multiplies with the one it has."""
        self.settings["temperature"] *= metric.best_temperature()
