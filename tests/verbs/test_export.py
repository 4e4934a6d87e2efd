"""`mbapps export`, and the verbs that run what it wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from model_files import need_runtime, pictures, save

from mbapps.data.synthetic import CLASS_NAMES
from mbapps.deploy import export as exporting
from mbapps.deploy.difference import Difference
from mbapps.deploy.measured import Measured
from mbapps.deploy.parity import Parity
from mbapps.deploy.saving import change_facts
from mbapps.images import write_image
from mbapps.search.gallery import Gallery

CPU = ("trainer.accelerator=cpu", "trainer.progress=false", "data.num_workers=0")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(pictures(6)):
        write_image(folder / f"p{number % 2}" / f"{number}.png", image)
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("faces") / "model", "face_embed")


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


@pytest.mark.slow
def test_files_facts_and_card(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_runtime("onnx")
    need_runtime("openvino")
    model = save(tmp_path / "model", "detection")
    folder = cli("export", f"model={model}", "runtime=[onnx,openvino]", f"source={photos}", "images=4")
    shown = capsys.readouterr().out
    assert "openvino" in shown
    assert "100.00%" in shown
    numbers = results(folder)
    assert numbers["images"] == 4
    assert numbers["onnx_agreement"] == numbers["openvino_agreement"] == 1
    assert numbers["onnx_relative_error"] < 1e-4
    assert numbers["context"]["source"] == str(photos)
    about = json.loads((model / "model.json").read_text())["exports"]
    assert set(about) == {"onnx", "openvino"}
    assert about["openvino"]["file"] == "exports/openvino/model.xml"
    sizes = [(model / "exports" / "openvino" / f"model.{end}").stat().st_size for end in ("xml", "bin")]
    assert about["openvino"]["bytes"] == sum(sizes)
    assert about["onnx"]["passed"] is True
    card = (model / "CARD.md").read_text()
    assert "## Files for other runtimes" in card
    assert "| onnx | exports/onnx/model.onnx |" in card

    def answers(*words: str) -> dict[str, Any]:
        run = cli("predict", f"model={model}", f"source={photos}", "draw=false", *words)
        return dict(json.loads((run / "predictions.json").read_text())["images"])

    wanted = answers()
    for runtime in ("onnx", "openvino"):
        found = answers(f"runtime={runtime}", "batch_size=4")
        assert {file: len(boxes) for file, boxes in found.items()} == {
            file: len(boxes) for file, boxes in wanted.items()
        }
        elsewhere = model / "exports" / runtime / exporting.RUNTIMES[runtime].file
        assert answers(f"runtime={runtime}", f"runtime_file={elsewhere}") == answers(f"runtime={runtime}")
    assert any(wanted.values())


@pytest.mark.slow
def test_eval_and_index_run_exported_files(
    cli: Cli, faces: Path, tiny_people: Path, photos: Path, tmp_path: Path
) -> None:
    need_runtime("openvino")
    cli("export", f"model={faces}", "runtime=openvino", f"source={photos}")
    words = ("eval", f"model={faces}", f"data.root={tiny_people}", "task.test_flip=true", *CPU)
    wanted, found = results(cli(*words)), results(cli(*words, "runtime=openvino"))
    assert found["accuracy"] == wanted["accuracy"]
    assert found["auc"] == pytest.approx(wanted["auc"], abs=1e-6)
    assert found["context"]["runtime"] == "openvino"
    index = ("index", f"model={faces}", f"source={photos}", "num_workers=0", *CPU[:2])
    cli(*index, f"gallery={tmp_path / 'a'}")
    cli(*index, f"gallery={tmp_path / 'b'}", "runtime=openvino")
    one, two = Gallery.open(tmp_path / "a"), Gallery.open(tmp_path / "b")
    assert list(one.ids) == list(two.ids)
    one.expect(two.model)  # a gallery of one may be asked by the other
    assert np.abs(one.vectors() - two.vectors()).max() < 1e-4
    probe = photos / "p0" / "0.png"
    folder = cli("search", f"gallery={tmp_path / 'a'}", f"source={probe}", "runtime=openvino")
    (hits,) = json.loads((folder / "search.json").read_text())["probes"].values()
    assert hits[0]["id"] == "p0/0.png"
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_the_tasks_number_is_measured_too(cli: Cli, tmp_path: Path, tiny: Path) -> None:
    need_runtime("onnx")
    model = save(tmp_path / "model", "detection", names=CLASS_NAMES)
    words = (f"data.root={tiny}", "split=val", "nms=true", "data.batch_size=8", *CPU)
    folder = cli("export", f"model={model}", "images=4", *words)
    numbers = results(folder)
    assert numbers["onnx_AP"] == pytest.approx(numbers["AP"], abs=1e-3)
    about = json.loads((model / "model.json").read_text())["exports"]["onnx"]
    pair = {"original": numbers["AP"], "file": numbers["onnx_AP"]}
    assert about["metrics"] == {"AP": {**pair, "images": 8, "limit": 1e-3}}
    assert about["images"] == 4
    plain = [word for word in words if not word.startswith("split=")]
    assert results(cli("export", f"model={model}", "images=4", *plain))["AP"] == numbers["AP"]  # of val


def test_a_file_that_differs_fails_the_command(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is a stand-in: what it finds must reach the card, the message and the exit code."""
    model = save(tmp_path / "model", "face_attr")
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    place = model / "exports" / "onnx_failed_parity" / "model_failed_parity.onnx"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"1234")
    found = Parity(
        "onnx", 1e-3, 6, {"face_attr_logits": Difference(0.5, 0.0, 2.0)}, {"a": 9}, {"a": 10}, "body.stem"
    )
    monkeypatch.setattr(exporting, "export", lambda *values, **settings: exporting.Exported(place, found))
    words = ("export", f"model={model}", f"source={photos}")
    message = r"up to 0\.25 of their range, tolerance=0\.001, and 90\.00% .*is body\.stem\. .* kept as .*onnx_failed"
    with pytest.raises(ValueError, match=message):
        cli(*words)
    about = json.loads((model / "model.json").read_text())["exports"]["onnx"]
    assert (about["passed"], about["first_layer"], about["bytes"]) == (False, "body.stem", 4)
    assert "| NO |" in (model / "CARD.md").read_text()
    found.layer = None
    with pytest.raises(ValueError, match=r"must be; which layer differs could not be found\. The file"):
        cli(*words)
    found.looked = True
    with pytest.raises(ValueError, match=r"with the outputs of its layers visible none differs"):
        cli(*words)
    (place.parent / "export.json").write_text(json.dumps({"nms": True}))
    message = r"none differs: suppression in the file is at fault, or the runtime joins"
    with pytest.raises(ValueError, match=message):
        cli(*words)
    found.tolerance = 1.0
    with pytest.raises(
        ValueError, match=r"; no layer, but suppression in the file, or decoding, is at fault\. The"
    ):
        cli(*words)
    (place.parent / "export.json").unlink()
    with pytest.raises(ValueError, match=r"; no layer, but decoding is at fault\. The file"):
        cli(*words)
    found.alike, found.metrics = {"a": 10}, {"AP": Measured(0.5, float("nan"))}
    with pytest.raises(
        ValueError, match=r"99% must be, AP is nan and not 0\.5000, 0\.001 is the limit\. The file"
    ):
        cli(*words)
    about = json.loads((model / "model.json").read_text())["exports"]["onnx"]
    assert about["metrics"] == {"AP": {"original": 0.5, "file": None, "images": 0, "limit": 1e-3}}
    found.alike, found.metrics, found.tolerance = {"a": 9}, {}, 1e-3
    int8 = {"int8": 9, "layers": 10, "calibration_images": 3, "guilty": ["body.stem"], "guilty_share": 0.6}
    (place.parent / "export.json").write_text(json.dumps({"int8": int8}))
    with pytest.raises(
        ValueError, match=r"60% of the layers' error comes from body\.stem, which quantize\.keep="
    ):
        cli(*words)
    (model / "exports" / "onnx").mkdir()
    found.told, found.alike, found.least_told = {"a": 0}, {"a": 0}, 1
    message = r"the a head tells too little .* by source=, .*exports/onnx is of an earlier export, and stays"
    with pytest.raises(ValueError, match=message):
        cli(*words)


