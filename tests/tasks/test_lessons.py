from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from mbapps.batches import UNKNOWN, ClassificationBatch
from mbapps.models.mobilenet import MobileNetV1
from mbapps.ops.distill import softened_kl
from mbapps.tasks.fine_grained import FineGrainedHead
from mbapps.tasks.lessons import Lessons

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0], [0.5, 0.5, 0.0]])
ANSWERS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0]])


@pytest.fixture
def head() -> FineGrainedHead:
    return FineGrainedHead(MobileNetV1(0.25), ["a", "b", "c"], teacher_temperature=3.0)


def batch(labels: list[int], **fields: Tensor) -> ClassificationBatch:
    return ClassificationBatch(
        torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        torch.arange(3),
        torch.ones(3, 2),
        torch.tensor(labels),
        **fields,
    )


def test_the_paper_has_no_labels_in_it(head: FineGrainedHead) -> None:
    losses = Lessons().loss(head, {"logits": LOGITS}, batch([UNKNOWN] * 3, teacher=ANSWERS))
    assert list(losses) == ["loss"]
    torch.testing.assert_close(losses["loss"], softened_kl(LOGITS, ANSWERS, 3.0))


def test_labels_beside_it_count_where_there_are_any(head: FineGrainedHead) -> None:
    lessons = Lessons(label_weight=0.5)
    losses = lessons.loss(head, {"logits": LOGITS}, batch([0, UNKNOWN, 2], teacher=ANSWERS))
    expected = torch.nn.functional.cross_entropy(LOGITS[[0, 2]], torch.tensor([0, 2]))
    torch.testing.assert_close(losses["labels"], expected)
    torch.testing.assert_close(losses["loss"], losses["teacher"] + 0.5 * expected)
    none = lessons.loss(head, {"logits": LOGITS}, batch([UNKNOWN] * 3, teacher=ANSWERS))
    assert none["labels"] == 0
    torch.testing.assert_close(none["loss"], none["teacher"])


def test_a_teacher_is_asked_where_the_batch_brings_no_outputs(head: FineGrainedHead) -> None:
    views = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    asked = []

    def teacher(images: Tensor) -> Tensor:
        asked.append(images)
        return ANSWERS

    lessons = Lessons(teacher=teacher)
    losses = lessons.loss(head, {"logits": LOGITS}, batch([0, 1, 2], views=views))
    assert asked[0] is views
    torch.testing.assert_close(losses["loss"], softened_kl(LOGITS, ANSWERS, 3.0))
    assert copy.deepcopy(lessons) is lessons


def test_refusals(head: FineGrainedHead) -> None:
    with pytest.raises(ValueError, match=r"distill\.labels must be >= 0, got -1"):
        Lessons(-1)
    with pytest.raises(ValueError, match="brings no outputs of a teacher, and there is none to ask"):
        Lessons().loss(head, {"logits": LOGITS}, batch([0, 1, 2]))
    with pytest.raises(ValueError, match=r"task\.head\.teacher_temperature must be > 0, got 0"):
        FineGrainedHead(MobileNetV1(0.25), ["a", "b"], teacher_temperature=0)
