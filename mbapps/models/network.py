"""One body and its named heads: the pure network that is trained, shipped and exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .mobilenet import MobileNetV1


class Network(nn.Module):
    """uint8 RGB images [B, 3, S, S] -> {head name: that head's raw outputs}; the body runs once.

    It knows no loss, no metric and no logging. Its state dict has `body.` and `heads.<name>.` keys: what
    a model folder stores.
    """

    def __init__(self, body: MobileNetV1, heads: Mapping[str, nn.Module]):
        super().__init__()
        self.body = body
        self.heads = nn.ModuleDict(heads)

    def head(self, name: str) -> Any:
        """One head.

        It has `class_names`, `image_size`, `settings` (they rebuild it), `CLASS_LAYERS`, `loss`, `decode` and
        `mirror`.
        """
        return self.heads[name]

    def forward(self, images: Tensor) -> dict[str, dict[str, Tensor]]:
        features = self.body(images)
        return {name: head(features) for name, head in self.heads.items()}

    def strip(self) -> None:
        """Leave behind, in place, what heads have for training alone."""
        for name in self.heads:
            if hasattr(self.head(name), "strip"):
                self.head(name).strip()

    def answer(self, images: Tensor, name: str, *, flip: bool = False) -> dict[str, Tensor]:
        """Raw outputs of one head; with `flip`, the mean of those for the images and for their mirror images."""
        outputs = self(images)[name]
        if not flip:
            return outputs
        mirrored = self.head(name).mirror(self(images.flip(-1))[name])
        return {key: (value + mirrored[key]) / 2 for key, value in outputs.items()}
