from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mbapps.data.detection import DetectionData

LEFT_OUT = "image of val or test left out of train"


def write_coco(
    root: Path,
    name: str,
    files: Sequence[str],
    folder: str = "images",
    classes: Sequence[str] = ("cat", "dog"),
) -> Path:
    """annotations/<name>.json with one box of each class in turn, and its pictures of 40 x 60 px."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for file in files:
        Image.new("RGB", (60, 40)).save(root / folder / file)
    content = {
        "images": [
            {"id": row, "file_name": file, "height": 40, "width": 60} for row, file in enumerate(files)
        ],
        "annotations": [
            {"id": row, "image_id": row, "category_id": row % len(classes), "bbox": [2, 3, 20, 10]}
            for row in range(len(files))
        ],
        "categories": [{"id": number, "name": label} for number, label in enumerate(classes)],
    }
    path = root / "annotations" / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def write_pairs(folder: Path, classes: Sequence[str]) -> Path:
    """One picture with its xml and one object for each class, as Roboflow lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, label in enumerate(classes):
        Image.new("RGB", (60, 40)).save(folder / f"{row}.jpg")
        (folder / f"{row}.xml").write_text(
            f"<annotation><size><width>60</width><height>40</height></size><object><name>{label}</name><bndbox>"
            "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    return folder


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{row}.jpg" for row in range(count)]


def make(root: Path | None, **settings: Any) -> DetectionData:
    return DetectionData(root=str(root) if root else None, image_size=32, num_workers=0, **settings)


def sizes(data: DetectionData) -> dict[str, int]:
    return {split: len(table) for split, table in data.tables.items()}


def test_without_a_training_split_nothing_is_trained_on(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_val", names("v", 4))
    with pytest.raises(
        FileNotFoundError,
        match=r"no training split in data\.root=.*, only val; name one with data\.train=",
    ):
        make(tmp_path)
    assert sizes(make(tmp_path, train="val")) == {"train": 2, "val": 1, "test": 1}


def test_a_file_of_no_split_serves_as_all(tmp_path: Path) -> None:
    write_coco(tmp_path, "everything", names("a", 10))
    assert sizes(make(tmp_path)) == {"train": 8, "val": 1, "test": 1}


def test_images_of_val_and_test_are_left_out_of_train(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train", names("a", 10))
    write_coco(tmp_path, "instances_val", names("a", 2))
    data = make(tmp_path, test_fraction=0.25)
    assert sizes(data) == {"train": 6, "val": 2, "test": 2}
    files = [set(table.files.tolist()) for table in data.tables.values()]
    assert len(set.union(*files)) == sum(map(len, files))
    assert data.problems() == {LEFT_OUT: ["a0.jpg", "a1.jpg"]}


def test_equal_names_in_two_folders_are_two_images(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_coco(tmp_path, f"instances_{split}", names("a", 3), folder=split)
    data = make(tmp_path)
    assert sizes(data) == {"train": 3, "val": 3, "test": 3}
    assert data.problems() == {}


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train", names("a", 4))
    with pytest.raises(
        ValueError, match=r"each of the 4 training images is one of val or test too.*data\.train="
    ):
        make(tmp_path, val="train", test="train")


def test_only_one_split_is_read_to_measure_it(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_val", names("v", 3), classes=("dog", "cat"))
    (tmp_path / "annotations" / "instances_train.json").write_text('{"images": "annotations categories"}')
    write_coco(tmp_path, "instances_test", names("t", 2), classes=("owl",))
    data = make(tmp_path, split="val", class_names=("cat", "dog"))
    assert sizes(data) == {"val": 3}
    assert data.class_names == data.truth("val").class_names == ("cat", "dog")
    assert data.truth("val").labels.tolist() == [1, 0, 1]
    assert data.lineage()["images"] == {"val": 3}
    assert data.problems() == {}  # t0.jpg lies beside them, but belongs to test
    assert sum(len(batch.images) for batch in data.val_dataloader()) == 3
    with pytest.raises(ValueError, match=r"the classes of .* are \[owl\]"):
        make(tmp_path, split="test", class_names=("cat", "dog"))


def test_broken_images_are_counted_against_the_split_that_is_read(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_val", names("v", 3))
    for name in names("v", 2):
        (tmp_path / "images" / name).write_text("no picture")
    data = make(tmp_path, split="val")
    with pytest.raises(ValueError, match="2 of 3 images can't be read"):
        [data.on_before_batch_transfer(batch, 0) for batch in data.val_dataloader()]


def test_a_set_without_splits_is_measured_whole(tmp_path: Path) -> None:
    write_coco(tmp_path, "everything", names("a", 4))
    data = make(tmp_path, split="test")
    assert sizes(data) == {"test": 4}
    assert data.problems() == {"no test split: the whole set is measured": [str(tmp_path)]}
    named = make(tmp_path, split="test", test="everything.json")
    assert sizes(named) == {"test": 4}
    assert named.problems() == {}


def test_several_splits_but_not_the_one_to_measure(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train", names("a", 4))
    write_coco(tmp_path, "instances_val", names("v", 2))
    with pytest.raises(
        FileNotFoundError,
        match=r"no test split in data\.root=.*, only train, val; name one with data\.test=",
    ):
        make(tmp_path, split="test")
    assert sizes(make(tmp_path, split="test", test="val")) == {"test": 2}
    with pytest.raises(ValueError, match=r"split must be one of \['train', 'val', 'test'\], got 'dev'"):
        make(tmp_path, split="dev")


def test_two_files_of_one_split(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train2014", names("a", 4), folder="train2014")
    write_coco(tmp_path, "instances_val2014", names("v", 4), folder="val2014")
    write_coco(tmp_path, "instances_minival2014", names("v", 2), folder="val2014")
    message = (
        r"instances_minival2014\.json and .*instances_val2014\.json are all of the split 'val'; .*data\."
    )
    with pytest.raises(ValueError, match=f"{message}val="):
        make(tmp_path)
    with pytest.raises(ValueError, match=f"{message}test="):
        make(tmp_path, split="test", test="val")
    data = make(tmp_path, val="instances_minival2014.json", test="annotations/instances_val2014.json")
    assert sizes(data) == {"train": 4, "val": 2, "test": 4}
    assert data.truth("val").folder == data.truth("test").folder == tmp_path / "val2014"
    assert data.problems() == {}  # what minival does not list, val does


def test_an_image_that_no_split_lists_is_told(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_coco(tmp_path, f"instances_{split}", names(split, 2))
    assert make(tmp_path).problems() == {}
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "extra.jpg")
    assert make(tmp_path).problems() == {"image without annotation": ["extra.jpg"]}


def test_both_formats(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train", names("a", 8), folder="train")
    write_pairs(tmp_path / "train", ["cat"] * 10)
    with pytest.raises(ValueError, match=r"holds both COCO and VOC annotations; choose with data\.format="):
        make(tmp_path)
    assert sizes(make(tmp_path, format="coco")) == {"train": 6, "val": 1, "test": 1}
    assert sizes(make(tmp_path, format="voc")) == {"train": 8, "val": 1, "test": 1}


def test_images_are_for_coco(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["cat"] * 4)
    with pytest.raises(ValueError, match=r"data\.images=photos is for COCO only"):
        make(tmp_path, images="photos")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("part", ["val", "test"])
def test_fractions(tmp_path: Path, part: str, fraction: float) -> None:
    write_pairs(tmp_path, ["cat"] * 4)
    with pytest.raises(ValueError, match=rf"data\.{part}_fraction must be in \(0, 1\), got {fraction}"):
        make(tmp_path, **{f"{part}_fraction": fraction})


def test_folders_of_pairs_are_splits_with_the_classes_of_all(tmp_path: Path) -> None:
    for folder, classes in {"train": ["cat", "dog"], "valid": ["dog"], "test": ["owl", "cat"]}.items():
        write_pairs(tmp_path / folder, classes)
    data = make(tmp_path)
    assert sizes(data) == {"train": 2, "val": 1, "test": 2}
    assert data.class_names == ("cat", "dog", "owl")
    assert [table.labels.tolist() for table in data.tables.values()] == [[0, 1], [1], [2, 0]]
    assert data.truth("val").folder == tmp_path / "valid"
    assert data.problems() == {}


def test_a_model_is_measured_on_a_voc_set_that_lacks_a_class(tmp_path: Path) -> None:
    write_pairs(tmp_path / "test", ["cat", "owl"])
    data = make(tmp_path, split="test", class_names=("dog", "cat"))
    assert data.truth("test").labels.tolist() == [1]
    assert data.problems() == {"object of unknown class": ["1.jpg: owl"]}
    with pytest.raises(ValueError, match=r"are \[cat, owl\], but the model has \[dog\]: none is in both"):
        make(tmp_path, split="test", class_names=("dog",))


def test_training_parses_the_xml_of_other_splits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.data import voc

    for folder in ("train", "valid", "test"):
        write_pairs(tmp_path / folder, ["cat", "dog"])
    parsed: list[str] = []
    parse = voc._parse

    def count(path: Path, *arguments: Any) -> Any:
        parsed.append(f"{path.parent.name}/{path.name}")
        return parse(path, *arguments)

    monkeypatch.setattr(voc, "_parse", count)
    make(tmp_path)
    counts = np.unique(parsed, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.max() == 2  # once for the classes, once for its own split


def test_the_fingerprint_knows_labels_and_classes(tmp_path: Path) -> None:
    prints = set()
    for number, classes in enumerate([["cat", "dog"], ["dog", "cat"], ["cat", "owl"], ["cat"]]):
        write_coco(tmp_path / str(number), "instances_train", names("a", 8), classes=classes)
        prints.add(make(tmp_path / str(number)).lineage()["fingerprint"])
    assert len(prints) == 4


def test_annotations_alone_are_the_whole_set(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "instances_val2014", names("a", 10), folder="val2014")
    write_coco(tmp_path, "instances_train2014", names("b", 4), folder="train2014")
    data = make(None, annotations=str(path))
    assert sizes(data) == {"train": 8, "val": 1, "test": 1}
    assert data.truth("train").folder == tmp_path / "val2014"
    assert data.root == tmp_path
    whole = make(None, annotations=str(path), split="test")
    assert sizes(whole) == {"test": 10}
    assert whole.problems() == {}  # it is what was asked for
    with pytest.raises(FileNotFoundError, match=r"no file at data\.annotations=.*nowhere\.json"):
        make(None, annotations=str(tmp_path / "nowhere.json"))
    with pytest.raises(
        ValueError, match=r"data\.annotations=.* is a COCO json, but data\.format=voc; leave one"
    ):
        make(None, annotations=str(path), format="voc")


def test_annotations_alone_with_pictures_elsewhere(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "here", "instances_val2014", names("a", 3), folder="val2014")
    lone = path.rename(tmp_path / "truth.json")
    with pytest.raises(FileNotFoundError, match=r"none of the 3 images of .*truth\.json is in"):
        make(None, annotations=str(lone), split="test")
    photos = tmp_path / "here" / "val2014"
    for root, images in ((photos, None), (None, str(photos)), (tmp_path / "here", str(photos))):
        data = make(root, annotations=str(lone), split="test", images=images)
        assert data.truth("test").folder == tmp_path / "here" / "val2014"


def test_truth_without_pictures_is_as_written(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "truth", names("a", 3))
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [50, 30, 90, 90]  # beyond the edge
    content["annotations"][1]["bbox"] = [5, 5, 0, 3]
    path.write_text(json.dumps(content))
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    for root, lone in ((None, str(path)), (tmp_path, None)):
        data = make(root, annotations=lone, split="test", pictures=False)
        truth = data.truth("test")
        assert truth.boxes.tolist() == [[50, 30, 140, 120], [5, 5, 5, 8], [2, 3, 22, 13]]
        assert truth.folder == tmp_path / "images"  # for pictures of the report, if they are there
    with pytest.raises(ValueError, match="pictures=False is for measuring one split; name it with split="):
        make(tmp_path, pictures=False)
