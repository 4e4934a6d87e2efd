"""Presets run as they are on small folders in the layouts that they are written for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import QUICK, Cli, coco_splits


@pytest.mark.slow
def test_table13_trains_on_train_and_val_without_minival(tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """COCO 2014's layout: images of val that are listed as minival are measured on, the others are learned."""
    root = tmp_path / "coco"
    found = coco_splits(tiny)
    for split, year in (("train", "train2014"), ("val", "val2014")):
        path, images = found[split]
        shutil.copytree(images, root / year)
        (root / "annotations").mkdir(exist_ok=True)
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["id"] += int(year[-4:]) * (split == "val")  # an id is one image's in all of COCO
        for box in content["annotations"]:
            box["image_id"] += int(year[-4:]) * (split == "val")
        (root / "annotations" / f"instances_{year}.json").write_text(json.dumps(content))
    images = json.loads((root / "annotations" / "instances_val2014.json").read_text())["images"]
    minival = images[:3]
    ids = root / "annotations" / "mscoco_minival_ids.txt"
    ids.write_text("".join(f"{image['id']}\n" for image in minival))

    folder = cli("train", "experiment=table13", f"data.root={root}", "trainer.max_epochs=1", *QUICK)
    numbers = json.loads((folder / "results.json").read_text())
    counts = numbers["context"]["data"]["images"]
    total = 24 + 8
    assert counts["test"] == 3
    assert counts["val"] == 1  # two of a hundred of what is left, at least one
    assert counts["train"] == total - 3 - 1
    model = json.loads((folder / "model" / "model.json").read_text())
    assert model["heads"]["detection"]["settings"]["classification"] == "sigmoid"
    assert model["body"]["bn_momentum"] == 0.0003


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["table14", "lfw"])
def test_presets_of_faces_learn_from_a_teacher(
    preset: str, tiny_people: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path / "home"))
    words = [f"experiment={preset}", f"data.root={tiny_people}", f"data.test={tiny_people}", *QUICK]
    words += ["data.allow_overlap=true", "trainer.max_epochs=1", "task.metric.resamples=20"]
    teacher = cli("train", *words, "task.head.cosface=1", "task.head.dim=24") / "model"
    folder = cli("train", *words, f"distill.teacher={teacher}")
    numbers = json.loads((folder / "results.json").read_text())
    assert {"accuracy", "accuracy_se"} <= set(numbers)
    head = json.loads((folder / "model" / "model.json").read_text())["heads"]["face_embed"]
    assert (head["settings"]["pool"], head["face_crop"]) == {
        "table14": ("flatten", 1.0),
        "lfw": ("avg", 0.55),
    }[preset]
