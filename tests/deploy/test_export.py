"""Real files for each runtime that is installed: the same answers, and what travels with them."""

from __future__ import annotations

import json
import weakref
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import CELLS, NAMES, SIDE, need_runtime, pictures, save
from torch import nn

import mbapps
from mbapps.deploy import export as module
from mbapps.deploy import writers
from mbapps.deploy.bundle import Bundle, head_views
from mbapps.deploy.export import export
from mbapps.deploy.graph import Graph
from mbapps.deploy.likeness import count_alike
from mbapps.deploy.saving import fingerprint
from mbapps.deploy.sessions import RUNTIMES
from mbapps.deploy.telling import described, tell_failed

RUN_HERE = [name for name, runtime in RUNTIMES.items() if runtime.session is not None]
ANY = ("onnx", "openvino")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders by name: all heads that see pictures alike, a detector alone, and faces."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / "several", "detection", "fine_grained", "face_attr", "geo")
    save(folder / "detection", "detection", classification="sigmoid")
    save(folder / "face_embed", "face_embed", pool="gdc")
    return folder


def exported(folder: Path, runtime: str, **settings: Any) -> module.Exported:
    need_runtime(runtime)
    return export(folder, Bundle.open(folder), runtime, pictures(5), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUN_HERE)
def test_each_runtime_gives_the_models_answers(models: Path, runtime: str) -> None:
    folder = models / "several"
    made = exported(folder, runtime)
    assert made.path == folder / "exports" / runtime / RUNTIMES[runtime].file
    assert made.parity is not None
    assert made.passed
    assert made.parity.relative < 1e-4
    assert made.parity.told["detection"] > 20
    facts = json.loads((made.path.parent / "export.json").read_text())
    batch = "batch" if runtime in ANY else 1
    assert facts["input"] == {
        "name": "images",
        "type": "uint8",
        "shape": [batch, SIDE, SIDE, 3],
        "colours": "RGB",
    }
    assert facts["heads"]["detection"]["class_names"] == list(NAMES)
    assert facts["heads"]["detection"]["thresholds"] == [0.3, 0.3, 0.3]
    assert facts["heads"]["fine_grained"]["view"] == 0.875
    finest = [name.removeprefix("fine/") for name in CELLS if name.startswith("fine/")]
    assert facts["heads"]["geo"]["class_names"] == finest
    assert facts["heads"]["geo"]["temperature"] == 2.5
    assert next(one["shape"] for one in facts["outputs"] if one["name"] == "geo_logits") == [
        batch,
        len(finest),
    ]
    assert facts["fingerprint"] == fingerprint(folder)
    assert json.loads((made.path.parent / "parity.json").read_text())["passed"] is True
    inside = json.loads(metadata_of(runtime, made.path))
    assert inside == {key: facts[key] for key in facts if key not in ("file", "files", "sha256")}
    assert {file.name for file in made.path.parent.iterdir()} >= {
        *facts["files"],
        "export.json",
        "parity.json",
    }


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUN_HERE)
@pytest.mark.parametrize("head", ["detection", "face_embed"])
def test_predictions_are_the_same_objects(models: Path, runtime: str, head: str) -> None:
    folder, images = models / head, pictures(3, seed=5)
    assert exported(folder, runtime).passed
    wanted = mbapps.load(folder).predict(images)
    found = mbapps.load(folder, runtime=runtime).predict(images, batch_size=2)
    for one, two in zip(wanted, found, strict=True):
        assert type(one) is type(two)
        ours, theirs = one.to_json(), two.to_json()
        assert len(ours) == len(theirs) == count_alike(ours, theirs, 1e-3) > 0


def metadata_of(runtime: str, path: Path) -> str:
    """The facts inside a file, read by what needs nothing of ours."""
    if runtime == "onnx":
        import onnx

        return {item.key: item.value for item in onnx.load(path).metadata_props}["mbapps"]
    if runtime == "openvino":
        import openvino

        return str(openvino.Core().read_model(path).get_rt_info(["mbapps"]).value)
    if runtime == "litert":
        return zipfile.ZipFile(path).read("mbapps.json").decode()
    from executorch.runtime import Runtime

    return str(Runtime.get().load_program(path).load_method("mbapps").execute([])[0])


def test_a_file_may_be_for_one_size_of_batch(models: Path) -> None:
    folder = models / "detection"
    made = exported(folder, "onnx", batch=2)
    assert made.passed
    assert len(mbapps.load(folder, runtime="onnx").predict(pictures(3))) == 3
    import onnxruntime

    session = onnxruntime.InferenceSession(made.path)
    (taken,) = session.get_inputs()
    assert (taken.name, taken.shape, taken.type) == ("images", [2, SIDE, SIDE, 3], "tensor(uint8)")
    red = np.zeros((2, SIDE, SIDE, 3), np.uint8)  # as a camera gives it: rows, columns, RGB
    red[1, ..., 0] = 255
    boxes, scores = session.run(["detection_boxes", "detection_scores"], {"images": red})
    network = mbapps.load(folder).network
    with torch.inference_mode():
        wanted = network.head("detection").finish(
            network(torch.from_numpy(red).permute(0, 3, 1, 2))["detection"]
        )
    assert np.abs(scores - wanted["scores"].numpy()).max() < 1e-4
    assert np.abs(boxes - wanted["boxes"].numpy()).max() < 1e-2
    assert np.abs(scores[0] - scores[1]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ANY)
