"""`mbapps benchmark`: what is measured, what is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from model_files import SIDE, need_runtime, network, pictures, save
from safetensors.numpy import load_file

from mbapps import report
from mbapps.deploy import benchmark as module
from mbapps.deploy import sessions
from mbapps.deploy.benchmark import Case, find_cases, measure
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.export import export
from mbapps.deploy.graph import Graph
from mbapps.deploy.measurable import find_files
from mbapps.deploy.stopwatch import opened
from mbapps.models.folder import read_facts

HUGE = 10**12  # images: more than any address space holds


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "m", "face_attr")


def cases(model: Path, **settings: Any) -> tuple[list[Case], list[str]]:
    given = {"runtimes": None, "precisions": None, "threads": [None], "batches": [1], **settings}
    return find_cases(model, read_facts(model), **given)


@pytest.mark.slow
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
    with pytest.raises(
        FileNotFoundError,
        match=r"has no file for runtime=openvino precision=int8: mbapps export .* precision=int8 writes one",
    ):
        cases(model, runtimes=["openvino"], precisions=["int8"])
    for runtime in ("torch", "executorch"):
        with pytest.raises(
            ValueError,
            match=rf"runtime={runtime} runs in float32 only, got precision=int8: leave one of both",
        ):
            cases(model, runtimes=[runtime], precisions=["int8"])
    plain = save(tmp_path / "model", "face_attr")
    with pytest.raises(ValueError, match=r"nothing of .* can be measured: no file is in precision=int8"):
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


def test_a_process_that_fails_is_told(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (case,), _ = cases(model, runtimes=["torch"])
    case.asked["model"] = str(model / "gone")
    with pytest.raises(ChildProcessError, match=r"^FileNotFoundError: no "):
        measure(case, 0.05)
    python = tmp_path / "python"
    monkeypatch.setattr(module.sys, "executable", str(python))
    for script, message in (
        ("kill -KILL $$", r"^its process was killed \(SIGKILL\), perhaps for want of memory$"),
        ("echo bad_alloc >&2; kill -ABRT $$", r"^its process was ended by SIGABRT: bad_alloc$"),
        ("exit 3", r"^its process said nothing and ended with code 3$"),
    ):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        with pytest.raises(ChildProcessError, match=message):
            measure(case, 0.05)
    assert module.Case("onnx", "int8", 2, 8, 1.0, {}).name == "onnx_int8_batch8_threads2"


@pytest.mark.slow
def test_a_case_that_fails_leaves_the_others(
    cli: Cli, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"model={model}", "runtime=torch", "seconds=0.05", "rounds=2")
    message = (
        rf"^torch float32 batch{HUGE} could not be measured: .*Unable to allocate.*; the files hold what else"
    )
    with pytest.raises(ChildProcessError, match=message):
        cli("benchmark", *words, f"batch=[1,{HUGE}]", f"out={tmp_path / 'run'}")
    numbers = json.loads((tmp_path / "run" / "results.json").read_text())
    assert numbers["torch_float32_batch1_p50_ms"] > 0
    assert f"torch_float32_batch{HUGE}_p50_ms" not in numbers
    (reason,) = numbers["context"]["left_out"]
    assert f"batch{HUGE} could not be measured: " in reason
    assert f"batch{HUGE} could not be measured: " in (tmp_path / "run" / "report.html").read_text()
    assert "left out: torch float32 batch" in capsys.readouterr().out
    with pytest.raises(ChildProcessError, match=message):  # nothing at all could be measured
        cli("benchmark", *words, f"batch={HUGE}", f"out={tmp_path / 'none'}")
    assert (tmp_path / "none" / "report.html").exists()


def test_a_case_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fail_later(case: Case, seconds: float) -> None:
        tried.append(case.name)
        if case.batch == 2 and len(tried) > 2:
            raise ChildProcessError("too large")
        case.took.append(1.0)

    monkeypatch.setattr(module, "measure", fail_later)
    small, large = (Case("onnx", "int8", None, batch, 1.0, {}) for batch in (1, 2))
    module.measure_by_turns([small, large] * 3, 0.05)
    assert tried == ["onnx_int8_batch1", "onnx_int8_batch2"] * 2 + ["onnx_int8_batch1"]
    assert module.failures((case.title, case) for case in (small, large)) == [
        "onnx int8 batch2 could not be measured in all rounds: too large"
    ]


def test_numbers_are_of_the_cpu(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_device", lambda: "NVIDIA A100")
    folder = cli("benchmark", f"model={model}", "runtime=torch", "seconds=0.05", "rounds=1")
    assert json.loads((folder / "results.json").read_text())["context"]["device"].startswith("cpu, ")


def test_a_budget_is_for_no_model(cli: Cli, model: Path) -> None:
    with pytest.raises(
        ValueError, match=r"budget\.ms= is for networks that are yet to be trained: leave model= out"
    ):
        cli("benchmark", f"model={model}", "budget.ms=5")
    with pytest.raises(ValueError, match=r"budget\.classes is for a budget, .*: leave it out"):
        cli("benchmark", f"model={model}", "budget.classes=5")


def test_files_of_several_sizes_are_cases_of_their_own(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "detection", "face_attr", sides={"face_attr": 96})
    found, _ = cases(folder)
    assert [case.name for case in found] == ["torch_float32_64px_batch1", "torch_float32_96px_batch1"]
    assert [case.asked["image_size"] for case in found] == [64, 96]
    measure(found[1], 0.05)
    assert found[1].took
    tensors = load_file(folder / "model.safetensors")
    for case, other in zip(found, ("face_attr", "detection"), strict=True):
        used = sum(
            tensor.nbytes for name, tensor in tensors.items() if not name.startswith(f"heads.{other}.")
        )
        assert case.megabytes == pytest.approx(used / 1e6, rel=0.05)  # with the file's own header
    place = folder / "exports" / "onnx_64px"
    place.mkdir(parents=True)
    (place / "model.onnx").touch()
    (lacking,) = find_files(folder, None, None, ["64px", "96px"])[1]
    assert lacking.startswith("onnx float32 96px: there is no file for runtime=onnx: mbapps export model=")


def test_parts_with_norms_of_their_own_count_those(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "fine_grained", "face_attr", norm="per_task")
    found, _ = cases(folder)
    tensors = load_file(folder / "model.safetensors")
    words = ("heads.face_attr.", ".norms.face_attr.")
    used = sum(tensor.nbytes for name, tensor in tensors.items() if not any(word in name for word in words))
    assert found[0].name == "torch_float32_fine_grained_batch1"
    assert used / 1e6 < found[0].megabytes < (folder / "model.safetensors").stat().st_size / 1e6


def test_torch_does_what_a_file_does(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "detection")
    run = opened(cases(folder)[0][0].asked)
    outputs: Any = run(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    assert list(outputs["detection"]) == [output.output for output in Graph(network("detection")).outputs]
