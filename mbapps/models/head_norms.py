"""Norms of its own in the body for each head: faces, microscopes and landscapes have other statistics."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn


class HeadNorms(nn.Module):
    """Stands in for a batch norm of the body: one for each head, of which `active` answers.

    Args:
        norm: that all of them start as.
        names: of the heads, at least one.
    """

    def __init__(self, norm: nn.BatchNorm2d, names: Sequence[str]):
        super().__init__()
        self.norms = nn.ModuleDict({name: copy.deepcopy(norm) for name in names})
        self.active = names[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[self.active](x)  # type: ignore[no-any-return]


def part_norms(body: nn.Module, names: Sequence[str]) -> None:
    """Give a body, in place, norms for each head, which start as those it has."""
    for module in list(body.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, HeadNorms(child, names))


def use_norms(body: nn.Module, name: str) -> None:
    """Let the norms of one head answer from now on."""
    for module in body.modules():
        if isinstance(module, HeadNorms):
            module.active = name
