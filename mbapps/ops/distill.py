"""Losses by which a student emulates a teacher's outputs instead of labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def attribute_cross_entropy(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Give the cross-entropy of each attribute to the teacher's probability of it, averaged over attributes and images.

    It is least where both give the same probabilities, and not 0 there: what is left is the teacher's own doubt.

    Args:
        logits: [B, A] of A attributes that do not exclude each other.
        teacher_logits: [B, A].

    Raises:
        ValueError: the shapes differ.

    Source: Howard et al., MobileNets (2017), section 4.5, footnote 2.
    """
    _check(logits, teacher_logits)
    return F.binary_cross_entropy_with_logits(logits.float(), teacher_logits.float().sigmoid())


def squared_difference(embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Give the squared distance between the embeddings of each image, averaged over images.

    Args:
        embeddings: [B, D], normalised or not, as the teacher's.
        teacher_embeddings: [B, D].

    Raises:
        ValueError: the shapes differ.

    Source: Howard et al., MobileNets (2017), section 4.7.

    >>> import torch
    >>> squared_difference(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)).item()
    2.5
    """
    _check(embeddings, teacher_embeddings)
    return (embeddings.float() - teacher_embeddings.float()).square().sum(dim=1).mean()


def softened_kl(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Give the divergence from the teacher's softened probabilities, averaged over images; 0 where both are alike.

    It is scaled by the square of the temperature, so that its gradients keep their size whatever that is.

    Args:
        logits: [B, K] of K classes that exclude each other.
        teacher_logits: [B, K].
        temperature: what both are divided by, > 0; the higher, the more the classes count that are not the best.

    Raises:
        ValueError: the shapes differ, or the temperature is not > 0.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2.
    """
    _check(logits, teacher_logits)
    if temperature <= 0:
        raise ValueError(f"the teacher's temperature must be > 0, got {temperature}")
    ours = F.log_softmax(logits.float() / temperature, dim=1)
    theirs = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student gives {list(student.shape)}, the teacher {list(teacher.shape)}: they must answer alike"
        )
