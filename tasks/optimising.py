"""How weights learn: optimizers, the schedule of their rate, groups of parameters, and the average that is shipped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mbapps.models.network import Network

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True),
    # TF Object Detection's RMSprop for SSD; its epsilon of 1.0 makes it close to plain momentum
    "rmsprop": lambda groups, lr: torch.optim.RMSprop(groups, lr=lr, alpha=0.9, momentum=0.9, eps=1.0),
}


def warmup_cosine(warmup: int, total: int, final: float = 0.01, start: int = 0) -> Callable[[int], float]:
    """Share of the peak rate at a step: 0 before `start`, a line up, then half a cosine down to `final`.

    >>> schedule = warmup_cosine(warmup=10, total=100)
    >>> [round(schedule(step), 3) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.505, 0.01]
    """

    def share(step: int) -> float:
        if step < start:
            return 0.0
        if step < start + warmup:
            return (step - start + 1) / warmup
        progress = min(1.0, (step - start - warmup) / max(1, total - start - warmup))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return share


class WarmedUpEma:
    """Moving average whose decay rises from 0 to `decay`, so that the first epochs are not the initial weights."""

    def __init__(self, decay: float):
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averages: Any, current: Any, num_averaged: Any) -> None:
        done = int(num_averaged)
        decay = min(self.decay, (1 + done) / (10 + done))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, current, 1 - decay)
        else:  # counters of batch norms
            torch._foreach_copy_(averages, current)


def parameter_groups(
    network: Network, weight_decay: float, lr: float, body_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters by how they learn: those of the body at a share of the rate, and with decay or without.

    Depthwise filters, norms and biases have no weight decay. Each group says by "body" whose it is.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {
        (part, decayed): {
            "params": [], "weight_decay": weight_decay if decayed else 0.0, "lr": rate, "body": part == "body",
            "name": part if decayed else f"{part}_no_decay",
        }
        for part, rate in (("body", lr * body_lr), ("heads", lr))
        for decayed in (True, False)
    }  # fmt: skip
    for part in ("body", "heads"):
        for module in getattr(network, part).modules():
            depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    decayed = parameter.ndim > 1 and name == "weight" and not depthwise
                    groups[part, decayed]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
