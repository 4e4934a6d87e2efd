"""Two gloo processes: one run folder, each image counted once, and the number of a single process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK

from mbapps.data.synthetic import write_detection


def run(*words: str, cwd: Path) -> None:
    shown = subprocess.run([sys.executable, "-m", "mbapps", *words], capture_output=True, text=True, cwd=cwd)
    assert shown.returncode == 0, shown.stderr[-3000:]


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    # odd counts, so that one process has an image more, and with these batches a step more, than the other
    root = write_detection(tmp_path / "set", train=13, val=9, test=9)
    words = [f"data.root={root}", "data.num_workers=0", "trainer.progress=false", "trainer.accelerator=cpu"]
    two = [*words, "trainer.devices=2", "trainer.strategy=ddp"]
    run(
        "train",
        *two,
        *QUICK[:2],
        "data.batch_size=4",
        "trainer.max_epochs=2",
        f"out={tmp_path / 'runs' / 'train'}",
        cwd=tmp_path,
    )
    folder = tmp_path / "runs" / "train"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["train"]
    assert (folder / "report.html").is_file()
    model = f"model={folder / 'model'}"
    run("eval", model, *words, f"out={tmp_path / 'runs' / 'one'}", cwd=tmp_path)
    run("eval", model, *two, "data.batch_size=4", f"out={tmp_path / 'runs' / 'two'}", cwd=tmp_path)
    one, both = (
        json.loads((tmp_path / "runs" / name / "results.json").read_text()) for name in ("one", "two")
    )
    assert one["images"] == both["images"] == 9
    for name in ("AP", "AP50", "AR100"):
        assert both[name] == pytest.approx(one[name], abs=1e-6)
