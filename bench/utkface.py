"""UTKFace adults: students trained on labels, taught by a face net, and taught with unlabeled faces added.

python bench/utkface.py data.root=<utkface> lfw=<folder of people> weights=<folder> out=<folder> [seeds=0] [only=<text>]

The teacher is a face net with its own gender and age layers, fine-tuned on the training labels. Each finished run is a
line of <out>/rows.csv, with its answers for the test images beside it, and is not run again. The unlabeled faces are
the middle of LFW's pictures, of people who are not in people_dev.txt. Choices were made on parts of train.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ATTRIBUTES = ("male", "age>=30", "age>=45", "age>=60")
MIDDLE = 0.55  # of an LFW picture: the face
RESAMPLES = 2000
COMMON = "experiment=utkface trainer.precision=bf16-mixed data.num_workers=1 trainer.progress=false"
STUDENTS = {
    "0.25@128": "backbone.alpha=0.25 data.image_size=128 backbone.weights={weights}/mobilenet_v1_0.25_224.h5",
    "0.5@128": "backbone.alpha=0.5 data.image_size=128 backbone.weights={weights}/mobilenet_v1_0.5_160_quant.tflite",
    "0.25@224": "backbone.alpha=0.25 data.image_size=224 backbone.weights={weights}/mobilenet_v1_0.25_224.h5",
}
TEACHER = (
    "task.head._target_=faceres_head.FaceResHead trust=faceres_head backbone.weights={out}/start data.image_size=224 "
    "task.lr=0.0005 task.body_lr=0.2 task.ema_decay=0.98 task.max_epochs=8 "
    "data.augment.photometric=0 data.augment.erase=0"
)
TAUGHT = "distill.cached=true distill.teacher={out}/teacher trust=faceres_head"
WAYS = {
    "labels": "",
    "distilled": TAUGHT,
    "distilled, more faces": f"{TAUGHT} distill.images={{out}}/faces",
}
COLUMNS = ("student", "way", "seed", "mean_AP", *(f"AP/{name}" for name in ATTRIBUTES), "seconds", "command")


def main() -> None:
    given = {"seeds": "0", "only": "", **dict(word.split("=", 1) for word in sys.argv[1:])}
    out = Path(given["out"])
    start(out / "start", Path(given["weights"]))
    cut_faces(Path(given["lfw"]), out / "faces")
    data = test_data(given["data.root"])
    own = f"data.root={given['data.root']}"
    if not (out / "start.npz").is_file():
        keep(out / "start", data, out / "start.npz")
    if not (out / "teacher.npz").is_file():
        train(out / "teacher", [*f"{COMMON} {TEACHER}".format(out=out).split(), own])
        keep(out / "teacher" / "model", data, out / "teacher.npz")
    for seed in given["seeds"].split(","):
        for student, body in STUDENTS.items():
            for way, words in WAYS.items():
                if given["only"] in f"{student} {way}":
                    full = f"{COMMON} {body} {words} seed={seed}".format(weights=given["weights"], out=out)
                    run(out, student, way, seed, [*full.split(), own], data)
    tell(out, data)


def start(folder: Path, weights: Path) -> None:
    """A model folder of the face net whose head tells attributes."""
    from faceres_head import FaceResHead
    from safetensors.torch import load_file

    from mbapps.deploy.saving import describe, save_bundle
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.network import Network
    from mbapps.models.weights import load_body, read_weights

    if folder.is_dir():
        return
    path = weights / "faceres_mobilenet_v1_1.0_224_plain.safetensors"
    found = read_weights(path)
    body = MobileNetV1(**found.settings)  # type: ignore[arg-type]
    load_body(body, found)
    head = FaceResHead(body, ATTRIBUTES)
    head.load_state_dict(
        {key: value.float() for key, value in load_file(path).items() if key in head.state_dict()}
    )
    network = Network(body, {"face_attr": head}).eval()
    save_bundle(folder, network, describe(network, {"face_attr": {"metrics": {}}}, lineage={}))


def cut_faces(lfw: Path, folder: Path) -> None:
    """The middle of each picture of the people who may be learned from."""
    held_out = set((lfw / "people_dev.txt").read_text().split())
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    for path in sorted(lfw.rglob("*.jpg")):
        if path.parent.name not in held_out:
            image = Image.open(path)
            width, height = image.size
            x, y = width * (1 - MIDDLE) / 2, height * (1 - MIDDLE) / 2
            image.crop((round(x), round(y), round(width - x), round(height - y))).save(
                folder / path.name, quality=95
            )


def test_data(root: str):  # noqa: ANN201
    from mbapps.data.face_attr import FaceAttrData

    return FaceAttrData(root=root, image_size=128, attributes=ATTRIBUTES, split="test")


def keep(model: Path, data, path: Path) -> None:  # noqa: ANN001
    """Write the probabilities, [N, A], that a model gives the test images."""
    from mbapps.deploy.bundle import Bundle

    table = data.truth("test")
    bundle = Bundle.open(model, trust="faceres_head")
    answers = bundle.predict([table.folder / str(file) for file in table.files])
    np.savez(path, probs=np.stack([answer.probs for answer in answers]))  # type: ignore[attr-defined]


def train(out: Path, words: list[str]) -> None:
    """Train in a process of its own."""
    place = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": place, "MBAPPS_DATA": str(out.parent / "data")}
    subprocess.run([sys.executable, "-m", "mbapps", "train", *words, f"out={out}"], check=True, env=env)


def run(out: Path, student: str, way: str, seed: str, words: list[str], data) -> None:  # noqa: ANN001
    """Train one student in a process of its own, keep its answers and append its line."""
    name = f"{student}-{way.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (out / f"{name}.npz").is_file():
        return
    train(out / name, words)
    numbers = json.loads((out / name / "results.json").read_text())
    values = {
        **numbers,
        "student": student,
        "way": way,
        "seed": seed,
        "command": " ".join(["mbapps train", *words]),
    }
    table = out / "rows.csv"
    fresh = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        if fresh:
            writer.writeheader()
        writer.writerow(values)
    keep(out / name / "model", data, out / f"{name}.npz")


def tell(out: Path, data) -> None:  # noqa: ANN001
    """Each way's mean AP with its interval, and its gain over labels in the same bootstrap samples."""
    from mbapps.metrics.average_precision import interval, mean_ap_of_parts

    labels = data.truth("test").labels
    everything = (np.ones(len(labels), dtype=bool), np.ones(len(ATTRIBUTES), dtype=bool))
    male = (everything[0], np.array([name == "male" for name in ATTRIBUTES]))

    def score(path: Path):  # noqa: ANN202
        values, spread = mean_ap_of_parts(np.load(path)["probs"], labels, [everything, male], RESAMPLES)
        return np.array(values), spread

    def line(name: str, parts: list) -> tuple:  # type: ignore[type-arg]
        values = np.mean([value for value, _ in parts], axis=0)
        spread = np.mean([spread for _, spread in parts], axis=0)
        low, high = interval(spread[0])
        text = f"{name:34} {len(parts)} seed(s): mean AP {values[0]:.4f} [{low:.4f}, {high:.4f}], male {values[1]:.4f}"
        return text, values, spread

    for name in ("start", "teacher"):
        print(line(name, [score(out / f"{name}.npz")])[0])
    for student in STUDENTS:
        base = None
        for way in WAYS:
            paths = sorted(out.glob(f"{student}-{way.replace(', ', '-').replace(' ', '-')}-[0-9]*.npz"))
            if not paths:
                continue
            text, values, spread = line(f"{student} {way}", [score(path) for path in paths])
            if base is None:
                base = values, spread
            else:
                low, high = interval(spread[0] - base[1][0])
                text += f"; gain over labels {values[0] - base[0][0]:+.4f} [{low:+.4f}, {high:+.4f}]"
            print(text)


if __name__ == "__main__":
    main()
