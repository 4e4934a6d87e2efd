"""Each verb on a small synthetic set of textures; a model measured on data that name its classes differently."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Cli

import mbapps
from mbapps.data.synthetic_textures import CLASS_NAMES

WORDS = ("task=fine_grained", *QUICK)


def results(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def body_of(folder: Path) -> dict[str, torch.Tensor]:
    """The body after the last epoch, which need not be the best one."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if ".body." in key}


@pytest.fixture
def trained(cli: Cli, textures: Path) -> Path:
    return cli("train", *WORDS, f"data.root={textures}", "trainer.max_epochs=2")


def test_what_training_leaves(trained: Path, textures: Path, cli: Cli) -> None:
    numbers = results(trained)
    names = (
        "top1",
        "top5",
        "mean_class_accuracy",
        "ece",
        "nll",
        "accuracy/scaled",
        "val_top1",
        "params",
        "macs",
    )
    assert all(isinstance(numbers[name], (int, float)) for name in names)
    facts = json.loads((trained / "model" / "model.json").read_text())
    head = facts["heads"]["fine_grained"]
    assert head["class_names"] == list(CLASS_NAMES)
    assert head["settings"]["temperature"] != 1  # fitted on validation
    assert facts["lineage"]["data"][0]["images"] == {"train": 32, "val": 16, "test": 16}
    page = (trained / "report.html").read_text()
    assert all(title in page for title in ("Confusion", "Calibration", "Worst images", "augmented"))
    assert "scaled" in (trained / "model" / "CARD.md").read_text()

    measured = cli("eval", f"model={trained / 'model'}", f"data.root={textures}", "data.num_workers=0")
    for name in ("top1", "top5", "ece", "nll"):
        assert results(measured)[name] == pytest.approx(numbers[name], abs=1e-5)
    assert results(measured)["images"] == 16


def test_predict_tells_and_draws_the_best_classes(trained: Path, textures: Path, cli: Cli) -> None:
    folder = cli("predict", f"model={trained / 'model'}", f"source={textures / 'test' / 'dotted'}")
    told = json.loads((folder / "predictions.json").read_text())["images"]
    picture = str(textures / "test" / "dotted" / "0000.jpg")
    assert len(told) == 2
    assert len(told[picture]) == 5
    scores = [row["score"] for row in told[picture]]
    assert scores == sorted(scores, reverse=True)
    assert len(list((folder / "pictures").rglob("*.jpg"))) == 2
    answer = mbapps.load(trained / "model").predict(picture)[0]
    assert [row["name"] for row in answer.to_json()] == [row["name"] for row in told[picture]]
    with pytest.raises(
        ValueError, match="score_thresh is for boxes; the fine_grained head answers with its best"
    ):
        mbapps.load(trained / "model").predict(picture, score_thresh=0.5)


@pytest.mark.slow
def test_only_the_head_learns_in_the_first_epochs(cli: Cli, textures: Path) -> None:
    words = [
        *WORDS,
        f"data.root={textures}",
        "task.ema_decay=0",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
    ]
    rested, woken = (
        cli("train", *words, f"task.freeze_epochs={epochs}", "task.body_lr=0.5") for epochs in (2, 1)
    )
    start = cli("train", *words, "task.lr=1e-12", "task.freeze_bn=true")
    assert len(body_of(start)) > 100
    for key, value in body_of(start).items():
        torch.testing.assert_close(body_of(rested)[key], value, atol=1e-8, rtol=0, msg=key)
    moved = [key for key, value in body_of(woken).items() if not torch.equal(value, body_of(rested)[key])]
    assert any("running_mean" in key for key in moved)
    assert any("conv.weight" in key for key in moved)
    with (woken / "metrics.csv").open() as file:
        rates = [row for row in csv.DictReader(file) if row["lr-AdamW/body"]]
    assert float(rates[0]["lr-AdamW/body"]) == 0
    assert float(rates[-1]["lr-AdamW/heads"]) > 0


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """The trained model with classes named as ImageNet names its own, and two more."""
    folder = tmp_path / "model"
    (trained / "model").rename(folder)
    facts = json.loads((folder / "model.json").read_text())
    names = [f"{name.title()}, {name} thing" for name in facts["heads"]["fine_grained"]["class_names"]]
    facts["heads"]["fine_grained"]["class_names"] = names
    (folder / "model.json").write_text(json.dumps(facts))
    return folder


def test_a_classifier_is_measured_as_it_is(
    model: Path, textures: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", f"model={model}", f"data.root={textures}", "data.num_workers=0"]
    with pytest.raises(ValueError, match=r"does not have: barred, .*Barred, barred thing"):
        cli(*words)
    by_name = results(cli(*words, "data.class_map=names"))
    assert {"top1", "top5", "accuracy/scaled"} <= set(by_name)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"{name}\t{name} THING\n" for name in CLASS_NAMES[:3]))
    some = results(cli(*words, f"data.class_map={pairs}"))
    assert "5 x class without a line in data.class_map: left out" in capsys.readouterr().out
    assert some["images"] == 6
    assert [name for name in some if name.startswith("accuracy/")] == [
        f"accuracy/{name}" for name in CLASS_NAMES[:3]
    ]
    assert some["top1"] >= np.mean([by_name[f"accuracy/{name}"] for name in CLASS_NAMES[:3]])  # fewer compete


def test_an_imagenet_classifier_knows_its_flower(test_data: Path, cli: Cli, tmp_path: Path) -> None:
    weights = test_data / "weights"
    converted = cli(
        "convert",
        f"source={weights / 'mobilenet_v1_0.25_224.h5'}",
        f"class_names={_imagenet_names(weights, tmp_path)}",
    )
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(
        "daisy\tdaisy\nsunflower\tbee\ndandelion\tgoldfinch\n"
    )  # the other two have no class of their own
    flowers = test_data / "datasets" / "fine_grained" / "flowers12"
    folder = cli(
        "eval",
        f"model={converted / 'model'}",
        f"data.root={flowers}",
        f"data.class_map={pairs}",
        "data.num_workers=0",
    )
    assert results(folder)["images"] == 60
    assert results(folder)["accuracy/daisy"] > 0.85


def _imagenet_names(weights: Path, folder: Path) -> Path:
    """Keras heads have no background."""
    path = folder / "names.txt"
    path.write_text("\n".join((weights / "imagenet_labels_1001.txt").read_text().splitlines()[1:]))
    return path
