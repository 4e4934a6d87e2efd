"""`mbapps predict` with networks that were never trained: what it reads, writes, tells and refuses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image

import mbapps
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.saving import describe, save_bundle
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.fine_grained import FineGrainedHead
from mbapps.video import Video

NAMES = ("WBC", "RBC", "traffic light")
IDS = [3, 1, 90]


def save(folder: Path, kind: type[Any], name: str, **facts: object) -> Path:
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25)
    initialise(body)
    head = kind(body, NAMES, 64)
    with torch.no_grad():
        for layer in getattr(head, "classes", ()):
            layer.weight.mul_(30)  # scores of all heights
    network = Network(body, {name: head}).eval()
    described = describe(network, {name: facts}, lineage={"data": [], "weights": None})
    return save_bundle(folder / name, network, described)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = {"thresholds": [0.3, 0.3, 0.3], "category_ids": IDS}
    return save(tmp_path_factory.mktemp("model"), DetectionHead, "detection", **facts)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"), FineGrainedHead, "fine_grained")


def noise(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height)), dtype=np.uint8)


def clip(path: Path, count: int, codec: str = "MJPG", fps: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    for index in range(count):
        writer.write(noise(index))
    writer.release()
    return path


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path)
    return path


def predictions(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "predictions.json").read_text(encoding="utf-8"))


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_images_become_json_and_pictures(detector: Path, cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    one = picture(photos / "IMG (1).jpg")
    picture(photos / "sub" / "a,b.png")
    (photos / "broken.jpg").write_text("no image")
    folder = cli("predict", f"model={detector}", f"source={photos}", "score_thresh=0.05", "batch_size=1")
    content = predictions(folder)
    assert content["model"] == str(detector)
    assert content["task"] == "detection"
    assert sorted(Path(name).name for name in content["images"]) == ["IMG (1).jpg", "a,b.png"]
    assert list(content["broken"]) == [str(photos / "broken.jpg")]
    boxes = [found["box"] for found in content["images"][str(one)]]
    assert boxes
    assert all(0 <= x1 <= x2 <= 64 and 0 <= y1 <= y2 <= 48 for x1, y1, x2, y2 in boxes)
    assert np.asarray(Image.open(folder / "pictures" / "IMG (1).jpg")).shape == (48, 64, 3)
    assert (folder / "pictures" / "sub" / "a,b.png").is_file()
    assert {name: results(folder)[name] for name in ("images", "videos", "frames", "broken")} == {
        "images": 2, "videos": 0, "frames": 0, "broken": 1,
    }  # fmt: skip
    plain = cli("predict", f"model={detector}", f"source={one}", "draw=false")
    assert not (plain / "pictures").exists()


def test_batches_do_not_change_the_answers(detector: Path, cli: Cli, tmp_path: Path) -> None:
    for index in range(7):
        picture(tmp_path / "photos" / f"{index}.png", index)
    (tmp_path / "photos" / "3.png").write_text("no image")
    words = [
        "predict",
        f"model={detector}",
        f"source={tmp_path / 'photos'}",
        "score_thresh=0.3",
        "draw=false",
    ]
    one, many = (predictions(cli(*words, f"batch_size={size}"))["images"] for size in (1, 4))
    assert list(one) == list(many)
    assert len(one) == 6
    for file in one:
        assert [found["name"] for found in one[file]] == [found["name"] for found in many[file]]
        np.testing.assert_allclose(
            [found["score"] for found in one[file]], [found["score"] for found in many[file]], atol=1e-4
        )


def test_a_video_becomes_json_and_a_drawn_video(detector: Path, cli: Cli, tmp_path: Path) -> None:
    source = clip(tmp_path / "walk.avi", 11)
    folder = cli("predict", f"model={detector}", f"source={source}", "score_thresh=0", "batch_size=4")
    found = predictions(folder)["videos"][str(source)]
    assert {key: found[key] for key in ("fps", "width", "height", "frame_step")} == {
        "fps": 10.0, "width": 64, "height": 48, "frame_step": 1,
    }  # fmt: skip
    assert [frame["frame"] for frame in found["frames"]] == list(range(11))
    assert [frame["seconds"] for frame in found["frames"]] == pytest.approx(np.arange(11) / 10)
    last = list(Video(source).frames())[-1]
    expected = mbapps.load(detector).predict(last.image, score_thresh=0)[0].to_json()
    assert [row["name"] for row in found["frames"][-1]["answers"]] == [row["name"] for row in expected]
    drawn = Video(folder / "videos" / "walk.mp4")
    assert (drawn.width, drawn.height, drawn.fps, drawn.count) == (64, 48, 10.0, 11)
    assert len(list(drawn.frames())) == 11
    assert not (folder / "coco_results.json").exists()
    assert results(folder)["frames"] == 11


def test_frame_step(detector: Path, cli: Cli, tmp_path: Path) -> None:
    source = clip(tmp_path / "walk.avi", 11)
    folder = cli("predict", f"model={detector}", f"source={source}", "frame_step=5")
    frames = predictions(folder)["videos"][str(source)]["frames"]
    assert [frame["frame"] for frame in frames] == [0, 5, 10]
    drawn = Video(folder / "videos" / "walk.mp4")
    assert (drawn.fps, drawn.count) == (2.0, 3)


def test_images_and_videos_good_and_bad(
    detector: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    picture(mixed / "000000000139.jpg")
    whole = clip(mixed / "a.avi", 6)
    same = clip(mixed / "a.mov", 6, "mp4v")
    cut = clip(mixed / "cut.avi", 60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (mixed / "empty.mp4").touch()
    (mixed / "text.mp4").write_text("hello")
    folder = cli("predict", f"model={detector}", f"source={mixed}")
    content = predictions(folder)
    assert list(content["videos"]) == [str(whole), str(same), str(cut)]
    assert list(content["broken"]) == [str(cut), str(mixed / "empty.mp4"), str(mixed / "text.mp4")]
    count = len(content["videos"][str(cut)]["frames"])
    assert 10 < count < 50
    assert f"{count} of the 60 frames" in content["broken"][str(cut)]
    assert {path.name: Video(path).count for path in (folder / "videos").iterdir()} == {
        "a.mp4": 6, "a_2.mp4": 6, "cut.mp4": count,
    }  # fmt: skip
    assert results(folder)["broken"] == 3
    shown = capsys.readouterr().out
    assert "text.mp4: no video that OpenCV can read" in shown
    assert "frames of videos have no image id" in shown


def test_nothing_can_be_read(detector: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"none of the 1 files of source=.*x\.jpg can be read: .*x\.jpg: "):
        cli("predict", f"model={detector}", f"source={tmp_path / 'x.jpg'}", f"out={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "predictions.json").exists()
    with pytest.raises(ValueError, match=r"none of the 1 files of source=.*x\.mp4: no video"):
        cli("predict", f"model={detector}", f"source={tmp_path / 'x.mp4'}")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images or videos at source=.*none; .*\.jpg.*\.mp4"):
        cli("predict", f"model={detector}", f"source={tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("names", "ids", "origin"),
    [
        (["COCO_val2014_000000000139.png", "COCO_val2014_000000000285.png"], [139, 285], "numbers that end"),
        (["cat.png", "dog.png"], [1, 2], "counted from 1"),
    ],
)
def test_coco_results(
    detector: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    names: list[str], ids: list[int], origin: str,
) -> None:  # fmt: skip
    for seed, name in enumerate(names):
        picture(tmp_path / "photos" / name, seed)
    words = ["predict", f"model={detector}", f"source={tmp_path / 'photos'}", "draw=false"]
    folder = cli(*words, "score_thresh=0")
    content = predictions(folder)
    assert list(content["image_ids"].values()) == ids
    rows = json.loads((folder / "coco_results.json").read_text())
    assert {row["image_id"] for row in rows} == set(ids)
    files = [(tmp_path / "photos" / name).as_posix() for name in names]
    assert {(row["image_id"], row["file_name"]) for row in rows} == set(zip(ids, files, strict=True))
    assert all(row["category_id"] == IDS[NAMES.index(row["category_name"])] for row in rows)
    assert {row["category_id"] for row in rows} <= set(IDS)
    first = [row for row in rows if row["image_id"] == ids[0]]
    answers = content["images"][str(tmp_path / "photos" / names[0])]
    assert [row["category_id"] for row in first] == [IDS[found["label"]] for found in answers]
    x, y, width, height = first[0]["bbox"]
    assert answers[0]["box"] == pytest.approx([x, y, x + width, y + height], abs=0.01)
    assert origin in capsys.readouterr().out
    kept = json.loads((cli(*words, "score_thresh=0.35") / "coco_results.json").read_text())
    assert 0 < len(kept) < len(rows)  # AP needs them all


def test_category_ids_count_from_one_where_the_model_does_not_know(cli: Cli, tmp_path: Path) -> None:
    model = save(tmp_path, DetectionHead, "detection")
    picture(tmp_path / "a.png")
    words = ["predict", f"model={model}", f"source={tmp_path / 'a.png'}", "draw=false"]
    rows = json.loads((cli(*words) / "coco_results.json").read_text())
    assert {row["category_id"] for row in rows} == {1, 2, 3}
    facts = json.loads((model / "model.json").read_text())
    facts["heads"]["detection"]["category_ids"] = [1, 2]
    (model / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"model\.json has 2 category_ids for 3 classes; it is damaged"):
        cli(*words)


def test_thresholds_by_class_name(detector: Path, cli: Cli, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    words = ["predict", f"model={detector}", f"source={tmp_path / 'a.png'}", "draw=false"]
    folder = cli(*words, "score_thresh={WBC:1.0,traffic light:0.0}")
    (answers,) = predictions(folder)["images"].values()
    assert {found["name"] for found in answers} == {"RBC", "traffic light"}
    assert min(found["score"] for found in answers if found["name"] == "RBC") >= 0.3
    assert min(found["score"] for found in answers if found["name"] == "traffic light") < 0.3


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batch_size=0", "batch_size must be a whole number >= 1, got 0"),
        ("batch_size=2.5", "batch_size must be a whole number >= 1, got 2.5"),
        ("frame_step=0", "frame_step must be a whole number >= 1, got 0"),
        ("score_thresh=1.01", r"score_thresh must lie in \[0, 1\], got 1\.01"),
        ("score_thresh={WBC:-1}", r"score_thresh must lie in \[0, 1\]"),
        (
            "score_thresh={cow:0.5}",
            "score_thresh names cow, but the model's classes are WBC, RBC, traffic light",
        ),
        ("score_thresh=[0.1,0.2]", r"score_thresh must be one number, 3 numbers \(one per class\)"),
    ],
)
def test_bad_settings(detector: Path, cli: Cli, tmp_path: Path, word: str, message: str) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        cli("predict", f"model={detector}", f"source={tmp_path / 'a.png'}", word)


def test_classes_of_a_video(classifier: Path, cli: Cli, tmp_path: Path) -> None:
    source = clip(tmp_path / "walk.avi", 3)
    picture(tmp_path / "1.png")
    folder = cli("predict", f"model={classifier}", f"source={tmp_path / '*'}")
    (frames,) = (video["frames"] for video in predictions(folder)["videos"].values())
    assert all(set(found) == {"label", "name", "score"} for frame in frames for found in frame["answers"])
    assert Video(folder / "videos" / "walk.mp4").count == 3
    assert not (folder / "coco_results.json").exists()
    with pytest.raises(ValueError, match="score_thresh is for boxes; the fine_grained head answers with"):
        cli("predict", f"model={classifier}", f"source={source}", "score_thresh=0.5")


def test_answers_stay_where_a_video_can_not_be_drawn(
    detector: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "walk.avi", 3)
    monkeypatch.setattr("mbapps.video.CODEC", "ZZZZ")
    folder = cli("predict", f"model={detector}", f"source={source}")
    content = predictions(folder)
    assert len(content["videos"][str(source)]["frames"]) == 3
    assert "OpenCV's ZZZZ encoder did not open" in content["broken"][str(source)]
    assert list((folder / "videos").iterdir()) == []


@pytest.mark.parametrize("kind", ["video", "images"])
def test_ctrl_c_leaves_whole_files(
    detector: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], kind: str,
) -> None:  # fmt: skip
    clip(tmp_path / "in" / "walk.avi", 20) if (tmp_path / "in").mkdir() or kind == "video" else None
    for index in range(20 if kind == "images" else 0):
        picture(tmp_path / "in" / f"{index:02}.png", index)
    predict, calls = Bundle.predict, 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return predict(*args, **kwargs)

    monkeypatch.setattr(Bundle, "predict", interrupted)
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        cli("predict", f"model={detector}", f"source={tmp_path / 'in'}", "batch_size=4", f"out={run}")
    assert stopped.value.code == 130
    assert "the files hold what was answered until then" in capsys.readouterr().err
    content = predictions(run)
    assert content["stopped"] is True
    if kind == "video":
        assert len(content["videos"][str(tmp_path / "in" / "walk.avi")]["frames"]) == 8
        assert len(list(Video(run / "videos" / "walk.mp4").frames())) == 8
    else:
        assert len(content["images"]) == len(list((run / "pictures").iterdir())) == 8
        assert json.loads((run / "coco_results.json").read_text())
    assert not [path for path in run.rglob(".*")]


def test_real_photos_in_a_video(detector: Path, cli: Cli, tmp_path: Path, test_data: Path) -> None:
    photos = sorted((test_data / "datasets" / "detection" / "coco128" / "images").rglob("*.jpg"))[:4]
    with Image.open(photos[0]) as first:
        size = first.size
    path = tmp_path / "photos.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 5, size)
    for photo in photos:
        writer.write(cv2.resize(cv2.imread(str(photo)), size))
    writer.release()
    folder = cli("predict", f"model={detector}", f"source={path}", "score_thresh=0.9")
    pairs = zip(Video(path).frames(), Video(folder / "videos" / "photos.mp4").frames(), strict=True)
    assert all(np.abs(before.image.astype(int) - drawn.image).mean() < 12 for before, drawn in pairs)


def test_python_takes_the_frames_of_a_video(detector: Path, tmp_path: Path) -> None:
    model = mbapps.load(detector)
    frames = list(Video(clip(tmp_path / "a.avi", 3)).frames())
    many = model.predict([frame.image for frame in frames], score_thresh=0)
    assert len(many) == 3
    bgr = np.ascontiguousarray(frames[0].image[..., ::-1])
    (one,) = model.predict(bgr[..., ::-1], score_thresh={"WBC": 0, "RBC": 0, "traffic light": 0})
    np.testing.assert_allclose(one.scores, many[0].scores, atol=1e-4)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        model.predict(bgr, batch_size=0)
