"""Thirty epochs of distillation, 0.25@128 taught by resnet50 at 224 px: outputs computed once, or in every step.

python bench/distill.py FOLDER [ROOT]

ROOT is a folder of classes (flowers12 of $MBAPPS_TEST_DATA). The teacher has random weights: only its time counts.
Each run is a process with a run folder in FOLDER; one that is there already is not run again. The kept outputs are
measured whole, asking the teacher included, in a cache of their own. A live teacher costs the same in each epoch:
two are run, with no more augmentation than it takes to run it live, and their time is multiplied.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

EPOCHS, LIVE_EPOCHS = 30, 2
LIVE = ["data.augment.crop_min_area=0.9"]


def make_teacher(folder: Path, root: Path) -> Path:
    """A model folder of a resnet50 with the set's classes and random weights."""
    from mbapps.data.image_folder import read_image_folder
    from mbapps.deploy.saving import describe, save_bundle
    from mbapps.models.network import Network
    from mbapps.models.teachers import TeacherBody, preprocessing
    from mbapps.tasks.fine_grained import FineGrainedHead

    path = folder / "teacher"
    if not path.is_dir():
        names = read_image_folder(root / "train").class_names
        view = preprocessing("resnet50")
        pixels = [[255 * value for value in values] for values in (view.mean, view.std)]
        body = TeacherBody("resnet50", view.image_size, *pixels)
        network = Network(body, {"fine_grained": FineGrainedHead(body, names, view.image_size)})  # type: ignore[arg-type]
        save_bundle(path, network.eval(), describe(network, {}, lineage={}))
    return path


def run(folder: Path, name: str, words: list[str]) -> dict[str, float]:
    """Wall seconds of a whole run, and of its training."""
    out, kept = folder / name, folder / f"{name}.json"
    if not kept.is_file():
        env = {**os.environ, "MBAPPS_DATA": str(folder / f"{name}-cache")}
        command = [sys.executable, "-m", "mbapps", "task=fine_grained", *words, f"out={out}"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
        wall = time.perf_counter() - started
        results = json.loads((out / "results.json").read_text())
        train, batch = results["context"]["data"]["images"]["train"], 32
        images = results["epochs"] * (train // batch) * batch
        kept.write_text(json.dumps({"wall": wall, "fit": images / results["images_per_second"]}))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    default = Path(os.environ.get("MBAPPS_TEST_DATA", "")) / "datasets" / "fine_grained" / "flowers12"
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    words = [
        f"data.root={root}", f"distill.teacher={make_teacher(folder, root)}",
        "backbone.alpha=0.25", "data.image_size=128", "data.batch_size=32", "trainer.progress=false",
    ]  # fmt: skip
    cached = run(folder, "cached", [*words, "distill.cached=true", f"trainer.max_epochs={EPOCHS}"])
    live = run(folder, "live", [*words, *LIVE, f"trainer.max_epochs={LIVE_EPOCHS}"])
    live_wall = live["wall"] + live["fit"] * (EPOCHS / LIVE_EPOCHS - 1)
    asking = cached["wall"] - cached["fit"]
    print(
        f"outputs computed once: {cached['wall']:7.0f} s, of which {asking:.0f} s start, teacher and report"
    )
    print(
        f"a live teacher:        {live_wall:7.0f} s, from {LIVE_EPOCHS} epochs of {live['fit'] / LIVE_EPOCHS:.1f} s"
    )
    print(f"ratio of the whole: {live_wall / cached['wall']:.1f}")
    per_epoch = live["fit"] / LIVE_EPOCHS / (cached["fit"] / EPOCHS)
    print(f"ratio of an epoch once the outputs are there: {per_epoch:.1f}")


if __name__ == "__main__":
    main()
