"""Trains torchvision's SSD on BCCD: the same body file, 1x1 predictors, AdamW, batch 8, its own augmentation.

python bench/peer_ssd.py BCCD_FOLDER WEIGHTS.h5 --alpha 0.5 --minutes 10
prints validation AP and AP50 at whole minutes, and the test split's at the end.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from mbapps.batches import BoxTable
from mbapps.data.detection import DetectionData
from mbapps.images import read_image
from mbapps.metrics.coco import CocoMetric
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.weights import load_body, read_weights
from mbapps.predictions import Detections
from mbapps.tasks.detection import DetectionHead


class Backbone(nn.Module):
    """Our body and our extra layers, giving torchvision six maps; its images come in [0, 1]."""

    def __init__(self, body: MobileNetV1, head: DetectionHead):
        super().__init__()
        self.body, self.extras = body, head.extras

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        features = self.body(images * 255)
        maps = [features["c4"], features["c5"]]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return OrderedDict((str(index), x) for index, x in enumerate(maps))


def build(num_classes: int, alpha: float, weights: str | None, size: int) -> SSD:
    """SSD with 1x1 predictors and torchvision's anchors."""
    body = MobileNetV1(alpha=alpha)
    initialise(body)
    if weights:
        load_body(body, read_weights(weights))
    backbone = Backbone(body, DetectionHead(body, ["x"], size))
    generator = DefaultBoxGenerator(  # the scales of torchvision's own ssd300_vgg16
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]], scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    )
    with torch.no_grad():
        channels = [x.shape[1] for x in backbone.eval()(torch.zeros(1, 3, size, size)).values()]
    anchors = generator.num_anchors_per_location()
    head = SSDHead(channels, anchors, num_classes + 1)
    for part, values in ((head.classification_head, num_classes + 1), (head.regression_head, 4)):
        part.module_list = nn.ModuleList(
            nn.Conv2d(width, count * values, 1) for width, count in zip(channels, anchors, strict=True)
        )
    return SSD(
        backbone, generator, (size, size), num_classes + 1, head=head, image_mean=[0, 0, 0], image_std=[1, 1, 1],
        score_thresh=0.01, nms_thresh=0.6, detections_per_img=100,
    )  # fmt: skip


class Photos(Dataset[Any]):
    def __init__(self, table: BoxTable, train: bool):
        self.table = table
        steps = [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=127), v2.RandomIoUCrop()]
        steps += [v2.RandomHorizontalFlip(), v2.SanitizeBoundingBoxes()]
        self.steps = v2.Compose([*(steps if train else []), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Any:
        image = read_image(self.table.folder / str(self.table.files[row]))
        rows = self.table.rows(row)
        boxes = BoundingBoxes(
            torch.from_numpy(self.table.boxes[rows].astype(np.float32)).reshape(-1, 4), format="XYXY",
            canvas_size=image.shape[:2],
        )  # fmt: skip
        labels = torch.from_numpy(self.table.labels[rows].astype(np.int64)) + 1
        return self.steps(
            Image(torch.from_numpy(image.copy()).permute(2, 0, 1)), {"boxes": boxes, "labels": labels}
        )


def collate(samples: list[Any]) -> Any:
    return list(zip(*samples, strict=True))


@torch.inference_mode()
def evaluate(model: SSD, table: BoxTable) -> dict[str, float]:
    model.eval()
    metric = CocoMetric(table)
    row = 0
    for images, _ in DataLoader(Photos(table, False), 8, collate_fn=collate):
        for found in model([image.as_subclass(torch.Tensor) for image in images]):
            boxes, scores, labels = (found[key].numpy() for key in ("boxes", "scores", "labels"))
            metric.update([row], [Detections(boxes, scores, labels - 1, table.class_names)])
            row += 1
    model.train()
    return metric.compute()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("weights")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    data = DetectionData(root=arguments.root, image_size=300, num_workers=0)
    model = build(len(data.class_names), arguments.alpha, arguments.weights, 300).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.01)
    loader = DataLoader(
        Photos(data.truth("train"), True), 8, shuffle=True, collate_fn=collate, num_workers=1, drop_last=True,
        persistent_workers=True,
    )  # fmt: skip
    started, marks, seen = time.perf_counter(), 0, 0
    while (minutes := (time.perf_counter() - started) / 60) < arguments.minutes:
        for images, targets in loader:
            share = min(1.0, (time.perf_counter() - started) / 60 / arguments.minutes)
            for group in optimizer.param_groups:
                group["lr"] = (
                    arguments.lr
                    * min(1, (seen + 8) / 400)
                    * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
                )
            images = [image.as_subclass(torch.Tensor) for image in images]
            targets = [
                {key: value.as_subclass(torch.Tensor) for key, value in target.items()} for target in targets
            ]
            loss = sum(model(images, targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(images)
        minutes = (time.perf_counter() - started) / 60
        if minutes >= marks + 1:
            marks = int(minutes)
            numbers = evaluate(model, data.truth("val"))
            print(
                f"{minutes:.1f} min: val AP {numbers['AP']:.3f} AP50 {numbers['AP50']:.3f}, {seen} images",
                flush=True,
            )
    numbers = evaluate(model, data.truth("test"))
    print(
        f"test AP {numbers['AP']:.3f} AP50 {numbers['AP50']:.3f}; {seen / 60 / arguments.minutes:.1f} images/s"
    )


if __name__ == "__main__":
    main()
