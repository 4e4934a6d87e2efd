"""Time of five heads on one image of one size against body and detector, the heaviest of them, in turn.

python bench/heads.py [threads=1] [alpha=0.5] [side=300]
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from mbapps.models.complexity import count
from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.face_attr import FaceAttrHead
from mbapps.tasks.face_embed import FaceEmbedHead
from mbapps.tasks.fine_grained import FineGrainedHead
from mbapps.tasks.geo import GeoHead

ROUNDS, WARM = 100, 20


def main() -> None:
    given = {
        "threads": "1",
        "alpha": "0.5",
        "side": "300",
        **dict(word.split("=", 1) for word in sys.argv[1:]),
    }
    torch.set_num_threads(int(given["threads"]))
    side, body = int(given["side"]), MobileNetV1(float(given["alpha"]))
    heads = {
        "detection": DetectionHead(body, ("RBC", "WBC", "Platelets"), side),
        "fine_grained": FineGrainedHead(body, [f"flower {row}" for row in range(12)], side),
        "face_attr": FaceAttrHead(body, [f"attribute {row}" for row in range(4)], side),
        "geo": GeoHead(body, [f"cell {row}" for row in range(107)], side),
        "face_embed": FaceEmbedHead(body, (), side),
    }
    five = Network(body, heads).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8).to(memory_format=torch.channels_last)
    networks = {"five heads": five, "body and detector": five.only(["detection"]).eval()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for _ in range(WARM + ROUNDS):
            for name, network in networks.items():
                started = time.perf_counter()
                network(image)
                seconds[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(values[WARM:]) for name, values in seconds.items()}
    for name, network in networks.items():
        numbers = count(network, side)
        print(f"{name:18} {middle[name] * 1e3:6.2f} ms, {numbers.macs / 1e6:.1f} M mult-adds")
    print(f"ratio {middle['five heads'] / middle['body and detector']:.3f}")


if __name__ == "__main__":
    main()
