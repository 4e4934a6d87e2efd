from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mbapps.batches import PADDING, DetectionBatch
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.ops.boxes import BoxCoder
from mbapps.tasks.detection import DetectionHead, hard_negatives

NAMES = ("cat", "dog", "owl")


def make_head(**settings: object) -> DetectionHead:
    return DetectionHead(MobileNetV1(alpha=0.25), NAMES, 96, **settings)  # type: ignore[arg-type]


def make_batch(boxes: list[list[list[float]]], labels: list[list[int]], size: int = 96) -> DetectionBatch:
    most = max(map(len, labels))
    padded = torch.zeros(len(boxes), most, 4)
    targets = torch.full((len(boxes), most), PADDING)
    for image, (some, names) in enumerate(zip(boxes, labels, strict=True)):
        if some:
            padded[image, : len(some)] = torch.tensor(some)
            targets[image, : len(names)] = torch.tensor(names)
    images = torch.zeros(len(boxes), 3, size, size, dtype=torch.uint8)
    return DetectionBatch(
        images, torch.arange(len(boxes)), torch.full((len(boxes), 2), size), padded, targets
    )


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("image_size", [32, 97, 192, 300])
def test_outputs_fit_the_anchors(alpha: float, image_size: int) -> None:
    body = MobileNetV1(alpha=alpha)
    head = DetectionHead(body, NAMES, image_size)
    with torch.no_grad():
        outputs = Network(body, {"detection": head}).eval()(
            torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
        )
    assert outputs["detection"]["logits"].shape == (1, len(head.anchors), 4)
    assert outputs["detection"]["deltas"].shape == (1, len(head.anchors), 4)


def test_anchor_order_is_that_of_the_predictors() -> None:
    """A class logit raised by a bias of one predictor shows at the anchors of that predictor and class."""
    body = MobileNetV1(alpha=0.25)
    head = DetectionHead(body, NAMES, 96)
    with torch.no_grad():
        for layer in head.classes:
            layer.weight.zero_()
            layer.bias.zero_()
        head.classes[1].bias[5 * 4 + 2] = 7.0  # second map, last of its six anchors, column of "dog"
        logits = Network(body, {"detection": head}).eval()(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))[
            "detection"
        ]["logits"]
    raised = (logits[0, :, 2] == 7).nonzero().flatten().tolist()
    first = 6 * 6 * 3
    assert raised == [first + 6 * cell + 5 for cell in range(3 * 3)]


def test_ssd_512_has_six_maps_from_32_to_1() -> None:
    body = MobileNetV1(alpha=0.25)
    head = DetectionHead(body, NAMES, 512)
    assert len(head.anchors) == 32**2 * 3 + (16**2 + 8**2 + 4**2 + 2**2 + 1) * 6
    with torch.no_grad():
        outputs = Network(body, {"detection": head}).eval()(torch.zeros(1, 3, 512, 512, dtype=torch.uint8))
    assert outputs["detection"]["logits"].shape == (1, len(head.anchors), 4)


def test_mirrored_outputs_decode_to_mirrored_boxes() -> None:
    head = make_head(score_thresh=0.3)
    generator = torch.Generator().manual_seed(1)
    outputs = {
        "logits": torch.randn(2, len(head.anchors), 4, generator=generator),
        "deltas": torch.randn(2, len(head.anchors), 4, generator=generator),
    }
    sizes = torch.tensor([[96, 96], [50, 120]])
    for size, plain, mirrored in zip(
        sizes, head.decode(outputs, sizes), head.decode(head.mirror(outputs), sizes), strict=True
    ):
        assert len(plain) > 5
        width = float(size[1])
        flipped = plain.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
        np.testing.assert_allclose(mirrored.boxes, flipped, atol=1e-3)
        np.testing.assert_array_equal(mirrored.labels, plain.labels)


