"""SSD: boxes and classes from six feature maps.

Source: Liu et al., SSD (2016); layer widths, anchors and box coder as TF Object Detection's ssd_mobilenet_v1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.batches import PADDING, DetectionBatch
from mbapps.models.blocks import ConvNorm
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.ops.anchors import AnchorGenerator, map_sizes, mirrored_anchors
from mbapps.ops.boxes import NEGATIVE, BoxCoder, box_iou, match_anchors, suppress
from mbapps.predictions import Detections

EXTRA_CHANNELS = (512, 256, 256, 128)  # at alpha 1.0: the four maps after c5, each half the side of the last
MIN_EXTRA_CHANNELS = 16
MIN_IMAGE_SIZE = 32  # the stride of c5: below it the last maps would see nothing but padding
BACKGROUND = 0  # column of "no object" in the logits; num_classes never counts it
PREDICTOR_STD = 0.03
NUM_CANDIDATES = 1000  # best (anchor, class) pairs of an image that enter suppression


class DetectionHead(nn.Module):
    """Feature maps -> {"logits": [B, A, K + 1], "deltas": [B, A, 4]} for A anchors and K classes.

    Args:
        body: asked for its features, widths and block style; not kept.
        class_names: K names, without a background.
        image_size: side of the square input, px, >= 32; it fixes the anchors.
        classification: "softmax" over classes and background, or "sigmoid" per column as TF trains it.
        positive_iou: least overlap at which an anchor learns a box.
        negative_ratio: hard negatives per positive anchor; SSD takes 3. None lets every unmatched anchor
            teach: a body that starts from random weights learns nothing from the hardest alone, since those lie
            beside the objects and cancel what the positives teach.
        min_negatives: hard negatives of an image with few or no positives, so that empty images teach.
        box_weight: of the box loss beside the class loss.
        score_thresh, nms_thresh, detections_per_img: what decoding keeps.
        min_scale, max_scale: of the anchors, shares of the image side.
    """

    CLASS_LAYERS = ("classes.",)  # state dict prefixes that are void for other class names
    CLASS_SETTINGS = ("classification",)  # and for other values of these
    BOXES = True  # it answers with boxes
    TAUGHT = ("logits", "deltas")  # the outputs, side by side, that a teacher is asked for

    def __init__(
        self,
        body: MobileNetV1,
        class_names: Sequence[str],
        image_size: int,
        *,
        classification: str = "softmax",
        positive_iou: float = 0.5,
        negative_ratio: float | None = None,
        min_negatives: int = 10,
        box_weight: float = 1.0,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.6,
        detections_per_img: int = 100,
        min_scale: float = 0.2,
        max_scale: float = 0.95,
    ):
        super().__init__()
        if not class_names:
            raise ValueError("task=detection needs at least one class, got none")
        if image_size < MIN_IMAGE_SIZE:
            raise ValueError(f"data.image_size must be >= {MIN_IMAGE_SIZE} for detection, got {image_size}")
        if classification not in ("softmax", "sigmoid"):
            raise ValueError(
                f"task.head.classification must be 'softmax' or 'sigmoid', got {classification!r}"
            )
        if (negative_ratio or 0) < 0 or min_negatives < 0:
            raise ValueError(
                "task.head.negative_ratio and task.head.min_negatives must be >= 0, "
                f"got {negative_ratio} and {min_negatives}"
            )
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.settings: dict[str, Any] = {
            "classification": classification, "positive_iou": positive_iou, "negative_ratio": negative_ratio,
            "min_negatives": min_negatives, "box_weight": box_weight, "score_thresh": score_thresh,
            "nms_thresh": nms_thresh, "detections_per_img": detections_per_img, "min_scale": min_scale,
            "max_scale": max_scale,
        }  # fmt: skip
        self.extras = nn.ModuleList()
        channels = [body.features["c4"].channels, body.features["c5"].channels]
        for base in EXTRA_CHANNELS:
            squeeze = body.scaled(base // 2, MIN_EXTRA_CHANNELS)
            out = body.scaled(base, MIN_EXTRA_CHANNELS)
            self.extras.append(
                nn.Sequential(
                    ConvNorm(channels[-1], squeeze, 1, 1, body.style),
                    ConvNorm(squeeze, out, 3, 2, body.style),
                )
            )
            channels.append(out)
        anchor_generator = AnchorGenerator(len(channels), min_scale, max_scale)
        per_location = anchor_generator.num_anchors_per_location()
        columns = len(self.class_names) + 1  # with the background
        self.classes = nn.ModuleList(
            nn.Conv2d(width, count * columns, 1) for width, count in zip(channels, per_location, strict=True)
        )
        self.boxes = nn.ModuleList(
            nn.Conv2d(width, count * 4, 1) for width, count in zip(channels, per_location, strict=True)
        )
        initialise(self.extras)
        initialise(self.classes, PREDICTOR_STD)
        initialise(self.boxes, PREDICTOR_STD)
        self.box_coder = BoxCoder()
        self.anchors: Tensor
        self.mirrored: Tensor
        sides = map_sizes(image_size, body.features["c4"].stride, len(channels))
        self.register_buffer("anchors", anchor_generator.boxes(sides, image_size), persistent=False)
        self.register_buffer("mirrored", mirrored_anchors(sides, per_location), persistent=False)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        maps = [features["c4"], features["c5"]]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        logits = [
            _per_anchor(layer(x), len(self.class_names) + 1)
            for layer, x in zip(self.classes, maps, strict=True)
        ]
        deltas = [_per_anchor(layer(x), 4) for layer, x in zip(self.boxes, maps, strict=True)]
        return {"logits": torch.cat(logits, dim=1), "deltas": torch.cat(deltas, dim=1)}

    def loss(self, outputs: dict[str, Tensor], batch: DetectionBatch) -> dict[str, Tensor]:
        """Give {"loss", "loss_class", "loss_box"}, each a sum over the batch per matched anchor."""
        logits, deltas = outputs["logits"].float(), outputs["deltas"].float()
        present = batch.labels != PADDING
        match = match_anchors(
            box_iou(batch.boxes, self.anchors), present, positive_iou=self.settings["positive_iou"]
        )
        positive = match != NEGATIVE  # [B, A]
        image, anchor = positive.nonzero(as_tuple=True)
        box = match[image, anchor]
        targets = torch.full_like(match, BACKGROUND)
        targets[image, anchor] = batch.labels[image, box] + 1

        class_loss = self._class_loss(logits, targets)  # [B, A]
        with torch.no_grad():
            ratio, minimum = self.settings["negative_ratio"], self.settings["min_negatives"]
            mined = ~positive if ratio is None else hard_negatives(class_loss, positive, ratio, minimum)
        wanted = self.box_coder.encode(batch.boxes[image, box], self.anchors[anchor])
        num_matched = max(1, len(image))
        loss_class = class_loss[positive | mined].sum() / num_matched
        loss_box = F.smooth_l1_loss(deltas[image, anchor], wanted, reduction="sum") / num_matched
        return {
            "loss": loss_class + self.settings["box_weight"] * loss_box,
            "loss_class": loss_class.detach(),
            "loss_box": loss_box.detach(),
        }

    def distill_loss(self, outputs: dict[str, Tensor], answers: Tensor) -> Tensor:
        """Divergence from a teacher's classes at each anchor, and from its boxes where it sees objects.

        Both are sums over the batch per anchor at which the teacher sees an object.

        Args:
            outputs: of this head, for B images.
            answers: [B, A, K + 1 + 4] logits and deltas of a teacher with the same anchors and classes.

        Source: Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation (2017), in which
        objects weigh more than the background; here each anchor counts by what the teacher is sure of.
        """
        theirs, their_deltas = answers.float().split([len(self.class_names) + 1, 4], dim=-1)
        logits, deltas = outputs["logits"].float(), outputs["deltas"].float()
        if self.settings["classification"] == "softmax":
            ours, wanted = logits.log_softmax(dim=-1), theirs.log_softmax(dim=-1)
            classes = F.kl_div(ours, wanted, log_target=True, reduction="none").sum()
            objects = 1 - wanted[..., BACKGROUND].exp()  # [B, A]
        else:
            wanted = theirs.sigmoid()
            classes = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
            classes = classes - F.binary_cross_entropy_with_logits(theirs, wanted, reduction="sum")
            objects = wanted[..., BACKGROUND + 1 :].amax(dim=-1)
        boxes = F.smooth_l1_loss(deltas, their_deltas, reduction="none").sum(dim=-1) * objects
        return (classes + self.settings["box_weight"] * boxes.sum()) / objects.sum().clamp(min=1)

    def _class_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.settings["classification"] == "softmax":
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        one_hot = F.one_hot(targets, logits.shape[-1]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=-1)

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of images flipped left to right -> what they say of the images as they were.

        Raises:
            ValueError: the outputs are finished, as those of an exported file.
        """
        if "boxes" in outputs:
            raise ValueError(
                "the mean with mirror images is of raw outputs, and an exported file gives finished boxes: use "
                "runtime=torch, or task.test_flip=false"
            )
        deltas = outputs["deltas"][:, self.mirrored]
        flip = deltas.new_tensor([-1.0, 1.0, 1.0, 1.0])  # the centre moves the other way
        return {"logits": outputs["logits"][:, self.mirrored], "deltas": deltas * flip}

    def finish(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs -> {"boxes": [B, A, 4] xyxy px of the input, "scores": [B, A, K]}; such are left alone."""
        if "boxes" in outputs:
            return outputs
        logits, deltas = outputs["logits"].float(), outputs["deltas"].float()
        softmax = self.settings["classification"] == "softmax"
        probs = (logits.softmax(dim=-1) if softmax else logits.sigmoid())[..., BACKGROUND + 1 :]
        return {
            "boxes": self.box_coder.decode(deltas, self.anchors).clamp(0, self.image_size),
            "scores": probs,
        }

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[Detections]:
        """Outputs, finished or not, and the original heights and widths [B, 2] -> boxes in the original images' px."""
        outputs = self.finish(outputs)
        boxes, probs = outputs["boxes"], outputs["scores"]
        flat = probs.flatten(1)  # [B, A * K]
        above = (flat > self.settings["score_thresh"]).sum(dim=1)
        count = min(NUM_CANDIDATES, int(above.max())) if len(above) else 0
        scores, index = flat.topk(count, dim=1)
        scores = scores * (scores > self.settings["score_thresh"])  # images with fewer candidates: padding
        labels = index % probs.shape[-1]
        anchor = index // probs.shape[-1]
        boxes = boxes.gather(1, anchor[..., None].expand(-1, -1, 4))
        keep = suppress(boxes, labels, scores, nms_thresh=self.settings["nms_thresh"])
        scale = sizes.flip(1).repeat(1, 2)[:, None].to(boxes) / self.image_size  # [B, 1, 4]
        boxes = boxes * scale
        results = []
        for image in range(len(boxes)):
            rows = keep[image].nonzero().flatten()[: self.settings["detections_per_img"]]
            results.append(
                Detections(
                    boxes[image, rows].cpu().numpy(), scores[image, rows].cpu().numpy(),
                    labels[image, rows].cpu().numpy(), self.class_names,
                )
            )  # fmt: skip
        return results


def _per_anchor(x: Tensor, values: int) -> Tensor:
    """Predictor map [B, anchors * values, H, W] -> [B, H * W * anchors, values]."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def hard_negatives(loss: Tensor, positive: Tensor, ratio: float, minimum: int) -> Tensor:
    """Mark in each image the unmatched anchors of highest loss, `ratio` per positive and `minimum` at least.

    Args:
        loss: [B, A] class loss of each anchor.
        positive: [B, A] bool, matched anchors.
        ratio: negatives per positive, >= 0.
        minimum: negatives of an image however few its positives; 0 would let empty images teach nothing.

    Returns:
        [B, A] bool.

    Source: Liu et al., SSD (2016), section 2.2, "Hard negative mining".
    """
    wanted = (positive.sum(dim=1) * ratio).long().clamp(min=minimum)
    wanted = torch.minimum(wanted, (~positive).sum(dim=1))
    ranked, order = loss.masked_fill(positive, -1.0).topk(max(1, int(wanted.max())), dim=1)
    chosen = torch.arange(ranked.shape[1], device=loss.device) < wanted[:, None]
    return torch.zeros_like(positive).scatter(1, order, chosen)
