from __future__ import annotations

import pytest
import torch
from model_files import HEADS, NAMES, SIDE, network
from torch import nn

from mbapps.deploy.graph import Graph, fold_norms
from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.face_attr import FaceAttrHead


def images(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("pool", ["avg", "gdc", "flatten"])
@torch.inference_mode()
def test_folded_norms_change_no_answer(pool: str) -> None:
    for net in (network("detection", "fine_grained", "face_attr"), network("face_embed", pool=pool)):
        folded = fold_norms(net)
        assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
        before = {key: value.clone() for key, value in net.state_dict().items()}
        planes = images().permute(0, 3, 1, 2)
        for name, outputs in net(planes).items():
            for output, value in folded(planes)[name].items():
                span = float(outputs[output].max() - outputs[output].min())
                assert torch.allclose(value, outputs[output], atol=1e-5 * max(1, span)), (name, output)
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@torch.inference_mode()
def test_the_graph_gives_every_heads_finished_outputs() -> None:
    net = network(*(name for name in HEADS if name != "face_embed"))
    graph = Graph(net)
    found = dict(zip([output.name for output in graph.outputs], graph(images()), strict=True))
    assert list(found) == [
        "detection_boxes", "detection_scores", "fine_grained_logits", "fine_grained_map", "face_attr_logits",
        "geo_logits", "geo_embeddings",
    ]  # fmt: skip
    assert [list(value.shape[1:]) for value in found.values()] == graph.shapes
    raw = net(images().permute(0, 3, 1, 2))
    assert torch.equal(found["face_attr_logits"], raw["face_attr"]["logits"])
    probs = raw["detection"]["logits"].softmax(-1)[..., 1:]
    assert torch.allclose(found["detection_scores"], probs)
    assert found["detection_boxes"].min() >= 0
    assert found["detection_boxes"].max() <= SIDE


@torch.inference_mode()
def test_finished_outputs_are_decoded_alike() -> None:
    net = network("detection")
    head = net.head("detection")
    outputs = net(images().permute(0, 3, 1, 2))["detection"]
    sizes = torch.tensor([[100, 200], [64, 64]])
    raw, finished = head.decode(outputs, sizes), head.decode(head.finish(outputs), sizes)
    assert sum(len(answer) for answer in raw) > 0
    assert [answer.to_json() for answer in raw] == [answer.to_json() for answer in finished]


@torch.inference_mode()
def test_taps_are_the_layers_in_their_order() -> None:
    graph = Graph(network("detection"), taps=True)
    layers = [output.output for output in graph.outputs if not output.head]
    assert layers[:3] == ["body.normalize", "body.stem", "body.blocks.0.depthwise"]
    assert layers.index("body.blocks.7.pointwise") < layers.index("heads.detection.extras.0.0")
    assert layers[-1] == "heads.detection.boxes.5"
    values = graph(images())
    assert len(values) == len(graph.outputs) == len(layers) + 2
    assert [list(value.shape[1:]) for value in values] == graph.shapes
    assert torch.allclose(values[0], images().permute(0, 3, 1, 2) / 127.5 - 1, atol=1e-5)


@torch.inference_mode()
def test_outputs_that_a_layer_gives_stand_in_its_turn() -> None:
    graph = Graph(network("detection", "fine_grained"), taps=True)
    names, values = list(graph.order), graph(images())
    assert names[:3] == ["body.normalize", "body.stem", "body.blocks.0.depthwise"]
    assert names[names.index("body.blocks.7.pointwise") + 1] == "heads.detection.extras.0.0"
    assert names[-3:] == ["heads.fine_grained.linear", "detection.boxes", "detection.scores"]
    assert sorted(graph.order.values()) == list(range(len(values)))
    outputs = {name: graph.outputs[place].name for name, place in graph.order.items()}
    assert outputs["body.blocks.7.pointwise"] == "fine_grained_map"
    assert outputs["heads.fine_grained.linear"] == "fine_grained_logits"


@torch.inference_mode()
def test_planes_are_the_same_images() -> None:
    net = network("face_attr")
    planes = images().permute(0, 3, 1, 2).float()
    assert torch.equal(Graph(net, planes=True)(planes)[0], Graph(net)(images())[0])


def test_heads_of_different_sizes_have_no_file_in_common() -> None:
    body = MobileNetV1(alpha=0.25)
    heads = {"detection": DetectionHead(body, NAMES, 64), "face_attr": FaceAttrHead(body, NAMES, 96)}
    with pytest.raises(ValueError, match=r"different sizes: detection 64 px, face_attr 96 px"):
        Graph(Network(body, heads).eval())
