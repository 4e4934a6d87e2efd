"""Training, measuring, teaching and calibrating embeddings, on a few synthetic people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, Cli

import mbapps
from mbapps.models.folder import read_tensors

pytestmark = pytest.mark.slow  # models are trained

WORDS = ("task=face_embed", "task.metric.resamples=20", "data.images_per_person=2", *QUICK)


@pytest.fixture(scope="module")
def trained(tiny_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the real command line, in a process of its own."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("people") / "run"
    command = [sys.executable, "-m", "mbapps", *WORDS, f"data.root={tiny_people}", "task.head.triplet=1"]
    shown = subprocess.run(
        [*command, "trainer.max_epochs=2", f"out={folder}"], capture_output=True, text=True, cwd=Path.cwd()
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    return folder


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_training_leaves_numbers_a_report_and_a_card(trained: Path) -> None:
    numbers = read(trained / "results.json")
    wanted = {
        "accuracy",
        "accuracy_se",
        "accuracy_low",
        "auc",
        "eer",
        "all_pairs_auc",
        "rank1",
        "val_all_pairs_auc",
    }
    assert wanted <= set(numbers)
    assert numbers["pairs_left_out"] == 0
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") > 8  # the worst pairs
    assert "the best accuracy on validation" in (trained / "model" / "CARD.md").read_text(encoding="utf-8")


def test_a_model_folder_has_a_threshold_and_no_people(trained: Path, tiny_people: Path) -> None:
    facts = read(trained / "model" / "model.json")
    head = facts["heads"]["face_embed"]  # type: ignore[index]
    assert -1 <= head["verification"]["similarity"] <= 1
    assert head["class_names"] == []
    assert not any("prototypes" in key for key in read_tensors(trained / "model" / "model.safetensors"))
    photo = next(tiny_people.rglob("*.jpg"))
    (answer,) = mbapps.load(trained / "model").predict(photo)
    assert len(answer.to_json()[0]["embedding"]) == 128
    drawn = answer.draw(np.zeros((60, 50, 3), np.uint8))
    assert drawn.shape == (76, 50, 3)
    assert drawn[60:].std() > 0


def test_a_file_of_embeddings_is_scored_as_its_model_was(trained: Path, tiny_people: Path, cli: Cli) -> None:
    words = [*WORDS[1:], f"data.root={tiny_people}"]
    measured = cli("eval", f"model={trained / 'model'}", *words, "save_predictions=true")
    numbers = read(measured / "results.json")
    assert numbers["accuracy"] == pytest.approx(read(trained / "results.json")["accuracy"])
    scored = read(
        cli("eval", *WORDS, f"data.root={tiny_people}", f"predictions={measured / 'embeddings.npz'}")
        / "results.json"
    )
    for name in ("accuracy", "accuracy_se", "auc", "all_pairs_auc", "rank1"):
        assert scored[name] == pytest.approx(numbers[name])  # type: ignore[arg-type]


def test_a_student_emulates_wider_embeddings(
    trained: Path, tiny_people: Path, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path / "home"))
    words = [
        *WORDS,
        f"data.root={tiny_people}",
        f"distill.teacher={trained / 'model'}",
        "trainer.max_epochs=1",
    ]
    folder = cli("train", *words, "task.head.dim=32", "task.head.cosface=0")
    said = capsys.readouterr().out
    assert "the teacher's 128 numbers on their 32 principal axes" in said
    keys = set(read_tensors(folder / "model" / "model.safetensors"))
    assert not any("reduction" in key for key in keys)
    facts = read(folder / "model" / "model.json")
    assert facts["lineage"]["teacher"] == str(trained / "model")  # type: ignore[index]
    both = cli("train", *words, "distill.labels=0.5")
    rows = (both / "metrics.csv").read_text().splitlines()
    assert {"train_teacher", "train_labels"} <= set(rows[0].split(","))
    assert "the student emulates the teacher's 128 numbers" in capsys.readouterr().out


def test_training_goes_on_from_an_embedding(trained: Path, tiny_people: Path, cli: Cli, capsys) -> None:  # noqa: ANN001
    cli(
        "train",
        *WORDS,
        f"data.root={tiny_people}",
        f"backbone.weights={trained / 'model'}",
        "trainer.max_epochs=1",
    )
    assert "the face_embed head is loaded too" in capsys.readouterr().out


def test_calibrate_puts_a_threshold_with_its_interval_into_the_folder(
    trained: Path, tiny_people: Path, cli: Cli, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    weights = (model / "model.safetensors").read_bytes()
    words = [*WORDS[1:], f"data.test={tiny_people}"]
    folder = cli("calibrate", f"model={model}", *words, "far=0.02")
    numbers, facts = read(folder / "results.json"), read(model / "model.json")
    chosen = facts["heads"]["face_embed"]["verification"]  # type: ignore[index]
    assert chosen["similarity_low"] <= chosen["similarity"] <= chosen["similarity_high"]
    assert chosen["far"] == 0.02
    assert chosen["similarity"] == numbers["similarity"]
    assert (model / "model.safetensors").read_bytes() == weights
    card = (model / "CARD.md").read_text(encoding="utf-8")
    assert f"a false accept rate of 0.02 on {tiny_people.name}" in card
    with pytest.raises(ValueError, match="impostor pairs"):
        cli("calibrate", f"model={model}", *words, "far=1e-6")
    with pytest.raises(ValueError, match="task=face_embed: calibrate needs far=, such as far=1e-2"):
        cli("calibrate", f"model={model}", *words)
    for wrong in ("abc", "true", "[0.1]", "2"):
        with pytest.raises(ValueError, match="far must be a number between 0 and 1, got "):
            cli("calibrate", f"model={model}", *words, f"far={wrong}")
    again = cli("eval", f"model={model}", *words)
    assert "chosen on these very images" in (again / "report.html").read_text(encoding="utf-8")
    other = cli("calibrate", f"model={model}", *WORDS[1:], f"data.root={tiny_people}", "far=0.3")
    assert read(other / "results.json")["context"]["data"]["images"].keys() == {"val"}  # type: ignore[index]


def test_a_model_goes_on_looking_where_it_learned_to(tiny_people: Path, cli: Cli) -> None:
    words = [f"data.root={tiny_people}", "task.head.triplet=1", "trainer.max_epochs=1"]
    folder = cli("train", *WORDS, *words, "data.face_crop=0.6")
    model = mbapps.load(folder / "model")
    assert model.head_facts["face_crop"] == 0.6
    photo = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    other = photo.copy()
    other[:15] = other[-15:] = other[:, :15] = other[:, -15:] = 0  # out of sight
    one, two = model.predict([photo, other])
    np.testing.assert_allclose(one.vector, two.vector, atol=1e-6)  # type: ignore[attr-defined]
    numbers = read(folder / "results.json")
    again = [
        read(cli("eval", f"model={folder / 'model'}", *WORDS[1:], words[0], *crop) / "results.json")["auc"]
        for crop in ([], ["data.face_crop=1.0"])
    ]
    assert again[0] == pytest.approx(numbers["auc"])
    assert again[1] != pytest.approx(numbers["auc"])


def test_people_to_measure_do_not_come_in_without_their_names(
    trained: Path, tiny_people: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved anew, a picture has other bytes; its folder or its file still has the person's name."""
    from PIL import Image

    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path / "home"))
    listed = (tiny_people / "pairs.txt").read_text().split("\n")[1].split("\t")
    photo = next((tiny_people / listed[0]).glob("*.jpg"))
    for place in (tmp_path / "a" / listed[0] / "1.png", tmp_path / "b" / f"{listed[0]}_0007.png"):
        place.parent.mkdir(parents=True)
        Image.open(photo).save(place)
        words = [f"data.root={tiny_people}", f"distill.teacher={trained / 'model'}", "trainer.max_epochs=1"]
        words += [
            f"distill.images={tmp_path / place.relative_to(tmp_path).parts[0]}",
            "distill.train_images=false",
        ]
        with pytest.raises(
            ValueError, match=f"1 people are both .* to be measured: {listed[0]}; take them out"
        ):
            cli("train", *WORDS, *words)
    cli("train", *WORDS, *words, "data.allow_overlap=true")


def test_another_view_than_the_models_is_told(trained: Path, tiny_people: Path, cli: Cli, capsys) -> None:  # noqa: ANN001
    cli("eval", f"model={trained / 'model'}", *WORDS[1:], f"data.root={tiny_people}", "data.face_crop=0.8")
    assert "data.face_crop=0.8: the model learned from 1.0 of each side" in capsys.readouterr().out
