"""One measurement in a process of its own: `python -m mbapps.deploy.stopwatch '{"runtime": …}'` prints JSON."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbapps.images import UInt8Image

from .sessions import RUNTIMES

WARM_UP = 3  # runs that do not count: memory is laid out and kernels are chosen in them


def opened(asked: Mapping[str, Any]) -> Callable[[UInt8Image], object]:
    """What runs a batch of images [B, S, S, 3]: an exported file, or the network itself with what a file adds."""
    if asked["runtime"] != "torch":
        session = RUNTIMES[asked["runtime"]].session(Path(asked["file"]), asked["outputs"], asked["threads"])
        return session.run  # type: ignore[no-any-return]
    import torch

    from .bundle import Bundle
    from .graph import finish

    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    network = Bundle.open(asked["model"], trust=asked["trust"], heads=asked["heads"]).network

    def run(images: UInt8Image) -> object:
        with torch.inference_mode():
            found = network(torch.from_numpy(images).permute(0, 3, 1, 2))
            return {name: finish(network.head(name), outputs) for name, outputs in found.items()}

    return run


def measure(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Time a network on noise.

    Args:
        asked: runtime, file and outputs (of torch model, trust and heads), threads (None: as the runtime likes), batch,
            image_size in px, and seconds that the runs take together.

    Returns:
        {"milliseconds": of each run, "peak_megabytes": the most memory that this process had, None if unknown}.
    """
    run = opened(asked)
    side = asked["image_size"]
    images = np.random.default_rng(0).integers(0, 256, (asked["batch"], side, side, 3), dtype=np.uint8)
    for _ in range(WARM_UP):
        run(images)
    took: list[float] = []
    end = time.perf_counter() + asked["seconds"]
    while not took or time.perf_counter() < end:
        start = time.perf_counter()
        run(images)
        took.append(1e3 * (time.perf_counter() - start))
    return {"milliseconds": took, "peak_megabytes": peak_megabytes()}


def peak_megabytes() -> float | None:
    """The most memory that this process ever had; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, whose peak is at first that of the parent process
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) * 1024 / 1e6 if found else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024) / 1e6


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
