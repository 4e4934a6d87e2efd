"""Files of a model folder that are there, and what is told of the others."""

from __future__ import annotations

from pathlib import Path

from mbapps.deploy.measurable import find_files


def test_what_is_missing_beside_others_is_told(tmp_path: Path) -> None:
    place = tmp_path / "exports" / "onnx"
    place.mkdir(parents=True)
    (place / "model.onnx").touch()
    lacking = (
        "onnx int8: there is no file for runtime=onnx precision=int8: "
        f"mbapps export model={tmp_path} runtime=onnx precision=int8 writes one"
    )
    both = ["float32", "int8"]
    own, torch = ("onnx", "float32", ""), ("torch", "float32", "")
    assert find_files(tmp_path, ["onnx"], None, [""]) == ([own], [])
    assert find_files(tmp_path, ["onnx"], both, [""]) == ([own], [lacking])
    assert find_files(tmp_path, None, both, [""]) == ([torch, own], [lacking])
    assert find_files(tmp_path, None, None, [""]) == ([torch, own], [])
    assert find_files(tmp_path, ["torch"], None, [""]) == ([torch], [])
    assert find_files(tmp_path, ["torch"], both, [""]) == ([torch], ["torch int8: it runs in float32 only"])
