"""`mbapps benchmark`: what is measured, what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from model_files import need_runtime, pictures, save

from mbapps.deploy import benchmark as module
from mbapps.deploy.benchmark import Case, find_cases, measure
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.export import export
from mbapps.models.folder import read_facts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "m", "face_attr")


def cases(model: Path, **settings: Any) -> tuple[list[Case], list[str]]:
    given = {"runtimes": None, "precisions": None, "threads": [None], "batches": [1], **settings}
    return find_cases(model, read_facts(model), **given)


def test_a_model_is_measured(cli: Cli, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli("benchmark", f"model={model}", "seconds=0.1", "rounds=2", "threads=1", "batch=[1,2]")
    numbers = json.loads((folder / "results.json").read_text())
    for batch in (1, 2):
        name = f"torch_float32_batch{batch}_threads1"
        assert 0 < numbers[f"{name}_p50_ms"] <= numbers[f"{name}_p95_ms"]
        assert numbers[f"{name}_images_per_second"] == pytest.approx(1e3 * batch / numbers[f"{name}_p50_ms"])
        assert numbers[f"{name}_megabytes"] == (model / "model.safetensors").stat().st_size / 1e6
        assert numbers[f"{name}_peak_megabytes"] > 50
    shown = capsys.readouterr().out
    assert "torch float32" in shown
    page = (folder / "report.html").read_text()
    assert "torch float32 batch2 threads1" in page
    assert "milliseconds an image" in page


def test_exported_files_are_measured_beside(model: Path) -> None:
    need_runtime("onnx")
    assert export(model, Bundle.open(model), "onnx", pictures(2), batch=2).passed
    found, left_out = cases(model, batches=[1, 2])
    assert [case.name for case in found] == [
        "torch_float32_batch1",
        "torch_float32_batch2",
        "onnx_float32_batch2",
    ]
    assert left_out == ["onnx float32 with batch=1: its file takes 2 at a time"]
    measure(found[2], 0.05)
    measure(found[2], 0.05)
    numbers = found[2].numbers()
    assert len(found[2].took) >= 2
    assert numbers["megabytes"] == (model / "exports" / "onnx" / "model.onnx").stat().st_size / 1e6
    (model / "exports" / "onnx" / "model.onnx").write_bytes(b"0")
    with pytest.raises(ValueError, match=r"was altered since it was exported"):
        cases(model)


def test_what_is_not_there_is_told(model: Path, cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no file for runtime=openvino: mbapps export model="):
        cases(model, runtimes=["torch", "openvino"])
    with pytest.raises(ValueError, match=r"runtime must be of torch, onnx, .*, got coreml"):
        cases(model, runtimes=["coreml"])
    with pytest.raises(ValueError, match=r"precision must be float32 or int8, got int4"):
        cases(model, precisions=["int4"])
    plain = save(tmp_path / "model", "face_attr")
    with pytest.raises(ValueError, match=r"nothing of .* can be measured: no such precision"):
        cli("benchmark", f"model={plain}", "precision=int8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("batch=0", r"batch must be a whole number >= 1, or a list of them, got 0"),
        ("batch=null", r"batch must be a whole number >= 1"),
        ("threads=[1,0]", r"threads must be a whole number >= 1, or a list of them, got \[1, 0\]"),
        ("seconds=0", r"seconds must be a number above 0, at most 3600, got 0"),
        ("rounds=1.5", r"rounds must be a whole number >= 1, got 1\.5"),
    ],
)
def test_settings_are_checked(cli: Cli, model: Path, words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli("benchmark", f"model={model}", words)


def test_a_process_that_fails_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,), _ = cases(model, runtimes=["torch"])
    case.asked["model"] = str(model / "gone")
    with pytest.raises(
        ChildProcessError, match=r"torch_float32_batch1 could not be measured: FileNotFoundError: no "
    ):
        measure(case, 0.05)
    assert module.Case("onnx", "int8", 2, 8, 1.0, {}).name == "onnx_int8_batch8_threads2"
