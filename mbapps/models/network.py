"""One body and its named heads: the pure network that is trained, shipped and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .head_norms import part_norms, use_norms
from .mobilenet import MobileNetV1

NORMS = ("shared", "per_task")


class Network(nn.Module):
    """uint8 RGB images [B, 3, S, S] -> {head name: that head's raw outputs}; the body runs once.

    It knows no loss, no metric and no logging. Its state dict has `body.` and `heads.<name>.` keys: what
    a model folder stores.

    Args:
        body: of all heads; changed where the norms are parted.
        heads: by name.
        norm: "shared", or "per_task": each head has norms of its own in the body, which then runs once for each head.
    """

    def __init__(self, body: MobileNetV1, heads: Mapping[str, nn.Module], norm: str = "shared"):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}")
        if norm == "per_task":
            part_norms(body, list(heads))
        self.body = body
        self.heads = nn.ModuleDict(heads)
        self.norm = norm

    def head(self, name: str) -> Any:
        """One head.

        It has `class_names`, `image_size`, `settings` (they rebuild it), `CLASS_LAYERS`, `loss`, `decode` and
        `mirror`.
        """
        return self.heads[name]

    def only(self, names: Sequence[str]) -> Network:
        """Give a network of the same body and some of the heads; nothing is copied."""
        part = Network(self.body, {name: self.head(name) for name in names})
        part.norm = self.norm
        part.training = self.training
        return part

    def features(self, images: Tensor, name: str) -> dict[str, Tensor]:
        """Feature maps, as one head gets them."""
        if self.norm == "per_task":
            use_norms(self.body, name)
        return self.body(images)  # type: ignore[no-any-return]

    def forward(self, images: Tensor, names: Sequence[str] | None = None) -> dict[str, dict[str, Tensor]]:
        names = list(self.heads) if names is None else names
        if self.norm == "per_task":
            return {name: self.head(name)(self.features(images, name)) for name in names}
        features = self.body(images)
        return {name: self.head(name)(features) for name in names}

    def strip(self) -> None:
        """Leave behind, in place, what heads have for training alone."""
        for name in self.heads:
            if hasattr(self.head(name), "strip"):
                self.head(name).strip()

    def answer(self, images: Tensor, name: str, *, flip: bool = False) -> dict[str, Tensor]:
        """Raw outputs of one head; with `flip`, the mean of those for the images and for their mirror images."""
        outputs: dict[str, Tensor] = self(images, [name])[name]
        if not flip:
            return outputs
        mirrored = self.head(name).mirror(self(images.flip(-1), [name])[name])
        return {key: (value + mirrored[key]) / 2 for key, value in outputs.items()}
