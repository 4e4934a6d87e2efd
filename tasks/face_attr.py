"""Face attributes: one linear layer on the pooled features, one yes or no per attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.batches import UNKNOWN, AttributeBatch
from mbapps.models.mobilenet import MobileNetV1
from mbapps.ops.distill import attribute_cross_entropy
from mbapps.predictions import Attributes


class FaceAttrHead(nn.Module):
    """Feature maps -> {"logits": [B, A]} for A attributes, which do not exclude each other.

    Args:
        body: asked for the width of c5; not kept.
        class_names: A names, of the attributes.
        image_size: side of the square input it is meant for, px; pooled features allow any other.
        dropout: share of the pooled features dropped in training, in [0, 1); the paper has none.
        central_crop: share of each side of an image that is seen, in (0, 1].

    Source: Howard et al., MobileNets (2017), section 4.5 and Table 12.
    """

    CLASS_LAYERS = ("linear.",)  # state dict prefixes that are void for other attributes
    POOLED = True  # what it says is linear in the pooled c5, all that it sees
    OF_FACES = True  # it is shown one cropped face

    def __init__(
        self,
        body: MobileNetV1,
        class_names: Sequence[str],
        image_size: int = 128,
        *,
        dropout: float = 0.0,
        central_crop: float = 1.0,
    ):
        super().__init__()
        if not class_names:
            raise ValueError("task=face_attr needs at least one attribute, got none")
        if not 0 <= dropout < 1:
            raise ValueError(f"task.head.dropout must be in [0, 1), got {dropout}")
        if not 0 < central_crop <= 1:
            raise ValueError(f"task.head.central_crop must be in (0, 1], got {central_crop}")
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.settings: dict[str, Any] = {"dropout": dropout, "central_crop": central_crop}
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(body.features["c5"].channels, len(self.class_names))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = features["c5"].mean(dim=(2, 3))  # [B, C]
        return {"logits": self.linear(self.dropout(pooled))}

    def loss(self, outputs: dict[str, Tensor], batch: AttributeBatch) -> dict[str, Tensor]:
        """Give {"loss"}: the binary cross-entropy of each attribute, averaged over those whose label is known."""
        known = batch.labels != UNKNOWN
        truth = batch.labels.clamp(min=0).float()
        losses = F.binary_cross_entropy_with_logits(outputs["logits"].float(), truth, reduction="none")
        return {"loss": (losses * known).sum() / known.sum().clamp(min=1)}

    def distill_loss(self, outputs: dict[str, Tensor], teacher_logits: Tensor) -> Tensor:
        """Cross-entropy of each attribute to the teacher's probability of it, averaged over attributes and images.

        Args:
            outputs: of this head, for B images.
            teacher_logits: [B, A], the attributes in this head's order.

        Source: Howard et al., MobileNets (2017), section 4.5, footnote 2.
        """
        return attribute_cross_entropy(outputs["logits"], teacher_logits)

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of images flipped left to right are what they say of the images as they were."""
        return outputs

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[Attributes]:
        """Raw outputs -> the attributes of each image; `sizes` does not matter."""
        logits = outputs["logits"].float().cpu().double()  # doubles: sure answers keep their order
        return [Attributes(row, self.class_names) for row in logits.sigmoid().numpy()]
