"""Files in 8 bits, where NNCF is installed; what is asked of them, everywhere."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from model_files import SIDE, need_runtime, pictures, save

import mbapps
from mbapps.deploy import export as exporting
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.difference import Difference
from mbapps.deploy.eight_bits import prepare
from mbapps.deploy.export import export, int8_parity
from mbapps.deploy.layer_names import weighted_layers
from mbapps.deploy.measured import Measured
from mbapps.deploy.parity import Parity
from mbapps.deploy.quantize import QUANTIZERS, quantize
from mbapps.deploy.quantize_litert import TfLiteFile
from mbapps.deploy.rounding import in_8_bits
from mbapps.deploy.runtimes import RuntimeFile, RuntimeNetwork
from mbapps.deploy.saving import fingerprint
from mbapps.images import write_image


def need_int8(runtime: str) -> None:
    need_runtime(runtime)
    if runtime != "litert":  # it has a quantiser of its own
        pytest.importorskip("nncf", reason="nncf is not installed: pip install 'mbapps[int8]'")


def facts_inside(runtime: str, path: Path) -> dict[str, Any]:
    """What a file itself says."""
    if runtime == "onnx":
        import onnx

        text = {item.key: item.value for item in onnx.load(path).metadata_props}["mbapps"]
    elif runtime == "openvino":
        import openvino

        text = openvino.Core().read_model(path).get_rt_info(["mbapps"]).value
    else:
        text = zipfile.ZipFile(path).read("mbapps.json").decode()
    return dict(json.loads(text))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "litert"])
def test_a_file_in_8_bits_is_small_and_alike(runtime: str, tmp_path: Path, cli: Cli) -> None:
    need_int8(runtime)
    model = save(tmp_path / "model", "face_attr")
    photos = tmp_path / "photos"
    for number, image in enumerate(pictures(12)):
        write_image(photos / f"{number}.png", image)
    words = ("export", f"model={model}", f"runtime={runtime}", f"source={photos}")
    cli(*words)
    cli(*words, "precision=int8", "calibration_images=8")
    about = json.loads((model / "model.json").read_text())["exports"]
    place = about[f"{runtime}_int8"]
    assert place["file"].startswith(f"exports/{runtime}_int8/model.")
    assert place["passed"] is True
    assert place["bytes"] < 0.6 * about[runtime]["bytes"]
    facts = json.loads((model / "exports" / f"{runtime}_int8" / "export.json").read_text())
    inside = facts_inside(runtime, model / place["file"])
    assert inside["int8"]["calibration_images"] == 8
    assert inside["heads"] == facts["heads"]
    assert facts["precision"] == "int8"
    layers = 1 + 8 * 2 + 1  # stem, pairs, linear
    assert facts["int8"]["layers"] == layers
    assert facts["int8"]["int8"] >= layers - 1  # the last one gives the answer in float
    assert facts["int8"]["calibration_images"] == 8
    parity = json.loads((model / "exports" / f"{runtime}_int8" / "parity.json").read_text())
    assert len(parity["layers"]) == layers
    assert [row["name"] for row in parity["layers"] if row["guilty"]]
    assert set(facts["int8"]["guilty"]) == {row["name"] for row in parity["layers"] if row["guilty"]}
    whole = facts["int8"]["int8"]
    names = ["body.blocks.2.depthwise", "body.blocks.3"]
    cli(*words, "precision=int8", "calibration_images=8", f"quantize.keep=[{','.join(names)}]")
    facts = json.loads((model / "exports" / f"{runtime}_int8" / "export.json").read_text())
    assert facts["int8"]["kept"] == [names[0], "body.blocks.3.depthwise", "body.blocks.3.pointwise"]
    before = 2 if runtime == "onnx" else 0  # ONNX Runtime leaves those before them in float too
    assert facts["int8"]["int8"] == whole - 3 - before
    loaded = mbapps.load(model, runtime=runtime, precision="int8")
    found = loaded.predict(photos / "3.png")[0].to_json()
    wanted = mbapps.load(model).predict(photos / "3.png")[0].to_json()
    assert found != wanted  # it is another network
    assert np.abs([one["score"] - two["score"] for one, two in zip(found, wanted, strict=True)]).max() < 0.1
    assert "layers in 8 bits" in (card := (model / "CARD.md").read_text())
    assert "Left in float: body.blocks.2.depthwise, body.blocks.3.depthwise" in card
    run = cli(
        "predict", f"model={model}", f"source={photos}", f"runtime={runtime}", "precision=int8", "draw=false"
    )
    assert json.loads((run / "predictions.json").read_text())["images"][str(photos / "3.png")] == found


@pytest.mark.slow
@pytest.mark.parametrize("keep", [(), ("body.stem",)])
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "litert"])
def test_rounding_is_what_was_made_ready_for(runtime: str, keep: tuple[str, ...], tmp_path: Path) -> None:
    need_int8(runtime)
    model = save(tmp_path / "model", "fine_grained")
    bundle, images = Bundle.open(model), pictures(24)
    int8 = prepare(bundle, images, keep=keep, triaged=False)
    made = export(model, bundle, runtime, images[:2], int8=int8)
    views = torch.from_numpy(int8.views).permute(0, 3, 1, 2)
    file = RuntimeNetwork(bundle.network, [RuntimeFile(made.path, fingerprint(model))])
    with torch.inference_mode():
        wanted, found = (net(views)["fine_grained"]["logits"] for net in (bundle.network, file))
        with in_8_bits(int8.network, set(weighted_layers(int8.network)).difference(keep)):
            simulated = int8.network(views)["fine_grained"]["logits"]
    errors = [float((logits - wanted).square().mean()) for logits in (found, simulated)]
    most = 1.4 if runtime == "openvino" else 2.0  # the others round more than what layers take
    assert 0 < errors[0] < most * errors[1]  # biases made up for rounding, and nothing undid that
    facts = json.loads((made.path.parent / "export.json").read_text())["int8"]
    assert facts["layers"] - facts["int8"] <= 1 + len(
        keep
    )  # the linear layer gives the answer; not the map before it
    assert scales_of(runtime, made.path) >= {16, 32, 64, 128}  # one for each channel, not one for all


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "litert"])
def test_lengths_of_vectors_are_not_rounded(runtime: str, tmp_path: Path) -> None:
    need_int8(runtime)
    model = save(tmp_path / "model", "face_embed", dim=32)
    bundle, images = Bundle.open(model), pictures(24)
    int8 = prepare(bundle, images, triaged=False)
    made = export(model, bundle, runtime, images[:2], int8=int8)
    views = torch.from_numpy(int8.views).permute(0, 3, 1, 2)
    file = RuntimeNetwork(bundle.network, [RuntimeFile(made.path, fingerprint(model))])
    with torch.inference_mode():
        found = file(views)["face_embed"]["embeddings"]
    assert found.norm(dim=1).numpy() == pytest.approx(1, abs=1e-4)


def scales_of(runtime: str, path: Path) -> set[int]:
    """How many scales the weights of layers have, by layer."""
    if runtime == "onnx":
        import onnx

        graph = onnx.load(path).graph
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
        read = [node for node in graph.node if node.op_type == "DequantizeLinear"]
        return {sizes[node.input[1]] for node in read if node.input[0] in sizes}
    if runtime == "openvino":
        import openvino

        found = set()
        for operation in openvino.Core().read_model(path).get_ordered_ops():
            if operation.get_type_name() in ("Convolution", "GroupConvolution"):
                scaled = operation.input_value(1).get_node()
                while scaled.get_type_name() not in ("Multiply", "Constant"):
                    scaled = scaled.input_value(0).get_node()
                if scaled.get_type_name() == "Multiply":  # else it stays in float
                    found.add(int(np.prod(scaled.input_value(1).get_node().data.shape)))
        return found
    file = TfLiteFile(path)
    scales = [file.tensors[layer.inputs[1]].quantization.scale for layer in file.layers]
    return {len(each) for each in scales if each is not None}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "litert"])
def test_a_file_in_8_bits_may_take_several_images(runtime: str, tmp_path: Path) -> None:
    need_int8(runtime)
    model = save(tmp_path / "model", "fine_grained")
    bundle, images = Bundle.open(model), pictures(10)
    export(model, bundle, runtime, images, int8=prepare(bundle, images, triaged=False), batch=4)
    loaded = mbapps.load(model, runtime=runtime, precision="int8")
    assert len(loaded.predict(images)) == 10
    with pytest.raises(ValueError, match=r"takes 4 images at a time, got 1"):
        loaded.network.files[0].run(np.zeros((1, SIDE, SIDE, 3), np.uint8))


@pytest.mark.slow
def test_a_float_file_has_no_layer_in_8_bits(tmp_path: Path) -> None:
    need_int8("litert")
    model = save(tmp_path / "model", "face_attr")
    made = export(model, Bundle.open(model), "litert", pictures(1))
    layers = TfLiteFile(made.path).in_8_bits()
    assert len(layers) == 18
    assert not any(layers)


def test_a_file_that_stays_float_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(tmp_path / "model", "face_attr")
    monkeypatch.setattr(exporting, "write", lambda *values: values[2].write_bytes(b"1"))
    monkeypatch.setitem(QUANTIZERS, "onnx", lambda *values: (3, 28))
    bundle = Bundle.open(model)
    int8 = prepare(bundle, pictures(1), keep=["body.blocks.2"], triaged=False)
    with pytest.raises(
        ValueError, match=r"precision=int8: only 3 of 28 layers are in 8 bits, fewer than 80% of the 14"
    ):
        export(model, bundle, "onnx", pictures(1), int8=int8)
    assert not any((model / "exports").iterdir())


def test_layers_that_are_kept_do_not_hide_those_that_stay_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "model", "face_attr")
    monkeypatch.setattr(exporting, "write", lambda *values: values[2].write_bytes(b"1"))
    monkeypatch.setitem(QUANTIZERS, "onnx", lambda *values: (0, 18))
    bundle = Bundle.open(model)
    int8 = prepare(bundle, pictures(1), keep=["body"], triaged=False)
    with pytest.raises(ValueError, match=r"precision=int8: only 0 of 18 layers are in 8 bits"):
        export(model, bundle, "onnx", pictures(1), int8=int8)
    with pytest.raises(ValueError, match=r"quantize\.keep=body,heads leaves no layer for 8 bits"):
        prepare(bundle, pictures(1), keep=["body", "heads"])


@pytest.mark.parametrize("runtime", ["executorch", "coreml"])
def test_8_bits_are_for_some_runtimes(runtime: str, tmp_path: Path) -> None:
    model = save(tmp_path / "model", "face_attr")
    message = (
        rf"precision=int8 is for runtime=openvino and runtime=onnx and runtime=litert, not runtime={runtime}"
    )
    bundle = Bundle.open(model)
    with pytest.raises(ValueError, match=message):
        export(model, bundle, runtime, pictures(1), int8=prepare(bundle, pictures(1), triaged=False))
    with pytest.raises(ValueError, match=message):
        quantize(runtime, tmp_path / "file", np.zeros((1, SIDE, SIDE, 3), np.uint8), "{}")


def gate(**told: tuple[int, int]) -> Parity:
    """A comparison of 100 images: what is alike and what is told, by head."""
    found = int8_parity("onnx")
    found.images = 100
    found.alike, found.told = ({name: one[place] for name, one in told.items()} for place in (0, 1))
    return found


def test_answers_must_be_alike_for_the_most_part_of_each_head() -> None:
    assert gate(a=(85, 100), b=(50, 50)).passed
    assert not gate(a=(85, 100), b=(30, 50)).passed
    attributes = gate(**{"a.male": (100, 100), "a.old": (70, 100)})
    assert not attributes.passed  # the worst attribute decides
    attributes.alike["a.old"] = 80
    assert attributes.passed


def test_a_head_that_tells_nothing_is_not_compared() -> None:
    silent = gate(a=(100, 100), b=(9, 9))
    assert silent.silent == ["b"]
    assert not silent.passed
    silent.metrics["a_AP"] = Measured(0.5, 0.5, head="a")
    assert not silent.passed
    silent.metrics["b_AP"] = Measured(0.5, 0.5, head="b")
    assert silent.passed
    alone = gate(a=(0, 0))
    assert not alone.passed
    alone.metrics["AP"] = Measured(0.5, 0.5)
    assert alone.passed


@pytest.mark.parametrize(
    ("measured", "kept"),
    [
        (Measured(0.95, 0.941), True),
        (Measured(0.95, 0.935), False),
        (Measured(0.90, 0.95), True),  # better
        (Measured(0.95, 0.936, images=72), True),  # one image of them
        (Measured(0.95, 0.92, images=72), False),
        (Measured(0.012, 0.003), False),  # most of it is gone
        (Measured(300.0, 314.0, lower=True), True),
        (Measured(300.0, 316.0, lower=True), False),
        (Measured(300.0, 250.0, lower=True), True),
        (Measured(0.5, math.nan), False),
    ],
)
def test_what_8_bits_may_cost(measured: Measured, kept: bool) -> None:
    found = gate(a=(100, 100))
    found.metrics["number"] = measured
    assert found.passed is kept
    content: dict[str, Any] = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["limits"] == {
        "tolerance": None, "most_noise": 0.5, "least_agreement": 0.8, "metric_tolerance": 0.01, "least_told": 10,
    }  # fmt: skip


def test_noise_wrecks_a_file_unless_it_is_in_what_is_only_drawn() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 10))
    for scale, passed in ((0.4, True), (0.6, False)):
        found = gate(a=(100, 100))
        one = found.outputs["a_logits"] = Difference()
        one.add(logits, logits + scale * rng.normal(size=logits.shape))
        assert one.noise == pytest.approx(scale, rel=0.1)
        assert found.passed is passed
    found.drawn.add("a_logits")
    assert found.passed
    one.add(logits[:1], np.full((1, 10), np.nan))
    assert not found.passed
    assert not math.isfinite(one.noise)


def test_precisions_are_checked(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(tmp_path / "model", "face_attr")
    with pytest.raises(ValueError, match=r"precision must be float32 or int8, got 'int4'"):
        mbapps.load(model, runtime="onnx", precision="int4")
    with pytest.raises(
        ValueError, match=r"precision=int8 is for exported files: name their runtime by runtime="
    ):
        mbapps.load(model, precision="int8")
    with pytest.raises(FileNotFoundError, match=r"runtime=onnx precision=int8 writes one"):
        mbapps.load(model, runtime="onnx", precision="int8")
    with pytest.raises(ValueError, match=r"precision must be float32 or int8, got 'int4'"):
        cli("export", f"model={model}", "precision=int4")
    with pytest.raises(ValueError, match=r"calibration_images must be a whole number >= 1, got 0"):
        cli("export", f"model={model}", "calibration_images=0")
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ImportError, match=r"precision=int8 needs .*pip install 'mbapps\[int8\]'"):
        cli("export", f"model={model}", "precision=int8")
    monkeypatch.setattr("mbapps.verbs.export.check", lambda cfg: ["onnx"])
    (tmp_path / "empty").mkdir()
    photo = write_image(tmp_path / "photo.png", pictures(1)[0])
    with pytest.raises(FileNotFoundError, match=r"no images or videos at calibration=.*empty"):
        cli(
            "export",
            f"model={model}",
            "precision=int8",
            f"calibration={tmp_path / 'empty'}",
            f"source={photo}",
        )
