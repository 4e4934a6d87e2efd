"""Several heads round one body, from the command line: trained jointly, told apart, opened, measured and asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image
from safetensors.torch import load_file
from several import NARROW, words

import mbapps
from mbapps.together import Together

pytestmark = pytest.mark.slow  # models are trained


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture
def roots(textures: Path, tiny_faces: Path) -> dict[str, Path]:
    return {"fine_grained": textures, "face_attr": tiny_faces}


@pytest.fixture
def trained(cli: Cli, roots: dict[str, Path]) -> Path:
    return cli("train", *words(roots), NARROW)


def test_what_joint_training_leaves(cli: Cli, trained: Path, roots: dict[str, Path]) -> None:
    found = results(trained)
    for name, number in (("fine_grained", "top1"), ("face_attr", "mean_AP")):
        assert 0 <= found[f"{name}_{number}"] <= 1
        assert 0 <= found[f"val_{name}_{number}"] <= 1
        assert found[f"{name}_relative"] == pytest.approx(found[f"{name}_{number}"])  # floor 0, alone 1
    assert found["relative"] == pytest.approx((found["fine_grained_top1"] + found["face_attr_mean_AP"]) / 2)
    assert set(found["context"]["data"]) == set(roots)
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"train_fine_grained_loss", "train_face_attr_loss", "val_face_attr_mean_AP"} <= set(rows[0])
    validated = [float(row["val_relative"]) for row in rows if row["val_relative"]]
    assert max(validated) == pytest.approx(
        found["val_relative"], abs=1e-6
    )  # the best epoch is the one that is kept
    report = (trained / "report.html").read_text(encoding="utf-8")
    assert "face_attr: First training batch, augmented" in report

    facts = json.loads((trained / "model" / "model.json").read_text(encoding="utf-8"))
    assert list(facts["heads"]) == ["fine_grained", "face_attr"]
    assert (facts["norm"], facts["passes"], facts["face_passes"]) == ("shared", 1, 0)
    assert facts["heads"]["face_attr"]["thresholds"]
    card = (trained / "model" / "CARD.md").read_text(encoding="utf-8")
    assert "runs through the body once for all heads" in card
    assert "## Numbers (face_attr)" in card

    measured = cli(
        "eval", f"model={trained / 'model'}", *(word for word in words(roots) if not word.startswith("heads=[")),
        "heads.face_attr.task.metric.resamples=20",
    )  # fmt: skip
    for key in ("fine_grained_top1", "fine_grained_nll", "face_attr_mean_AP"):
        assert results(measured)[key] == pytest.approx(found[key], abs=1e-6)


def test_the_folder_holds_one_body(cli: Cli, trained: Path, textures: Path) -> None:
    alone = cli(
        "train", "task=fine_grained", f"data.root={textures}", NARROW, "data.image_size=64", "data.batch_size=8",
        "data.num_workers=0", "trainer.max_epochs=1", "trainer.progress=false", "trainer.accelerator=cpu",
    )  # fmt: skip
    several, one = tensors(trained), tensors(alone)
    assert {key for key in several if key.startswith("body.")} == {
        key for key in one if key.startswith("body.")
    }
    extra = sum(value.numel() for key, value in several.items() if key.startswith("heads.face_attr."))
    sizes = [(folder / "model" / "model.safetensors").stat().st_size for folder in (trained, alone)]
    assert sizes[0] == pytest.approx(sizes[1] + 4 * extra, rel=0.02)


def test_predict_merges_what_the_heads_say(cli: Cli, trained: Path, textures: Path, capsys: Any) -> None:
    source = next((textures / "test").rglob("*.jpg"))
    folder = cli("predict", f"model={trained / 'model'}", f"source={source}", "device=cpu")
    told = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    assert (told["task"], told["heads"], told["passes"]) == ("multi", ["fine_grained", "face_attr"], 1)
    assert told["note"] == "face_attr answer for whole images, as if each were one cropped face"
    assert told["note"] in capsys.readouterr().out
    (answers,) = told["images"].values()
    model = mbapps.load(trained / "model")
    (made,) = model.predict(source)
    assert isinstance(made, Together)
    assert answers == made.to_json()
    assert results(folder)["answers"] == len(made) == len(answers["fine_grained"]) + len(answers["face_attr"])
    (picture,) = (folder / "pictures").glob("*.jpg")
    assert Image.open(picture).width > Image.open(source).width  # the answers beside the photo
    for name in answers:
        (alone,) = model.only([name]).predict(source)
        assert alone.to_json() == answers[name]
        part = cli(
            "predict", f"model={trained / 'model'}", f"source={source}", "device=cpu", f"heads=[{name}]"
        )
        kept = json.loads((part / "predictions.json").read_text(encoding="utf-8"))
        assert list(kept["images"].values()) == [answers[name]]


def test_thresholds_go_by_head(trained: Path, textures: Path) -> None:
    source = next((textures / "test").rglob("*.jpg"))
    model = mbapps.load(trained / "model")
    assert all(one["present"] for one in model.predict(source, score_thresh=0.0)[0].to_json()["face_attr"])
    strict = model.predict(source, score_thresh={"face_attr": 1.0})[0].to_json()
    assert not any(one["present"] for one in strict["face_attr"])
    with pytest.raises(
        ValueError, match=r"score_thresh of several heads goes by head.*no head Smiling, only fine_gra"
    ):
        model.predict(source, score_thresh={"Smiling": 0.5})
    with pytest.raises(
        ValueError, match="score_thresh is for boxes; the fine_grained head answers with its best"
    ):
        model.predict(source, score_thresh={"fine_grained": 0.5})


def test_one_head_of_a_folder_is_as_good_as_alone(
    cli: Cli, trained: Path, textures: Path, capsys: Any
) -> None:
    folder = cli(
        "eval", f"model={trained / 'model'}", "task=fine_grained", f"data.root={textures}", "data.num_workers=0",
        "trainer.progress=false", "trainer.accelerator=cpu",
    )  # fmt: skip
    assert results(folder)["top1"] == pytest.approx(results(trained)["fine_grained_top1"])
    cli("info", f"model={trained / 'model'}")
    assert "fine_grained, face_attr, image size 64" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the model has no geo head, only fine_grained, face_attr"):
        mbapps.load(trained / "model").only(["geo"])
    with pytest.raises(
        ValueError, match=r"this model has 2 heads, fine_grained, face_attr; .*name it by task="
    ):
        mbapps.load(trained / "model").head_facts["class_names"]


def test_calibrating_one_head_leaves_the_others(cli: Cli, trained: Path, tiny_faces: Path) -> None:
    model = trained / "model"
    before = mbapps.load(model).facts["heads"]
    words = (
        f"data.root={tiny_faces}",
        "data.num_workers=0",
        "trainer.progress=false",
        "trainer.accelerator=cpu",
    )
    with pytest.raises(ValueError, match="this model has 2 heads, .*name it by task="):
        cli("calibrate", f"model={model}", "data.num_workers=0")
    cli("calibrate", f"model={model}", "task=face_attr", "split=test", *words)
    after = mbapps.load(model).facts["heads"]
    assert after["fine_grained"] == before["fine_grained"]
    assert after["face_attr"]["calibration"]["split"] == "test"


def test_frames_are_drawn_with_all_answers(cli: Cli, trained: Path, tmp_path: Path) -> None:
    from mbapps.video import Video, write_video

    frame = np.full((120, 160, 3), 90, dtype=np.uint8)
    with write_video(tmp_path / "clip.mp4", 5, 120, 160) as write:
        for _ in range(4):
            write(frame)
    folder = cli("predict", f"model={trained / 'model'}", f"source={tmp_path / 'clip.mp4'}", "device=cpu")
    (drawn,) = (folder / "videos").glob("*.mp4")
    (answer,) = mbapps.load(trained / "model").predict(frame)
    height, width = answer.draw(frame).shape[:2]
    video = Video(drawn)
    assert (video.height, video.width) == (height - height % 2, width - width % 2)


def test_heads_that_see_the_same_share_a_pass(
    cli: Cli, roots: dict[str, Path], textures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.models.mobilenet import MobileNetV1

    folder = cli("train", *words(roots), NARROW, "heads.fine_grained.task.head.central_crop=1.0")
    model = mbapps.load(folder / "model")
    assert model.facts["passes"] == 1
    runs = 0
    forward = MobileNetV1.forward

    def counting(self: MobileNetV1, images: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal runs
        runs += 1
        return forward(self, images)

    monkeypatch.setattr(MobileNetV1, "forward", counting)
    model.predict(next((textures / "test").rglob("*.jpg")))
    assert runs == 1


def test_one_head_alone_has_the_same_numbers_and_settings(cli: Cli, tiny_faces: Path) -> None:
    """As a joint training is compared with: heads=[one] of the same command."""
    folder = cli("train", *words({"face_attr": tiny_faces}), NARROW)
    found = results(folder)
    assert found["relative"] == pytest.approx(found["face_attr_mean_AP"])
    assert "passes" not in found
    assert mbapps.load(folder / "model").head_name == "face_attr"


def test_norms_of_each_head_and_one_head_a_step(cli: Cli, roots: dict[str, Path]) -> None:
    folder = cli(
        "train",
        *words(roots),
        NARROW,
        "norm=per_task",
        "draw=one",
        "heads.face_attr.share=2",
        "steps_per_epoch=6",
    )
    facts = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
    assert (facts["norm"], facts["passes"], results(folder)["passes"]) == ("per_task", 2, 2)
    parted = tensors(folder)
    first, second = (parted[f"body.stem.norm.norms.{name}.running_mean"] for name in roots)
    assert not torch.equal(first, second)
    assert "each head with norms of its own in it" in (folder / "model" / "CARD.md").read_text(
        encoding="utf-8"
    )
    measured = cli(
        "eval",
        f"model={folder / 'model'}",
        *(word for word in words(roots) if not word.startswith("heads=[")),
    )
    assert results(measured)["fine_grained_nll"] == pytest.approx(
        results(folder)["fine_grained_nll"], abs=1e-6
    )
    with pytest.raises(
        ValueError, match=r"was trained with norm=per_task: its body has other norms for each of its"
    ):
        cli("train", *words(roots), f"backbone.weights={folder / 'model'}", NARROW)
    with pytest.raises(
        ValueError, match=r"norm=per_task: each of its heads has norms of its own in the body, and a new"
    ):
        cli("train", *words({"detection": Path("x")}), f"model={folder / 'model'}", "mode=frozen")


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    cli: Cli, roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.tasks.base import Task

    said = ["train", *words(roots), NARROW, "draw=one", "trainer.max_epochs=3", "task.freeze_epochs=1"]
    whole = cli(*said)
    step = Task.training_step

    def stop(self: Task, batch: object, batch_idx: int) -> torch.Tensor | None:
        if self.current_epoch == 2 and batch_idx == 1:
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", stop)
        with pytest.raises(KeyError, match="stop"):
            cli(*said, f"out={tmp_path / 'stopped'}")
    resumed = cli(f"resume={tmp_path / 'stopped'}")
    for key, value in tensors(whole).items():
        assert torch.equal(tensors(resumed)[key], value), key


def test_a_loss_that_is_not_finite_is_told_with_its_head(
    cli: Cli, roots: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        FloatingPointError,
        match=r"the loss of the fine_grained head is nan in epoch 0.*images of that batch: .*\.jpg",
    ):
        cli(
            "train", *words(roots), NARROW, "heads.fine_grained.task.head.label_smoothing=0.5", "task.lr=1e30"
        )
    assert not (tmp_path / "run1" / "model").exists()


def test_a_head_without_data_is_told_by_name(cli: Cli, roots: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^heads\.face_attr: .*nowhere"):
        cli("train", *words({**roots, "face_attr": tmp_path / "nowhere"}), NARROW)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mode=both", r"mode must be one of \['joint', 'frozen'\], got 'both'"),
        ("norm=own", r"norm must be one of \['shared', 'per_task'\], got 'own'"),
        ("draw=some", r"draw must be one of \['each', 'one'\], got 'some'"),
        ("heads.face_attr.weight=0", r"heads\.face_attr\.weight must be > 0, got 0"),
        (
            "heads.face_attr.floor=2",
            r"heads\.face_attr\.alone=1\.0 is no better than heads\.face_attr\.floor=2",
        ),
        ("distill.teacher=resnet50", r"distill\.teacher is of one head; .* heads\.<name>\.distill\.teacher"),
        (
            "task.monitor=AP",
            r"task\.monitor of several heads is one of relative, fine_grained_top1, .*got AP",
        ),
        (
            "heads.face_attr.task.lr=0.5",
            r"heads\.face_attr\.task\.lr=0\.5, but mode=joint trains all heads with one task",
        ),
        (
            "heads.face_attr.task.freeze_body=true",
            r"heads\.face_attr\.task\.freeze_body=True, but mode=joint",
        ),
        (
            "heads.face_attr.task.head.dropout=2",
            r"heads\.face_attr: task\.head\.dropout must be in \[0, 1\), got 2",
        ),
    ],
)
def test_settings_of_several_heads(cli: Cli, roots: dict[str, Path], word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cli("train", *words(roots), NARROW, word)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "heads.face_attr.floor=2",
            r"heads\.face_attr\.alone=1\.0 is no better than heads\.face_attr\.floor=2",
        ),
        ("draw=one", "mode=frozen trains one head after the other on a body that rests: leave draw= out"),
        ("heads.face_attr.weight=2", r"leave heads\.face_attr\.weight= out"),
        ("heads.face_attr.share=2", r"leave heads\.face_attr\.share= out"),
        ("task.freeze_blocks=3", r"leave task\.freeze_blocks= out"),
        ("steps_per_epoch=3", "leave steps_per_epoch= out"),
    ],
)
def test_settings_of_frozen_heads_are_told_before_anything_is_trained(
    cli: Cli, roots: dict[str, Path], tmp_path: Path, word: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        cli("train", *words(roots), NARROW, "mode=frozen", word)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_share_that_is_no_step_is_told(cli: Cli, roots: dict[str, Path]) -> None:
    with pytest.raises(
        ValueError, match="the face_attr head would have none; raise heads.face_attr.share or steps_"
    ):
        cli("train", *words(roots), NARROW, "draw=one", "heads.face_attr.share=0.001")


def test_drawn_answers_lie_beside_each_other() -> None:
    from mbapps.predictions import Attributes, Classification, Detections, Embedding

    image = np.full((240, 320, 3), 90, dtype=np.uint8)
    boxes = Detections(np.array([[10.0, 40, 90, 120]]), np.array([0.9]), np.array([0]), ("cat",))
    labels = Classification(np.array([2.0, 1.0], dtype=np.float32), ("pug", "beagle"))
    both = Together({"detection": boxes, "fine_grained": labels})
    drawn = both.draw(image)
    assert drawn.shape[1] > 320
    assert np.array_equal(drawn[:240, :320], boxes.draw(image))
    assert len(both) == 3
    assert np.array_equal(Together({"detection": boxes}).draw(image), boxes.draw(image))
    many = Together({
        **both.answers, "face_attr": Attributes(np.array([0.5]), ("Smiling",)),
        "face_embed": Embedding(np.ones(8, dtype=np.float32)),
    })  # fmt: skip
    height, width = many.draw(image).shape[:2]
    assert 240 <= height <= 2 * 240
    columns = (width - 320) // 200  # 200 px is the least that an answer takes
    assert columns >= 1
    for place in range(columns):  # none of them is empty
        assert (many.draw(image)[:60, 320 + 200 * place : 320 + 200 * (place + 1)] > 40).any()
    tiny = Together({"fine_grained": labels}).draw(image[:3, :2])
    assert tiny.shape[1] == 2 + 200
