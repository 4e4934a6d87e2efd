from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mbapps.ops.margins import arcface_logits, cosface_logits, triplet_loss


def slow_triplet(embeddings: Tensor, labels: Tensor, margin: float) -> float:
    """The rule as it reads, triplet by triplet."""
    losses = []
    count = len(labels)
    for anchor in range(count):
        away = [float((embeddings[anchor] - embeddings[other]).square().sum()) for other in range(count)]
        negatives = sorted(away[other] for other in range(count) if labels[other] != labels[anchor])
        for positive in range(count):
            if positive != anchor and labels[positive] == labels[anchor] and negatives:
                beyond = [distance for distance in negatives if distance > away[positive]]
                losses.append(max(0.0, away[positive] - (beyond or negatives[-1:])[0] + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(5))
def test_each_pair_takes_its_semi_hard_negative(seed: int) -> None:
    torch.manual_seed(seed)
    embeddings = F.normalize(torch.randn(24, 8))
    labels = torch.randint(5, (24,))
    assert triplet_loss(embeddings, labels).item() == pytest.approx(
        slow_triplet(embeddings, labels, 0.2), abs=1e-5
    )


def test_a_triplet_pulls_and_pushes() -> None:
    embeddings = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.4], [1.0, 0.6]])).requires_grad_()
    loss = triplet_loss(embeddings, torch.tensor([0, 0, 1]))
    assert 0 < loss.item() < 0.4
    loss.backward()
    moved = F.normalize(embeddings.detach() - 0.1 * embeddings.grad)
    before, after = embeddings.detach() @ embeddings.detach().T, moved @ moved.T
    assert after[0, 1] > before[0, 1]
    assert after[0, 2] < before[0, 2]


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_a_triplet_there_is_no_loss_and_a_gradient_of_zero(labels: list[int]) -> None:
    embeddings = F.normalize(torch.randn(3, 4)).requires_grad_()
    loss = triplet_loss(embeddings, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert not embeddings.grad.any()


def test_one_anchor_without_a_negative_of_its_own_does_not_spoil_the_rest() -> None:
    """Three of one person and one of another: each anchor of the three has a negative, the fourth no positive."""
    embeddings = F.normalize(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([3, 3, 3, 9])
    assert triplet_loss(embeddings, labels).item() == pytest.approx(
        slow_triplet(embeddings, labels, 0.2), abs=1e-5
    )


def test_arcface_widens_the_angle_to_the_person_and_no_other() -> None:
    angles = torch.tensor([[0.3, 1.0, 2.0], [1.2, 0.4, 2.5]])
    logits = arcface_logits(angles.cos(), torch.tensor([0, 2]), scale=10, margin=0.5)
    wanted = angles.clone()
    wanted[0, 0] += 0.5
    wanted[1, 2] += 0.5
    torch.testing.assert_close(logits, 10 * wanted.cos(), atol=1e-4, rtol=0)


def test_arcface_never_rewards_a_wider_angle() -> None:
    angles = torch.linspace(0, math.pi, 200)
    logits = arcface_logits(angles.cos()[:, None], torch.zeros(200, dtype=torch.int64), scale=1, margin=0.5)
    assert (logits.diff(dim=0) <= 1e-4).all()


def test_arcface_has_a_gradient_at_its_best() -> None:
    cosines = torch.tensor([[1.0, -1.0]], requires_grad=True)
    arcface_logits(cosines, torch.tensor([0])).sum().backward()
    assert torch.isfinite(cosines.grad).all()


def test_papers_defaults() -> None:
    cosines = torch.tensor([[0.9, 0.1]])
    label = torch.tensor([0])
    torch.testing.assert_close(cosface_logits(cosines, label), torch.tensor([[64 * 0.55, 6.4]]))
    wanted = 64 * math.cos(math.acos(0.9) + 0.5)
    assert arcface_logits(cosines, label)[0, 0].item() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("logits", [cosface_logits, arcface_logits])
def test_settings_out_of_range(logits) -> None:  # noqa: ANN001
    cosines, labels = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="scale must be > 0, got 0"):
        logits(cosines, labels, scale=0)
    with pytest.raises(ValueError, match=r"face_margin must be in \[0, 1.571\], got 2"):
        logits(cosines, labels, margin=2)


def test_a_margin_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="triplet_margin must be > 0, got 0"):
        triplet_loss(torch.eye(2), torch.tensor([0, 0]), margin=0)
