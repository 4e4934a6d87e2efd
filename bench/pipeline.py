"""Input pipeline on one core: 640x480 JPEG files -> augmented 300 px samples in batches of 16.

taskset -c 0 python bench/pipeline.py BCCD_FOLDER
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from mbapps.data.detection import DetectionData
from mbapps.data.transforms import limit_threads


def main() -> None:
    torch.set_num_threads(1)
    limit_threads()
    data = DetectionData(root=sys.argv[1], image_size=300, augment={}, batch_size=16, num_workers=0)
    loader = data.train_dataloader()
    rates = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        started, seen = time.perf_counter(), 0
        for batch in loader:
            seen += len(batch.images)
        if epoch:  # the first fills the file cache
            rates.append(seen / (time.perf_counter() - started))
    print(f"{statistics.median(rates):.0f} images/s on one core ({min(rates):.0f}-{max(rates):.0f})")


if __name__ == "__main__":
    main()
