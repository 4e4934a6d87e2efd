"""`convert` leaves model folders that the other verbs take at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, Cli

import mbapps
from mbapps.models.weights import read_weights
from mbapps.verbs.convert import build_network

pytest.importorskip("tflite")
from tflite_files import TFLiteFile, add_body, add_classifier, add_ssd, random_layers


def write_ssd(path: Path, size: int = 64) -> Path:
    file = TFLiteFile((1, size, size, 3))
    add_ssd(file, random_layers(), num_classes=5)
    return file.write(path)


def test_a_detector_predicts_and_is_measured_at_once(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    annotations = json.loads(next((tiny / "annotations").glob("*test*.json")).read_text())
    names = [category["name"] for category in sorted(annotations["categories"], key=lambda item: item["id"])]
    (tmp_path / "names.txt").write_text("\n".join(names))
    source = write_ssd(tmp_path / "ssd.tflite")
    model = cli("convert", f"source={source}", f"class_names={tmp_path / 'names.txt'}") / "model"
    facts = json.loads((model / "model.json").read_text())
    head = facts["heads"]["detection"]
    assert facts["body"]["bn_eps"] == 0
    assert facts["lineage"] == {"data": [], "weights": "ssd.tflite", "teacher": None}
    assert (head["class_names"], head["category_ids"], head["image_size"]) == (names, [1, 2, 3, 4, 5], 64)
    assert head["settings"]["classification"] == "sigmoid"
    assert head["thresholds"] == [0.5] * 5
    assert "ssd.tflite" in (model / "CARD.md").read_text()
    found = mbapps.load(model).predict(np.zeros((40, 50, 3), np.uint8))[0].to_json()
    assert all(box["score"] >= 0.5 and box["name"] in names for box in found)
    folder = cli("eval", f"model={model}", "task=detection", f"data.root={tiny}", *QUICK[2:])
    assert 0 <= json.loads((folder / "results.json").read_text())["AP"] <= 1


def test_real_coco_detector_finds_what_the_photos_show(cli: Cli, test_data: Path) -> None:
    model = (
        cli("convert", f"source={test_data}/weights/coco_ssd_mobilenet_v1_0.75_300_quant.tflite") / "model"
    )
    head = json.loads((model / "model.json").read_text())["heads"]["detection"]
    assert (len(head["class_names"]), head["category_ids"][-1]) == (80, 90)
    bundle = mbapps.load(model)
    reference = np.load(test_data / "weights" / "reference" / "coco_ssd_mobilenet_v1_0.75_300.npz")
    for pixels, column, score in zip(
        reference["pixels"], reference["det_classes"][:, 0], reference["det_scores"][:, 0], strict=True
    ):
        best = bundle.predict(pixels, score_thresh=0.3)[0]
        assert head["category_ids"][best.labels[0]] == int(column) + 1  # the original counts from 0
        assert best.scores[0] == pytest.approx(score, abs=0.04)


def test_nothing_to_predict_with(cli: Cli, tmp_path: Path) -> None:
    file = TFLiteFile((1, 64, 64, 3))
    add_body(file, random_layers())
    source = file.write(tmp_path / "body.tflite")
    with pytest.raises(ValueError, match=r"body\.tflite holds a body with no head: nothing to predict with"):
        cli("convert", f"source={source}")


def test_a_head_of_other_widths_is_refused(tmp_path: Path) -> None:
    file = TFLiteFile((1, 64, 64, 3))
    add_ssd(file, random_layers(), extra_widths=(128, 64, 64, 48))
    with pytest.raises(
        ValueError,
        match=r"the detection head of ssd\.tflite is of another architecture, \d+ tensors differ: "
        r"extras\.3\.0\.conv\.weight is \(24, 64, 1, 1\) in the file, \(16, 64, 1, 1\) here; its body still serves",
    ):
        build_network(read_weights(file.write(tmp_path / "ssd.tflite")))


def test_labels_of_the_wrong_count(cli: Cli, tmp_path: Path) -> None:
    file = TFLiteFile((1, 64, 64, 3))
    kernel, bias = np.ones((2, 256), np.float32), np.zeros(2, np.float32)
    add_classifier(file, add_body(file, random_layers())[-1], kernel, bias)
    source = file.write(tmp_path / "net.tflite")
    (tmp_path / "names.txt").write_text("pug\nakita\nbeagle\n")
    with pytest.raises(ValueError, match=r"names\.txt names 3 classes, the weights have 2"):
        cli("convert", f"source={source}", f"class_names={tmp_path / 'names.txt'}")
    (tmp_path / "names.txt").write_text("pug\nakita\n")
    model = cli("convert", f"source={source}", f"class_names={tmp_path / 'names.txt'}") / "model"
    answer = mbapps.load(model).predict(np.zeros((30, 40, 3), np.uint8))[0]
    assert {found["name"] for found in answer.to_json()} == {"pug", "akita"}


def test_a_model_folder_can_be_converted_again(cli: Cli, tmp_path: Path) -> None:
    first = cli("convert", f"source={write_ssd(tmp_path / 'ssd.tflite')}") / "model"
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    second = cli("convert", f"source={first}", f"class_names={tmp_path / 'names.txt'}") / "model"
    facts = json.loads((second / "model.json").read_text())["heads"]["detection"]
    assert (facts["class_names"], facts["category_ids"]) == (list("abcde"), [1, 2, 3, 4, 5])
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_folded_norms_are_measured_before_they_train(
    cli: Cli, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = f"backbone.weights={write_ssd(tmp_path / 'ssd.tflite')}"
    words = ["train", "task=detection", f"data.root={tiny}", weights, *QUICK, "trainer.max_epochs=1"]
    folder = cli(*words, "trainer.limit_train_batches=1")
    assert "batch norms folded: their statistics are measured" in capsys.readouterr().out
    facts = json.loads((folder / "model" / "model.json").read_text())
    assert facts["body"]["bn_eps"] == 1e-3
    assert np.isfinite(json.loads((folder / "results.json").read_text())["AP"])
    with pytest.raises(ValueError, match=r"backbone\.bn_eps=0\.001 does not go with ssd\.tflite: .* folded"):
        cli(*words, "backbone.bn_eps=0.001")


def test_a_face_net_gives_its_embeddings(cli: Cli, test_data: Path) -> None:
    """Against the outputs of the original runtime, whose embedding is not scaled to length 1."""
    folder = test_data / "weights"
    made = cli("convert", f"source={folder / 'faceres_mobilenet_v1_1.0_224_plain.safetensors'}")
    reference = np.load(folder / "reference" / "faceres_mobilenet_v1_1.0_224.npz")
    answers = mbapps.load(made / "model").predict(list(reference["pixels"]))
    wanted = reference["embedding"] / np.linalg.norm(reference["embedding"], axis=1, keepdims=True)
    np.testing.assert_allclose([answer.vector for answer in answers], wanted, atol=1e-4)  # type: ignore[attr-defined]
