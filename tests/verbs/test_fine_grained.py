"""The task fine_grained from a folder of classes to answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, Cli
from PIL import Image

import mbapps
from mbapps.images import central_view


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of stripes: across, down and none, in colours that tell nothing."""
    root = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(0)
    rows = np.indices((48, 64))
    for name, wave in (("across", rows[0]), ("down", rows[1]), ("plain", rows[0] * 0)):
        for number in range(24):
            light = 128 + 100 * np.sin(wave * random.uniform(1.0, 1.6))[..., None] * random.uniform(0.4, 1, 3)
            pixels = (light + random.normal(0, 12, light.shape)).clip(0, 255).astype(np.uint8)
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def words(stripes: Path) -> list[str]:
    return [
        "task=fine_grained",
        f"data.root={stripes}",
        "data.val_fraction=0.2",
        "data.test_fraction=0.2",
        *QUICK,
    ]


@pytest.mark.slow
def test_train_eval_and_predict(cli: Cli, words: list[str], stripes: Path) -> None:
    folder = cli("train", *words, "trainer.max_epochs=50", "task.lr=0.01", "data.augment=null")
    numbers = json.loads((folder / "results.json").read_text())
    assert numbers["val_top1"] >= 0.6  # chance is a third
    head = json.loads((folder / "model" / "model.json").read_text())["heads"]["fine_grained"]
    assert head["class_names"] == ["across", "down", "plain"]
    assert head["settings"]["temperature"] != 1.0
    page = (folder / "report.html").read_text()
    for title in ("Confusion", "Largest confusions", "Calibration", "Worst images"):
        assert f"<h2>{title}</h2>" in page

    model = f"model={folder / 'model'}"
    measured = cli("eval", model, *words[1:])
    found = json.loads(
        (measured / "results.json").read_text()
    )  # of the whole set, which has no split folders
    assert found["images"] == 72
    assert found["top1"] > 0.8
    answers = cli("predict", model, f"source={stripes / 'down'}")
    content = json.loads((answers / "predictions.json").read_text())
    assert len(content["images"]) == 24
    first = next(iter(content["images"].values()))
    assert {row["name"] for row in first} == {"across", "down", "plain"}
    assert sum(row["score"] for row in first) == pytest.approx(1, abs=1e-4)
    assert not (answers / "coco_results.json").exists()
    assert (answers / "pictures" / "0.png").is_file()

    bundle = mbapps.load(folder / "model")
    pixels = np.asarray(Image.open(stripes / "down" / "0.png"))
    (answer,) = bundle.predict(pixels)
    assert answer.heat is not None  # type: ignore[attr-defined]
    assert answer.draw(pixels).shape == pixels.shape
    facts = json.loads((folder / "model" / "model.json").read_text())
    facts["heads"]["fine_grained"]["class_names"] = ["x", "y", "z"]
    (folder / "model" / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="holds classes that the training images do not have"):
        cli("eval", model, *words[1:])


def test_without_data_it_says_what_is_missing(cli: Cli) -> None:
    with pytest.raises(ValueError, match="no synthetic set for task=fine_grained, .*set data.root"):
        cli("train", "task=fine_grained", *QUICK)


def test_the_view_is_the_middle() -> None:
    image = np.zeros((80, 160, 3), np.uint8)
    image[10:70, 20:140] = 200
    assert (central_view(image, 32, 0.75) == 200).all()
    assert (central_view(image, 32, 1.0)[0, 0] == 0).all()
