"""Boxes as tensors, xyxy px: overlap, matching to anchors, offsets and back, suppression."""

from __future__ import annotations

import torch
from torch import Tensor

NEGATIVE = -1  # the match of an anchor that must learn "no object"


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Give the overlap of every pair: [..., N, 4] and [..., M, 4] xyxy -> [..., N, M] in [0, 1].

    >>> box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6]])).tolist()
    [[0.3333333432674408, 0.0]]
    """
    x1 = torch.maximum(boxes1[..., :, None, 0], boxes2[..., None, :, 0])
    y1 = torch.maximum(boxes1[..., :, None, 1], boxes2[..., None, :, 1])
    x2 = torch.minimum(boxes1[..., :, None, 2], boxes2[..., None, :, 2])
    y2 = torch.minimum(boxes1[..., :, None, 3], boxes2[..., None, :, 3])
    intersection = (x2 - x1).clamp_(min=0) * (y2 - y1).clamp_(min=0)
    union = box_area(boxes1)[..., :, None] + box_area(boxes2)[..., None, :] - intersection
    return intersection / union.clamp_(min=1e-9)


def box_area(boxes: Tensor) -> Tensor:
    """Give the area of boxes [..., 4] xyxy -> [...], 0 for reversed ones."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def match_anchors(iou: Tensor, present: Tensor, *, positive_iou: float = 0.5) -> Tensor:
    """Give each anchor the ground-truth box it must learn, or NEGATIVE.

    An anchor takes the box it overlaps most, if by `positive_iou` or more. Then each box takes the anchor
    it overlaps most, however little, so that no box goes unlearned; where two boxes want one anchor, the
    later row wins.

    Args:
        iou: [B, G, A] overlap of the G boxes of each image with A anchors. G may be 0.
        present: [B, G] False for the rows that only pad an image's truth; they match no anchor.
        positive_iou: least overlap, in (0, 1], at which an anchor counts as positive.

    Returns:
        [B, A] int64: a row of `iou` for a positive anchor, NEGATIVE for the rest.

    Raises:
        ValueError: `positive_iou` lies outside (0, 1].

    Source: Liu et al., SSD (2016), section 2.2, "Matching strategy".

    >>> iou = torch.tensor([[[0.6, 0.2, 0.0], [0.1, 0.3, 0.0]]])
    >>> match_anchors(iou, torch.tensor([[True, True]])).tolist()
    [[0, 1, -1]]
    """
    if not 0 < positive_iou <= 1:
        raise ValueError(f"task.head.positive_iou must be in (0, 1], got {positive_iou}")
    num_images, num_boxes, num_anchors = iou.shape
    if num_boxes == 0:
        return torch.full((num_images, num_anchors), NEGATIVE, device=iou.device)
    best_iou, match = iou.masked_fill(~present[..., None], -1.0).max(dim=1)
    match = match.masked_fill(best_iou < positive_iou, NEGATIVE)
    # Each box claims its best anchor; a padding row claims column A, which is cut off. amax: the later row wins.
    claimed = torch.where(present, iou.argmax(dim=2), num_anchors)
    claims = torch.full((num_images, num_anchors + 1), NEGATIVE, device=iou.device)
    box_rows = torch.arange(num_boxes, device=iou.device).expand(num_images, -1)
    claims = claims.scatter_reduce(1, claimed, box_rows, reduce="amax")[:, :num_anchors]
    return torch.where(claims >= 0, claims, match)


class BoxCoder:
    """Boxes as offsets from anchors, scaled so that each has about unit variance.

    Args:
        scales: of centre x and y, and of log width and height; the inverses of SSD's variances .1 and .2.

    Source: Girshick et al., R-CNN (2014), appendix C; scales as in TF Object Detection's faster_rcnn_box_coder.
    """

    MAX_LOG_RATIO = 4.135  # log(1000 / 16): keeps exp() finite for untrained predictors

    def __init__(self, scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)):
        self.scales = scales

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes [..., A, 4] and anchors [A, 4], xyxy px -> deltas [..., A, 4]; boxes must have an area."""
        size = anchors[..., 2:] - anchors[..., :2]
        box_size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)
        offset = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / (2 * size)
        return torch.cat([offset, torch.log(box_size / size)], dim=-1) * boxes.new_tensor(self.scales)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Deltas [..., A, 4] and anchors [A, 4] -> boxes [..., A, 4] xyxy px: the inverse of `encode`."""
        deltas = deltas / deltas.new_tensor(self.scales)
        size = anchors[..., 2:] - anchors[..., :2]
        centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
        half = torch.exp(deltas[..., 2:].clamp(max=self.MAX_LOG_RATIO)) * size / 2
        return torch.cat([centre - half, centre + half], dim=-1)


def suppress(boxes: Tensor, labels: Tensor, scores: Tensor, *, nms_thresh: float) -> Tensor:
    """Mark the boxes that greedy non-maximum suppression keeps, class by class, for a whole batch at once.

    Greedy suppression keeps a box unless a better kept box of its class overlaps it by more than
    `nms_thresh`. That rule is iterated from "all kept" until nothing changes: the one fixed point is the
    greedy answer, reached after as many rounds as the longest chain of boxes that suppress one another.

    Args:
        boxes: [B, N, 4] xyxy px, best score first in each image.
        labels: [B, N] class of each box; boxes of different classes never suppress one another.
        scores: [B, N]; a box of score 0 is padding and is never kept.
        nms_thresh: overlap in [0, 1] above which the worse of two boxes goes.

    Returns:
        [B, N] bool.

    >>> boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]]])
    >>> suppress(boxes, torch.zeros(1, 3), torch.tensor([[0.9, 0.8, 0.7]]), nms_thresh=0.5).tolist()
    [[True, False, True]]
    """
    keep = [_suppress_image(*image, nms_thresh) for image in zip(boxes, labels, scores, strict=True)]
    return torch.stack(keep) if keep else scores > 0


def _suppress_image(boxes: Tensor, labels: Tensor, scores: Tensor, nms_thresh: float) -> Tensor:
    """[N, 4], [N] and [N] of one image -> [N] bool; one at a time, or the pairs of a class would fill the memory."""
    valid = scores > 0
    alike = (labels[:, None] == labels) & valid[:, None] & valid
    better, worse = alike.triu(diagonal=1).nonzero(as_tuple=True)  # pairs of a class, the better one first
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    a, b = boxes[better], boxes[worse]
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    overlap = common > nms_thresh * (area[better] + area[worse] - common)
    better, worse = better[overlap], worse[overlap]  # each better one would suppress its worse one
    keep = valid
    for _ in range(len(scores)):
        update = valid.clone()
        update[worse[keep[better]]] = False
        if torch.equal(update, keep):
            break
        keep = update
    return keep
