"""Files that are opened, with a stand-in for the runtime; their export.json is written by hand."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import SIDE, network, pictures, save

import mbapps
from mbapps.deploy import runtimes, sessions
from mbapps.deploy.graph import Graph
from mbapps.deploy.likeness import count_alike
from mbapps.deploy.runtimes import RuntimeFile
from mbapps.deploy.saving import fingerprint

CONTENT = b"a network"


class Stand:
    """A session that answers with the network of seed 0."""

    sizes: list[int] = []
    given = 2  # outputs

    def __init__(self, path: Path, outputs: list[str], threads: int | None = None):
        self.graph = Graph(network("detection"))
        assert path.read_bytes() == CONTENT

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> list[np.ndarray]:
        self.sizes.append(len(images))
        return [value.numpy() for value in self.graph(torch.from_numpy(images))][: self.given]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder with a file for runtime=onnx, which the stand-in runs."""
    monkeypatch.setitem(sessions.RUNTIMES, "onnx", sessions.Runtime("model.onnx", "onnxruntime", Stand))
    monkeypatch.setattr(Stand, "sizes", [])
    folder = save(tmp_path / "model", "detection")
    write(folder)
    return folder


def write(folder: Path, **changes: Any) -> Path:
    place = folder / "exports" / "onnx"
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").write_bytes(CONTENT)
    facts = {
        "format": 1, "runtime": "onnx", "file": "model.onnx", "image_size": SIDE, "batch": [1, None],
        "files": {"model.onnx": hashlib.sha256(CONTENT).hexdigest()}, "fingerprint": fingerprint(folder),
        "outputs": [
            {"name": "detection_boxes", "head": "detection", "output": "boxes"},
            {"name": "detection_scores", "head": "detection", "output": "scores"},
        ],
        **changes,
    }  # fmt: skip
    (place / "export.json").write_text(json.dumps(facts))
    return place / "model.onnx"


def seal(folder: Path) -> dict[str, Any]:
    """Give export.json the digest of its content, as the program on a device would compute it."""
    path = folder / "exports" / "onnx" / "export.json"
    facts = json.loads(path.read_text())
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(dict(reversed(facts.items())), indent=4))
    return dict(facts)


def test_answers_are_the_heads_own(model: Path) -> None:
    images = pictures(5)
    wanted = [answer.to_json() for answer in mbapps.load(model).predict(images)]
    loaded = mbapps.load(model, runtime="onnx")
    assert (loaded.runtime, loaded.device) == ("onnx", "cpu")
    found = [answer.to_json() for answer in loaded.predict(images, batch_size=2)]
    for ours, theirs in zip(wanted, found, strict=True):
        assert len(ours) == len(theirs) == count_alike(ours, theirs, 1e-4) > 0
    assert Stand.sizes == [2, 2, 1]


def test_batches_are_cut_and_filled_up_to_what_a_file_takes(model: Path) -> None:
    images = pictures(5)
    wanted = [len(answer) for answer in mbapps.load(model).predict(images)]
    for batch, sizes in (([1, 1], [1] * 5), ([3, 3], [3, 3]), ([1, 4], [4, 1])):
        Stand.sizes.clear()
        write(model, batch=batch)
        found = mbapps.load(model, runtime="onnx").predict(images)
        assert [len(answer) for answer in found] == wanted
        assert Stand.sizes == sizes


