"""Two gloo processes: one run folder, each image counted once, and the number of a single process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK


def run(*words: str, cwd: Path) -> None:
    shown = subprocess.run([sys.executable, "-m", "mbapps", *words], capture_output=True, text=True, cwd=cwd)
    assert shown.returncode == 0, shown.stderr[-3000:]


@pytest.mark.slow
def test_two_processes(tiny: Path, tmp_path: Path) -> None:
    words = [f"data.root={tiny}", "data.num_workers=0", "trainer.progress=false", "trainer.accelerator=cpu"]
    two = [*words, "trainer.devices=2", "trainer.strategy=ddp"]
    run("train", *two, *QUICK[:3], "trainer.max_epochs=1", f"out={tmp_path / 'runs' / 'train'}", cwd=tmp_path)
    folder = tmp_path / "runs" / "train"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["train"]
    assert (folder / "report.html").is_file()
    model = f"model={folder / 'model'}"
    run("eval", model, *words, f"out={tmp_path / 'runs' / 'one'}", cwd=tmp_path)
    run("eval", model, *two, "data.batch_size=3", f"out={tmp_path / 'runs' / 'two'}", cwd=tmp_path)
    one, both = (
        json.loads((tmp_path / "runs" / name / "results.json").read_text()) for name in ("one", "two")
    )
    assert one["images"] == both["images"] == 8
    for name in ("AP", "AP50", "AR100"):
        assert both[name] == pytest.approx(one[name], abs=1e-6)