def test_boxes_may_be_suppressed_in_the_file(models: Path, runtime: str) -> None:
    folder, images = models / "detection", pictures(4, seed=7)
    need_runtime("onnx")
    assert exported(folder, runtime, nms=True).passed
    original, loaded = mbapps.load(folder), mbapps.load(folder, runtime=runtime)
    answers = original.predict(images, score_thresh=0)
    assert sum(len(answer) for answer in answers) > 40
    for one, two in zip(answers, loaded.predict(images, score_thresh=0), strict=True):
        ours, theirs = one.to_json(), two.to_json()
        assert len(ours) == len(theirs) == count_alike(ours, theirs, 1e-3)
    views = head_views(original.head_facts, images)
    scores = loaded.network(views)["detection"]["scores"]
    raw = original.network.head("detection").finish(original.network(views)["detection"])["scores"]
    assert ((scores > 0).sum((1, 2)).numpy() >= [len(answer) for answer in answers]).all()
    assert (raw > 0.01).sum() > 1.2 * (scores > 0).sum()
    assert torch.allclose(scores, raw * (scores > 0), atol=1e-4)


def test_suppression_is_for_detectors_where_there_is_an_operator(models: Path) -> None:
    bundle = Bundle.open(models / "face_embed")
    with pytest.raises(
        ValueError, match=r"nms=true is for a model with one head that gives boxes, not 0 of them"
    ):
        export(models / "face_embed", bundle, "onnx", pictures(1), nms=True)
    bundle = Bundle.open(models / "detection")
    with pytest.raises(
        ValueError, match=r"nms=true is for runtime=onnx and runtime=openvino: litert has no such"
    ):
        export(models / "detection", bundle, "litert", pictures(1), nms=True)


@pytest.mark.slow
def test_core_ml_takes_pictures(models: Path) -> None:
    made = exported(models / "detection", "coreml")
    import coremltools

    assert made.parity is None
    assert made.passed
    spec = coremltools.models.MLModel(str(made.path), skip_model_load=True).get_spec()
    picture = spec.description.input[0].type.imageType
    assert (picture.height, picture.width) == (SIDE, SIDE)
    assert picture.colorSpace == picture.RGB
    assert {output.name for output in spec.description.output} == {"detection_boxes", "detection_scores"}
    assert json.loads(spec.description.metadata.userDefined["mbapps"])["image_size"] == SIDE


def test_a_core_ml_file_of_another_network_is_told(models: Path) -> None:
    made = exported(models / "detection", "coreml")
    other = Graph(Bundle.open(models / "face_embed").network)
    with pytest.raises(ValueError, match=r"was written with input and outputs .*detection_boxes"):
        writers.check_coreml(made.path, other)


