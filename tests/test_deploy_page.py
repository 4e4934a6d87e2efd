"""The programs of docs/deploy.md, run as they stand there, in processes that know nothing of mbapps."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import need_runtime, pictures, save

import mbapps
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.export import export
from mbapps.images import write_image

PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"
PACKAGES = {
    "onnx": {"onnxruntime"}, "openvino": {"openvino"}, "litert": {"ai_edge_litert"},
    "executorch": {"executorch", "torch"}, "coreml": {"coremltools"},
}  # fmt: skip
PROGRAMS = dict(zip(PACKAGES, re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S), strict=True))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save(folder / "detection", "detection")
    save(folder / "fine_grained", "fine_grained", temperature=0.5)
    save(folder / "face_attr", "face_attr")
    save(folder / "face_embed", "face_embed")
    for number, image in enumerate(pictures(2)):
        write_image(folder / f"{number}.png", np.repeat(np.repeat(image, 3, 0), 3, 1))
    return folder


def lines(models: Path, runtime: str, head: str, photo: Path, **settings: Any) -> list[list[str]]:
    """What a program prints, in words."""
    need_runtime(runtime)
    folder = models / head
    made = export(folder, Bundle.open(folder), runtime, pictures(1), **settings)
    program = models / f"program_{runtime}.py"
    program.write_text(PROGRAMS[runtime])
    run = subprocess.run(
        [sys.executable, str(program), str(made.path), str(photo)],
        capture_output=True, text=True, cwd=models,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [line.split(maxsplit=2) for line in run.stdout.splitlines() if not line.startswith("INFO")]


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_a_program_is_short_and_needs_its_runtime_only(runtime: str) -> None:
    assert len(PROGRAMS[runtime].splitlines()) <= 30
    imported: set[str] = set()
    for node in ast.walk(ast.parse(PROGRAMS[runtime])):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported - {"json", "sys", "zipfile"} == {"numpy", "PIL"} | PACKAGES[runtime]


@pytest.mark.parametrize(("runtime", "nms"), [("onnx", True), ("openvino", True), ("litert", False)])
def test_boxes_are_the_models(models: Path, runtime: str, nms: bool) -> None:
    found = lines(models, runtime, "detection", models / "0.png", nms=nms)
    wanted = mbapps.load(models / "detection").predict(models / "0.png")[0].to_json()
    assert len(found) >= 1
    assert abs(len(found) - len(wanted)) <= 0.1 * len(wanted)  # Pillow's pixels differ by a grey level
    boxes = np.array([ast.literal_eval(line[2]) for line in found])
    for item in wanted[: len(wanted) // 2]:  # the surest
        rows = [row for row, line in enumerate(found) if line[0] == item["name"]]
        assert np.abs(boxes[rows] - item["box"]).max(axis=1).min() < 3


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "executorch"])
@pytest.mark.parametrize("head", ["fine_grained", "face_attr"])
def test_classes_are_the_models(models: Path, runtime: str, head: str) -> None:
    found = {name: float(score) for name, score in lines(models, runtime, head, models / "1.png")}
    wanted = mbapps.load(models / head).predict(models / "1.png")[0].to_json()
    scores = {item["name"]: item["score"] for item in wanted}
    assert found == pytest.approx({name: scores[name] for name in found}, abs=0.02)
    assert len(found) == 3


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "executorch"])
def test_vectors_are_the_models(models: Path, runtime: str) -> None:
    ((name, start, rest),) = lines(models, runtime, "face_embed", models / "1.png")
    vector = np.array(ast.literal_eval(f"{start} {rest}"))
    wanted = mbapps.load(models / "face_embed").predict(models / "1.png")[0].vector
    assert name == "face_embed"
    assert vector @ wanted / np.linalg.norm(vector) > 0.999


def test_core_ml_is_run_as_far_as_this_system_goes(models: Path) -> None:
    need_runtime("coreml")
    folder = models / "fine_grained"
    made = export(folder, Bundle.open(folder), "coreml", pictures(1))
    program = models / "program_coreml.py"
    program.write_text(PROGRAMS["coreml"])
    words = [sys.executable, str(program), str(made.path), str(models / "0.png")]
    run = subprocess.run(words, capture_output=True, text=True, cwd=models)
    if sys.platform == "darwin":
        assert run.stdout
    else:  # all lines up to the answer ran
        assert "found = model.predict" in run.stderr
        assert "only supported on macOS" in run.stderr
