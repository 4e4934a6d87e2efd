"""An album of real photographs, by a COCO detector with heads added to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli
from several import QUICK

import mbapps
from mbapps.album.folder import STATE
from mbapps.album.hashes import key_of
from mbapps.album.records import read_shards

DETECTOR = "weights/coco_ssd_mobilenet_v1_0.75_300_quant.tflite"
FLOWERS = "datasets/fine_grained/flowers12"
PHOTOS = "datasets/detection/coco128/images/train2017"


@pytest.mark.slow
def test_a_coco_detector_with_flowers_and_faces_added(
    cli: Cli, test_data: Path, tiny_people: Path, tmp_path: Path
) -> None:
    detector = cli("convert", f"source={test_data / DETECTOR}") / "model"
    added = cli(
        "train", *QUICK, "mode=frozen", f"model={detector}", "heads=[fine_grained,face_embed]", "task.lr=0.01",
        f"heads.fine_grained.data.root={test_data / FLOWERS}", "heads.fine_grained.data.image_size=96",
        f"heads.face_embed.data.root={tiny_people}", "heads.face_embed.data.image_size=64",
        "heads.face_embed.data.batch_size=8", "heads.face_embed.task.metric.resamples=20",
    )  # fmt: skip
    model = added / "model"
    photos = tmp_path / "photos"
    photos.mkdir()
    people = sorted((test_data / PHOTOS).glob("*.jpg"))[:24]
    flowers = sorted((test_data / FLOWERS / "test").rglob("*.jpg"))[::60]
    for file in [*people, *flowers]:
        shutil.copy(file, photos)
    album = cli("album", f"source={photos}", f"model={model}", f"out={tmp_path / 'album'}")
    state = json.loads((album / STATE).read_text(encoding="utf-8"))
    records = {
        record.id: record
        for found in read_shards(album / "shards", key_of(state["settings"])).values()
        for record in found
    }
    assert len(records) == len(people) + len(flowers)
    loaded, alone = mbapps.load(model), mbapps.load(detector)
    faces = 0
    for file in people[:8]:
        record = records[file.name]
        (told,), (before,) = loaded.predict(file), alone.predict(file)
        assert sorted(name for name, _, _ in record.objects) == sorted(
            box["name"] for box in before.to_json()
        )
        assert [face.box for face in record.faces] == [face.box for face in told.faces]
        faces += len(record.faces)
    assert faces > 0  # in the upper parts of persons
    names = loaded.facts["heads"]["fine_grained"]["class_names"]
    right = [records[file.name].labels["fine_grained"][0][0] == file.parent.name for file in flowers]
    assert len(names) == 12
    assert sum(right) > len(right) / 2  # chance: a twelfth
    page = (album / "index.html").read_text(encoding="utf-8")
    assert "photos-0.js" in page
