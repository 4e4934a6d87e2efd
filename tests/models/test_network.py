"""Several heads round one body: what is shared, and what a head has to itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network


class Mean(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"mean": features["c5"].mean(dim=(2, 3))}


def network(norm: str = "shared") -> Network:
    torch.manual_seed(0)
    return Network(MobileNetV1(0.25), {"a": Mean(), "b": Mean()}, norm)


IMAGES = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_body_runs_once_for_all_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0
    forward = MobileNetV1.forward

    def counting(self: MobileNetV1, images: Tensor) -> dict[str, Tensor]:
        nonlocal runs
        runs += 1
        return forward(self, images)

    monkeypatch.setattr(MobileNetV1, "forward", counting)
    network()(IMAGES)
    assert runs == 1
    network("per_task")(IMAGES)
    assert runs == 3
    assert list(network()(IMAGES, ["b"])) == ["b"]


def test_norms_of_their_own_start_alike_and_part_in_training() -> None:
    shared, parted = network().eval(), network("per_task").eval()
    assert torch.equal(shared(IMAGES)["b"]["mean"], parted(IMAGES)["b"]["mean"])
    parted.train()
    for _ in range(3):
        parted(IMAGES, ["a"])
    parted.eval()
    assert torch.equal(
        shared(IMAGES)["b"]["mean"], parted(IMAGES)["b"]["mean"]
    )  # statistics of a alone moved
    assert not torch.equal(parted(IMAGES)["a"]["mean"], parted(IMAGES)["b"]["mean"])


def test_a_part_of_the_heads_shares_the_weights() -> None:
    whole = network("per_task").eval()
    part = whole.only(["b"])
    assert part.body is whole.body
    assert list(part.heads) == ["b"]
    assert torch.equal(part(IMAGES)["b"]["mean"], whole(IMAGES)["b"]["mean"])
    assert not part.training


def test_an_unknown_norm() -> None:
    with pytest.raises(ValueError, match=r"norm must be one of \['shared', 'per_task'\], got 'own'"):
        network("own")
