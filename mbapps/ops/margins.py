"""Losses that draw embeddings of one person together and keep those of others a margin away."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def triplet_loss(embeddings: Tensor, labels: Tensor, *, margin: float = 0.2) -> Tensor:
    """Give max(0, d(anchor, positive) - d(anchor, negative) + margin), averaged over all positive pairs of a batch.

    d is the squared L2 distance. Each ordered pair of images of one person takes the semi-hard negative: of the
    images of others that lie farther from the anchor than the positive does, the nearest. Where none lies
    farther, it takes the farthest of all. A batch without a positive pair, or without a negative, gives 0.

    Args:
        embeddings: [B, D] of length 1.
        labels: [B] who is shown.
        margin: of squared distance, > 0; the squared distance of unit vectors is at most 4.

    Raises:
        ValueError: the margin is not > 0.

    Source: Schroff et al., FaceNet (2015), sections 3.1 and 3.2, and margin 0.2.

    >>> points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> triplet_loss(points, torch.tensor([0, 0, 1])).item()  # (2 - 2 + 0.2 + 2 - 0 + 0.2) / 2
    1.2000000476837158
    """
    if margin <= 0:
        raise ValueError(f"task.head.triplet_margin must be > 0, got {margin}")
    embeddings = embeddings.float()
    distances = (2 - 2 * embeddings @ embeddings.T).clamp(min=0)  # [B, B]
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    others = (~same).sum(dim=1, keepdim=True)  # [B, 1]
    if not positive.any() or not others.any():
        return embeddings.sum() * 0
    far = torch.where(same, torch.inf, distances).sort(dim=1).values  # [B, B]: the negatives' first
    beyond = torch.searchsorted(far.detach(), distances.detach().contiguous(), right=True)
    negative = far.gather(1, torch.minimum(beyond, (others - 1).clamp(min=0)))
    counted = positive & (others > 0)
    losses = torch.where(counted, distances - negative + margin, 0).clamp(min=0)
    return losses.sum() / counted.sum().clamp(min=1)


def cosface_logits(cosines: Tensor, labels: Tensor, *, scale: float = 64.0, margin: float = 0.35) -> Tensor:
    """Give logits for a cross-entropy: scale * cosine, less scale * margin for the person who is shown.

    Args:
        cosines: [B, K] between B embeddings and the prototypes of K people.
        labels: [B] rows of the people.
        scale: > 0.
        margin: of cosine, >= 0.

    Raises:
        ValueError: scale or margin is out of its range.

    Source: Wang et al., CosFace (2018), equation 4; s = 64 and m = 0.35 in section 4.

    >>> cosface_logits(torch.tensor([[0.75, 0.25]]), torch.tensor([0]), scale=4, margin=0.25).tolist()
    [[2.0, 1.0]]
    """
    _check(scale, margin, "cosface_margin")
    own = F.one_hot(labels, cosines.shape[1]).to(cosines.dtype)
    return scale * (cosines - margin * own)


def arcface_logits(cosines: Tensor, labels: Tensor, *, scale: float = 64.0, margin: float = 0.5) -> Tensor:
    """Give logits for a cross-entropy: scale * cos(angle), the angle to the person who is shown widened by a margin.

    Beyond pi - margin, where cos(angle + margin) would rise again, the logit goes on falling as that of cosine less
    margin * sin(margin).

    Args:
        cosines: [B, K] between B embeddings and the prototypes of K people.
        labels: [B] rows of the people.
        scale: > 0.
        margin: radians, in [0, pi / 2].

    Raises:
        ValueError: scale or margin is out of its range.

    Source: Deng et al., ArcFace (2019), equation 3; s = 64 and m = 0.5 in section 3.1.

    >>> logits = arcface_logits(torch.tensor([[0.5, 0.25]]), torch.tensor([0]), scale=1, margin=math.pi / 6)
    >>> [round(logit, 4) for logit in logits[0].tolist()]  # cos(60 + 30 degrees)
    [0.0, 0.25]
    """
    _check(scale, margin, "arcface_margin")
    own = cosines.gather(1, labels[:, None])  # [B, 1]
    sines = (1 - own.square()).clamp(min=1e-12).sqrt()  # without the floor its gradient at 1 is infinite
    widened = own * math.cos(margin) - sines * math.sin(margin)
    widened = torch.where(own > -math.cos(margin), widened, own - margin * math.sin(margin))
    return scale * cosines.scatter(1, labels[:, None], widened)


def _check(scale: float, margin: float, name: str) -> None:
    if scale <= 0:
        raise ValueError(f"task.head.scale must be > 0, got {scale}")
    if not 0 <= margin <= math.pi / 2:
        raise ValueError(f"task.head.{name} must be in [0, {math.pi / 2:.4g}], got {margin}")
