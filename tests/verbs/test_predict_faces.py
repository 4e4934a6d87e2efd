"""Faces in photos, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from model_files import need_runtime, pictures, save
from PIL import Image

import mbapps
from mbapps.deploy.runtimes import RuntimeFile


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "model"
    return save(folder, "detection", "face_attr", "face_embed", names=("person", "dog"))


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("finder") / "model", "detection", seed=3, names=("dog", "face"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for row, image in enumerate(pictures(3)):
        Image.fromarray(np.repeat(np.repeat(image, 3, 0), 3, 1)).save(folder / f"{row}.png")
    return folder


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_faces_are_in_the_json_and_in_the_picture(cli: Cli, model: Path, photos: Path, capsys: Any) -> None:
    folder = cli("predict", f"model={model}", f"source={photos}", "device=cpu", "batch_size=2")
    found = told(folder)
    assert found["faces_found_by"] == "person"
    assert (found["passes"], found["face_passes"]) == (1, 1)
    assert found["note"].startswith("faces are the upper parts of boxes of persons")
    assert found["note"] in capsys.readouterr().out
    loaded = mbapps.load(model)
    faces = 0
    for file, answers in found["images"].items():
        assert set(answers) == {"detection", "faces"}
        (made,) = loaded.predict(file)
        assert [face["box"] for face in answers["faces"]] == [list(face.box) for face in made.faces]
        faces += len(made.faces)
        drawn = np.asarray(Image.open(folder / "pictures" / f"{Path(file).name}"))
        assert drawn.shape == np.asarray(Image.open(file)).shape
    assert faces > 0
    numbers = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert numbers["answers"] == sum(len(part) for one in found["images"].values() for part in one.values())


def test_small_faces_are_left_out(cli: Cli, model: Path, photos: Path) -> None:
    folder = cli("predict", f"model={model}", f"source={photos}", "device=cpu", "min_face=5000", "draw=false")
    assert all(answers["faces"] == [] for answers in told(folder)["images"].values())


def test_another_folder_finds_them(
    cli: Cli, model: Path, finder: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    words = (f"source={photos}", "device=cpu", "draw=false")
    found = told(cli("predict", f"model={model}", f"faces={finder}", *words))
    assert found["faces_found_by"] == "face"
    assert "note" not in found
    assert any(answers["faces"] for answers in found["images"].values())
    attributes = save(tmp_path / "attributes", "face_attr", names=("hat",))
    capsys.readouterr()
    alone = told(cli("predict", f"model={attributes}", f"faces={finder}", *words))
    assert "upper parts" not in capsys.readouterr().out
    assert alone["task"] == "face_attr"
    faces = [face for answers in alone["images"].values() for face in answers["faces"]]
    assert faces
    assert {face["face_attr"][0]["name"] for face in faces} == {"hat"}
    whole = told(cli("predict", f"model={attributes}", *words))
    assert all(answers[0]["name"] == "hat" for answers in whole["images"].values())


def test_heads_of_faces_alone_are_helped_by_the_detector(cli: Cli, model: Path, photos: Path) -> None:
    words = ("predict", f"model={model}", f"source={photos}", "device=cpu", "draw=false")
    every = told(cli(*words))
    found = told(cli(*words, "heads=[face_attr]"))
    assert (found["task"], found["passes"], found["face_passes"]) == ("face_attr", 1, 1)
    loaded = mbapps.load(model).only(["face_attr"])
    for file, answers in found["images"].items():
        assert list(answers) == ["faces"]
        whole = every["images"][file]["faces"]
        assert [face["box"] for face in answers["faces"]] == [face["box"] for face in whole]
        assert all(set(face) == {"box", "score", "found_by", "face_attr"} for face in answers["faces"])
        (made,) = loaded.predict(file)
        assert [list(face.box) for face in made.faces] == [face["box"] for face in whole]


def test_the_order_of_heads_does_not_matter(model: Path, photos: Path) -> None:
    loaded = mbapps.load(model, min_face=40)
    photo = next(photos.iterdir())
    turned = loaded.only(["face_embed", "detection", "face_attr"]).predict(photo)[0]
    assert [face.box for face in turned.faces] == [face.box for face in loaded.predict(photo)[0].faces]
    without = loaded.only(["detection"])
    assert without.faces is None


def test_what_does_not_fit_is_told(cli: Cli, model: Path, photos: Path, tmp_path: Path) -> None:
    words = ("predict", f"source={photos}", f"model={model}", "device=cpu")
    with pytest.raises(FileNotFoundError, match="no model folder at .*nowhere"):
        cli(*words, f"faces={tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="min_face must be >= 1 px, got 0"):
        cli(*words, "min_face=0")
    with pytest.raises(ValueError, match="min_face must be >= 1 px, got many"):
        cli(*words, "min_face=many")
    attributes = save(tmp_path / "attributes", "face_attr", names=("hat",))
    with pytest.raises(ValueError, match="needs a detector with a class called face or person"):
        cli(*words, f"faces={attributes}")


@pytest.mark.slow
@pytest.mark.parametrize("sides", [{}, {"face_attr": 32}])
def test_faces_are_found_in_the_same_runtime_where_its_file_is_there(
    cli: Cli, photos: Path, tmp_path: Path, capsys: Any, sides: dict[str, int]
) -> None:
    need_runtime("onnx")
    model = save(tmp_path / "model", "detection", "face_attr", names=("person", "dog"), sides=sides)
    cli("export", f"model={model}", "runtime=onnx", f"source={photos}", "images=2")
    words = (f"model={model}", f"source={photos}", "task=face_attr", "draw=false")
    wanted = told(cli("predict", *words, "device=cpu"))
    opened: list[str] = []
    run = RuntimeFile.run
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            RuntimeFile, "run", lambda self, images: opened.extend(self.heads) or run(self, images)
        )
        found = told(cli("predict", *words, "runtime=onnx"))
    assert "detection" in opened
    assert "in torch" not in found["note"]
    assert "in torch" not in capsys.readouterr().out
    for file, answers in found["images"].items():
        assert len(answers["faces"]) == len(wanted["images"][file]["faces"])
    if sides:
        shutil.rmtree(model / "exports" / "onnx_64px")
        found = told(cli("predict", *words, "runtime=onnx"))
        note = "faces are found in torch: no file in use for runtime=onnx holds the head that finds them"
        assert note in found["note"]
        assert note in capsys.readouterr().out
        file = model / "exports" / "onnx_32px" / "model.onnx"
        assert note in told(cli("predict", *words, "runtime=onnx", f"runtime_file={file}"))["note"]


@pytest.mark.slow
def test_faces_are_found_in_torch_by_another_folder(
    cli: Cli, photos: Path, tmp_path: Path, finder: Path
) -> None:
    need_runtime("onnx")
    model = save(tmp_path / "model", "face_attr")
    cli("export", f"model={model}", "runtime=onnx", f"source={photos}", "images=2")
    words = (f"model={model}", f"source={photos}", f"faces={finder}", "draw=false")
    assert "note" not in told(cli("predict", *words, "device=cpu"))
    note = "faces are found in torch: runtime= is for model=, not for faces="
    assert told(cli("predict", *words, "runtime=onnx"))["note"] == note
