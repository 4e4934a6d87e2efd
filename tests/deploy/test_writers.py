"""What a Core ML package must say of itself, since nothing here can run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_files import need_runtime, network

from mbapps.deploy import writers
from mbapps.deploy.graph import Graph


def test_a_core_ml_package_takes_one_picture(tmp_path: Path) -> None:
    graph = Graph(network("face_attr"))
    with pytest.raises(
        ValueError, match=r"batch must be 1 or null for runtime=coreml, .* got 4; leave batch= out"
    ):
        writers.write("coreml", graph, tmp_path / "model.mlpackage", "{}", 4)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_core_ml_package_is_read_again(tmp_path: Path) -> None:
    need_runtime("coreml")
    path, graph = tmp_path / "model.mlpackage", Graph(network("face_embed", dim=16)).eval()
    writers.write("coreml", graph, path, '{"batch": [1, 1]}', 1)
    writers.check_coreml(path, graph, '{"batch":[1,1]}')
    with pytest.raises(ValueError, match=r"was written with facts of another file; export it again"):
        writers.check_coreml(path, graph, '{"batch": [4, 4]}')
    with torch.no_grad():
        wider = Graph(network("face_embed", dim=32)).eval()
    with pytest.raises(ValueError, match=r"with input and outputs .*\[1, 16\].*, not .*\[1, 32\]"):
        writers.check_coreml(path, wider)
    coremltools = pytest.importorskip("coremltools")
    bare = coremltools.models.MLModel(str(path), skip_model_load=True)
    del bare.user_defined_metadata[writers.METADATA]
    bare.save(str(tmp_path / "bare.mlpackage"))
    with pytest.raises(ValueError, match=r"bare\.mlpackage was written without facts"):
        writers.check_coreml(tmp_path / "bare.mlpackage", graph)
