"""Training step, batch 16, 300 px, alpha 1.0, 80 classes: ours whole, ours bare, and torchvision's SSD.

python bench/step.py
The bare network has no matching and no loss beyond a mean. All run in turn, three rounds; medians of images/s.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mbapps.batches import DetectionBatch
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead

sys.path.insert(0, str(Path(__file__).parent))
from peer_ssd import build  # noqa: E402

BATCH, SIZE, CLASSES, BOXES, ROUNDS, STEPS = 16, 300, 80, 7, 3, 2
Step = Callable[[], torch.Tensor]


def ours(channels_last: bool) -> tuple[Step, Step]:
    """Whole and bare step of one network."""
    body = MobileNetV1()
    initialise(body)
    network = Network(
        body, {"detection": DetectionHead(body, [str(index) for index in range(CLASSES)], SIZE)}
    )
    batch = make_batch()
    if channels_last:
        network.to(memory_format=torch.channels_last)
    else:
        batch = batch._replace(images=batch.images.contiguous())
    network.train()

    def whole() -> torch.Tensor:
        return network.head("detection").loss(network(batch.images)["detection"], batch)["loss"]

    def bare() -> torch.Tensor:
        outputs = network(batch.images)["detection"]
        return outputs["logits"].mean() + outputs["deltas"].mean()

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    return step(whole, optimizer), step(bare, optimizer)


def torchvision_ssd(channels_last: bool) -> Step:
    model = build(CLASSES, 1.0, None, SIZE).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    batch = make_batch()
    images = [image.float() / 255 for image in batch.images.contiguous()]
    targets = [
        {"boxes": boxes, "labels": labels + 1}
        for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    return step(lambda: sum(model(images, targets).values()), optimizer)  # type: ignore[arg-type,return-value]


def make_batch() -> DetectionBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator).permute(
        0, 3, 1, 2
    )
    corner = torch.rand(BATCH, BOXES, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + 10 + 90 * torch.rand(BATCH, BOXES, 2, generator=generator)], dim=2)
    labels = torch.randint(0, CLASSES, (BATCH, BOXES), generator=generator)
    return DetectionBatch(images, torch.arange(BATCH), torch.full((BATCH, 2), SIZE), boxes, labels)


def step(loss: Step, optimizer: torch.optim.Optimizer) -> Step:
    def run() -> torch.Tensor:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    return run


def main() -> None:
    rows: dict[str, Step] = {}
    rows["ours, channels-last"], rows["bare, channels-last"] = ours(True)
    rows["ours, default layout"], rows["bare, default layout"] = ours(False)
    rows["torchvision SSD, channels-last"] = torchvision_ssd(True)
    rows["torchvision SSD, default layout"] = torchvision_ssd(False)
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for round_number in range(ROUNDS + 1):  # the first warms up
        for name, run in rows.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                run()
            if round_number:
                rates[name].append(STEPS * BATCH / (time.perf_counter() - started))
    for name, values in rates.items():
        print(f"{name:34} {statistics.median(values):6.2f} images/s  ({min(values):.2f}-{max(values):.2f})")
    pairs = zip(rates["ours, channels-last"], rates["bare, channels-last"], strict=True)
    print(f"ours / bare, channels-last, round by round: {statistics.median(a / b for a, b in pairs):.3f}")


if __name__ == "__main__":
    main()