def test_a_file_takes_its_own_batch_and_size_only(model: Path) -> None:
    file = RuntimeFile(write(model, batch=[2, 2]), fingerprint(model))
    assert set(file.run(np.zeros((2, SIDE, SIDE, 3), np.uint8))["detection"]) == {"boxes", "scores"}
    with pytest.raises(ValueError, match=r"takes 2 images at a time, got 3; export batch= sets that"):
        file.run(np.zeros((3, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"takes uint8 images of 64x64 px, got uint8 \[2, 96, 96, 3\]"):
        file.run(np.zeros((2, 96, 96, 3), np.uint8))
    with pytest.raises(ValueError, match=r"got float32 \[2, 64, 64, 3\]"):
        file.run(np.zeros((2, SIDE, SIDE, 3), np.float32))  # type: ignore[arg-type]
    several = RuntimeFile(write(model, batch=[1, 4]), fingerprint(model))
    with pytest.raises(ValueError, match=r"takes 1 to 4 images at a time, got 5"):
        several.run(np.zeros((5, SIDE, SIDE, 3), np.uint8))


def test_a_file_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", "detection", seed=1)
    file = model / "exports" / "onnx" / "model.onnx"
    with pytest.raises(ValueError, match=r"model\.onnx was exported from another model"):
        mbapps.load(other, runtime="onnx", runtime_file=file)
    assert mbapps.load(model, runtime="onnx", runtime_file=file).runtime == "onnx"


def test_an_altered_file_is_refused(model: Path) -> None:
    file = model / "exports" / "onnx" / "model.onnx"
    file.write_bytes(b"a notwork")
    with pytest.raises(
        ValueError, match=r"model\.onnx was altered since it was exported.*sha256; export it again"
    ):
        mbapps.load(model, runtime="onnx")
    write(model, files={"model.onnx": hashlib.sha256(CONTENT).hexdigest(), "model.bin": "0" * 64})
    with pytest.raises(ValueError, match=r"model\.bin is gone since it was exported"):
        mbapps.load(model, runtime="onnx")


def test_a_model_that_was_not_exported_is_named(model: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"model\.xml: mbapps export model=.* runtime=openvino writes one"
    ):
        mbapps.load(model, runtime="openvino")
    (model / "exports" / "openvino_failed_parity").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"did not give the model's answers and is kept in .*_failed_parity"
    ):
        mbapps.load(model, runtime="openvino")
    with pytest.raises(FileNotFoundError, match=r"no file at runtime_file=gone\.onnx"):
        mbapps.load(model, runtime="onnx", runtime_file="gone.onnx")
    (model / "exports" / "onnx" / "export.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no export\.json beside .*keep both together"):
        mbapps.load(model, runtime="onnx")


def test_a_file_of_another_runtime_is_named(model: Path) -> None:
    with pytest.raises(ValueError, match=r"is for runtime=onnx, not runtime=litert"):
        mbapps.load(model, runtime="litert", runtime_file=model / "exports" / "onnx" / "model.onnx")
    with pytest.raises(ValueError, match=r"is for runtime=onnx, not runtime=torch"):
        mbapps.load(model, runtime_file=model / "exports" / "onnx" / "model.onnx")
    with pytest.raises(ValueError, match=r"runtime must be one of torch, onnx, openvino, .*, got 'tensorrt'"):
        mbapps.load(model, runtime="tensorrt")
    with pytest.raises(ValueError, match=r"runtime=onnx runs on device=cpu, got device=cuda"):
        mbapps.load(model, runtime="onnx", device="cuda")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 9}, {"runtime": "tensorrt"}, {"file": "other.onnx"}, {"batch": [0, None]}, {"batch": [3, 2]},
        {"files": {"model.onnx": "0", "../../model.safetensors": "0"}}, {"files": {"/etc/passwd": "0"}}, {"files": {}},
        {"outputs": [{"name": "a"}]}, {"image_size": "64"},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_description_is_refused(model: Path, changes: dict[str, Any]) -> None:
    write(model, **changes)
    with pytest.raises(ValueError, match=r"export\.json does not describe model\.onnx"):
        mbapps.load(model, runtime="onnx")
    (model / "exports" / "onnx" / "export.json").write_text("[" * 9)
    with pytest.raises(ValueError, match=r"export\.json does not describe model\.onnx"):
        mbapps.load(model, runtime="onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": []}, {"image_size": 96}, {"batch": [1, 1]}, {"heads": {}}, {"sha256": "0"}, {"sha256": None},
        {"outputs": [{"name": "face_attr_logits", "head": "face_attr", "output": "logits"}]},
        {"outputs": [
            {"name": "detection_scores", "head": "detection", "output": "boxes"},
            {"name": "detection_boxes", "head": "detection", "output": "scores"},
        ]},
    ],
    ids=str,
)  # fmt: skip
def test_an_altered_description_is_refused(model: Path, change: dict[str, Any]) -> None:
    facts = seal(model)
    assert mbapps.load(model, runtime="onnx").predict(pictures(1))
    (model / "exports" / "onnx" / "export.json").write_text(json.dumps({**facts, **change}))
    message = r"export\.json was altered since it was exported: it has another sha256; export it again"
    with pytest.raises(ValueError, match=message):
        mbapps.load(model, runtime="onnx")


