"""model.json, changed by several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model_files import save

from mbapps.deploy import saving
from mbapps.deploy.saving import LOCK, change_facts

HOLD = (
    "import sys, time\nfrom mbapps.files import locked\n"
    "with locked(sys.argv[1], 'it'):\n print(flush=True); time.sleep(float(sys.argv[2]))"
)


def hold(folder: Path, seconds: float) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", HOLD, str(folder / LOCK), str(seconds)]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model", "face_attr")


def test_what_others_wrote_meanwhile_stays(model: Path) -> None:
    def threshold(facts: dict[str, Any]) -> None:
        facts["heads"]["face_attr"]["thresholds"] = [0.1, 0.2, 0.3]

    change_facts(model, lambda facts: facts.setdefault("exports", {}).update(onnx={"file": "a", "bytes": 1}))
    change_facts(model, threshold)
    facts = change_facts(model, lambda facts: facts["exports"].update(litert={"file": "b", "bytes": 2}))
    assert list(facts["exports"]) == ["onnx", "litert"]
    assert facts["heads"]["face_attr"]["thresholds"] == [0.1, 0.2, 0.3]
    assert facts == json.loads((model / "model.json").read_text(encoding="utf-8"))
    assert "| litert | b |" in (model / "CARD.md").read_text(encoding="utf-8")
    assert not (model / LOCK).exists()


def test_a_change_waits_for_that_of_another_process(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    holder = hold(model, 0.5)
    assert change_facts(model, lambda facts: facts.update(command="mine"))["command"] == "mine"
    assert holder.wait() == 0
    monkeypatch.setattr(saving, "WAIT_S", 0.1)
    holder = hold(model, 99)
    try:
        with pytest.raises(
            BlockingIOError, match=r"model\.json is being changed by process \d+ .*; wait until"
        ):
            change_facts(model, lambda facts: facts.update(command="other"))
    finally:
        holder.kill()
        holder.wait()
    assert json.loads((model / "model.json").read_text(encoding="utf-8"))["command"] == "mine"
