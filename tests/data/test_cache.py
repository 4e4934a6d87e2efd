from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mbapps.batches import COLUMNS, BoxTable
from mbapps.data import cache, coco
from mbapps.data.coco import read_coco
from mbapps.data.detection_samples import DetectionCollate, DetectionDataset
from mbapps.metrics.coco import BACKENDS, CocoMetric
from mbapps.predictions import Detections

ROOT = Path(__file__).parent.parent.parent
Content = dict[str, Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data home of its own, where every annotations file counts as large."""
    monkeypatch.setattr(cache, "WORTH_KEEPING", 1)
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path / "home"))
    return tmp_path / "home" / "cache"


@pytest.fixture
def content() -> Content:
    """Three images in two folders, one without boxes, and one of each thing that is told."""
    return {
        "images": [
            {"id": 7, "file_name": "c.png", "height": 60, "width": 80},
            {"id": 2, "file_name": "sub/a.png", "height": 60, "width": 80},
            {"id": 5, "file_name": "elsewhere/b.png"},
        ],
        "categories": [{"id": 9, "name": "müll"}, {"id": 4, "name": "sign"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [0.1, 0.2, 10.3, 20.7], "iscrowd": 1},
            {"id": 2, "image_id": 2, "category_id": 4, "bbox": [1 / 3, 2, 30, 4], "area": 7.1},
            {"id": 3, "image_id": 7, "category_id": 4, "bbox": [70, 50, 30, 30]},
            {"id": 4, "image_id": 7, "category_id": 4, "bbox": [7, 5, 0, 3]},
            {"id": 5, "image_id": 8, "category_id": 4, "bbox": [7, 5, 1, 3]},
            {"id": 6, "image_id": 7, "category_id": 4},
        ],
    }


@pytest.fixture
def path(tmp_path: Path, content: Content) -> Path:
    """The json beside its pictures."""
    for name in ("c.png", "sub/a.png", "b.png", "extra.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / name), np.full((60, 80, 3), len(name), dtype=np.uint8))
    (tmp_path / "set" / "a.json").write_text(json.dumps(content))
    return tmp_path / "set" / "a.json"


def read(path: Path, monkeypatch: pytest.MonkeyPatch, *, clean: bool = True) -> tuple[BoxTable, bool]:
    """Read with the pictures, and tell whether the json was decoded."""
    decoded: list[Path] = []

    def load(source: Path) -> Any:
        decoded.append(source)
        return real(source)

    real = coco._load
    with monkeypatch.context() as patch:
        patch.setattr(coco, "_load", load)
        return read_coco(path, path.parent, clean=clean), bool(decoded)


def plain(path: Path, monkeypatch: pytest.MonkeyPatch, *, clean: bool = True) -> BoxTable:
    """Read as a small file is."""
    with monkeypatch.context() as patch:
        patch.setattr(cache, "WORTH_KEEPING", 2**60)
        return read_coco(path, path.parent, clean=clean)


def assert_same(one: BoxTable, other: BoxTable) -> None:
    for name in COLUMNS:
        assert getattr(one, name).dtype == getattr(other, name).dtype
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    for name in ("folder", "class_names", "category_ids", "problems"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("clean", [True, False])
def test_what_was_kept_equals_what_was_read(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    wanted = plain(path, monkeypatch, clean=clean)
    assert not home.exists()
    assert len(wanted.problems) == (5 if clean else 3)
    first, decoded = read(path, monkeypatch, clean=clean)
    assert decoded
    second, decoded = read(path, monkeypatch, clean=clean)
    assert not decoded
    for table in (first, second):
        assert_same(table, wanted)
        assert table.columns
    assert len(list(home.iterdir())) == 1


def test_what_is_told_later_is_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = read(path, monkeypatch)
    table.problems["new"] = ["told of this run only"]
    assert "new" not in read(path, monkeypatch)[0].problems


def test_small_files_leave_nothing(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_KEEPING", path.stat().st_size + 1)
    assert read(path, monkeypatch)[0].columns is None
    assert not home.parent.exists()


def test_a_changed_file_is_read_anew(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text()
    read(path, monkeypatch)
    os.utime(path, ns=(1, 1))
    assert read(path, monkeypatch)[1]
    longer = text.replace('"sign"', '"signs"')
    path.write_text(longer)
    os.utime(path, ns=(1, 1))
    table, decoded = read(path, monkeypatch)
    assert decoded
    assert table.class_names == ("signs", "müll")
    path.write_text(longer.replace('"signs"', '"lamps"'))  # as many bytes, and the time set back
    os.utime(path, ns=(1, 1))
    assert read(path, monkeypatch)[0].class_names == ("lamps", "müll")
    assert not read(path, monkeypatch)[1]
    assert len(list(home.iterdir())) == 1  # the older ones were replaced


def test_another_reader_reads_anew(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(path, monkeypatch)
    monkeypatch.setattr(coco, "VERSION", coco.VERSION + 1)
    assert read(path, monkeypatch)[1]
    assert not read(path, monkeypatch)[1]
    assert len(list(home.iterdir())) == 1


def test_other_arguments_have_files_of_their_own(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, clean in enumerate((True, False), start=1):
        assert read(path, monkeypatch, clean=clean)[1]
        assert len(list(home.iterdir())) == number
    assert len(read_coco(path)) == 3
    assert len(list(home.iterdir())) == 3
    monkeypatch.chdir(path.parent)
    assert read(Path("a.json"), monkeypatch)[0].folder == Path()  # the same set, called otherwise
    assert len(list(home.iterdir())) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "c.png").unlink(),
        lambda folder: (folder / "sub" / "a.png").unlink(),
        lambda folder: (folder / "more.png").touch(),
        lambda folder: (folder / "b.png").rename(folder / "d.png"),
        lambda folder: (folder / "elsewhere").mkdir() or (folder / "elsewhere" / "b.png").touch(),
    ],
)
def test_a_changed_folder_is_looked_at_anew(path: Path, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    before, _ = read(path, monkeypatch)
    change(path.parent)
    table, _ = read(path, monkeypatch)
    assert_same(table, plain(path, monkeypatch))
    assert (table.files.tolist(), table.problems) != (before.files.tolist(), before.problems)


def test_what_is_gone_is_told_although_it_was_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(path, monkeypatch)
    read_coco(path)
    path.parent.rename(path.parent.parent / "moved")
    with pytest.raises(FileNotFoundError, match=r"no annotations at .*a\.json"):
        read_coco(path)
    path.parent.mkdir()
    (path.parent.parent / "moved" / "a.json").rename(path)
    with pytest.raises(FileNotFoundError, match=r"none of the 3 images of .*a\.json"):
        read(path, monkeypatch)


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "no table"])
def test_a_damaged_file_is_replaced(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    read(path, monkeypatch)
    (kept,) = home.iterdir()
    sound = kept.read_bytes()
    if damage == "no table":
        cache.write_columns(kept, {"a": np.arange(3)})
    else:
        cut = {"empty": 0, "half": len(sound) // 2, "flipped": len(sound) - 9}[damage]
        kept.write_bytes(sound[:cut] + (b"?" + sound[cut + 1 :] if damage == "flipped" else b""))
    table, decoded = read(path, monkeypatch)
    assert decoded
    assert_same(table, plain(path, monkeypatch))
    assert not read(path, monkeypatch)[1]


def test_a_place_that_can_not_be_written_is_told(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.parent.write_text("no folder")
    wanted = plain(path, monkeypatch)
    for _ in range(2):
        table, decoded = read(path, monkeypatch)
        assert decoded
        (place,) = table.problems.pop(cache.NOT_KEPT)
        assert place.startswith(f"{home}: ")
        assert_same(table, wanted)


def test_a_full_disk_is_told_and_leaves_nothing(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    table, _ = read(path, monkeypatch)
    assert table.problems[cache.NOT_KEPT] == [f"{home}: [Errno 28] No space left on device"]
    assert list(home.iterdir()) == []


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coco._load

    def load(source: Path) -> Any:
        content = real(source)
        source.write_text(source.read_text().replace('"sign"', '"lamp"'))
        return content

    with monkeypatch.context() as patch:
        patch.setattr(coco, "_load", load)
        assert read_coco(path, path.parent).class_names == ("sign", "müll")
    assert not home.exists()
    assert read(path, monkeypatch)[0].class_names == ("lamp", "müll")


def test_processes_that_build_at_once_do_not_hurt_each_other(path: Path, home: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from mbapps.data import cache; from mbapps.data.coco import read_coco\n"
        "cache.WORTH_KEEPING = 1; path = Path(sys.argv[1]); sys.stdin.readline()\n"
        "for _ in range(50):\n"
        "    table = read_coco(path, path.parent)\n"
        "    assert table.boxes[1].tolist() == [70, 50, 80, 60], table\n"
        "    [file.unlink(missing_ok=True) for file in Path(sys.argv[2]).glob('*.safetensors')]\n"
    )
    command = [sys.executable, "-c", code, str(path), str(home)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers


def test_metrics_count_the_same_on_what_was_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(path, monkeypatch)
    numbers = []
    for table in (plain(path, monkeypatch), read(path, monkeypatch)[0]):
        boxes = table.boxes.astype(np.float32) + 1
        found = [
            Detections(
                boxes[rows],
                np.full(len(boxes[rows]), 0.9, np.float32),
                table.labels[rows].astype(np.int64),
                table.class_names,
            )
            for rows in map(table.rows, range(len(table)))
        ]
        for backend in BACKENDS:
            metric = CocoMetric(table, backend=backend)
            metric.update(range(len(table)), found)
            numbers.append({name: value for name, value in metric.compute().items() if value == value})
            assert len(metric.best_thresholds()) == 2
            assert len(metric.worst(3, 0.5)) == 3
    assert numbers[0]["AP50"] == 1
    for other in numbers[1:]:
        assert other == pytest.approx(numbers[0], abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_what_was_kept(path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    read(path, monkeypatch)
    table, _ = read(path, monkeypatch)
    keys = [(0, row) for row in range(len(table))]
    batches = []
    for workers in ({"num_workers": 0}, {"num_workers": 1, "multiprocessing_context": method}):
        dataset = DetectionDataset(table, 32, None, 0)
        loader: Any = DataLoader(dataset, 3, sampler=keys, collate_fn=DetectionCollate(32), **workers)  # type: ignore[arg-type]
        batches += list(loader)
    assert len(batches) == 2
    assert all(torch.equal(one, other) for one, other in zip(batches[0][:5], batches[1][:5], strict=True))
