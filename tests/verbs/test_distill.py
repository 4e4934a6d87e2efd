"""Distillation from one line: the teacher is found or made, its outputs are computed once, the student learns them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from class_files import break_file, write_classes, write_images
from conftest import QUICK, Cli

from mbapps.models.folder import read_tensors
from mbapps.tasks.base import Task
from mbapps.teacher import Teacher

pytestmark = pytest.mark.slow  # models are trained

pytest.importorskip("torchvision")
pytest.importorskip("timm")

SIZES = ("data.image_size=32", "distill.image_size=32", "trainer.max_epochs=2", "distill.max_epochs=1")
WORDS = (
    "train", "task=fine_grained", *(word for word in QUICK if "image_size" not in word), *SIZES,
    "distill.teacher=resnet18", "distill.pretrained=false",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path / "home"))
    return write_classes(tmp_path / "set")


@pytest.fixture
def made(root: Path, cli: Cli, tmp_path: Path) -> Path:
    """The run folder of a run that made a teacher."""
    return cli(*WORDS, f"data.root={root}", "distill.cached=true", f"out={tmp_path / 'made'}")


def test_a_teacher_by_name_is_trained_then_its_folder_serves(
    root: Path, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli(*WORDS, f"data.root={root}", "distill.cached=true")
    said = capsys.readouterr().out
    assert (
        "distill.cached=true: the student does without data.augment.crop_min_area=0.6, data.augment" in said
    )
    assert (
        "teacher resnet18: no ImageNet weights (distill.pretrained=false), so it starts from scratch" in said
    )
    assert "is trained on the labels first, 1 epochs" in said
    assert "the teacher's outputs for centre and its mirror image are in" in said
    facts = json.loads((made / "teacher" / "model.json").read_text())
    assert facts["body"]["architecture"] == "resnet18"
    assert facts["heads"]["fine_grained"]["class_names"] == ["akita", "beagle", "pug"]
    assert json.loads((made / "model" / "model.json").read_text())["lineage"]["teacher"] == "resnet18"

    def fail(self: Teacher, views: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked again")

    monkeypatch.setattr(Teacher, "__call__", fail)
    info = cli("info", f"model={made / 'teacher'}")
    assert json.loads((info / "results.json").read_text())["params"] > 11e6
    for source in (made / "teacher", made):
        again = cli(*WORDS[:-2], f"data.root={root}", "distill.cached=true", f"distill.teacher={source}")
        assert not (again / "teacher").exists()
        assert "0 new, 36 kept before" in capsys.readouterr().out
        first, second = (read_tensors(folder / "model" / "model.safetensors") for folder in (made, again))
        assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(AssertionError, match="asked again"):  # in another precision it says other things
        cli(*WORDS[:-2], f"data.root={root}", "distill.cached=true", f"distill.teacher={made}",
            "trainer.precision=bf16-mixed")  # fmt: skip


def test_other_augmentation_runs_the_teacher_in_every_step(
    made: Path, root: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli(*WORDS[:-2], f"data.root={root}", f"distill.teacher={made / 'teacher'}", "distill.labels=0.5")
    said = capsys.readouterr().out
    assert "the teacher runs in every step: data.augment.crop_min_area=0.6, " in said
    assert "distill.cached=true leaves the centre and its mirror image" in said


def test_unlabeled_images_alone_or_too(
    made: Path, root: Path, cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*WORDS[:-2], f"data.root={root}", "data.augment=null", f"distill.teacher={made / 'teacher'}"]
    write_images(tmp_path / "more", 20, seed=60)
    break_file(tmp_path / "more" / "broken.png")
    shutil.copy(next((root / "pug").iterdir()), tmp_path / "more" / "copy.png")
    capsys.readouterr()
    run = cli(*words, f"distill.images={tmp_path / 'more'}")
    said = capsys.readouterr().out
    assert "distill.images: 21 unlabeled images; 1 more are left out, as the set has them already" in said
    assert "20 new, 36 kept before" in said
    assert "1 x image not read:" in said
    assert len(json.loads((run / "results.json").read_text())["context"]["broken"]) == 1
    cli(*words, f"distill.images={tmp_path / 'more'}", "distill.train_images=false", "distill.labels=1")
    with pytest.raises(ValueError, match=r"distill\.train_images=false leaves no images to learn from"):
        cli(*words, "distill.train_images=false")
    for number in range(2):
        break_file(tmp_path / "more" / f"broken{number}.png")
    with pytest.raises(ValueError, match=r"3 of 47 images can't be read, more than data\.max_broken=0\.01"):
        cli(*words, f"distill.images={tmp_path / 'more'}")


def test_refusals(made: Path, root: Path, cli: Cli, tmp_path: Path, tiny: Path) -> None:
    words = [*WORDS[:-2], "distill.cached=true"]
    other = write_classes(tmp_path / "other", classes=("akita", "corgi"))
    with pytest.raises(
        ValueError,
        match=r"answers with other classes than the data has: akita; beagle; pug against akita; corgi",
    ):
        cli(*words, f"data.root={other}", f"distill.teacher={made / 'teacher'}")
    with pytest.raises(
        FileNotFoundError, match=r"distill\.teacher=.*set is no model folder: it has no model\.json"
    ):
        cli(*words, f"data.root={root}", f"distill.teacher={root}")
    with pytest.raises(ValueError, match=r"is a file; name its architecture, and it by distill\.weights="):
        cli(*words, f"data.root={root}", f"distill.teacher={next((root / 'pug').iterdir())}")
    with pytest.raises(ValueError, match=r"brings its weights: leave distill\.weights= out"):
        cli(*words, f"data.root={root}", f"distill.teacher={made}", "distill.weights=w.pth")
    with pytest.raises(ValueError, match=r"has no detection head, only fine_grained"):
        cli("train", *QUICK, f"data.root={tiny}", f"distill.teacher={made}")
    with pytest.raises(
        ValueError, match=r"has begun with the teacher resnet18; for distill\.teacher=resnet34 start"
    ):
        cli(f"resume={made}", "distill.teacher=resnet34", "trainer.max_epochs=3")
    with pytest.raises(ValueError, match=r"distill\.images=more needs a teacher: give distill\.teacher="):
        cli(*words, f"data.root={root}", "distill.images=more")
    with pytest.raises(ValueError, match=r"task\.freeze_body=true trains a head on features of the labelled"):
        cli(*words, f"data.root={root}", f"distill.teacher={made}", "task.freeze_body=true")
    detector = cli("train", *QUICK, f"data.root={tiny}", "trainer.max_epochs=1")
    with pytest.raises(ValueError, match=r"has no fine_grained head, only detection"):
        cli(*words, f"data.root={root}", f"distill.teacher={detector / 'model'}")


def test_classes_in_another_order_are_matched_by_name(made: Path, root: Path) -> None:
    from mbapps.deploy.bundle import Bundle

    bundle = Bundle.open(made / "teacher")
    names = tuple(bundle.head_facts["class_names"])
    views = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    same, turned = (Teacher(bundle, "t", "fine_grained", order) for order in (names, names[::-1]))
    torch.testing.assert_close(turned(views), same(views).flip(1))
    before = same.digest()
    assert turned.digest() != before
    with torch.no_grad():
        bundle.network.head("fine_grained").linear.bias[0] += 1
    assert Teacher(bundle, "t", "fine_grained", names).digest() != before


def test_weights_that_know_the_classes_are_not_trained(
    root: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torchvision

    torch.save(torchvision.models.resnet18(weights=None, num_classes=3).state_dict(), tmp_path / "w.pth")
    words = [*WORDS, f"data.root={root}", "distill.cached=true", f"distill.weights={tmp_path / 'w.pth'}"]
    (tmp_path / "w.labels.txt").write_text("pug\nakita\nbeagle\n")
    run = cli(*words)
    assert "its classifier knows the classes: it is not trained" in capsys.readouterr().out
    assert not (run / "teacher_training").exists()
    (tmp_path / "w.labels.txt").write_text("pug\nakita\ncorgi\n")
    assert (cli(*words) / "teacher_training").exists()


class Stop(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "where"), [(3, "the teacher's training"), (5, "the student's first epoch"), (8, "")]
)
def test_resumed_weights_equal_uninterrupted_ones(
    made: Path, root: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, where: str
) -> None:
    """Killed in the teacher's training, before the student's first checkpoint, and later."""
    before, stopped, steps = Task.training_step, tmp_path / "stopped", 0

    def training_step(self: Task, batch: object, batch_idx: int) -> torch.Tensor | None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise Stop
        return before(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", training_step)
        with pytest.raises(Stop):
            cli(*WORDS, f"data.root={root}", "distill.cached=true", "distill.max_epochs=2", f"out={stopped}")
    assert (stopped / "teacher").exists() == (where != "the teacher's training")
    cli(f"resume={stopped}")
    whole = cli(*WORDS, f"data.root={root}", "distill.cached=true", "distill.max_epochs=2")
    for part in ("teacher", "model"):
        first, second = (read_tensors(folder / part / "model.safetensors") for folder in (whole, stopped))
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_two_processes(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "two"
    words = [
        *WORDS,
        f"data.root={root}",
        "distill.cached=true",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        f"out={out}",
    ]
    shown = subprocess.run(
        [sys.executable, "-m", "mbapps", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert (out / "teacher" / "model.json").is_file()
    assert (out / "model" / "model.json").is_file()


def test_a_detector_is_taught_by_a_detector(cli: Cli, tiny: Path) -> None:
    words = ["train", *QUICK, f"data.root={tiny}", "trainer.max_epochs=1"]
    teacher = cli(*words, "backbone.alpha=0.5") / "model"
    taught = cli(*words, f"distill.teacher={teacher}", "distill.labels=0.5")
    facts = json.loads((taught / "model" / "model.json").read_text(encoding="utf-8"))
    assert facts["lineage"]["teacher"] == str(teacher)
    header = (taught / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"train_teacher", "train_labels"} <= set(header)
    several = cli(
        "train", *(word for word in QUICK if not word.startswith(("data.", "task="))), "heads=[detection]",
        f"heads.detection.data.root={tiny}", f"heads.detection.distill.teacher={teacher}", "trainer.max_epochs=1",
        "heads.detection.data.image_size=64", "data.num_workers=0",
    )  # fmt: skip
    assert json.loads((several / "model" / "model.json").read_text())["lineage"]["teacher"] == str(teacher)
    for extra, said in (
        (
            (f"distill.teacher={teacher}", "data.image_size=128"),
            "trained with image_size=64, the student has 128",
        ),
        (
            (f"distill.teacher={teacher}", "task.head.min_scale=0.1"),
            "trained with min_scale=0.2, the student has 0.1",
        ),
        ((f"distill.teacher={teacher}", "distill.images=more"), r"distill\.images=more is not for detection"),
        ((f"distill.teacher={teacher}", "distill.cached=true"), r"distill\.cached=True is not for detection"),
        (("distill.teacher=resnet18",), "resnet18: detection is taught by a detector with the same anchors"),
    ):
        with pytest.raises(ValueError, match=said):
            cli(*words, *extra)
