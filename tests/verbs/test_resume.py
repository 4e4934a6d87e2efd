"""A run that was stopped and resumed ends where an uninterrupted one does."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Cli

from mbapps.models.folder import read_tensors

WORDS = ("task=detection", *QUICK)


class Stop(Exception):
    pass


def stop_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Make training die in the middle of an epoch, as a kill would."""
    from mbapps.tasks.base import Task

    before = Task.training_step

    def step(self: Task, batch: object, batch_idx: int) -> torch.Tensor:
        if self.current_epoch == epoch and batch_idx == 1:
            raise Stop
        return before(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", step)


@pytest.mark.slow
@pytest.mark.parametrize("ema_decay", [0.9, 0])
def test_resumed_weights_equal_uninterrupted_ones(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema_decay: float
) -> None:
    words = ["train", *WORDS, f"data.root={tiny}", "trainer.max_epochs=3", f"task.ema_decay={ema_decay}"]
    whole = cli(*words)
    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 2)
        with pytest.raises(Stop):
            cli(*words, f"out={stopped}")
    assert (stopped / "checkpoints" / "last.ckpt").is_file()
    assert not (stopped / "model").exists()
    cli(f"resume={stopped}")
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (
            torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
            for folder in (whole, stopped)
        )
        for key, value in first.items():
            torch.testing.assert_close(second[key], value, atol=0, rtol=0, msg=f"{name} {key}")
    first, second = (read_tensors(folder / "model" / "model.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(first[key], second[key]) for key in first)
    for folder in (whole, stopped):
        with (folder / "metrics.csv").open() as file:
            assert [row["epoch"] for row in csv.DictReader(file) if row["val_AP"]] == ["0", "1", "2"]


def test_resume_without_a_checkpoint(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in_epoch(monkeypatch, 0)
    with pytest.raises(Stop):
        cli("train", *WORDS, f"data.root={tiny}", "trainer.max_epochs=3", f"out={tmp_path / 'run'}")
    with pytest.raises(
        FileNotFoundError, match=r"resume=.* has no checkpoint yet: it was stopped in its first epoch"
    ):
        cli(f"resume={tmp_path / 'run'}")


def test_non_finite_loss_names_the_images(cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FloatingPointError, match=r"the loss is (nan|inf).* images of that batch: .*\.jpg.*lower task\.lr"
    ):
        cli("train", *WORDS, f"data.root={tiny}", "trainer.max_epochs=2", "task.head.box_weight=inf")


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "mbapps", "train", *WORDS, f"data.root={tiny}",
        "trainer.max_epochs=1000", f"out={folder}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    last = folder / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors[-2000:]
    assert f"go on from the last finished epoch with: python -m mbapps resume={folder}" in errors
    assert "Traceback" not in errors
    torch.load(last, weights_only=True)
