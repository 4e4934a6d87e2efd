"""The gate itself, with networks of torch on both sides: it needs no runtime."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import SIDE, network, pictures, save

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.graph import Graph, finish, fold_norms
from mbapps.deploy.measured import Measured
from mbapps.deploy.parity import Difference, Parity, compare, first_divergence
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


class Changed(Network):
    """A network whose finished outputs are changed: by what, told the head's name, the images and the outputs."""

    def __init__(self, network: Network, change: Callable[[str, torch.Tensor, dict[str, torch.Tensor]], Any]):
        super().__init__(network.body, dict(network.heads.items()))
        self.change = change

    def forward(self, images: torch.Tensor, names: Sequence[str] | None = None) -> Any:
        found = {
            name: dict(finish(self.head(name), outputs))
            for name, outputs in super().forward(images, names).items()
        }
        for name, outputs in found.items():
            self.change(name, images, outputs)
        return found


def altered(network: Network, factor: float = 2.0, name: str = GUILTY) -> Network:
    """A copy with one wrong layer."""
    other = copy.deepcopy(network)
    layer: Any = other.get_submodule(name)
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
    assert divergence(bundle.network, other) == GUILTY
    assert divergence(bundle.network, bundle.network) is None


def divergence(one: Network, two: Network, **settings: Any) -> str | None:
    views = np.stack([resize(image, SIDE, SIDE) for image in pictures(3)])

    def write(graph: Graph, folder: Path) -> Any:
        assert folder.is_dir()
        return TorchSession(graph)

    return first_divergence(one, fold_norms(two), views, write, 1e-3, **settings)


@pytest.mark.parametrize(
    "heads", [("fine_grained",), ("detection", "fine_grained", "face_attr"), ("face_attr", "fine_grained")]
)
@pytest.mark.parametrize("name", ["body.stem", "body.blocks.7.pointwise"])
def test_a_layer_that_is_an_output_is_named_in_its_turn(heads: tuple[str, ...], name: str) -> None:
    """The last map of the body is what fine_grained gives as its map."""
    net = network(*heads)
    assert divergence(net, altered(net, name=name)) == name
    assert divergence(net, altered(net, name=name), batch=2) == name


def test_layers_with_a_norm_behind_them_are_compared_with_it() -> None:
    for pool in ("gdc", "avg"):
        net = network("face_embed", pool=pool, dim=16)
        assert divergence(net, net) is None
        other = copy.deepcopy(net)
        with torch.no_grad():
            other.head("face_embed").project[0].weight.mul_(2)
        assert divergence(net, other) == "heads.face_embed.project.0"


def test_an_output_that_no_layer_gives_is_named_by_its_head() -> None:
    net = network("detection")
    other = copy.deepcopy(net)
    other.head("detection").anchors += 5
    assert divergence(net, other) == "detection.boxes"


@pytest.mark.parametrize("place", [0, 4, 9])
def test_the_images_that_differ_most_are_remembered(bundle: Bundle, place: int) -> None:
    images = pictures(10)
    images[place] = np.zeros((80, 80, 3), np.uint8)

    def change(name: str, views: torch.Tensor, outputs: dict[str, torch.Tensor]) -> None:
        dark = views.float().mean((1, 2, 3)) == 0
        if name == "fine_grained":
            outputs["logits"] = outputs["logits"] + dark[:, None] * torch.tensor([3.0, 0.0, 0.0])

    batches = [images[:4], images[4:8], images[8:]]
    found = compare(bundle, Changed(bundle.network, change).eval(), batches, Parity("onnx", 1e-3))
    assert not found.passed
    assert found.furthest(4)[0] == place
    assert len(found.furthest(4)) == 4


def test_suppression_of_all_boxes_fails_where_none_is_above_the_thresholds(bundle: Bundle) -> None:
    def change(name: str, views: torch.Tensor, outputs: dict[str, torch.Tensor]) -> None:
        if name == "detection":
            outputs["scores"] = torch.zeros_like(outputs["scores"])

    heads = bundle.facts["heads"]
    shy = {**heads, "detection": {**heads["detection"], "thresholds": [1.0] * 3}}
    one, other = replace(bundle, facts={**bundle.facts, "heads": shy}), Changed(bundle.network, change).eval()
    silent = compare(one, other, [pictures(3)], Parity("onnx", 1e-3), suppressed=True)
    assert silent.told["detection"] == 0
    found = compare(one, other, [pictures(3)], Parity("onnx", 1e-3), suppressed=True, thresholds=False)
    assert found.told["detection"] > 20
    assert found.relative <= 1e-3
    assert not found.passed


@pytest.mark.parametrize("sides", ["original", "file", "both"])
def test_what_is_no_number_fails(bundle: Bundle, sides: str) -> None:
    other = altered(bundle.network, float("nan"))
    one = bundle if sides == "file" else replace(bundle, network=other)
    found = compare(
        one, bundle.network if sides == "original" else other, [pictures(2)], Parity("onnx", 1e-3)
    )
    assert not found.passed
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["relative_error"] is None
    assert content["passed"] is False


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("sides", ["original", "file", "both"])
@pytest.mark.parametrize("whole", [True, False])
def test_one_value_that_is_no_number_differs_without_end(value: float, sides: str, whole: bool) -> None:
    ours, theirs = np.ones((3, 2)), np.ones((3, 2))
    rows = slice(None) if whole else 1
    for name, values in (("original", ours), ("file", theirs)):
        if sides in (name, "both"):
            values[rows] = value
    found = Difference()
    found.add(ours, theirs)
    assert found.relative == float("inf")
    found.add(np.ones((1, 2)), np.ones((1, 2)))
    parity = Parity("onnx", 1e-3, 4, {"logits": found}, {"a": 2}, {"a": 2})
    assert parity.relative == float("inf")
    assert not parity.passed
    assert parity.furthest(1) == [0 if whole else 1]
    assert json.loads(json.dumps(parity.to_json(), allow_nan=False))["relative_error"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_of_the_task_that_is_none_does_not_pass(value: float) -> None:
    for pair in ((0.5, value), (value, 0.5), (value, value)):
        found = Parity("onnx", 1e-3, alike={"a": 2}, told={"a": 2}, metrics={"AP": Measured(*pair)})
        assert not found.passed
        content = json.loads(json.dumps(found.to_json(), allow_nan=False))
        for name, number in zip(("original", "file"), pair, strict=True):
            assert content["metrics"]["AP"][name] == (0.5 if number == 0.5 else None)


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


def test_nothing_told_on_both_sides_is_agreement() -> None:
    silent = Parity("onnx", 1e-3, alike={"a": 0}, told={"a": 0})
    assert silent.agreement == 1
    assert silent.passed
    assert silent.to_json()["agreement"] is None  # there is nothing that was alike