def test_flip_averages_an_image_and_its_mirror_image() -> None:
    body = MobileNetV1(alpha=0.25)
    initialise(body)
    network = Network(body, {"detection": DetectionHead(body, NAMES, 96)}).eval()
    images = torch.randint(
        0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        both = network.answer(images, "detection", flip=True)
        mirrored = network.answer(images.flip(-1), "detection", flip=True)
        plain = network.answer(images, "detection")
    for key, value in network.head("detection").mirror(mirrored).items():
        torch.testing.assert_close(both[key], value)
    assert not torch.allclose(both["logits"], plain["logits"])


def test_a_perfect_answer_has_almost_no_loss_and_decodes_to_the_truth() -> None:
    head = make_head()
    batch = make_batch([[[10, 10, 50, 60], [60, 30, 90, 90]], [[5, 40, 40, 80]]], [[0, 2], [1]])
    from mbapps.ops.boxes import box_iou, match_anchors

    match = match_anchors(box_iou(batch.boxes, head.anchors), batch.labels != PADDING)
    row = match.clamp(min=0)
    targets = torch.where(match >= 0, batch.labels.gather(1, row) + 1, 0)
    logits = 20.0 * F.one_hot(targets, 4).float()
    boxes = batch.boxes.gather(1, row[..., None].expand(-1, -1, 4))
    deltas = BoxCoder().encode(boxes.clamp(min=0), head.anchors) * (match >= 0)[..., None]
    outputs = {"logits": logits, "deltas": deltas}
    losses = head.loss(outputs, batch)
    assert losses["loss"] < 1e-3
    first, second = head.decode(outputs, torch.tensor([[96, 96], [192, 48]]))
    assert sorted(zip(first.labels.tolist(), first.boxes.round().tolist(), strict=True)) == [
        (0, [10, 10, 50, 60]), (2, [60, 30, 90, 90]),
    ]  # fmt: skip
    assert second.labels.tolist() == [1]
    np.testing.assert_allclose(second.boxes, [[2.5, 80, 20, 160]], atol=0.1)  # in the original's pixels


@pytest.mark.parametrize("classification", ["softmax", "sigmoid"])
def test_loss_equals_a_slow_restatement(classification: str) -> None:
    from mbapps.ops.boxes import box_iou, match_anchors

    head = make_head(classification=classification, min_negatives=4, negative_ratio=2.0, box_weight=0.7)
    batch = make_batch([[[10, 10, 50, 60], [60, 30, 90, 90]], []], [[0, 2], []])
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, len(head.anchors), 4, generator=generator)
    deltas = torch.randn(2, len(head.anchors), 4, generator=generator)
    match = match_anchors(box_iou(batch.boxes, head.anchors), batch.labels != PADDING)
    class_sum, box_sum, matched = 0.0, 0.0, 0
    for image in range(2):
        negatives = []
        for anchor in range(len(head.anchors)):
            box = int(match[image, anchor])
            target = int(batch.labels[image, box]) + 1 if box >= 0 else 0
            if classification == "softmax":
                loss = -logits[image, anchor].log_softmax(0)[target].item()
            else:
                loss = F.binary_cross_entropy_with_logits(
                    logits[image, anchor], F.one_hot(torch.tensor(target), 4).float(), reduction="sum"
                ).item()
            if box < 0:
                negatives.append(loss)
                continue
            class_sum += loss
            matched += 1
            wanted = BoxCoder().encode(batch.boxes[image, box], head.anchors[anchor])
            box_sum += F.smooth_l1_loss(deltas[image, anchor], wanted, reduction="sum").item()
        positives = len(head.anchors) - len(negatives)
        class_sum += sum(sorted(negatives, reverse=True)[: max(4, 2 * positives)])
    losses = head.loss({"logits": logits, "deltas": deltas}, batch)
    assert losses["loss"].item() == pytest.approx((class_sum + 0.7 * box_sum) / matched, rel=1e-4)
    assert losses["loss_class"].item() == pytest.approx(class_sum / matched, rel=1e-4)


def test_empty_images_teach_only_with_min_negatives() -> None:
    batch = make_batch([[], []], [[], []])
    logits = torch.randn(2, len(make_head().anchors), 4, requires_grad=True)
    outputs = {"logits": logits, "deltas": torch.zeros(2, logits.shape[1], 4)}
    assert make_head(negative_ratio=3.0, min_negatives=0).loss(outputs, batch)["loss"].item() == 0
    assert make_head().loss(outputs, batch)["loss"] > 0  # every negative teaches
    loss = make_head(negative_ratio=3.0, min_negatives=5).loss(outputs, batch)["loss"]
    loss.backward()
    assert loss > 0
    assert logits.grad is not None
    assert ((logits.grad.abs().sum(dim=2) > 0).sum(dim=1) == 5).all()


def test_hard_negatives_takes_the_worst() -> None:
    loss = torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    positive = torch.tensor([[True, False, False, False, False], [False] * 5])
    assert hard_negatives(loss, positive, 2.0, 1).tolist() == [
        [False, False, True, True, False],
        [False, False, False, False, True],
    ]
    everything = hard_negatives(loss, positive, 100.0, 100)
    assert torch.equal(everything, ~positive)


