from __future__ import annotations

import errno
import json
import pickle
import sys
from pathlib import Path

import model_files
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mbapps
from mbapps.deploy import saving
from mbapps.deploy.bundle import Bundle, pick_device
from mbapps.deploy.head_classes import class_name
from mbapps.deploy.saving import describe, fingerprint, save_bundle, save_facts
from mbapps.images import BrokenImageError
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.tasks.detection import DetectionHead

NAMES = ("cat", "dög", "owl <b>")


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25, padding="symmetric", mean=(1, 2, 3), std=(50, 60, 70))
    initialise(body)
    for layer in body.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
    return Network(body, {"detection": DetectionHead(body, NAMES, 96, score_thresh=0.1)}).eval()


@pytest.fixture
def folder(network: Network, tmp_path: Path) -> Path:
    facts = describe(
        network, {"detection": {"thresholds": [0.2, 0.3, 0.4]}}, lineage={"data": [], "weights": None}
    )
    return save_bundle(tmp_path / "model", network, facts)


def photo(seed: int = 0, height: int = 70, width: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def edit(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    facts["heads"]["detection"] |= changes
    (folder / "model.json").write_text(json.dumps(facts))


def test_a_bundle_answers_as_the_network_did(network: Network, folder: Path) -> None:
    opened = mbapps.load(folder)
    images = torch.from_numpy(photo(0, 96, 96)).permute(2, 0, 1)[None]
    with torch.no_grad():
        before, after = network(images)["detection"], opened.network(images)["detection"]
    for key in before:
        torch.testing.assert_close(after[key], before[key], atol=1e-5, rtol=1e-5)
    assert opened.network.body.settings == network.body.settings
    assert opened.facts["params"] == sum(parameter.numel() for parameter in network.parameters())
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.json", "CARD.md"}


def test_predict_takes_files_arrays_and_lists(folder: Path, tmp_path: Path) -> None:
    opened = Bundle.open(folder)
    path = tmp_path / "a.png"
    Image.fromarray(photo()).save(path)
    (one,) = opened.predict(path, score_thresh=0.0)
    many = opened.predict([photo(), str(path), photo(3)], score_thresh=0.0, batch_size=2)
    assert len(many) == 3
    np.testing.assert_allclose(many[0].boxes, one.boxes, atol=1e-2)
    np.testing.assert_allclose(many[1].scores, one.scores, atol=1e-4)
    assert one.boxes[:, 2].max() <= 50 + 1e-3
    assert one.boxes[:, 3].max() <= 70 + 1e-3


def test_thresholds_of_the_folder_are_used(folder: Path) -> None:
    opened = Bundle.open(folder)
    everything = opened.predict(photo(), score_thresh=0.0)[0]
    kept = opened.predict(photo())[0]
    thresholds = np.array([0.2, 0.3, 0.4])
    assert 0 < len(kept) < len(everything)
    assert (kept.scores >= thresholds[kept.labels]).all()
    assert len(kept) == (everything.scores >= thresholds[everything.labels]).sum()


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_arrays_of_another_kind(folder: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images must be RGB uint8 \[H, W, 3\], got"):
        Bundle.open(folder).predict(array)


def test_broken_and_missing_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(BrokenImageError, match=r"x\.jpg"):
        Bundle.open(folder).predict(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError, match=r"no image at .*y\.jpg"):
        Bundle.open(folder).predict(tmp_path / "y.jpg")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model folder at .*nothing: it has no model\.json"):
        mbapps.load(tmp_path / "nothing")


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*model\.safetensors"):
        mbapps.load(folder)


def test_a_newer_format(folder: Path) -> None:
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8")) | {"format": 99}
    (folder / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="has format 99, newer than this mbapps reads"):
        mbapps.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": "1", "body": {}, "heads": {}}',
        '{"format": 1, "body": [], "heads": {}}',
        '{"format": 1, "body": {}, "heads": []}',
        '{"format": 1, "body": {"alpha": 1e9}, "heads": {}}',
        '{"format": 1, "body": {}, "heads": {"detection": {"class": null, "settings": {}, "class_names": []}}}',
    ],
)
def test_a_broken_description(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ValueError, match="is no model description"):
        mbapps.load(folder)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (Path("unpickled"), "run"))


def test_a_hidden_pickle_is_refused_and_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match="is no safetensors file .* never unpickled"):
        mbapps.load(folder)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    "name",
    [
        "mine.heads.Head",
        "os.system",
        "mbapps.tasks.detection.DetectionHead",
        "mbapps.tasks.detection.cv2.error",
        "",
    ],
)
def test_a_class_of_its_own_is_refused_and_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "heads.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    edit(folder, **{"class": name})
    with pytest.raises(ValueError, match="asks for the head class .* none of DetectionHead.*trust="):
        mbapps.load(folder)


