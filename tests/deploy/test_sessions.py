"""A file that is opened once and run by several threads, or by a runtime that fails."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import SIDE, need_runtime, pictures, save

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.export import export
from mbapps.deploy.sessions import RUNTIMES


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "m", "face_attr")


def session(model: Path, runtime: str) -> Any:
    """The model's file, opened; it is written where it is not there."""
    need_runtime(runtime)
    path = model / "exports" / runtime / RUNTIMES[runtime].file
    if not path.exists():
        assert export(model, Bundle.open(model), runtime, pictures(2)).passed
    outputs = json.loads((path.parent / "export.json").read_text())["outputs"]
    return RUNTIMES[runtime].session(path, [output["name"] for output in outputs])


def noise(batch: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "batch"), [("onnx", 2), ("openvino", 1), ("openvino", 5), ("litert", 1)])
def test_threads_share_a_session(model: Path, runtime: str, batch: int) -> None:
    opened = session(model, runtime)
    images = [noise(batch, seed) for seed in range(2)]
    wanted = [opened.run(one)[0] for one in images]
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3

    def off(which: int) -> float:
        return max(np.abs(opened.run(images[which])[0] - wanted[which]).max() for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(off, range(2))) < 1e-5


def test_openvino_goes_on_after_a_failure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = session(model, "openvino")
    images = noise(8, 0)
    wanted = opened.run(images)[0]
    with pytest.raises(RuntimeError):
        opened.run(images[:, 1:].copy())

    def fail(request: Any) -> None:
        raise MemoryError("no room for the answers")

    with monkeypatch.context() as failing:
        failing.setattr(opened, "_arrays", fail)
        for _ in range(2):
            with pytest.raises(MemoryError, match=r"no room for the answers"):
                opened.run(images)
    assert np.array_equal(opened.run(images)[0], wanted)
