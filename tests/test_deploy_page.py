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
from model_files import SIDE, need_runtime, pictures, save

import mbapps
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.export import export
from mbapps.deploy.sessions import RUNTIMES
from mbapps.images import read_image, resize, write_image

PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"
PACKAGES = {
    "onnx": {"onnxruntime"}, "openvino": {"openvino"}, "litert": {"ai_edge_litert"},
    "executorch": {"executorch", "torch"}, "coreml": {"coremltools"},
}  # fmt: skip
PROGRAMS = dict(zip(PACKAGES, re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S), strict=True))
RUN = ("onnx", "openvino", "litert", "executorch")  # Core ML does on a Mac only
HEADS = ("detection", "fine_grained", "face_attr", "face_embed", "geo")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each head and one for all; a smooth picture whose sides are no multiples of the network's."""
    folder = tmp_path_factory.mktemp("models")
    for head in HEADS:
        save(folder / head, head, **({"temperature": 0.5} if head == "fine_grained" else {}))
    save(folder / "several", *HEADS)
    write_image(folder / "photo.png", resize(pictures(1)[0], 211, 307))
    return folder


def answers(models: Path, runtime: str, head: str, photo: Path, **settings: Any) -> dict[str, list[str]]:
    """Lines that a program prints, by the head whose name stands before them."""
    need_runtime(runtime)
    folder = models / head
    path = folder / "exports" / runtime / RUNTIMES[runtime].file
    if settings or not path.exists():
        path = export(folder, Bundle.open(folder), runtime, pictures(1), **settings).path
    program = models / f"program_{runtime}.py"
    program.write_text(PROGRAMS[runtime])
    words = [sys.executable, str(program), str(path), str(photo)]
    run = subprocess.run(words, capture_output=True, text=True, cwd=models)
    assert run.returncode == 0, run.stderr
    found: dict[str, list[str]] = {}
    for line in run.stdout.splitlines():
        first, _, rest = line.partition(" ")
        if first in HEADS:
            lines = found.setdefault(first, [rest] if rest else [])
        elif found:  # what a runtime says of itself comes before
            lines.append(line)
    return found


def check_answers(models: Path, heads: str, found: dict[str, list[str]], photo: Path) -> None:
    """Compare what a program printed with the model's own prediction; Pillow's pixels are not quite OpenCV's."""
    bundle = mbapps.load(models / heads)
    assert list(found) == list(bundle.network.heads)
    for head, lines in found.items():
        wanted: Any = bundle.only([head]).predict(photo)[0]
        if head == "face_embed":
            vector = np.array(lines[0].split(), dtype=float)
            assert len(lines) == 1
            assert vector @ wanted.vector / np.linalg.norm(vector) > 0.9999
        elif head == "detection":
            check_boxes(
                [line.rsplit(maxsplit=5) for line in lines], wanted.to_json(), read_image(photo).shape
            )
        elif head == "geo":
            (told,) = wanted.to_json()
            scores = {token: float(score) for token, score in (line.split() for line in lines)}
            assert scores == pytest.approx({cell["cell"]: cell["score"] for cell in told["cells"]}, abs=0.005)
        else:
            scores = {name: float(score) for name, score in (line.rsplit(maxsplit=1) for line in lines)}
            assert scores == pytest.approx(
                {item["name"]: item["score"] for item in wanted.to_json()}, abs=0.005
            )


def check_boxes(lines: list[list[str]], items: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    """Boxes of each class are the same within half a pixel of the network, but for those near the threshold."""
    pixel = np.array([shape[1], shape[0]] * 2) / SIDE
    printed = [(name, float(score), np.array(box, dtype=float) / pixel) for name, score, *box in lines]
    wanted = [(item["name"], item["score"], np.array(item["box"]) / pixel) for item in items]
    assert abs(len(printed) - len(wanted)) <= 2
    for some, others in ((printed, wanted), (wanted, printed)):
        sure = [one for one in some if one[1] > 0.35]  # the threshold is 0.3
        assert len(sure) > 20
        for name, score, box in sure:
            assert any(
                name == other and abs(score - value) < 0.07 and np.abs(box - place).max() < 0.5
                for other, value, place in others
            ), (name, score, box)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "heads"), [*(("onnx", head) for head in HEADS), *((runtime, "several") for runtime in RUN)]
)
def test_answers_are_the_models(models: Path, runtime: str, heads: str) -> None:
    photo = models / "photo.png"
    check_answers(models, heads, answers(models, runtime, heads, photo), photo)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUN)
def test_answers_to_a_photograph_are_the_models(models: Path, runtime: str, test_data: Path) -> None:
    photo = test_data / "datasets/detection/coco128/images/train2017/000000000034.jpg"
    check_answers(models, "several", answers(models, runtime, "several", photo), photo)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_boxes_that_the_file_suppressed_are_the_models(models: Path, runtime: str) -> None:
    photo = models / "photo.png"
    check_answers(models, "detection", answers(models, runtime, "detection", photo, nms=True), photo)


@pytest.mark.slow
def test_core_ml_is_run_as_far_as_this_system_goes(models: Path) -> None:
    need_runtime("coreml")
    folder = models / "fine_grained"
    made = export(folder, Bundle.open(folder), "coreml", pictures(1))
    program = models / "program_coreml.py"
    program.write_text(PROGRAMS["coreml"])
    words = [sys.executable, str(program), str(made.path), str(models / "photo.png")]
    run = subprocess.run(words, capture_output=True, text=True, cwd=models)
    if sys.platform == "darwin":
        assert run.stdout
    else:  # all lines up to the answer ran
        assert "answers = model.predict" in run.stderr
        assert "only supported on macOS" in run.stderr
