"""Fine-grained classification: one linear layer on the pooled features, as in the paper's ImageNet models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.models.mobilenet import MobileNetV1
from mbapps.predictions import Classification


class FineGrainedHead(nn.Module):
    """Feature maps -> {"logits": [B, K]} for K classes.

    Args:
        body: asked for the width of c5; not kept.
        class_names: K names.
        image_size: side of the square input it is meant for, px; pooled features allow any other.
        dropout: share of the pooled features dropped in training, in [0, 1).
        top_k: classes that `decode` gives, best first, >= 1; all of them where there are fewer.

    Source: Howard et al., MobileNets (2017), Table 1 and section 4.3.
    """

    CLASS_LAYERS = ("linear.",)  # state dict prefixes that are void for other class names

    def __init__(
        self,
        body: MobileNetV1,
        class_names: Sequence[str],
        image_size: int = 224,
        *,
        dropout: float = 0.0,
        top_k: int = 5,
    ):
        super().__init__()
        if not class_names:
            raise ValueError("task=fine_grained needs at least one class, got none")
        if not 0 <= dropout < 1:
            raise ValueError(f"task.head.dropout must be in [0, 1), got {dropout}")
        if top_k < 1:
            raise ValueError(f"task.head.top_k must be >= 1, got {top_k}")
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.settings: dict[str, Any] = {"dropout": dropout, "top_k": top_k}
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(body.features["c5"].channels, len(self.class_names))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = features["c5"].mean(dim=(2, 3))  # [B, C]
        return {"logits": self.linear(self.dropout(pooled))}

    def loss(self, outputs: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """Give {"loss"}: cross-entropy with `batch.labels`, int64 [B]."""
        return {"loss": F.cross_entropy(outputs["logits"].float(), batch.labels)}

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of images flipped left to right, which are those of the images: a class has no sides."""
        return outputs

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[Classification]:
        """Raw outputs -> the best classes of each image; `sizes` does not matter to a class."""
        probs = outputs["logits"].float().softmax(dim=1)
        scores, labels = probs.topk(min(self.settings["top_k"], probs.shape[1]), dim=1)
        return [
            Classification(label, score, self.class_names)
            for label, score in zip(labels.cpu().numpy(), scores.cpu().numpy(), strict=True)
        ]
