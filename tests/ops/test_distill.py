from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mbapps.ops.distill import attribute_cross_entropy, softened_kl, squared_difference

B, K = 5, 4


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(3 * torch.randn(2, B, K, generator=generator).double())  # type: ignore[return-value]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(x / temperature) for x in row]
    return [power / sum(powers) for power in powers]


def test_attribute_cross_entropy_is_the_mean_of_each_pair(pair: tuple[Tensor, Tensor]) -> None:
    total = 0.0
    for ours, theirs in zip(*(logits.tolist() for logits in pair), strict=True):
        for x, t in zip(ours, theirs, strict=True):
            total -= sigmoid(t) * math.log(sigmoid(x)) + (1 - sigmoid(t)) * math.log(1 - sigmoid(x))
    assert attribute_cross_entropy(*pair).item() == pytest.approx(total / (B * K), rel=1e-5)


def test_squared_difference_is_the_mean_squared_distance(pair: tuple[Tensor, Tensor]) -> None:
    total = sum(math.dist(x, t) ** 2 for x, t in zip(*(rows.tolist() for rows in pair), strict=True))
    assert squared_difference(*pair).item() == pytest.approx(total / B, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softened_kl_is_the_mean_divergence(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    total = 0.0
    for ours, theirs in zip(*(logits.tolist() for logits in pair), strict=True):
        p, q = softmax(theirs, temperature), softmax(ours, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert softened_kl(*pair, temperature).item() == pytest.approx(temperature**2 * total / B, rel=1e-4)


def kl(logits: Tensor, teacher: Tensor) -> Tensor:
    return softened_kl(logits, teacher, 2.0)


@pytest.mark.parametrize("loss", [attribute_cross_entropy, squared_difference, kl])
def test_a_student_like_its_teacher_has_nothing_to_learn(
    pair: tuple[Tensor, Tensor], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    student = pair[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(student, pair[0]), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(loss(student, pair[1]), student)
    assert gradient.abs().max() > 1e-3


def test_logits_beyond_reach_stay_finite() -> None:
    sure, wrong = torch.tensor([[80.0, -80.0]]), torch.tensor([[-80.0, 80.0]])
    for loss in (attribute_cross_entropy, kl):
        assert loss(sure, wrong).item() > 10
        assert torch.isfinite(loss(sure, wrong))


@pytest.mark.parametrize("loss", [attribute_cross_entropy, squared_difference, kl])
def test_another_size_is_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=r"the student gives \[2, 3\], the teacher \[2, 4\]"):
        loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="the teacher's temperature must be > 0, got 0"):
        softened_kl(torch.zeros(1, 2), torch.zeros(1, 2), 0)
