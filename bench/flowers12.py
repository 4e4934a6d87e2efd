"""flowers12, three seeds a row: fine-tuned, and with a frozen body on features that are computed once.

python bench/flowers12.py data.root=<flowers12> weights=<folder of ImageNet files> [rows=flowers12.csv] [only=<text>]

Each finished run is a line of the csv, and is not run again. Choices were made on parts of train; test is read once.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

COMMON = "experiment=flowers12 trainer.precision=bf16-mixed data.num_workers=1 trainer.progress=false"
SMALL = "backbone.alpha=0.25 data.image_size=128 backbone.weights={weights}/mobilenet_v1_0.25_224.h5"
PLAIN = "data.augment=null"  # without mirror images
LARGE = "backbone.weights={weights}/mobilenet_v1_1.0_224_frozen.pb"
ROWS = {
    "frozen 1.0@224": f"{LARGE} task.freeze_body=true",
    "0.25@128": SMALL,
    "1.0@224": f"{LARGE} task.max_epochs=15 task.lr=0.002 task.body_lr=0.1 task.freeze_epochs=2 task.test_flip=true",
}
TIMED = {  # seed 0 alone: their differences are what an epoch costs
    "frozen, computed once, 2 epochs": f"{LARGE} task.freeze_body=true task.max_epochs=2",
    "frozen, computed once, 30 epochs": f"{LARGE} task.freeze_body=true task.max_epochs=30",
    "frozen, computed once, 30 epochs, plain": f"{LARGE} task.freeze_body=true {PLAIN}",
    "frozen, images each time, 1 epoch, plain": f"{LARGE} task.freeze_blocks=14 task.max_epochs=1 {PLAIN}",
    "frozen, images each time, 3 epochs, plain": f"{LARGE} task.freeze_blocks=14 task.max_epochs=3 {PLAIN}",
    "frozen, images each time, 1 epoch": f"{LARGE} task.freeze_blocks=14 task.max_epochs=1",
    "frozen, images each time, 3 epochs": f"{LARGE} task.freeze_blocks=14 task.max_epochs=3",
}
SEEDS = (0, 1, 2)
COLUMNS = (
    "row", "seed", "top1", "mean_class_accuracy", "ece", "val_top1", "val_nll", "seconds", "cpu_seconds",
    "images_per_second", "command",
)  # fmt: skip


def main() -> None:
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    table = Path(given.get("rows", "flowers12.csv"))
    done = read(table)
    for name, words in {**ROWS, **TIMED}.items():
        for seed in SEEDS if name in ROWS else SEEDS[:1]:
            if (name, str(seed)) in done or given.get("only", "") not in name:
                continue
            full = f"{COMMON} {words} seed={seed}".format(weights=given["weights"]).split()
            done[name, str(seed)] = measure(name, seed, [*full, f"data.root={given['data.root']}"], table)
    for name in {**ROWS, **TIMED}:
        rows = [row for (which, _), row in done.items() if which == name]
        if rows:
            top1, seconds, cpu = (
                [float(row[key]) for row in rows] for key in ("top1", "seconds", "cpu_seconds")
            )
            shown = ", ".join(f"{value:.4f}" for value in top1)
            print(
                f"{name:36} top1 {statistics.mean(top1):.4f} ({shown}), {max(seconds):.0f} s at most, "
                f"{statistics.mean(cpu):.0f} s of processor"
            )


def read(table: Path) -> dict[tuple[str, str], dict[str, str]]:
    if not table.is_file():
        return {}
    with table.open(newline="") as file:
        return {(row["row"], row["seed"]): row for row in csv.DictReader(file)}


def measure(name: str, seed: int, words: list[str], table: Path) -> dict[str, str]:
    """Run one training in a process of its own and append its line."""
    out = table.with_suffix(f".run{os.getpid()}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mbapps", "train", *words, f"out={out}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    numbers = json.loads((out / "results.json").read_text())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    command = " ".join(["mbapps", "train", *words])
    values = {**numbers, "row": name, "seed": seed, "cpu_seconds": cpu, "command": command}
    row = {key: f"{value:.5g}" if isinstance(value := values[key], float) else str(value) for key in COLUMNS}
    fresh = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    shutil.rmtree(out)
    return row


if __name__ == "__main__":
    main()