def test_a_trusted_package_may_bring_a_head(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "heads.py").write_text(
        "from mbapps.tasks.detection import DetectionHead\n"
        "class MyHead(DetectionHead):\n    pass\n"
        "not_a_head = print\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    edit(folder, **{"class": "mine.heads.MyHead"})
    with pytest.raises(ValueError, match="none of DetectionHead"):
        mbapps.load(folder, trust="mi")
    opened = mbapps.load(folder, trust="mine")
    assert type(opened.network.heads["detection"]).__name__ == "MyHead"
    assert class_name(opened.network.heads["detection"]) == "mine.heads.MyHead"
    for name in ("mine.heads.not_a_head", "mine.heads.DetectionHead", "mine.heads.Missing"):
        edit(folder, **{"class": name})
        with pytest.raises(ValueError, match=r"is no network head defined in mine\.heads"):
            mbapps.load(folder, trust="mine")
    sys.modules.pop("mine.heads", None)


def test_settings_and_weights_that_do_not_belong_together(folder: Path) -> None:
    edit(folder, class_names=["one"], thresholds=None)
    with pytest.raises(
        ValueError, match=r"is damaged: model\.json and model\.safetensors do not belong together"
    ):
        mbapps.load(folder)
    edit(folder, class_names=list(NAMES), settings={"no_such_setting": 1})
    with pytest.raises(ValueError, match="is damaged.*no_such_setting"):
        mbapps.load(folder)


def test_a_full_disk_leaves_the_old_folder_whole(
    network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_bundle(folder, network, json.loads(before["model.json"]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_saving_replaces_a_folder_at_once(network: Network, folder: Path) -> None:
    (folder / "stray.txt").write_text("old")
    save_bundle(folder, network, json.loads((folder / "model.json").read_text(encoding="utf-8")))
    assert not (folder / "stray.txt").exists()
    assert mbapps.load(folder).head_facts["class_names"] == list(NAMES)


def test_a_fingerprint_follows_what_changes_answers(network: Network, folder: Path, tmp_path: Path) -> None:
    known = fingerprint(folder)
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (head,) = facts["heads"].values()
    head["metrics"] = {"AP": 0.5}
    save_facts(folder, facts)
    assert fingerprint(folder) == known
    head["image_size"] += 32
    save_facts(folder, facts)
    assert fingerprint(folder) != known
    with torch.no_grad():
        next(network.parameters()).add_(1e-6)
    names = list(network.heads)
    other = save_bundle(
        tmp_path / "other", network, describe(network, {name: {} for name in names}, lineage={})
    )
    assert fingerprint(other) != known
    with pytest.raises(FileNotFoundError, match="no model folder at"):
        fingerprint(tmp_path / "nothing")


def test_a_head_has_a_fingerprint_that_others_do_not_change(tmp_path: Path) -> None:
    made = model_files.network("fine_grained", "face_embed")
    both, one = tmp_path / "both", tmp_path / "one"
    save_bundle(both, made, describe(made, {}, lineage={}))
    alone = made.only(["face_embed"])
    save_bundle(one, alone, describe(alone, {}, lineage={}))
    known = fingerprint(both, ["face_embed"])
    assert known == fingerprint(one) == fingerprint(one, ["face_embed"])
    assert known != fingerprint(both)
    made.head("fine_grained").settings["temperature"] = 2.0
    save_facts(both, describe(made, {}, lineage={}))
    assert fingerprint(both) == fingerprint(both, ["fine_grained", "face_embed"])
    assert fingerprint(both, ["face_embed"]) == known
    with torch.no_grad():
        next(made.head("fine_grained").parameters()).add_(1.0)
    whole = fingerprint(both)
    save_bundle(both, made, describe(made, {}, lineage={}))
    assert fingerprint(both) != whole
    assert fingerprint(both, ["face_embed"]) == known


def test_devices() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match=r"device must be auto, cpu, cuda .*, got 'gpu'"):
        pick_device("gpu")
    with pytest.raises(ValueError, match="device=cuda:99 is not usable here"):
        pick_device("cuda:99")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": [0.5]}, "the detection head has 3 classes, so it needs as many thresholds"),
        ({"image_size": 10**6}, "image_size of the detection head must be 1 to 4096"),
        ({"class_names": "cat"}, "class_names of the detection head must be a list of names"),
        ({"settings": []}, "settings an object"),
    ],
)
def test_facts_of_the_wrong_kind(folder: Path, changes: dict[str, object], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        mbapps.load(folder)


def test_safetensors_own_error_is_told_as_a_full_disk(
    network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise saving.SafetensorError("I/O error: No space left on device (os error 28)")

    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(
        OSError, match="could not save .*model: .*No space left .*what was there before is whole"
    ):
        save_bundle(folder, network, facts)


def test_model_json_is_json(folder: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    assert (
        json.loads((folder / "model.json").read_text(encoding="utf-8"), parse_constant=refuse)["format"] == 1
    )
