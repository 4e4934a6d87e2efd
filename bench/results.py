"""Scoring a COCO results file of 5,000 images, whole processes in turn: mbapps eval against the two libraries.

python bench/results.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ap

from mbapps.metrics.results import encode_results

IMAGES, RUNS = 5000, 3
PEER = (
    "import sys; from {0} import COCO; from {1} import {2} as Evaluation\n"
    "truth = COCO(sys.argv[1]); run = Evaluation(truth, truth.loadRes(sys.argv[2]), 'bbox')\n"
    "run.evaluate(); run.accumulate(); run.summarize()"
)
PEERS = {
    "pycocotools": PEER.format("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "faster-coco-eval": PEER.format("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}


def write_world(folder: Path) -> tuple[Path, Path]:
    """An instances file and a results file of 100 boxes an image."""
    ap.IMAGES = IMAGES
    truth, predictions = ap.make_world()
    boxes = truth.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    columns = (
        range(1, len(boxes) + 1), truth.image_ids[truth.box_images()].tolist(), (truth.labels + 1).tolist(),
        boxes.tolist(), truth.areas.tolist(), truth.crowd.astype(int).tolist(),
    )  # fmt: skip
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    images = zip(truth.image_ids.tolist(), truth.files.tolist(), strict=True)
    content = {
        "images": [{"id": number, "file_name": file, "height": 480, "width": 640} for number, file in images],
        "categories": [{"id": row + 1, "name": name} for row, name in enumerate(truth.class_names)],
        "annotations": [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)],
    }
    annotations, results = folder / "instances.json", folder / "results.json"
    annotations.write_text(json.dumps(content))
    rows = [(row, one.boxes, one.scores, one.labels) for row, one in enumerate(predictions)]
    results.write_bytes(encode_results(truth, rows))
    return annotations, results


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations, results = write_world(folder)
        print(f"{IMAGES} images, {results.stat().st_size / 1e6:.0f} MB of results; median of {RUNS}")
        commands = {peer: [sys.executable, "-c", code, annotations, results] for peer, code in PEERS.items()}
        words = [f"predictions={results}", f"data.annotations={annotations}"]
        commands["mbapps eval"] = [sys.executable, "-m", "mbapps", "eval", *words]
        figures: dict[str, list[tuple[float, float]]] = {who: [] for who in commands}
        for number in range(RUNS):
            for who, command in commands.items():
                more = [f"out={folder / str(number)}"] if who == "mbapps eval" else []
                figures[who].append(measure([*map(str, command), *more]))
        for who, pairs in figures.items():
            seconds, megabytes = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{who:17} {seconds:6.1f} s {megabytes:6.0f} MB")


if __name__ == "__main__":
    main()