def test_what_one_runtime_can_not_hold_the_others_do(
    cli: Cli,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = save(tmp_path / "model", "face_attr")
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])

    def stand_in(folder: Path, bundle: object, runtime: str, *values: object, **settings: object) -> Any:
        if runtime == "onnx":
            raise ValueError("no such operator")
        return exporting.Exported(folder / "model.json", None)

    monkeypatch.setattr(exporting, "export", stand_in)
    words = ("export", f"model={model}", f"source={photos}")
    with pytest.raises(ValueError, match=r"^onnx: no such operator$"):
        cli(*words, "runtime=[onnx,litert]", f"out={tmp_path / 'run'}")
    assert set(json.loads((model / "model.json").read_text())["exports"]) == {"litert"}
    assert "litert_megabytes" in results(tmp_path / "run")
    with pytest.raises(ValueError, match=r"^onnx: no such operator$"):
        cli(*words, "runtime=[onnx,onnx]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runtime=tensorrt",), r"runtime must be one of onnx, openvino, .*, got tensorrt"),
        (("runtime=[onnx,torch]",), r"runtime must be one of .*, got torch"),
        (("runtime=[]",), r"runtime must be one of .*, got \[\]"),
        (("batch=0",), r"batch must be a whole number >= 1, got 0"),
        (("images=1.5",), r"images must be a whole number >= 1, got 1\.5"),
        (
            ("nms=true", "runtime=[onnx,litert]"),
            r"nms=true is for runtime=onnx and .*: litert has no such operator",
        ),
        (("nms=1",), r"nms must be true or false, got 1"),
        (("split=train",), r"split must be val or test, or null, got 'train'"),
        (
            ("precision=int8", "runtime=[onnx,coreml]"),
            r"precision=int8 is for runtime=openvino .*, not runtime=coreml",
        ),
        (("tolerance=-1",), r"tolerance must be a number >= 0, got -1"),
    ],
)
def test_settings_are_checked(cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    model = save(tmp_path / "model", "face_attr")
    with pytest.raises(ValueError, match=message):
        cli("export", f"model={model}", *words)


def test_what_is_not_installed_is_told_before_anything_is_done(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "model", "face_attr")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"runtime=openvino needs .*pip install 'mbapps\[openvino\]'"):
        cli("export", f"model={model}", "runtime=openvino")
    assert not (model / "exports").exists()


