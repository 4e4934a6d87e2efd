"""What calibrating leaves of a model folder that others change meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from model_files import save

from mbapps.deploy.saving import change_facts
from mbapps.verbs import calibrate


def test_an_export_meanwhile_is_not_lost(
    cli: Cli, tmp_path: Path, tiny_people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "model", "face_embed", "face_attr")
    collect = calibrate.collect

    def others(facts: dict[str, Any]) -> None:
        facts["exports"] = {"onnx": {"file": "exports/onnx/model.onnx", "bytes": 1}}
        facts["heads"]["face_attr"]["thresholds"] = [0.1, 0.2, 0.3]

    def slow(*values: Any) -> Any:
        change_facts(model, others)
        return collect(*values)

    monkeypatch.setattr(calibrate, "collect", slow)
    words = ("data.num_workers=0", "trainer.progress=false", "trainer.accelerator=cpu")
    cli("calibrate", f"model={model}", "task=face_embed", f"data.root={tiny_people}", "far=0.3", *words)
    facts = json.loads((model / "model.json").read_text(encoding="utf-8"))
    assert list(facts["exports"]) == ["onnx"]
    assert facts["heads"]["face_attr"]["thresholds"] == [0.1, 0.2, 0.3]
    assert facts["heads"]["face_embed"]["verification"]["far"] <= 0.3
    card = (model / "CARD.md").read_text(encoding="utf-8")
    assert "| onnx | exports/onnx/model.onnx |" in card
