"""Each verb on the tiny synthetic set, in this process; what it leaves is read as a user's script would."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Cli

import mbapps


def results(folder: Path) -> dict[str, object]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the real command line, in a process of its own."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    command = [
        sys.executable, "-m", "mbapps", "task=detection", f"data.root={tiny}", *QUICK,
        "trainer.max_epochs=2", f"out={folder}",
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
    assert shown.returncode == 0, shown.stderr[-3000:]
    (folder.parent / "stdout.txt").write_text(shown.stdout)
    return folder


def test_train_leaves_a_run_folder(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "config.yaml", "overrides.txt", "checkpoints", "metrics.csv", "results.json",
        "report.html", "model", "mbapps.log",
    }  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "task=detection" in (trained / "overrides.txt").read_text()
    numbers = results(trained)
    for name in ("AP", "AP50", "AP75", "AR100", "val_AP", "params", "macs", "seconds", "images_per_second"):
        assert isinstance(numbers[name], (int, float)), name
    assert "mbapps" in numbers["context"]["versions"]  # type: ignore[index]
    assert len(numbers["context"]["data"]["fingerprint"]) == 16  # type: ignore[index]
    assert numbers["context"]["command"].startswith("python -m mbapps task=detection")  # type: ignore[index]
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["epoch"] for row in rows if row["val_AP"]} == {"0", "1"}
    shown = (trained.parent / "stdout.txt").read_text()
    assert "AP50" in shown
    assert "report.html" in shown


def test_the_report_opens_offline(trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert page.count("data:image/jpeg") >= 8 + 8  # worst images of the test split, augmented samples
    assert page.count("<svg") >= 2  # curves, precision and recall


def test_the_model_folder_opens_without_hydra_or_lightning(trained: Path, tiny: Path) -> None:
    code = (
        "import sys, mbapps; model = mbapps.load(sys.argv[1]); found = model.predict(sys.argv[2], score_thresh=0.0)[0];"
        "print(len(found), sorted({'hydra', 'pytorch_lightning', 'albumentations'} & set(sys.modules)))"
    )
    picture = next((tiny / "test").glob("*.jpg"))
    shown = subprocess.run(
        [sys.executable, "-c", code, trained / "model", picture], capture_output=True, text=True, check=True
    )
    count, _, loaded = shown.stdout.strip().partition(" ")
    assert int(count) > 0
    assert loaded == "[]"


def test_the_bundle_knows_its_thresholds_numbers_and_lineage(trained: Path) -> None:
    facts = json.loads((trained / "model" / "model.json").read_text(encoding="utf-8"))
    head = facts["heads"]["detection"]
    assert len(head["thresholds"]) == len(head["class_names"]) >= 5
    assert head["metrics"]["AP"] == pytest.approx(results(trained)["AP"])
    assert facts["lineage"]["data"][0]["images"] == {"train": 24, "val": 8, "test": 8}
    assert "Intended use" in (trained / "model" / "CARD.md").read_text(encoding="utf-8")


def test_eval_gives_the_numbers_of_training(trained: Path, tiny: Path, cli: Cli) -> None:
    model = f"model={trained / 'model'}"
    folder = cli("eval", model, f"data.root={tiny}", "data.num_workers=0", "trainer.progress=false")
    numbers, before = results(folder), results(trained)
    for name in ("AP", "AP50", "AR100"):
        assert numbers[name] == pytest.approx(before[name], abs=2e-3)
    assert numbers["images"] == 8
    val = cli("eval", model, f"data.root={tiny}", "data.num_workers=0", "split=val", "trainer.progress=false")
    assert results(val)["AP"] == pytest.approx(before["val_AP"], abs=2e-3)
    assert (folder / "report.html").is_file()
    same = cli(
        "eval",
        model,
        f"data.root={tiny}",
        "data.num_workers=0",
        "trainer.progress=false",
        "task.metric.backend=pycocotools",
    )
    assert results(same)["AP"] == pytest.approx(numbers["AP"], abs=1e-12)


def test_eval_refuses_other_classes_and_splits(trained: Path, tiny: Path, cli: Cli, tmp_path: Path) -> None:
    annotations = json.loads((tiny / "annotations" / "instances_test.json").read_text())
    annotations["categories"][0]["name"] = "teapot"
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    (tmp_path / "set" / "annotations" / "instances_train.json").write_text(json.dumps(annotations))
    (tmp_path / "set" / "train").symlink_to(tiny / "test")
    with pytest.raises(ValueError, match=r"the classes of .* are \[.*teapot.*\], but the model .* has \["):
        cli("eval", f"model={trained / 'model'}", f"data.root={tmp_path / 'set'}", "data.test=train")
    with pytest.raises(ValueError, match="split must be val or test, got 'train'"):
        cli("eval", f"model={trained / 'model'}", f"data.root={tiny}", "split=train")


def test_predictions_of_all_scores_have_the_ap_of_eval(trained: Path, tiny: Path, cli: Cli) -> None:
    """coco_results.json is what anybody's COCO evaluation reads: here pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    model = f"model={trained / 'model'}"
    folder = cli("predict", model, f"source={tiny / 'test'}", "score_thresh=0", "draw=false")
    truth = COCO(tiny / "annotations" / "instances_test.json")
    found = json.loads((folder / "coco_results.json").read_text())
    ids = json.loads((folder / "predictions.json").read_text())["image_ids"]
    files = {number: Path(file).name for file, number in ids.items()}
    numbers = {image["file_name"]: image["id"] for image in truth.loadImgs(truth.getImgIds())}
    for row in found:
        file = files[row["image_id"]]  # this set numbers its files from 0, its images from 1
        row["image_id"] = numbers[file]
    head = mbapps.load(trained / "model").head_facts
    names = {category["id"]: category["name"] for category in truth.loadCats(truth.getCatIds())}
    assert [names[number] for number in head["category_ids"]] == head["class_names"]
    measure = COCOeval(truth, truth.loadRes(found), "bbox")
    measure.evaluate()
    measure.accumulate()
    measure.summarize()
    same = results(cli("eval", model, f"data.root={tiny}", "data.num_workers=0", "trainer.progress=false"))
    assert measure.stats[0] == pytest.approx(same["AP"], abs=1e-9)
    assert measure.stats[8] == pytest.approx(same["AR100"], abs=1e-9)
    assert same["AR100"] > 0  # type: ignore[operator]
    file = folder / "coco_results.json"  # the made-up ids are of other images: the file names decide
    scored = results(cli("eval", "task=detection", f"predictions={file}", f"data.root={tiny}"))
    for name in ("AP", "AP50", "AR100"):
        assert scored[name] == pytest.approx(same[name], abs=1e-9)


