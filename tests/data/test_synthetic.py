from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import coco_splits

from mbapps.data.coco import read_coco
from mbapps.data.detection import DetectionData
from mbapps.data.synthetic import (
    CLASS_NAMES,
    LEAST_VISIBLE,
    OUTLINES,
    Scene,
    render_scene,
    synthetic_name,
    synthetic_root,
    write_detection,
)
from mbapps.images import read_image

COUNTS = {"train": 3, "val": 2, "test": 1}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(0, "train", index) for index in range(240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detection(tmp_path_factory.mktemp("synthetic") / "set", **COUNTS)


def test_truth_fits_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.image.shape[:2]
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert scene.image.dtype == np.uint8
        assert len(scene.boxes) <= 8
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= [width, height]).all()
        assert (sides > 0).all()
        assert (scene.areas > 0).all()
        assert (scene.areas <= sides.prod(axis=1)).all()
        assert ((scene.labels >= 0) & (scene.labels < len(CLASS_NAMES))).all()
        assert ((scene.visible >= LEAST_VISIBLE) & (scene.visible <= 1)).all()


def test_it_is_as_hard_as_promised(scenes: list[Scene]) -> None:
    sizes = np.array([scene.image.shape[:2] for scene in scenes for _ in scene.boxes])
    boxes = np.concatenate([scene.boxes for scene in scenes])
    at_300 = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * 300**2 / sizes.prod(axis=1)
    counts = np.array([len(scene.boxes) for scene in scenes])
    classes = np.bincount(np.concatenate([scene.labels for scene in scenes]), minlength=len(CLASS_NAMES))
    assert len(CLASS_NAMES) == 5
    assert 0.18 < np.mean(at_300 < 32**2) < 0.32
    assert 0.14 < np.mean(np.concatenate([scene.visible for scene in scenes]) < 0.95) < 0.27
    assert 0.05 < np.mean(counts == 0) < 0.16
    assert 2.5 < counts.mean() < 5
    assert classes.min() > 0.7 * classes.mean()


def test_colour_does_not_tell_the_class(scenes: list[Scene]) -> None:
    colours: list[list[np.ndarray]] = [[] for _ in CLASS_NAMES]
    for scene in scenes:
        for (x1, y1, x2, y2), label in zip(scene.boxes, scene.labels, strict=True):
            colours[label].append(scene.image[y1:y2, x1:x2].mean(axis=(0, 1)))
    means = np.array([np.mean(values, axis=0) for values in colours])
    spread = np.mean([np.std(values, axis=0) for values in colours])
    assert spread > 25
    assert means.std(axis=0).max() < spread / 2


def test_the_same_seed_gives_the_same_picture() -> None:
    first, second = render_scene(3, "val", 5), render_scene(3, "val", 5)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.boxes, second.boxes)
    others = [render_scene(4, "val", 5), render_scene(3, "test", 5), render_scene(3, "val", 6)]
    assert not any(np.array_equal(first.image, other.image) for other in others)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_outlines_lie_in_their_square(name: str) -> None:
    for seed in range(20):
        for part in OUTLINES[name](np.random.default_rng(seed)):
            for contour in part:
                assert contour.ndim == 2
                assert contour.shape[1] == 2
                assert np.isfinite(contour).all()
                assert np.abs(contour).max() <= 1.01


def test_the_coco_reader_reads_it_back(folder: Path) -> None:
    splits = coco_splits(folder)
    assert list(splits) == ["test", "train", "val"]
    for split, count in COUNTS.items():
        table = read_coco(*splits[split])
        assert len(table) == count
        assert table.class_names == CLASS_NAMES
        assert table.problems == {}
        for row in range(count):
            scene, rows = render_scene(0, split, row), table.rows(row)
            assert np.array_equal(table.boxes[rows], scene.boxes)
            assert np.array_equal(table.labels[rows], scene.labels)
            assert np.array_equal(table.areas[rows], scene.areas)
            image = read_image(table.folder / str(table.files[row]))
            assert image.shape == scene.image.shape
            assert np.abs(image.astype(int) - scene.image).mean() < 8  # JPEG, and red is still red


def test_it_carries_its_licence(folder: Path) -> None:
    assert DetectionData(root=str(folder), image_size=32).lineage()["licence"] == "Apache-2.0"


def test_a_complete_folder_is_reused(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_detection(folder, **COUNTS) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="holds something other than the synthetic set .*'seed': 1"):
        write_detection(folder, seed=1, **COUNTS)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(FileExistsError, match="remove it"):
        write_detection(tmp_path, **COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.imwrite", lambda *arguments: False)
    with pytest.raises(OSError, match=r"can't write .*000000\.jpg"):
        write_detection(tmp_path / "set", **COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path / "mine"))
    folder = synthetic_root("detection", train=1, val=1, test=1)
    assert folder.parent == tmp_path / "mine" / "synthetic"
    assert json.loads((folder / "complete.json").read_text())["train"] == 1
    monkeypatch.delenv("MBAPPS_DATA")
    monkeypatch.chdir(tmp_path)
    assert synthetic_root("detection", train=1, val=1, test=1).parent == Path("datasets/synthetic")
    assert synthetic_name("detection") == folder.name.replace("1-1-1", "600-80-80")


def test_a_task_without_a_synthetic_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no synthetic set for task=weather, only for detection"):
        synthetic_root("weather")
