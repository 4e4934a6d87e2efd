"""Students of a face net on people of LFW: the ImageNet body alone, labels, distillation; 1.0@160 to 0.25@128.

python bench/face_embed.py lfw=<part of LFW> faces=<more faces> weights=<folder> out=<folder> [only=<text>]

Learned from: the people of the part who are not in its people_dev.txt, the middle of their pictures, and more faces,
cut close, without names. Measured on the people of people_dev.txt, by pairs_dev.txt and by all their pairs. The
teacher is a face net of 1,024 numbers; students start from ImageNet weights. Rows of one size see equally many
images. A finished row is a line of <out>/rows.csv and is not run again. Choices were made on a part of the people
learned from.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

SIZES = {  # weights to start from, and images seen in training
    "1.0@160": ("mobilenet_v1_1.0_224_frozen.pb", 30_000),
    "0.75@160": ("mobilenet_v1_0.75_192_quant.tflite", 45_000),
    "0.5@128": ("mobilenet_v1_0.5_160_quant.tflite", 90_000),
    "0.25@128": ("mobilenet_v1_0.25_224.h5", 160_000),
}
COMMON = (
    "experiment=lfw data.root={lfw} data.test_people={lfw}/people_dev.txt data.pairs={lfw}/pairs_dev.txt "
    "trainer.precision=bf16-mixed data.num_workers=1 trainer.progress=false"
)
TAUGHT = "distill.teacher={out}/teacher/model data.batch_size=32 data.images_per_person=null"
WAYS = {
    "arcface": "task.head.cosface=0 task.head.arcface=1 task.head.scale=64 data.batch_size=64",
    "arcface, scale 16": "task.head.cosface=0 task.head.arcface=1 data.batch_size=64",
    "triplet": "task.head.cosface=0 task.head.triplet=1 data.batch_size=64",
    "distilled": f"{TAUGHT} distill.images={{faces}}",
}
ROWS = [(size, way) for size in SIZES for way in WAYS if size == "1.0@160" or way == "distilled"]
LEARNED, MORE = 1540, 1600  # images of an epoch: of named people, without names
COLUMNS = (
    "row", "accuracy", "accuracy_se", "auc", "all_pairs_tar_at_far_1e-2", "all_pairs_tar_at_far_1e-3",
    "all_pairs_tar_at_far_1e-3_low", "all_pairs_tar_at_far_1e-3_high", "rank1", "params", "macs", "seconds", "command",
)  # fmt: skip


def main() -> None:
    given = {"only": "", **dict(word.split("=", 1) for word in sys.argv[1:])}
    out, weights = Path(given["out"]), Path(given["weights"])
    faces = weights / "faceres_mobilenet_v1_1.0_224_plain.safetensors"
    if not (out / "teacher").is_dir():
        mbapps(["convert", f"source={faces}", f"out={out / 'teacher'}"], out)
    bodies(weights / SIZES["1.0@160"][0], out / "body")
    for name, model in (
        ("teacher", out / "teacher" / "model"),
        ("1.0@160, ImageNet body alone", out / "body"),
    ):
        run(out, name, ["eval", f"model={model}", *COMMON.format(**given).split()], given["only"])
    for size, way in ROWS:
        alpha, side = size.split("@")
        file, seen = SIZES[size]
        epochs = round(seen / (LEARNED + MORE * ("images" in WAYS[way])))
        words = f"backbone.alpha={alpha} data.image_size={side} backbone.weights={weights / file}"
        full = f"{COMMON} {words} {WAYS[way]} trainer.max_epochs={epochs}".format(**given)
        run(out, f"{size}, {way}", ["train", *full.split()], given["only"])


def bodies(file: Path, folder: Path) -> None:
    """A model folder of a body as it is, whose pooled features are the embedding."""
    from mbapps.deploy.saving import describe, save_bundle
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.network import Network
    from mbapps.models.weights import load_body, read_weights
    from mbapps.tasks.face_embed import FaceEmbedHead

    if folder.is_dir():
        return
    found = read_weights(file)
    body = MobileNetV1(**found.settings)  # type: ignore[arg-type]
    load_body(body, found)
    network = Network(body, {"face_embed": FaceEmbedHead(body, (), 160, dim=None)}).eval()
    save_bundle(folder, network, describe(network, {}, lineage={}))


def mbapps(words: list[str], out: Path) -> None:
    """Run a command line in a process of its own."""
    env = {**os.environ, "MBAPPS_DATA": str(out / "data")}
    subprocess.run([sys.executable, "-m", "mbapps", *words], check=True, env=env)


def run(out: Path, name: str, words: list[str], only: str) -> None:
    """Run a command and append its numbers as a line, unless it is there."""
    folder = out / name.replace(", ", "-").replace(" ", "-").replace("@", "-")
    table = out / "rows.csv"
    done = table.read_text().splitlines() if table.exists() else []
    if only not in name or any(line.startswith((f'"{name}"', f"{name},")) for line in done):
        return
    mbapps([*words, f"out={folder}"], out)
    numbers = json.loads((folder / "results.json").read_text())
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        if not done:
            writer.writeheader()
        writer.writerow({**numbers, "row": name, "command": " ".join(["mbapps", *words])})


if __name__ == "__main__":
    main()
