"""What a network starts from: bodies and heads of foreign weights, by the rules of model folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Cli

from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.weights import Weights, read_weights
from mbapps.starting import load_head
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.fine_grained import FineGrainedHead

pytest.importorskip("tflite")
from tflite_files import TFLiteFile, add_body, add_classifier, add_ssd, random_layers


def ssd(folder: Path, names: str = "cat\ndog\nowl\n") -> Weights:
    file = TFLiteFile((1, 64, 64, 3))
    add_ssd(file, random_layers())
    (folder / "ssd.labels.txt").write_text(names)
    return read_weights(file.write(folder / "ssd.tflite"))


def head_for(
    weights: Weights, *names: str, classification: str = "sigmoid", image_size: int = 64
) -> DetectionHead:
    body = MobileNetV1(**weights.settings)  # type: ignore[arg-type]
    return DetectionHead(body, names, image_size, classification=classification)


def test_a_foreign_head_of_the_same_classes_is_loaded_whole(tmp_path: Path) -> None:
    weights = ssd(tmp_path)
    head = head_for(weights, "cat", "dog", "owl", image_size=96)  # another size is no obstacle
    assert load_head(head, "detection", weights) == "the detection head is loaded too, with its 3 classes"
    for key, tensor in weights.heads["detection"].tensors.items():
        assert torch.equal(head.state_dict()[key], tensor), key


def test_other_classes_keep_extras_and_boxes(tmp_path: Path) -> None:
    weights = ssd(tmp_path)
    head = head_for(weights, "cat", "owl", "dog")
    before = head.classes[0].weight.clone()
    said = load_head(head, "detection", weights)
    assert said == (
        "the detection head of ssd.tflite: it has 3 classes, the data 3, with other names or in another order; "
        "52 of its 64 tensors are loaded, those of its classes are dropped"
    )
    assert torch.equal(head.classes[0].weight, before)
    assert torch.equal(head.boxes[3].bias, weights.heads["detection"].tensors["boxes.3.bias"])
    assert torch.equal(
        head.extras[3][1].norm.bias, weights.heads["detection"].tensors["extras.3.1.norm.bias"]
    )


def test_classes_that_score_otherwise_are_dropped(tmp_path: Path) -> None:
    weights = ssd(tmp_path)
    head = head_for(weights, "cat", "dog", "owl", classification="softmax")
    before = head.classes[0].weight.clone()
    said = load_head(head, "detection", weights)
    assert "task.head.classification=sigmoid is what its classes were trained with; 52 of its 64" in said
    assert torch.equal(head.classes[0].weight, before)


def test_classifiers_follow_the_same_rules(tmp_path: Path) -> None:
    file = TFLiteFile((1, 64, 64, 3))
    kernel, bias = np.ones((2, 256), np.float32), np.zeros(2, np.float32)
    add_classifier(file, add_body(file, random_layers())[-1], kernel, bias)
    path = file.write(tmp_path / "net.tflite")
    weights = read_weights(path)
    head = FineGrainedHead(MobileNetV1(0.25), ("pug", "akita"))
    said = load_head(head, "fine_grained", weights)
    assert "it has 2 classes, the data 2, without names; 0 of its 2 tensors are loaded" in said
    (tmp_path / "labels.txt").write_text("pug\nakita\n")
    said = load_head(head, "fine_grained", read_weights(path))
    assert said == "the fine_grained head is loaded too, with its 2 classes"
    assert (head.linear.weight == 1).all()
    said = load_head(head_for(weights, "a"), "detection", weights)
    assert said == "net.tflite has no detection head, only fine_grained: the new head is random"


def test_a_configured_network_starts_from_an_ssd(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ssd(tmp_path)
    words = [f"backbone.weights={tmp_path / 'ssd.tflite'}", "data.num_classes=3", *QUICK]
    cli("info", *words, "task.head.classification=sigmoid")
    assert "conv" in capsys.readouterr().out
