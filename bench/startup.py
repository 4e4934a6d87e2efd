"""Whole-process time of `mbapps info` against `python -c "import torch"`, in turn.

python bench/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "mbapps info": [sys.executable, "-m", "mbapps", "info", "task=detection", "data.num_classes=90"],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(6):
            for name, command in COMMANDS.items():
                more = [f"out={folder}/{number}"] if "mbapps" in command else []
                started = time.perf_counter()
                subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
                if number:
                    times[name].append(time.perf_counter() - started)
    for name, values in times.items():
        print(f"{name:14} {statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})")
    torch, info = (statistics.median(values) for values in times.values())
    print(f"ratio {info / torch:.2f}")


if __name__ == "__main__":
    main()