def test_without_images_the_synthetic_ones_are_compared(
    cli: Cli, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mbapps.data.synthetic.synthetic_root", lambda task: tiny if task == "detection" else None
    )
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    seen: list[int] = []

    def stand_in(
        model: Path, bundle: object, runtime: str, images: list[np.ndarray], **settings: object
    ) -> Any:
        seen.extend(len(image) for image in images)
        return exporting.Exported(model / "model.json", None)

    monkeypatch.setattr(exporting, "export", stand_in)
    model = save(tmp_path / "model", "detection")
    folder = cli("export", f"model={model}", "images=5")
    assert len(seen) == 5
    assert results(folder)["context"]["source"] == str(tiny)


def test_images_that_cannot_be_read_are_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    model = save(tmp_path / "model", "face_attr")
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    with pytest.raises(
        ValueError, match=r"none of 1 images of .*broken\.png can be read; name others by source="
    ):
        cli("export", f"model={model}", f"source={broken}")
    monkeypatch.setattr(
        exporting, "export", lambda *values, **settings: exporting.Exported(model / "model.json", None)
    )
    write_image(tmp_path / "whole.png", pictures(1)[0])
    cli("export", f"model={model}", f"source={tmp_path / '*.png'}")
    assert "source: 1 of 2 images can't be read and are left out: " in capsys.readouterr().out
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"0")
    with pytest.raises(
        FileNotFoundError, match=r"there are videos and no images in .*clips; name images by source="
    ):
        cli("export", f"model={model}", f"source={tmp_path / 'clips'}")


def stand_in_for_export(
    monkeypatch: pytest.MonkeyPatch, *, numbers: list[tuple[float, ...]] | None = None
) -> list[list[np.ndarray]]:
    """Write nothing, but measure the number of the original three times; give the images that would be compared."""
    seen: list[list[np.ndarray]] = []

    def stand_in(
        model: Path,
        bundle: Any,
        runtime: str,
        images: list[np.ndarray],
        *,
        metrics: Any = (),
        **settings: object,
    ) -> Any:
        seen.append(images)
        if numbers is not None:
            numbers.append(tuple(one.measure(bundle.network) for one in metrics for _ in range(3)))
        return exporting.Exported(model / "model.json", None)

    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    monkeypatch.setattr(exporting, "export", stand_in)
    return seen