def test_a_file_without_a_heads_outputs_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export.json of an earlier version has no digest of its own."""
    other = {"name": "face_attr_logits", "head": "face_attr", "output": "logits"}
    for outputs, heads in (([], "none"), ([other], "face_attr")):
        write(model, outputs=outputs)
        monkeypatch.setattr(Stand, "given", len(outputs))
        message = (
            rf"model\.onnx must give outputs of detection, got those of heads {heads}; export the model again"
        )
        with pytest.raises(ValueError, match=message):
            mbapps.load(model, runtime="onnx").predict(pictures(1))


def test_a_file_with_fewer_outputs_than_it_says_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stand, "given", 1)
    with pytest.raises(
        ValueError, match=r"must give 2 outputs, as its export\.json says, got 1; export it again"
    ):
        mbapps.load(model, runtime="onnx").predict(pictures(1))


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("set_inputs failed with error 0x10"), "set_inputs.*0x10"), (KeyError(), "KeyError")],
)
def test_what_a_runtime_says_while_it_runs_is_told(
    model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(self: Stand, images: np.ndarray) -> None:
        raise error

    monkeypatch.setattr(Stand, "run", fail)
    loaded = mbapps.load(model, runtime="onnx")
    with pytest.raises(
        ValueError, match=rf"model\.onnx can't be run by onnxruntime on 2 images: {said}; export it"
    ):
        loaded.predict(pictures(2))
    monkeypatch.setattr(Stand, "run", raising_memory_error)
    with pytest.raises(MemoryError):
        loaded.predict(pictures(2))


def raising_memory_error(self: Stand, images: np.ndarray) -> None:
    raise MemoryError


def test_core_ml_does_not_run_here(model: Path, tmp_path: Path) -> None:
    place = model / "exports" / "coreml"
    (place / "model.mlpackage").mkdir(parents=True)
    (place / "model.mlpackage" / "Manifest.json").write_text("{}")
    facts = json.loads((model / "exports" / "onnx" / "export.json").read_text())
    digest = hashlib.sha256(b"{}").hexdigest()
    facts |= {
        "runtime": "coreml",
        "file": "model.mlpackage",
        "files": {"model.mlpackage/Manifest.json": digest},
    }
    (place / "export.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"runtime=coreml does not run from Python on this system"):
        mbapps.load(model, runtime="coreml")


@pytest.mark.parametrize(
    ("runtime", "module"),
    [
        ("onnx", "onnxruntime"), ("openvino", "openvino"), ("litert", "ai_edge_litert.interpreter"),
        ("executorch", "executorch.runtime"),
    ],
)  # fmt: skip
def test_a_runtime_that_is_missing_names_its_extra(
    runtime: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    kind = sessions.RUNTIMES[runtime]
    with pytest.raises(
        ImportError, match=rf"runtime={runtime} needs a package.*pip install 'mbapps\[{runtime}\]'"
    ):
        kind.session(tmp_path / kind.file, [])


def test_mirror_images_need_torch(model: Path) -> None:
    loaded = mbapps.load(model, runtime="onnx")
    images = torch.zeros((1, 3, SIDE, SIDE), dtype=torch.uint8)
    assert set(loaded.network.answer(images, "detection")) == {"boxes", "scores"}
    with pytest.raises(ValueError, match=r"an exported file gives finished boxes: use runtime=torch"):
        loaded.network.answer(images, "detection", flip=True)


def test_the_table_of_runtimes_is_whole() -> None:
    from mbapps.deploy import writers

    assert set(sessions.RUNTIMES) == set(writers.WRITERS) == set(writers.MODULES)
    assert runtimes.TORCH not in sessions.RUNTIMES
