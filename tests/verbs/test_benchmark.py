"""`mbapps benchmark`: what is measured, what is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from model_files import need_runtime, pictures, save

from mbapps.deploy import benchmark as module
from mbapps.deploy import budget, sessions
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


def test_exported_files_are_measured_beside(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    found, left_out = cases(model)
    assert [case.name for case in found] == ["torch_float32_batch1"]
    assert left_out == ["runtime=onnx needs a package that is missing: pip install 'mbapps[onnx]'"]
    with pytest.raises(ImportError, match=r"runtime=onnx needs a package .*mbapps\[onnx\]"):
        cases(model, runtimes=["onnx"])
    monkeypatch.undo()
    other = shutil.copytree(model / "exports", save(tmp_path / "other", "face_attr", seed=1) / "exports")
    with pytest.raises(
        ValueError, match=r"model.onnx was exported from another model, or from this one before"
    ):
        cases(other.parent)
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
        ("batch=1.5", r"batch must be a whole number >= 1, or a list of them, got 1\.5"),
        ("threads=100000", r"threads must be at most \d+, the cores of this machine, got 100000"),
        ("runtime=[]", r"runtime must be one or a list of them, or null, got an empty list"),
        ("runtime=3", r"runtime must be of torch, .*, got 3"),
        ("precision=8", r"precision must be float32 or int8, got 8"),
    ],
)
def test_settings_are_checked(cli: Cli, model: Path, words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli("benchmark", f"model={model}", words)


def test_ctrl_c_keeps_what_was_measured(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(case: Case, seconds: float) -> None:
        measure(case, seconds)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module, "measure", stopped)
    words = ("seconds=0.05", "batch=[1,1,2]", f"out={tmp_path / 'run'}")
    with pytest.raises(SystemExit) as left:
        cli("benchmark", f"model={model}", "runtime=torch", *words)
    assert left.value.code == 130
    assert "the files hold what was measured until then" in capsys.readouterr().err
    numbers = json.loads((tmp_path / "run" / "results.json").read_text())
    assert numbers["torch_float32_batch1_p50_ms"] > 0
    assert "torch_float32_batch2_p50_ms" not in numbers
    assert numbers["context"]["stopped"] is True
    assert numbers["context"]["left_out"] == ["torch float32 batch2: stopped before it"]


def test_threads_that_can_not_be_set_are_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_runtime("onnx")
    export(model, Bundle.open(model), "onnx", pictures(2))
    monkeypatch.setitem(sessions.RUNTIMES, "onnx", sessions.RUNTIMES["onnx"]._replace(threads=False))
    found, left_out = cases(model, threads=[None, 1])
    assert [case.name for case in found if case.runtime == "onnx"] == ["onnx_float32_batch1"]
    assert left_out == ["onnx with threads=1: it takes as many as it likes"]


def test_a_process_that_fails_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,), _ = cases(model, runtimes=["torch"])
    case.asked["model"] = str(model / "gone")
    with pytest.raises(
        ChildProcessError, match=r"torch_float32_batch1 could not be measured: FileNotFoundError: no "
    ):
        measure(case, 0.05)
    assert module.Case("onnx", "int8", 2, 8, 1.0, {}).name == "onnx_int8_batch8_threads2"


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        budget, "TOP1", {(0.25, 64): (45.0, 44.0), (0.25, 32): (40.0, 39.0), (2.0, 224): (80.0, 79.0)}
    )


def test_what_fits_a_budget_is_listed(cli: Cli, small_grid: None, capsys: pytest.CaptureFixture[str]) -> None:
    need_runtime("onnx")
    pytest.importorskip("nncf", reason="nncf is not installed: pip install 'mbapps[int8]'")
    words = ("runtime=onnx", "seconds=0.05", "rounds=1", "threads=1", "budget.classes=5")
    folder = cli("benchmark", "budget.macs=10e6", "budget.ms=10000", *words)
    numbers = json.loads((folder / "results.json").read_text())
    names = ["alpha0.25_64px_float32", "alpha0.25_64px_int8", "alpha0.25_32px_float32", "alpha0.25_32px_int8"]
    assert numbers["context"]["fits"] == names  # the most accurate first
    for name in names:
        assert numbers[f"{name}_p50_ms"] > 0
        assert numbers[f"{name}_macs"] < 10e6
    assert numbers["alpha0.25_64px_int8_megabytes"] < 0.6 * numbers["alpha0.25_64px_float32_megabytes"]
    assert numbers["alpha2_224px_float32_fits"] == 0
    assert "alpha2_224px_float32_p50_ms" not in numbers  # never built
    assert "budget.ms=10000 budget.macs=10000000, runtime=onnx" in " ".join(capsys.readouterr().out.split())
    page = (folder / "report.html").read_text()
    assert "alpha 0.25 at 32 px, int8" in page
    limit = (numbers[f"{names[0]}_megabytes"] + numbers[f"{names[1]}_megabytes"]) / 2
    folder = cli("benchmark", f"budget.mb={limit}", "budget.macs=10e6", *words)
    assert json.loads((folder / "results.json").read_text())["context"]["fits"] == [names[1], names[3]]
    with pytest.raises(
        ValueError, match=r"nothing of the grid fits budget\.ms=1e-06.*; alpha 0\.25 at .* nearest: "
    ):
        cli("benchmark", "budget.ms=1e-6", "budget.macs=10e6", "precision=float32", *words)


def test_a_budget_needs_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"a budget is measured in an exported file: pip install 'mbapps\[openvino"
    ):
        budget.pick_runtime(None)
    with pytest.raises(ValueError, match=r"runtime must be one of onnx, .* for a budget, got torch"):
        budget.pick_runtime("torch")
    with pytest.raises(ValueError, match=r"runtime=executorch has precision=float32, not int8"):
        budget.precisions_of("executorch", ["int8"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"benchmark measures a model folder, model=, or what fits a budget: budget\.ms="),
        (("budget.ms=0",), r"budget\.ms must be a number above 0, got 0"),
        (("budget.macs=many",), r"budget\.macs must be a number above 0, got many"),
        (("budget.mb=1", "budget.classes=0"), r"budget\.classes must be a whole number >= 1, got 0"),
        (("budget.mb=1", "batch=[1,2]"), r"a budget is measured with one batch, got \[1, 2\]"),
    ],
)
def test_budgets_are_checked(cli: Cli, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli("benchmark", *words)


def test_a_budget_is_for_no_model(cli: Cli, model: Path) -> None:
    with pytest.raises(
        ValueError, match=r"budget\.ms= is for networks that are yet to be trained: leave model= out"
    ):
        cli("benchmark", f"model={model}", "budget.ms=5")


def test_files_of_several_sizes_are_cases_of_their_own(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "detection", "face_attr", sides={"face_attr": 96})
    found, _ = cases(folder)
    assert [case.name for case in found] == ["torch_float32_64px_batch1", "torch_float32_96px_batch1"]
    assert [case.asked["image_size"] for case in found] == [64, 96]
    measure(found[1], 0.05)
    assert found[1].took
