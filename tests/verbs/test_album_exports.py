"""What of a model folder makes an album anew, and what says nothing of its answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from album_files import write_photos
from conftest import Cli
from model_files import need_runtime, save

from mbapps.album import hashes
from mbapps.album.hashes import model_hash
from mbapps.deploy.passes import file_folder
from mbapps.deploy.runtimes import export_folder
from mbapps.deploy.saving import change_facts
from mbapps.verbs.album import exports_hash


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 3)


@pytest.mark.slow
def test_an_export_leaves_albums_as_they_are(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("onnx")
    model = save(tmp_path / "model", "fine_grained")

    def make(runtime: str) -> Path:
        words = (f"source={photos}", f"model={model}", f"out={tmp_path / runtime}", f"runtime={runtime}")
        return cli("album", *words, "batch_size=4")

    def export() -> None:
        cli("export", f"model={model}", "runtime=onnx", f"source={photos}")

    make("torch")
    export()
    make("onnx")
    for name in ("onnx_int8", "onnx_failed_parity", "openvino"):
        shutil.copytree(model / "exports" / "onnx", model / "exports" / name)
    (model / "exports" / "onnx" / "parity.json").write_text("{}")
    change_facts(model, lambda facts: facts["exports"].update(openvino=facts["exports"]["onnx"]))
    monkeypatch.setattr("mbapps.album.making.bring_up_to_date", lambda *_: pytest.fail("it was made again"))
    make("torch")
    make("onnx")


def test_what_decides_answers_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(tmp_path / "model", "detection")
    known: dict[str, list[Any]] = {}
    before = model_hash(model, known)

    def metrics(facts: dict[str, Any]) -> None:
        facts["heads"]["detection"]["metrics"] = {"AP": 0.5}
        facts["lineage"] = {"weights": "elsewhere"}

    def thresholds(facts: dict[str, Any]) -> None:
        facts["heads"]["detection"]["thresholds"] = [0.1, 0.2, 0.3]

    with monkeypatch.context() as patched:
        patched.setattr(hashes, "content_hash", lambda files: pytest.fail("the weights were read"))
        change_facts(model, metrics)
        assert model_hash(model, known) == before
        change_facts(model, thresholds)
        assert model_hash(model, known) != before
    save(model, "detection", seed=1)
    assert model_hash(model, known) != before
    (model / "model.json").write_text("[")
    with pytest.raises(ValueError, match=r"model\.json is no model description: "):
        model_hash(model, known)
    (model / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model folder at .*: it has no model\.json"):
        model_hash(model, known)


def test_all_parts_of_the_wanted_runtime_and_precision_count(tmp_path: Path) -> None:
    model = save(tmp_path / "model", "detection", "fine_grained", sides={"fine_grained": 32})
    cfg: Any = SimpleNamespace(model=str(model), runtime="onnx", precision="int8", runtime_file=None)
    for part in ("64px", "32px"):
        place = export_folder(model, "onnx", "int8", part)
        assert place.name == file_folder("onnx", "int8", part)
        place.mkdir(parents=True)
        (place / "model.onnx").write_text(part)
    known: dict[str, list[Any]] = {}
    before = exports_hash(cfg, known)
    assert exports_hash(cfg, known) == before
    (place / "model.onnx").write_text("other")
    assert exports_hash(cfg, known) != before
    cfg.runtime = "torch"
    assert exports_hash(cfg, known) is None