def worsen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let export write a network with a wrong layer."""
    fold = module.fold_norms

    def wrong(network: Any) -> Any:
        folded = fold(network)
        with torch.no_grad():
            folded.get_submodule(name).conv.bias += 0.5
        return folded

    monkeypatch.setattr(module, "fold_norms", wrong)


@pytest.mark.slow
def test_a_file_that_differs_is_kept_under_a_name_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("openvino")
    folder = tmp_path / "model"
    save(folder, "face_attr")
    good = folder / "exports" / "openvino" / "model.xml"
    worsen(monkeypatch, "body.blocks.7.pointwise")
    made = exported(folder, "openvino")
    assert made.parity is not None
    assert not made.passed
    assert made.parity.layer == "body.blocks.7.pointwise"
    place = folder / "exports" / "openvino_failed_parity"
    assert made.path == place / "model_failed_parity.xml"
    assert {file.name for file in place.iterdir()} == {
        "model_failed_parity.xml", "model_failed_parity.bin", "export.json", "parity.json",
    }  # fmt: skip
    assert json.loads((place / "parity.json").read_text())["first_layer"] == "body.blocks.7.pointwise"
    assert not good.exists()
    facts = json.loads((place / "export.json").read_text())
    assert set(facts["files"]) == {"model_failed_parity.xml", "model_failed_parity.bin"}
    monkeypatch.undo()
    assert exported(folder, "openvino").passed
    assert good.is_file()
    assert not place.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "batch"), [(("fine_grained",), 2), (("detection", "fine_grained", "face_attr"), None)]
)
def test_the_layer_at_fault_is_named_though_it_is_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: tuple[str, ...], batch: int | None
) -> None:
    save(tmp_path / "model", *heads)
    name = "body.blocks.7.pointwise"
    worsen(monkeypatch, name)
    made = exported(tmp_path / "model", "onnx", batch=batch)
    assert made.parity is not None
    assert not made.passed
    assert made.parity.layer == name


def test_layers_are_compared_on_the_images_that_differ_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("onnx")
    folder, images, seen = save(tmp_path / "model", "face_attr"), pictures(10), []
    worsen(monkeypatch, "body.stem")
    monkeypatch.setattr(module, "find_layer", lambda *values: seen.extend(values[3]))
    parity = export(folder, Bundle.open(folder), "onnx", images).parity
    assert parity is not None
    assert [next(row for row in range(10) if images[row] is image) for image in seen] == parity.furthest(4)


@pytest.mark.slow
def test_a_file_is_kept_whatever_looking_for_the_layer_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "model", "face_attr")
    worsen(monkeypatch, "body.stem")

    def fail(*values: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(module, "first_divergence", fail)
    monkeypatch.setattr(module, "find_layer", fail)
    made = exported(folder, "onnx", metrics=[module.Metric("AP", lambda network: float("nan"))])
    assert made.parity is not None
    assert (made.passed, made.parity.layer, made.parity.looked) == (False, None, False)
    assert made.path == folder / "exports" / "onnx_failed_parity" / "model_failed_parity.onnx"
    assert made.path.is_file()
    told = json.loads((made.path.parent / "parity.json").read_text())
    assert told["metrics"] == {"AP": {"original": None, "file": None, "images": 0, "limit": 1e-3}}
    assert "; which layer differs could not be found. The file is kept as" in tell_failed("onnx", made)


@pytest.mark.slow
def test_suppression_that_takes_all_boxes_away_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_runtime("onnx")
    folder = save(tmp_path / "model", "detection")
    bundle = Bundle.open(folder)
    bundle.facts["heads"]["detection"]["thresholds"] = [1.0] * len(NAMES)  # nothing is told above them
    assert export(folder, bundle, "onnx", pictures(3), nms=True).passed
    add = writers.add_suppression
    monkeypatch.setattr(
        writers, "add_suppression", lambda path, wanted: add(path, wanted._replace(score_thresh=2.0))
    )
    made = export(folder, bundle, "onnx", pictures(3), nms=True)
    assert made.parity is not None
    assert made.parity.relative < 1e-3
    assert (made.passed, made.parity.layer) == (False, None)
    said = tell_failed("onnx", made)
    assert "; no layer, but suppression in the file, or decoding, is at fault. The file is kept as" in said


@pytest.mark.slow
def test_where_neither_tells_anything_no_agreement_is_claimed(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "detection", score_thresh=1.0)
    made = exported(folder, "onnx", nms=True)
    assert made.passed
    assert described(made)[1] == "nothing told"
    assert json.loads((made.path.parent / "parity.json").read_text())["agreement"] is None


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUN_HERE)
def test_a_file_is_closed_before_it_is_moved(
    models: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    sessions: list[Any] = []
    place, opened = module._place, module.RuntimeFile

    def opening(*values: Any) -> Any:
        file = opened(*values)
        sessions.append(weakref.ref(file.session))
        return file

    def placing(*values: Any) -> Any:
        assert [session() for session in sessions] == [None]
        return place(*values)

    monkeypatch.setattr(module, "RuntimeFile", opening)
    monkeypatch.setattr(module, "_place", placing)
    assert exported(models / "detection", runtime).passed


@pytest.mark.slow
def test_an_altered_description_is_refused(models: Path) -> None:
    made = exported(models / "several", "onnx")
    about = made.path.parent / "export.json"
    facts = json.loads(about.read_text())
    facts["outputs"][0]["name"], facts["outputs"][1]["name"] = "detection_scores", "detection_boxes"
    about.write_text(json.dumps(facts))
    with pytest.raises(
        ValueError, match=r"export\.json was altered since it was exported.*; export it again"
    ):
        mbapps.load(models / "several", runtime="onnx")
    del facts["sha256"]  # as files of earlier versions
    facts["outputs"][0]["name"] = "nobody"
    about.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"model\.onnx can't be run by onnxruntime on 1 images: .*nobody"):
        mbapps.load(models / "several", runtime="onnx").predict(pictures(1))


@pytest.mark.slow
def test_an_operator_that_a_runtime_lacks_is_told(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("onnx")
    network = Bundle.open(models / "face_embed").network

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x[:, :4].reshape(-1, 2, 2).float()).abs().flatten(1)

    monkeypatch.setattr(network.head("face_embed"), "project", Odd())
    with pytest.raises(
        ValueError, match=r"runtime=onnx can't hold this model: .*eig.*export it to another runtime"
    ):
        writers.write("onnx", Graph(network), tmp_path / "model.onnx", "{}", None)


def test_an_unknown_runtime_is_told(models: Path) -> None:
    folder = models / "detection"
    with pytest.raises(ValueError, match=r"runtime must be one of onnx, openvino, .*, got 'torch'"):
        export(folder, Bundle.open(folder), "torch", pictures(1))