def test_decode_of_nothing_and_of_an_empty_batch() -> None:
    head = make_head()
    logits = torch.zeros(2, len(head.anchors), 4)
    logits[..., 0] = 50.0  # background
    (first, second) = head.decode(
        {"logits": logits, "deltas": torch.zeros_like(logits)}, torch.tensor([[10, 20]] * 2)
    )
    assert len(first) == len(second) == 0
    assert first.boxes.shape == (0, 4)
    assert head.decode({"logits": logits[:0], "deltas": logits[:0]}, torch.empty(0, 2)) == []


def test_decode_keeps_the_best_and_clips_to_the_image() -> None:
    head = make_head(detections_per_img=7, score_thresh=0.0)
    generator = torch.Generator().manual_seed(0)
    outputs = {
        "logits": torch.randn(1, len(head.anchors), 4, generator=generator),
        "deltas": 3 * torch.randn(1, len(head.anchors), 4, generator=generator),
    }
    (found,) = head.decode(outputs, torch.tensor([[50, 100]]))
    assert len(found) == 7
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes <= np.array([100, 50, 100, 50]) + 1e-4).all()


def test_background_is_not_a_class() -> None:
    head = make_head(classification="sigmoid")
    logits = torch.full((1, len(head.anchors), 4), -20.0)
    logits[0, 0, 0] = 20.0
    assert (
        len(
            head.decode(
                {"logits": logits, "deltas": torch.zeros(1, len(head.anchors), 4)}, torch.tensor([[9, 9]])
            )[0]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classification": "focal"}, "task.head.classification must be 'softmax' or 'sigmoid', got 'focal'"),
        ({"negative_ratio": -1.0}, "negative_ratio and task.head.min_negatives must be >= 0, got -1.0"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_head(**settings)


def test_too_small_and_no_classes() -> None:
    with pytest.raises(ValueError, match="data.image_size must be >= 32 for detection, got 31"):
        DetectionHead(MobileNetV1(alpha=0.25), NAMES, 31)
    with pytest.raises(ValueError, match="at least one class"):
        DetectionHead(MobileNetV1(alpha=0.25), (), 96)


@pytest.mark.parametrize("classification", ["softmax", "sigmoid"])
def test_a_student_comes_to_say_what_its_teacher_says(classification: str) -> None:
    torch.manual_seed(0)
    head = make_head(classification=classification)
    anchors, columns = len(head.anchors), len(NAMES) + 1
    logits = torch.zeros(2, anchors, columns)
    logits[..., 0] = 6.0  # background
    logits[0, 5] = torch.tensor([0.0, 8.0, 0.0, 0.0])
    deltas = torch.randn(2, anchors, 4)
    answers = torch.cat([logits, deltas], dim=-1)
    same = head.distill_loss({"logits": logits, "deltas": deltas}, answers)
    assert same.item() == pytest.approx(0, abs=1e-4)
    student = torch.zeros(2, anchors, columns, requires_grad=True)
    boxes = torch.zeros(2, anchors, 4, requires_grad=True)
    optimizer = torch.optim.Adam([student, boxes], lr=0.2)
    losses = []
    for _ in range(60):
        loss = head.distill_loss({"logits": student, "deltas": boxes}, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20
    assert student[0, 5].argmax() == 1
    sure = (boxes[0, 5] - deltas[0, 5]).abs().mean()
    assert sure < 0.2  # where the teacher sees an object its box is learned


def test_boxes_count_where_the_teacher_sees_objects() -> None:
    head = make_head()
    logits = torch.zeros(1, len(head.anchors), len(NAMES) + 1)
    logits[..., 0] = 30.0
    logits[0, 7] = torch.tensor([0.0, 30.0, 0.0, 0.0])
    deltas = torch.zeros(1, len(head.anchors), 4)
    answers = torch.cat([logits, deltas], dim=-1)
    wrong = deltas.clone()
    wrong[0, 8] = 5.0
    assert head.distill_loss({"logits": logits, "deltas": wrong}, answers).item() == pytest.approx(
        0, abs=1e-4
    )
    wrong[0, 7] = torch.tensor([2.0, 0.0, 0.0, 0.0])
    assert head.distill_loss({"logits": logits, "deltas": wrong}, answers).item() == pytest.approx(
        1.5, abs=1e-3
    )
