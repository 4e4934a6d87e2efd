from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from mbapps.models.complexity import count
from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
from mbapps.tasks.face_attr import FaceAttrHead

NAMES = ["male", "age>=30", "age>=60"]
LOG2 = math.log(2)


@pytest.fixture
def head() -> FaceAttrHead:
    return FaceAttrHead(MobileNetV1(0.25), NAMES)


@pytest.mark.parametrize(
    ("alpha", "params", "macs"), [(1.0, 3_247_976, 185.4), (0.5, 839_112, 48.7), (0.25, 223_352, 13.3)]
)
def test_forty_attributes_have_the_papers_size(alpha: float, params: int, macs: float) -> None:
    body = MobileNetV1(alpha)
    head = FaceAttrHead(body, [f"attribute {index}" for index in range(40)])
    size = count(Network(body, {"face_attr": head}), 128)
    assert size.params == params
    assert size.macs / 1e6 == pytest.approx(macs, abs=0.05)


def test_logits_do_not_depend_on_the_image_size(head: FaceAttrHead) -> None:
    small, large = (head({"c5": torch.full((2, 256, side, side), 0.5)}) for side in (2, 7))
    assert small["logits"].shape == (2, 3)
    torch.testing.assert_close(small, large)


def test_loss_is_the_mean_over_what_is_known(head: FaceAttrHead) -> None:
    logits = torch.tensor([[0.0, 9.0, -3.0], [5.0, 0.0, 1.0]])
    labels = torch.tensor([[1, -1, 0], [-1, 0, 1]])
    terms = [LOG2, math.log1p(math.exp(-3)), LOG2, math.log1p(math.exp(-1))]
    loss = head.loss({"logits": logits}, SimpleNamespace(labels=labels))["loss"]  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(sum(terms) / 4)


def test_a_batch_of_which_nothing_is_known_teaches_nothing(head: FaceAttrHead) -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    batch = SimpleNamespace(labels=torch.full((2, 3), -1))
    loss = head.loss({"logits": logits}, batch)["loss"]  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_teachers_own_logits_are_the_best_answer(head: FaceAttrHead) -> None:
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    student = teacher.clone().requires_grad_()
    loss = head.distill_loss({"logits": student}, teacher)
    loss.backward()
    probs = teacher.sigmoid()
    entropy = -(probs * probs.log() + (1 - probs) * (1 - probs).log()).mean()
    assert loss.item() == pytest.approx(entropy.item())
    assert student.grad is not None
    assert student.grad.abs().max().item() < 1e-6
    assert head.distill_loss({"logits": teacher + 1}, teacher) > loss


def test_decode_keeps_the_order_of_very_sure_answers(head: FaceAttrHead) -> None:
    logits = torch.tensor([[0.0, 20.0, -30.0], [2.0, 21.0, -29.0]])
    first, second = head.decode({"logits": logits}, torch.tensor([[8, 8], [9, 9]]))
    assert first.probs[0] == 0.5
    assert (second.probs > first.probs).all()
    assert first.to_json()[1] == {"name": "age>=30", "score": 1.0, "present": True}


def test_settings_rebuild_the_head() -> None:
    body = MobileNetV1(0.25)
    head = FaceAttrHead(body, NAMES, 96, dropout=0.1, central_crop=0.9)
    twin = FaceAttrHead(body, head.class_names, head.image_size, **head.settings)
    twin.load_state_dict(head.state_dict())
    assert (twin.settings, twin.class_names, twin.dropout.p) == (head.settings, tuple(NAMES), 0.1)
    assert all(key.startswith(FaceAttrHead.CLASS_LAYERS) for key in head.state_dict())


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ([], {}, "needs at least one attribute, got none"),
        (NAMES, {"dropout": 1.0}, r"task\.head\.dropout must be in \[0, 1\), got 1\.0"),
        (NAMES, {"central_crop": 0.0}, r"task\.head\.central_crop must be in \(0, 1\], got 0\.0"),
    ],
)
def test_refusals(names: list[str], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceAttrHead(MobileNetV1(0.25), names, **settings)
