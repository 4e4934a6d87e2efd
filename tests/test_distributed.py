"""Two gloo processes: one run folder, each image counted once, and the number of a single process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK
from several import NARROW, words

from mbapps.data.synthetic import write_detection
from mbapps.data.synthetic_faces import write_faces
from mbapps.data.synthetic_landscapes import write_landscapes
from mbapps.data.synthetic_textures import write_textures
from mbapps.search.gallery import Gallery


def run(*words: str, cwd: Path) -> None:
    shown = subprocess.run([sys.executable, "-m", "mbapps", *words], capture_output=True, text=True, cwd=cwd)
    assert shown.returncode == 0, shown.stderr[-3000:]


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """The preset of Table 13, stopped after an epoch and gone on with, by two processes."""
    # odd counts, so that one process has an image more, and with these batches a step more, than the other
    root = write_detection(tmp_path / "set", train=23, val=9, test=1)
    ids = tmp_path / "ids.txt"
    images = json.loads((root / "annotations" / "instances_train.json").read_text())["images"]
    ids.write_text("".join(f"{image['id']}\n" for image in images[:9]))
    words = [
        f"data.root={root}", "data.num_workers=0", "trainer.progress=false", "trainer.accelerator=cpu",
        "experiment=table13", "data.train=[train]", f"data.test_ids={ids}",
    ]  # fmt: skip
    two = [*words, "trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4"]
    folder = tmp_path / "runs" / "train"
    run("train", *two, *QUICK[:2], "trainer.max_epochs=1", f"out={folder}", cwd=tmp_path)
    run(f"resume={folder}", "trainer.max_epochs=3", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["train"]
    assert (folder / "report.html").is_file()
    trained = json.loads((folder / "results.json").read_text())
    assert trained["epochs"] == 3
    assert trained["context"]["data"]["images"]["test"] == 9

    model = f"model={folder / 'model'}"
    run("eval", model, *words, f"out={tmp_path / 'runs' / 'one'}", cwd=tmp_path)
    run("eval", model, *two, f"out={tmp_path / 'runs' / 'two'}", cwd=tmp_path)
    one, both = (
        json.loads((tmp_path / "runs" / name / "results.json").read_text()) for name in ("one", "two")
    )
    assert one["images"] == both["images"] == 9
    assert one["AR100"] > 0
    for name in ("AP", "AP50", "AR100"):
        assert both[name] == pytest.approx(one[name], abs=1e-6)
        assert trained[name] == pytest.approx(one[name], abs=1e-6)


@pytest.mark.slow
def test_two_processes_place_photos(tmp_path: Path) -> None:
    """The geo-index is written once, by both, and the fitted numbers are those of all photos."""
    root = write_landscapes(tmp_path / "set", train=41, val=31, test=23)
    words = [
        "task=geo", f"data.root={root}", "data.num_workers=0", "trainer.progress=false", "trainer.accelerator=cpu",
        "data.cells.max_photos=10", "data.cells.min_photos=1",
    ]  # fmt: skip
    two = [*words, "trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4", *QUICK[:2]]
    folder = tmp_path / "train"
    run("train", *two, "trainer.max_epochs=1", f"out={folder}", cwd=tmp_path)
    gallery = Gallery.open(folder / "geo_index")
    assert len(gallery) == 41
    assert not (folder / "geo_index.shards").exists()
    run("eval", f"model={folder / 'model'}", *words, f"out={tmp_path / 'one'}", cwd=tmp_path)
    trained, alone = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("train", "one"))
    for name in ("median_error_km", "coverage", "share_within_2500_km"):
        assert trained[f"method_{name}/cells"] == pytest.approx(alone[name], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["each", "one"])
def test_two_processes_train_several_heads(tmp_path: Path, draw: str) -> None:
    """Each image is counted once for its own head, and both processes end with the same model."""
    roots = {
        "fine_grained": write_textures(tmp_path / "textures", train=33, val=17, test=17),
        "face_attr": write_faces(tmp_path / "faces", train=31, val=23, test=23),
    }
    mine = [word for word in words(roots) if not word.startswith("heads=[")]
    two = [
        *words(roots),
        NARROW,
        "trainer.devices=2",
        "trainer.strategy=ddp",
        f"draw={draw}",
        "norm=per_task",
    ]
    folder = tmp_path / "train"
    run("train", *two, f"out={folder}", cwd=tmp_path)
    run("eval", f"model={folder / 'model'}", *mine[1:], f"out={tmp_path / 'one'}", cwd=tmp_path)
    trained, alone = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("train", "one"))
    assert alone["images"] == 40
    for name in ("fine_grained_top1", "fine_grained_nll", "face_attr_mean_AP"):
        assert trained[name] == pytest.approx(alone[name], abs=1e-6)
