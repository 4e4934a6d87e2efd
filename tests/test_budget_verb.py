"""`mbapps benchmark budget.ms=…`: what fits, and what is told where nothing does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli
from model_files import need_runtime

from mbapps.deploy import benchmark as module
from mbapps.deploy import budget
from mbapps.deploy.benchmark import Case
from mbapps.deploy.quantize import QUANTIZERS


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        budget, "TOP1", {(0.25, 64): (45.0, 44.0), (0.25, 32): (40.0, 39.0), (2.0, 224): (80.0, 79.0)}
    )


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_network_that_fails_leaves_the_grid(
    cli: Cli, small_grid: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("onnx")

    def fail_large(case: Case, seconds: float) -> None:
        if case.asked["image_size"] == 64:
            raise ChildProcessError("too large")
        case.took.append(1.0)
        case.peak = 1.0

    monkeypatch.setattr(module, "measure", fail_large)
    words = ("runtime=onnx", "precision=float32", "budget.macs=10e6", "budget.classes=5", "rounds=2")
    with pytest.raises(
        ChildProcessError, match=r"^alpha 0\.25 at 64 px, float32 could not be measured: too large; the files"
    ):
        cli("benchmark", *words, f"out={tmp_path / 'run'}")
    numbers = json.loads((tmp_path / "run" / "results.json").read_text())
    assert numbers["context"]["fits"] == ["alpha0.25_32px_float32"]
    assert numbers["context"]["left_out"] == ["alpha 0.25 at 64 px, float32 could not be measured: too large"]
    assert "alpha0.25_64px_float32_fits" not in numbers  # nobody knows
    assert "could not be measured: too large" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_what_stays_in_float_is_not_told_as_8_bits(
    cli: Cli, small_grid: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_runtime("onnx")
    monkeypatch.setattr("mbapps.budget_verb.import_nncf", list)
    monkeypatch.setitem(QUANTIZERS, "onnx", lambda *values: (0, 28))
    words = ("runtime=onnx", "precision=int8", "budget.macs=10e6", "budget.classes=5", "seconds=0.05")
    with pytest.raises(
        ChildProcessError, match=r"could not be measured: .* only 0 of 28 layers are in 8 bits"
    ):
        cli("benchmark", *words, f"out={tmp_path / 'run'}")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["context"]["fits"] == []


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
