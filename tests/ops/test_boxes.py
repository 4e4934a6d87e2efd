from __future__ import annotations

import pytest
import torch
from torchvision.ops import batched_nms

from mbapps.ops.boxes import NEGATIVE, BoxCoder, box_iou, match_anchors, suppress


def random_boxes(*shape: int, side: float = 300.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * side * 0.8
    size = torch.rand(*shape, 2, generator=generator) * side * 0.2 + 1
    return torch.cat([corner, corner + size], dim=-1)


def test_iou_of_a_box_with_itself_is_one_and_the_table_is_symmetric() -> None:
    boxes = random_boxes(20)
    iou = box_iou(boxes, boxes)
    torch.testing.assert_close(iou.diagonal(), torch.ones(20))
    torch.testing.assert_close(iou, iou.T)
    assert box_iou(boxes, boxes + 1000).max() == 0


def test_encode_and_decode_are_inverse() -> None:
    anchors, boxes = random_boxes(50, seed=1), random_boxes(4, 50, seed=2)
    coder = BoxCoder()
    torch.testing.assert_close(
        coder.decode(coder.encode(boxes, anchors), anchors), boxes, atol=1e-3, rtol=1e-4
    )


def test_encode_by_hand() -> None:
    # centre moved by a tenth of the side, twice as wide, as high: 10 * 0.1, 0, 5 * log 2, 0
    anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    box = torch.tensor([[-4.0, 0.0, 16.0, 10.0]])
    expected = torch.tensor([[1.0, 0.0, 5 * 0.6931472, 0.0]])
    torch.testing.assert_close(BoxCoder().encode(box, anchor), expected)


def test_untrained_deltas_decode_to_finite_boxes() -> None:
    deltas = torch.full((1, 1, 4), 1e4)
    assert torch.isfinite(BoxCoder().decode(deltas, torch.tensor([[0.0, 0.0, 10.0, 10.0]]))).all()


def slow_match(iou: torch.Tensor, positive_iou: float) -> list[int]:
    match = []
    for anchor in range(iou.shape[1]):
        best = max(range(iou.shape[0]), key=lambda box: iou[box, anchor].item())
        match.append(best if iou[best, anchor] >= positive_iou else NEGATIVE)
    for box in range(iou.shape[0]):
        match[int(iou[box].argmax())] = box
    return match


@pytest.mark.parametrize("seed", range(5))
def test_match_equals_a_slow_loop(seed: int) -> None:
    iou = torch.rand(3, 6, 40, generator=torch.Generator().manual_seed(seed))
    present = torch.ones(3, 6, dtype=torch.bool)
    result = match_anchors(iou, present, positive_iou=0.9)
    assert result.tolist() == [slow_match(image, 0.9) for image in iou]


def test_padding_rows_match_nothing_and_change_nothing() -> None:
    iou = torch.rand(1, 3, 20)
    whole = match_anchors(iou, torch.tensor([[True, True, True]]))
    padded = torch.cat([iou, torch.ones(1, 2, 20)], dim=1)
    result = match_anchors(padded, torch.tensor([[True, True, True, False, False]]))
    assert result.tolist() == whole.tolist()
    nothing = match_anchors(padded, torch.zeros(1, 5, dtype=torch.bool))
    assert (nothing == NEGATIVE).all()


def test_no_boxes_in_the_whole_batch() -> None:
    match = match_anchors(torch.empty(2, 0, 7), torch.empty(2, 0, dtype=torch.bool))
    assert match.shape == (2, 7)
    assert (match == NEGATIVE).all()


def test_positive_iou_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"task.head.positive_iou must be in \(0, 1\], got 0"):
        match_anchors(torch.empty(1, 0, 1), torch.empty(1, 0, dtype=torch.bool), positive_iou=0)


@pytest.mark.parametrize("nms_thresh", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_suppress_equals_torchvision(seed: int, nms_thresh: float) -> None:
    boxes = random_boxes(3, 200, side=60.0, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(3, 200, generator=generator).sort(dim=1, descending=True).values
    scores[2, 150:] = 0  # padding
    labels = torch.randint(0, 4, (3, 200), generator=generator)
    keep = suppress(boxes, labels, scores, nms_thresh=nms_thresh)
    for image in range(3):
        real = int((scores[image] > 0).sum())
        wanted = batched_nms(boxes[image, :real], scores[image, :real], labels[image, :real], nms_thresh)
        assert keep[image].nonzero().flatten().tolist() == sorted(wanted.tolist())


def test_suppress_follows_a_long_chain() -> None:
    # Each box overlaps the next by a half: greedily every other one goes, however long the chain.
    start = torch.arange(101) * 5.0
    boxes = torch.stack([start, torch.zeros(101), start + 10, torch.full((101,), 10.0)], dim=1)[None]
    scores = torch.linspace(1, 0.5, 101)[None]
    keep = suppress(boxes, torch.zeros(1, 101), scores, nms_thresh=0.3)
    assert keep[0].tolist() == [index % 2 == 0 for index in range(101)]


def test_suppress_of_nothing() -> None:
    assert suppress(torch.empty(2, 0, 4), torch.empty(2, 0), torch.empty(2, 0), nms_thresh=0.5).shape == (
        2,
        0,
    )