@pytest.mark.parametrize(
    ("word", "split", "count"),
    [
        ("data.annotations=TINY/annotations/instances_val.json", (), 8),
        ("data.test=TINY/annotations/instances_test.json", ("split=test",), 8),
        ("data.val=TINY/annotations/instances_train.json", (), 24),
    ],
)
def test_whatever_names_data_is_compared_and_measured(
    cli: Cli,
    tmp_path: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    split: tuple[str],
    count: int,
) -> None:
    from mbapps import measuring

    monkeypatch.setattr("mbapps.data.synthetic.synthetic_root", lambda task: pytest.fail("synthetic images"))
    monkeypatch.setattr("mbapps.data.detection.synthetic_root", lambda task: tiny)
    runs: list[int] = []
    numbers: list[tuple[float, ...]] = []
    seen = stand_in_for_export(monkeypatch, numbers=numbers)
    whole = measuring.collect
    monkeypatch.setattr(measuring, "collect", lambda *values: runs.append(1) or whole(*values))
    model = save(tmp_path / "model", "detection", names=CLASS_NAMES)
    words = ("runtime=[onnx,openvino]", "images=99", word.replace("TINY", str(tiny)), *split, *CPU)
    folder = cli("export", f"model={model}", *words)
    assert [len(images) for images in seen] == [count, count]
    assert len(numbers[0]) == 3
    assert set(numbers[0]) == set(numbers[1])
    assert len(runs) == 1  # the original is measured once
    told = f"the {'test' if split else 'val'} split of {word.partition('=')[0]}="
    assert results(folder)["context"]["source"] == told


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        (
            "detection",
            ("data.test=a.json",),
            r"data\.test= names only test: name data\.val= or .*, or set split=test",
        ),
        (
            "face_embed",
            ("data.test=lfw", "data.pairs=p.txt"),
            r"data\.test= and data\.pairs= names only test: ",
        ),
        (
            "detection",
            ("data.val=a.json", "split=test"),
            r"on the test split, .* only val: .*, or set split=val",
        ),
        (
            "detection",
            ("data.train=a.json",),
            r"data\.train= names only train: name data\.val= or data\.root=$",
        ),
    ],
)
def test_a_split_that_is_not_named_is_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, words: tuple[str, ...], message: str
) -> None:
    stand_in_for_export(monkeypatch)
    with pytest.raises(ValueError, match=message):
        cli("export", f"model={save(tmp_path / 'model', task)}", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runtime=[onnx,coreml]", "batch=4"), r"batch must be 1 or null for runtime=coreml, .* got 4"),
        (("calibration=photos",), r"calibration= and calibration_images= are for precision=int8"),
        (("calibration_images=300",), r"calibration= and calibration_images= are for precision=int8"),
    ],
)
def test_settings_that_would_do_nothing_are_told(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    model = save(tmp_path / "model", "face_attr")
    with pytest.raises(ValueError, match=message):
        cli("export", f"model={model}", *words)
    assert not (model / "exports").exists()


def test_suppression_for_openvino_needs_onnx(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("openvino")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    message = r"^nms=true for runtime=openvino is written by way of ONNX: .*pip install 'mbapps\[onnx\]'"
    with pytest.raises(ImportError, match=message):
        cli("export", f"model={save(tmp_path / 'model', 'detection')}", "runtime=openvino", "nms=true")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("no such package"), r"^litert: no such package$"),
        (OSError("the disk is full"), r"^litert: the disk is full$"),
        (RuntimeError("shapes"), r"^litert: RuntimeError: shapes$"),
    ],
)
def test_an_error_of_one_runtime_loses_nothing_of_the_others(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    model = save(tmp_path / "model", "face_attr")
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])

    def stand_in(folder: Path, bundle: object, runtime: str, *values: object, **settings: object) -> Any:
        if runtime == "litert":
            raise error
        change_facts(
            folder, lambda facts: facts.setdefault("exports", {}).update(other={"file": "x", "bytes": 1})
        )
        return exporting.Exported(folder / "model.json", None)

    monkeypatch.setattr(exporting, "export", stand_in)
    words = ("runtime=[onnx,litert,openvino]", f"source={photos}", f"out={tmp_path / 'run'}")
    with pytest.raises(ValueError, match=message):
        cli("export", f"model={model}", *words)
    assert {"onnx_megabytes", "openvino_megabytes"} <= set(results(tmp_path / "run"))
    about = json.loads((model / "model.json").read_text())["exports"]
    assert set(about) == {"onnx", "openvino", "other"}  # and what another process wrote meanwhile
