"""Folders of several heads: a file for each image size, or for each head that has norms of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli
from model_files import need_runtime, pictures, save

import mbapps
from mbapps.deploy import export as exporting
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.eight_bits import Prepared
from mbapps.deploy.graph import Graph, fold_norms
from mbapps.deploy.likeness import count_alike
from mbapps.images import write_image

HEADS = ("detection", "fine_grained", "geo", "face_attr")
KINDS = {
    "sizes": (
        {"sides": {"face_attr": 96}},
        {"onnx_64px": ["detection", "fine_grained", "geo"], "onnx_96px": ["face_attr"]},
    ),
    "norms": ({"norm": "per_task"}, {f"onnx_{name}": [name] for name in HEADS}),
}  # fmt: skip


@pytest.fixture(params=KINDS, scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    settings, _ = KINDS[request.param]
    return save(tmp_path_factory.mktemp("model") / "m", *HEADS, **settings), request.param  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(pictures(4)):
        write_image(folder / f"{number}.png", image)
    return folder


@pytest.mark.slow
def test_all_heads_answer_from_their_files(model: tuple[Path, str], photos: Path, cli: Cli) -> None:
    need_runtime("onnx")
    folder, kind = model
    wanted = KINDS[kind][1]
    cli("export", f"model={folder}", f"source={photos}")
    about = json.loads((folder / "model.json").read_text())["exports"]
    assert set(about) == set(wanted)
    for name, heads in wanted.items():
        assert about[name]["passed"] is True
        place = folder / "exports" / name
        assert list(json.loads((place / "export.json").read_text())["heads"]) == heads
        assert list(json.loads((place / "parity.json").read_text())["heads"]) == heads
    images = pictures(3, seed=5)
    ours = mbapps.load(folder).predict(images)
    theirs = mbapps.load(folder, runtime="onnx").predict(images)
    for one, two in zip(ours, theirs, strict=True):
        left, right = one.to_json(), two.to_json()
        assert set(left) == set(right) == set(HEADS)
        for name in HEADS:
            assert len(left[name]) == len(right[name]) == count_alike(left[name], right[name], 1e-3) > 0
    run = cli("predict", f"model={folder}", f"source={photos}", "runtime=onnx", "draw=false")
    found = json.loads((run / "predictions.json").read_text())["images"][str(photos / "1.png")]
    assert set(found) == set(HEADS)
    run = cli(
        "predict", f"model={folder}", f"source={photos}", "runtime=onnx", "draw=false", "task=face_attr"
    )
    alone = json.loads((run / "predictions.json").read_text())["images"][str(photos / "1.png")]
    assert alone == found["face_attr"]
    last = list(wanted)[-1]
    file = folder / "exports" / last / "model.onnx"
    named = mbapps.load(folder, runtime="onnx", runtime_file=file)
    assert list(named.network.heads) == ["face_attr"]
    with pytest.raises(ValueError, match=r"holds face_attr and not detection: name what to answer by task="):
        Bundle.open(folder, runtime="onnx", runtime_file=file, heads=["detection"])
    shutil.rmtree(file.parent)
    Bundle.open(folder, runtime="onnx", heads=["detection"])
    with pytest.raises(FileNotFoundError, match=rf"{last}/model\.onnx: mbapps export model=.* writes one"):
        mbapps.load(folder, runtime="onnx")


def test_a_head_may_be_exported_alone(model: tuple[Path, str], photos: Path, cli: Cli) -> None:
    need_runtime("openvino")
    folder, kind = model
    cli("export", f"model={folder}", f"source={photos}", "runtime=openvino", "task=face_attr")
    places = {place.name for place in (folder / "exports").glob("openvino*")}
    assert places == {"openvino_96px" if kind == "sizes" else "openvino_face_attr"}
    assert Bundle.open(folder, runtime="openvino", heads=["face_attr"]).predict(pictures(1))


@pytest.mark.slow
def test_suppression_is_in_the_detectors_file_alone(model: tuple[Path, str], photos: Path, cli: Cli) -> None:
    need_runtime("onnx")
    folder, kind = model
    cli("export", f"model={folder}", f"source={photos}", "nms=true")
    told = {
        name: json.loads((folder / "exports" / name / "export.json").read_text())["nms"]
        for name in KINDS[kind][1]
    }
    assert told == {name: "detection" in heads for name, heads in KINDS[kind][1].items()}


def test_layers_of_any_file_may_be_kept(
    model: tuple[Path, str], photos: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kind = model
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    kept: dict[str, list[str]] = {}

    def stand_in(
        model: Path, *values: object, int8: Prepared, part: str, **settings: object
    ) -> exporting.Exported:
        kept[f"onnx_{part}"] = list(int8.keep)
        return exporting.Exported(model / "model.json", None)

    monkeypatch.setattr(exporting, "export", stand_in)
    words = ("export", f"model={folder}", f"source={photos}", "precision=int8", "runtime=litert")
    cli(*words, "quantize.keep=[heads.face_attr]", "quantize.triage=false")
    assert {name: len(layers) for name, layers in kept.items()} == {
        name: int("face_attr" in heads) for name, heads in KINDS[kind][1].items()
    }
    with pytest.raises(ValueError, match=r"quantize\.keep: the model has no layer heads\.nobody"):
        cli(*words, "quantize.keep=[heads.nobody]")


def test_what_one_file_cannot_hold_is_told(model: tuple[Path, str]) -> None:
    folder, kind = model
    network = Bundle.open(folder).network
    if kind == "sizes":
        with pytest.raises(ValueError, match=r"heads want images of different sizes: detection 64 px,"):
            Graph(network)
    else:
        with pytest.raises(ValueError, match=r"norms of their own go into files of their own, not detection"):
            fold_norms(network)
