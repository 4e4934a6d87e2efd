"""Answers scored without a model, on published numbers; a model's answers written and scored again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli

from mbapps.deploy.saving import describe, save_bundle
from mbapps.metrics.coco import BACKENDS, NUMBERS
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead

PUBLISHED = {
    "AP": 0.5045806987249628, "AP50": 0.6969727247299577, "AP75": 0.5729816669904824,
    "APs": 0.5856257209410443, "APm": 0.5193996948036719, "APl": 0.5013978986347466,
    "AR1": 0.38681277964578054, "AR10": 0.5936795762842003, "AR100": 0.595352982877607,
    "ARs": 0.6398109626113442, "ARm": 0.5664205978994309, "ARl": 0.5642905982905982,
}  # fmt: skip
ROOT = Path(__file__).parent.parent.parent
QUIET = ("data.num_workers=0", "trainer.progress=false", "trainer.accelerator=cpu")


def results(folder: Path) -> dict[str, object]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def answers(tiny: Path, tmp_path: Path) -> Path:
    """Of the tiny set's test split: every second box, right, and one in three of those under a wrong name."""
    content = json.loads((tiny / "annotations" / "instances_test.json").read_text())
    categories = [category["id"] for category in content["categories"]]
    entries = [
        {
            "image_id": item["image_id"],
            "category_id": categories[0] if number % 3 == 0 else item["category_id"],
            "bbox": item["bbox"],
            "score": 0.9 - number / 1000,
        }
        for number, item in enumerate(content["annotations"][::2])
    ]
    path = tmp_path / "answers (1).json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """An untrained model that knows the tiny set's classes."""
    content = json.loads((tiny / "annotations" / "instances_test.json").read_text())
    names = tuple(category["name"] for category in sorted(content["categories"], key=lambda item: item["id"]))
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25)
    initialise(body)
    head = DetectionHead(body, names, 96, score_thresh=0.0)
    facts = {"detection": {"thresholds": [0.2] * len(names)}}
    network = Network(body, {"detection": head}).eval()
    return save_bundle(
        tmp_path / "model", network, describe(network, facts, lineage={"data": [], "weights": None})
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_published_numbers(test_data: Path, cli: Cli, backend: str) -> None:
    folder = test_data / "datasets/detection/coco_eval"
    out = cli(
        "eval", "task=detection", f"predictions={folder / 'instances_val2014_fakebbox100_results.json'}",
        f"data.annotations={folder / 'instances_val2014_100.json'}", f"task.metric.backend={backend}",
    )  # fmt: skip
    numbers = results(out)
    assert {name: numbers[name] for name in NUMBERS} == pytest.approx(PUBLISHED, rel=0, abs=1e-12)
    assert (numbers["images"], numbers["answers"], numbers["answers_skipped"]) == (100, 734, 0)
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in ("By class", "Precision and recall", "Confusion", "Largest confusions", "Right and wrong"):
        assert f"<h2>{title}" in page
    assert page.count("data:image/jpeg") == 12  # on grey canvases


@pytest.mark.parametrize("place", ["data.annotations={}/annotations/instances_test.json", "data.root={}"])
def test_a_file_is_scored_without_torch(place: str, tiny: Path, answers: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from mbapps.__main__ import main\n"
        "main()\n"
        "print(sorted({'torch', 'pytorch_lightning', 'albumentations'} & set(sys.modules)))"
    )
    words = [
        "eval", f"predictions={answers}", place.format(tiny), f"out={tmp_path / 'out'}",
    ]  # fmt: skip
    shown = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert shown.stdout.strip().splitlines()[-1] == "[]"
    assert "AP50" in shown.stdout


def test_a_folder_gives_the_same_truth(
    tiny: Path, answers: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = cli(
        "eval", f"predictions={answers}", f"data.annotations={tiny / 'annotations/instances_test.json'}"
    )
    folder = cli("eval", f"predictions={answers}", f"data.root={tiny}")
    assert {name: results(alone)[name] for name in NUMBERS if name in results(alone)} == {
        name: results(folder)[name] for name in NUMBERS if name in results(folder)
    }
    assert 0.1 < results(folder)["AP"] < 0.6  # type: ignore[operator]
    assert "answers (1).json against" in (folder / "report.html").read_text(encoding="utf-8")
    context = results(folder)["context"]
    assert context["data"]["images"] == 8  # type: ignore[index]
    assert "device" in context  # type: ignore[operator]


def test_another_set_of_images_is_refused_and_a_larger_one_told(
    tiny: Path, answers: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((tiny / "annotations" / "instances_test.json").read_text())
    kept = content["images"][:3]
    ids = {image["id"] for image in kept}
    part = content | {
        "images": kept,
        "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
    }
    (tmp_path / "part.json").write_text(json.dumps(part))
    out = cli("eval", f"predictions={answers}", f"data.annotations={tmp_path / 'part.json'}")
    assert results(out)["images"] == 3
    assert results(out)["answers_skipped"] > 0  # type: ignore[operator]
    assert (
        "x image_id in the results that the truth does not list, its boxes skipped: "
        in capsys.readouterr().out
    )
    moved = [dict(entry, image_id=entry["image_id"] + 10**9) for entry in json.loads(answers.read_text())]
    answers.write_text(json.dumps(moved))
    with pytest.raises(ValueError, match="no image_id is one of the truth's"):
        cli("eval", f"predictions={answers}", f"data.root={tiny}")


def test_no_answer_at_all_is_zero(
    tiny: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.json").write_text("[]")
    out = cli("eval", f"predictions={tmp_path / 'empty.json'}", f"data.root={tiny}")
    assert results(out)["AP"] == results(out)["AR100"] == 0
    assert "results file without a single box" in capsys.readouterr().out


def test_a_model_scored_by_its_own_file(model: Path, tiny: Path, cli: Cli) -> None:
    words = ["eval", f"model={model}", f"data.root={tiny}", *QUIET, "save_predictions=true"]
    first = cli(*words, "score_thresh=0.1")
    file = first / "coco_results.json"
    for truth in (f"data.root={tiny}", f"data.annotations={tiny / 'annotations/instances_test.json'}"):
        second = cli("eval", f"predictions={file}", truth, "score_thresh=0.1")
        before, after = results(first), results(second)
        names = [name for name in before if name in NUMBERS or name.startswith("AP/")]
        assert {name: after[name] for name in names} == pytest.approx(
            {name: before[name] for name in names}, rel=0, abs=1e-12
        )
        assert before["AR100"] > 0  # type: ignore[operator]
        pages = [(folder / "report.html").read_text(encoding="utf-8") for folder in (first, second)]
        tables = [page[page.index("<h2>Right and wrong") : page.index("<h2>Worst images")] for page in pages]
        assert tables[0] == tables[1]
    assert not (cli(*words[:-1]) / "coco_results.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "eval needs model= or predictions=, got neither"),
        (["model=MODEL", "predictions=x.json"], "eval needs model= or predictions=, got both"),
        (["predictions=x.json"], "predictions= needs the truth: data.annotations=<COCO json> or data.root=<folder>"),
        (["predictions=x.csv", "data.root=ROOT"], r"predictions=x\.csv must be a \.json file for task=detection"),
        (["predictions=x.json", "task=fine_grained"], "for task=detection and task=face_embed, not task=fine_grained"),
        (
            ["predictions=x.json", "data.root=ROOT", "save_predictions=true"],
            "save_predictions=true goes with model=; predictions= is such a file already",
        ),
        *(
            (["predictions=x.json", "data.root=ROOT", word], "runtime=, precision= and runtime_file= go with model=")
            for word in ("runtime=abacus", "precision=int3", "runtime_file=x.onnx")
        ),
        (["predictions=x.json", "data.root=ROOT", "score_thresh=high"], "score_thresh must be a number or null"),
        (["predictions=x.json", "data.root=ROOT", "score_thresh=nan"], "must be a number or null, got nan"),
        (["predictions=x.json", "data.root=ROOT", "split=train"], "split must be val or test, got 'train'"),
        (
            ["predictions=x.json", "data.annotations=a.json", "data.test=b.json"],
            r"data\.annotations=a\.json and data\.test=b\.json both name the truth; leave one out",
        ),
    ],
)  # fmt: skip
def test_bad_settings(cli: Cli, model: Path, tiny: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli("eval", *(word.replace("MODEL", str(model)).replace("ROOT", str(tiny)) for word in words))


def test_missing_files(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no results file at predictions=.*none\.json"):
        cli("eval", f"predictions={tmp_path / 'none.json'}", f"data.root={tiny}")
    with pytest.raises(FileNotFoundError, match=r"no file at data\.annotations=.*none\.json"):
        cli("eval", f"predictions={tmp_path / 'none.json'}", f"data.annotations={tmp_path / 'none.json'}")


def test_pictures_are_drawn_where_there_are_any(tiny: Path) -> None:
    from mbapps.data.coco import read_coco
    from mbapps.images import GREY
    from mbapps.truth import Truth

    path = tiny / "annotations" / "instances_test.json"
    there = Truth(read_coco(path, tiny / "test", clean=False), path)
    away = Truth(read_coco(path, None, clean=False), path)
    row = int(np.diff(there.table.starts).argmax())
    photo, drawn = there.picture("test", row)
    canvas, outlined = away.picture("test", row)
    assert photo.shape == canvas.shape == drawn.shape == outlined.shape
    assert photo.std() > 20
    assert (canvas == GREY).mean() > 0.9
    assert (canvas != GREY).any()  # the words "no picture"
    assert (outlined != canvas).any()
    away.table.sizes[:] = 0
    height, width = away.picture("test", row)[0].shape[:2]
    assert height >= away.table.boxes[away.table.rows(row), 3].max()
    assert width >= away.table.boxes[away.table.rows(row), 2].max()
    away.table.sizes[:] = 2**31 - 1
    assert away.picture("test", row)[0].shape == (8000, 8000, 3)
    away.table.boxes[away.table.rows(row).start] = np.nan
    away.table.sizes[:] = 0
    away.picture("test", row)


def test_pictures_of_a_lone_json_are_found(tiny: Path, answers: Path, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "instances_test.json"
    path.write_text((tiny / "annotations" / "instances_test.json").read_text())
    words = ("eval", f"predictions={answers}", f"data.annotations={path}")
    sizes = {
        name: (cli(*words, *more) / "report.html").stat().st_size
        for name, more in {
            "none": (), "root": (f"data.root={tiny}",), "images": (f"data.images={tiny / 'test'}",),
            "module": (f"data.root={tiny}", "data.format=coco"),
        }.items()
    }  # fmt: skip
    assert (
        min(sizes["root"], sizes["images"], sizes["module"]) > sizes["none"] + 20_000
    )  # photographs take room


def test_a_truth_has_a_fingerprint(tiny: Path) -> None:
    from mbapps.data.coco import read_coco
    from mbapps.truth import Truth

    path = tiny / "annotations" / "instances_test.json"
    one, other = (Truth(read_coco(path, None, clean=False), path) for _ in range(2))
    assert one.lineage() == other.lineage()
    assert one.lineage()["name"] == "instances_test.json"
    other.table.boxes[0, 0] += 1
    assert one.lineage()["fingerprint"] != other.lineage()["fingerprint"]
