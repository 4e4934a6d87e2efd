"""The gate itself, with networks of torch on both sides: it needs no runtime."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import SIDE, pictures, save

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.graph import Graph, fold_norms
from mbapps.deploy.parity import Difference, Parity, alike, compare, count_alike, first_divergence
from mbapps.images import resize
from mbapps.models.network import Network

GUILTY = "body.blocks.5.depthwise"


class TorchSession:
    """A file's stand-in: the graph itself."""

    def __init__(self, graph: Graph):
        self.graph = graph

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return [value.numpy() for value in self.graph(torch.from_numpy(images))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(save(tmp_path_factory.mktemp("model") / "m", "detection", "fine_grained"))


def altered(network: Network, factor: float = 2.0) -> Network:
    """A copy with one wrong layer."""
    other = copy.deepcopy(network)
    layer = other.get_submodule(GUILTY)
    with torch.no_grad():
        layer.conv.weight.mul_(factor)
    return other


def test_a_network_is_like_itself_and_like_its_folded_copy(bundle: Bundle) -> None:
    for other in (bundle.network, fold_norms(bundle.network)):
        found = compare(bundle, other, [pictures(3), pictures(2, seed=1)], Parity("onnx", 1e-4))
        assert found.images == 5
        assert found.passed
        assert found.agreement == 1
        assert found.told["detection"] > 20  # there was something to tell
        assert set(found.outputs) == {
            "detection_boxes", "detection_scores", "fine_grained_logits", "fine_grained_map",
        }  # fmt: skip


def test_one_wrong_layer_fails_and_is_named(bundle: Bundle) -> None:
    other = altered(bundle.network)
    found = compare(bundle, other, [pictures(3)], Parity("onnx", 1e-3))
    assert found.relative > 1e-3
    assert not found.passed
    views = np.stack([resize(image, SIDE, SIDE) for image in pictures(2)])

    def write(graph: Graph, folder: Path) -> Any:
        assert folder.is_dir()
        return TorchSession(graph)

    assert first_divergence(bundle.network, fold_norms(other), views, write, 1e-3) == GUILTY
    assert first_divergence(bundle.network, fold_norms(bundle.network), views, write, 1e-3) is None


def test_what_is_no_number_fails(bundle: Bundle) -> None:
    other = altered(bundle.network, float("nan"))
    found = compare(bundle, other, [pictures(2)], Parity("onnx", 1e-3))
    assert not found.passed
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["relative_error"] is None
    assert content["passed"] is False


def test_other_answers_fail_although_outputs_are_near(bundle: Bundle) -> None:
    """A class name is no number: however small the step, the answer is another."""
    found = Parity(
        "onnx", 1e-3, outputs={"logits": Difference(0.0, 0.0, 1.0)}, alike={"a": 97}, told={"a": 100}
    )
    assert found.relative == 0
    assert not found.passed


def test_the_error_is_a_share_of_the_range() -> None:
    found = Difference()
    found.add(np.array([0.0, 100.0]), np.array([0.0, 99.0]))
    found.add(np.array([50.0, 200.0]), np.array([50.5, 200.0]))
    assert found.error == 1
    assert found.relative == pytest.approx(1 / 200)
    found.add(np.zeros(3), np.zeros(2))
    assert found.relative == float("inf")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"label": 1, "score": 0.5}, {"label": 1, "score": 0.501}, True),
        ({"label": 1, "score": 0.5}, {"label": 1, "score": 0.51}, False),
        ({"label": 1, "score": 0.5}, {"label": 2, "score": 0.5}, False),
        ({"name": "cat", "present": True}, {"name": "cat", "present": False}, False),
        ({"box": [0.0, 300.0]}, {"box": [0.5, 300.0]}, True),
        ({"box": [0.0, 300.0]}, {"box": [0.7, 300.0]}, False),
        ({"box": [0.0]}, {"box": [0.0, 1.0]}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        ({"parts": [{"a": 1.0}, {"a": 2.0}]}, {"parts": [{"a": 1.0}, {"a": 2.001}]}, True),
    ],
)
def test_alike(one: Any, two: Any, same: bool) -> None:
    assert alike(one, two, 1e-3) is same


def test_each_item_is_paired_once() -> None:
    twice = [{"score": 0.5}, {"score": 0.5}]
    assert count_alike(twice, twice[:1], 1e-3) == 1
    assert count_alike(twice, list(reversed(twice)), 1e-3) == 2
    assert count_alike([], twice, 1e-3) == 0


def test_nothing_told_on_both_sides_is_agreement() -> None:
    assert Parity("onnx", 1e-3).agreement == 1
