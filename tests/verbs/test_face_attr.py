"""Training, measuring and asking for attributes, on a few synthetic faces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import QUICK, Cli, write_files

import mbapps

pytestmark = pytest.mark.slow  # models are trained

NAMES = ["Eyeglasses", "Long_Hair", "Smiling"]
WORDS = (f"data.attributes=[{','.join(NAMES)}]", "task.metric.groups=[Smiling]", "task.metric.resamples=50")


@pytest.fixture(scope="module")
def trained(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the real command line, in a process of its own."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("faces") / "run"
    command = [sys.executable, "-m", "mbapps", "task=face_attr", f"data.root={tiny_faces}", *WORDS, *QUICK]
    shown = subprocess.run(
        [*command, "trainer.max_epochs=2", f"out={folder}"], capture_output=True, text=True, cwd=Path.cwd()
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    return folder


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_training_leaves_numbers_a_report_and_a_card(trained: Path) -> None:
    numbers = read(trained / "results.json")
    wanted = ["mean_AP", "mean_AP_low", "mean_AP_high", "attributes_undefined", "mean_balanced_accuracy"]
    wanted += [f"{kind}/{name}" for kind in ("AP", "balanced_accuracy", "base_rate") for name in NAMES]
    wanted += ["worst_group_gap", "group_AP/Smiling: yes", "group_AP_low/Smiling: no"]
    assert {*wanted, *(f"val_{name}" for name in wanted)} <= set(numbers)
    page = (trained / "report.html").read_text(encoding="utf-8")
    for part in ("Precision and recall", "By group", "Worst images", "Smiling: yes"):
        assert part in page
    card = (trained / "model" / "CARD.md").read_text(encoding="utf-8")
    assert "Do not use it to decide about people" in card
    assert "| Eyeglasses |" in card


def test_thresholds_of_best_f1_are_kept_and_used(trained: Path, tiny_faces: Path) -> None:
    head = read(trained / "model" / "model.json")["heads"]["face_attr"]  # type: ignore[index]
    assert head["class_names"] == NAMES
    assert len(head["thresholds"]) == 3
    model = mbapps.load(trained / "model")
    picture = next(tiny_faces.rglob("*.jpg"))
    (answer,) = model.predict(picture)
    assert [row["name"] for row in answer.to_json()] == NAMES
    assert answer.present.tolist() == (answer.probs >= head["thresholds"]).tolist()  # type: ignore[attr-defined]
    (strict,) = model.predict(picture, score_thresh=1.0)
    assert [row["present"] for row in strict.to_json()] == [False] * 3


def test_eval_gives_the_numbers_of_training(trained: Path, tiny_faces: Path, cli: Cli) -> None:
    words = (f"model={trained / 'model'}", f"data.root={tiny_faces}", *WORDS[1:], "data.num_workers=0")
    again = read(cli("eval", *words, "trainer.progress=false") / "results.json")
    numbers = read(trained / "results.json")
    for name in ("mean_AP", "mean_AP_low", "mean_balanced_accuracy", "worst_group_gap", "AP/Smiling"):
        assert again[name] == pytest.approx(numbers[name], abs=1e-6), name
    strict = read(cli("eval", *words, "score_thresh=1.0", "trainer.progress=false") / "results.json")
    assert strict["mean_balanced_accuracy"] == 0.5


def test_a_set_without_an_attribute_of_the_model(trained: Path, tmp_path: Path, cli: Cli) -> None:
    root = write_files(
        tmp_path / "set", {"list_attr_celeba.txt": "1\nSmiling Hat\na.jpg 1 1\n", "images/a.jpg": None}
    )
    with pytest.raises(ValueError, match="has no attribute Eyeglasses, Long_Hair; it has Smiling, Hat"):
        cli("eval", f"model={trained / 'model'}", f"data.root={root}", "data.num_workers=0")


def test_a_group_that_is_no_attribute_is_told_before_training(tiny_faces: Path, cli: Cli) -> None:
    with pytest.raises(
        ValueError, match=r"task\.metric\.groups names male, but the attributes are Bangs, Beard"
    ):
        cli("train", "task=face_attr", f"data.root={tiny_faces}", "task.metric.groups=[male]", *QUICK)


def test_predict_writes_each_attribute(trained: Path, tiny_faces: Path, cli: Cli) -> None:
    source = next(tiny_faces.rglob("*.jpg"))
    folder = cli("predict", f"model={trained / 'model'}", f"source={source}", "device=cpu")
    (answer,) = read(folder / "predictions.json")["images"].values()  # type: ignore[attr-defined]
    assert [row["name"] for row in answer] == NAMES
    assert (folder / "pictures" / source.name).is_file()


@pytest.mark.parametrize(
    ("alpha", "rho", "paper"),
    [(1.0, 1.0, "568 M"), (0.25, 1.0, "45 M mult-adds: a misprint"), (0.5, 0.571, "48 M")],
)
def test_table12(alpha: float, rho: float, paper: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("experiment=table12", f"backbone.alpha={alpha}", f"backbone.rho={rho}", "data.num_classes=40")
    cli("info", *words, "layers=false")
    assert paper in " ".join(capsys.readouterr().out.replace("│", " ").split())