def test_info_needs_no_data(cli: Cli) -> None:
    numbers = results(cli("info", "task=detection", "data.num_classes=90"))
    assert numbers["params"] == 6_819_839
    assert numbers["macs"] == 1_237_129_408
    assert numbers["anchors"] == 1917


@pytest.mark.parametrize(("rho", "size"), [(0.857, 192), (0.714, 160), (0.571, 128)])
def test_rho_scales_the_image(cli: Cli, rho: float, size: int) -> None:
    words = ["info", "task=fine_grained", "data.num_classes=10"]
    assert (
        results(cli(*words, f"backbone.rho={rho}"))["macs"]
        == results(cli(*words, f"data.image_size={size}"))["macs"]
    )


def test_info_of_a_model_folder(cli: Cli, trained: Path) -> None:
    assert results(cli("info", f"model={trained / 'model'}"))["params"] == results(trained)["params"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info"], "info needs data.num_classes="),
        (["predict"], "predict needs model= and source="),
        (["eval"], "eval needs model="),
        (["info", "data.num_classes=0"], "data.num_classes must be >= 1, got 0"),
        (
            ["info", "data.num_classes=3", "data.image_size=16"],
            "data.image_size must be >= 32 for detection, got 16",
        ),
        (["info", "data.num_classes=3", "backbone.alpha=0"], "backbone.alpha must be > 0, got 0"),
        (["info", "data.num_classes=3", "backbone.rho=0"], "backbone.rho must be > 0, got 0"),
        (
            ["info", "data.num_classes=3", "backbone.rho=0.5", "data.image_size=64"],
            "both set the image size; give one",
        ),
    ],
)
def test_bad_settings(cli: Cli, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli(*words)


def test_a_used_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.doc").write_text("years of work")
    with pytest.raises(
        FileExistsError, match=r"out=.*used is not empty \(thesis\.doc\); name another folder"
    ):
        cli("info", "data.num_classes=3", f"out={tmp_path / 'used'}")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.doc"]


def test_convert_and_start_from_it(cli: Cli, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    torch.save(timm.create_model("mobilenetv1_100", num_classes=7).state_dict(), tmp_path / "weights.pth")
    (tmp_path / "names.txt").write_text("".join(f"breed {index}\n" for index in range(7)))
    folder = cli("convert", f"source={tmp_path / 'weights.pth'}", f"class_names={tmp_path / 'names.txt'}")
    answer = mbapps.load(folder / "model").predict(np.zeros((30, 40, 3), np.uint8))[0]
    assert {found["name"] for found in answer.to_json()} <= {f"breed {index}" for index in range(7)}
    assert mbapps.load(folder / "model").network.body.settings["padding"] == "symmetric"
    (tmp_path / "names.txt").write_text("one\n")
    with pytest.raises(ValueError, match=r"names\.txt names 1 classes, the weights have 7"):
        cli("convert", f"source={tmp_path / 'weights.pth'}", f"class_names={tmp_path / 'names.txt'}")


def test_weights_that_do_not_fit(cli: Cli, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["info", "data.num_classes=3", "data.image_size=64", f"backbone.weights={trained / 'model'}"]
    with pytest.raises(
        ValueError,
        match=r"stem\.conv\.weight is \(8, 3, 3, 3\) in the file, \(16, 3, 3, 3\) in the model.*backbone\.alpha=0\.25",
    ):
        cli(*words, "backbone.alpha=0.5")
    cli(*words, "backbone.alpha=0.25")


def test_training_on_from_a_model_folder(
    cli: Cli, trained: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.root={tiny}", *QUICK, "trainer.max_epochs=1", f"backbone.weights={trained / 'model'}"]
    folder = cli("train", *words, "task.lr=1e-9", "task.ema_decay=0", "task.freeze_bn=true")
    assert "the detection head is loaded too, with its 5 classes" in capsys.readouterr().out
    lineage = json.loads((folder / "model" / "model.json").read_text())["lineage"]
    assert lineage["weights"] == str(trained / "model")


@pytest.mark.slow
def test_a_sweep_ends_with_one_table_of_its_jobs(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "mbapps", "info", "-m", "data.num_classes=3", "data.image_size=64", "layers=false",
        "backbone.alpha=0.25,0,0.5", f"out={tmp_path / 'sweep'}",
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "2 jobs in" in shown.stdout, shown.stderr[-2000:]
    assert (
        "backbone.alpha must be > 0, got 0" in shown.stderr
    )  # the job in the middle fails, the others go on
    assert sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/results.json")) == ["0", "2"]


def test_a_logger_without_its_package_names_the_extra(
    cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("pytorch_lightning.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(
        ImportError, match=r"logger=wandb needs a package that is missing: pip install 'mbapps\[wandb\]'"
    ):
        cli("train", f"data.root={tiny}", *QUICK, "logger=wandb")


def test_a_head_of_other_classes_is_dropped_by_name(
    cli: Cli, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mbapps.deploy.bundle import Bundle
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.weights import read_weights
    from mbapps.starting import load_head
    from mbapps.tasks.detection import DetectionHead

    theirs = Bundle.open(trained / "model").network.head("detection")
    head = DetectionHead(MobileNetV1(alpha=0.25), ("a", "b"), 64)
    before = head.classes[0].weight.clone()
    said = load_head(head, "detection", read_weights(trained / "model"))
    assert "it has 5 classes, the data 2, with other names" in said
    assert torch.equal(head.classes[0].weight, before)
    assert torch.equal(head.boxes[0].weight, theirs.boxes[0].weight)
