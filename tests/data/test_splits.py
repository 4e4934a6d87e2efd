from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import compose, write_files
from PIL import Image

from mbapps.data.detection import DetectionData
from mbapps.truth import open_truth

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
    with pytest.raises(
        FileNotFoundError, match=r"none of the 3 images of .*truth\.json is in .*data\.images="
    ):
        make(None, annotations=str(lone), split="test")
    photos = tmp_path / "here" / "val2014"
    for root, images in ((photos, None), (None, str(photos)), (tmp_path / "here", str(photos))):
        data = make(root, annotations=str(lone), split="test", images=images)
        assert data.truth("test").folder == tmp_path / "here" / "val2014"
    below = make(tmp_path, annotations="truth.json", split="test", images=str(photos))
    assert len(below.truth("test")) == 3


def test_truth_without_pictures_is_as_written(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "truth", names("a", 3))
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [50, 30, 90, 90]  # beyond the edge
    content["annotations"][1]["bbox"] = [5, 5, 0, 3]
    path.write_text(json.dumps(content))
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    for place in (f"data.annotations={path}", f"data.root={tmp_path}"):
        truth = open_truth(compose("eval", "predictions=answers.json", place)).table
        assert truth.boxes.tolist() == [[50, 30, 140, 120], [5, 5, 5, 8], [2, 3, 22, 13]]
        assert truth.folder == tmp_path / "images"  # for pictures of the report, if they are there


def write_yolo(root: Path, count: int) -> Path:
    files: dict[str, str | None] = {f"images/train/{row}.jpg": None for row in range(count)}
    labels = {f"labels/train/{row}.txt": f"{row % 2} 0.5 0.5 0.2 0.2" for row in range(count)}
    return write_files(root, {**files, **labels, "data.yaml": "names: [cat, dog]"})


def test_coco_goes_before_yolo_and_says_so(tmp_path: Path) -> None:
    write_yolo(tmp_path, 10)
    write_coco(tmp_path, "instances_train", names("a", 20), folder="images/train")
    data = make(tmp_path)
    assert sum(sizes(data).values()) == 20
    assert data.problems()["YOLO labels beside COCO not read; data.format=yolo reads them"] == [str(tmp_path)]
    data = make(tmp_path, format="yolo")
    assert sum(len(table.boxes) for table in data.tables.values()) == 10
    assert len(data.problems()["image without a label file: a negative"]) == 20


def test_voc_beside_yolo_is_for_the_user_to_choose(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["cat"] * 8)
    write_files(tmp_path, {"0.txt": "0 0.5 0.5 0.2 0.2", "classes.txt": "cat\n"})
    with pytest.raises(ValueError, match=r"holds both VOC and YOLO .* choose with data\.format=voc or yolo"):
        make(tmp_path)
    assert sum(len(table.boxes) for table in make(tmp_path, format="voc").tables.values()) == 8
    assert sum(len(table.boxes) for table in make(tmp_path, format="yolo").tables.values()) == 1
    write_coco(tmp_path / "other", "truth", names("a", 20)).rename(tmp_path / "truth.json")
    with pytest.raises(ValueError, match=r"both COCO and VOC and YOLO .*data\.format=coco or voc or yolo"):
        make(tmp_path)


def test_a_file_is_no_root(tmp_path: Path) -> None:
    write_yolo(tmp_path, 4)
    with pytest.raises(
        FileNotFoundError, match=r"no folder at data\.root=.*data\.yaml; name the folder that it"
    ):
        make(tmp_path / "data.yaml")


def test_images_are_not_for_yolo(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.images=photos is for COCO only; .* holds YOLO"):
        make(write_yolo(tmp_path, 4), images="photos")


def test_training_files_are_pooled(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train2014", names("t", 8), folder="train2014")
    path = write_coco(tmp_path, "instances_val2014", names("v", 6), folder="val2014", classes=("dog", "cat"))
    for train in (["train2014", "val2014"], ["train", str(path)], ["instances_train2014.json", "val"]):
        data = make(tmp_path, train=train)
        assert sizes(data) == {"train": 12, "val": 1, "test": 1}  # cut from the pool: val is trained on
        assert data.truth("train").folder == tmp_path
        assert {file[:7] for file in data.truth("train").files.tolist()} == {"train20", "val2014"}
        assert len(data.dataset("train")[0, 11].boxes) == 1
        assert data.class_names == ("cat", "dog")
        assert data.problems() == {
            "image ids of pooled files clash: all are numbered anew": ["6 ids, e.g. 0"]
        }
    assert sizes(make(tmp_path, val="val", test=["val2014", "val2014"])) == {"train": 8, "val": 6, "test": 6}


def test_pooled_voc_and_yolo(tmp_path: Path) -> None:
    for folder in ("train", "valid", "test"):
        write_pairs(tmp_path / "voc" / folder, ["cat", "dog", "cat"])
    data = make(tmp_path / "voc", train=["train", "val"])
    assert sizes(data) == {"train": 5, "val": 1, "test": 3}
    assert data.problems() == {}
    for folder in ("train", "more"):
        write_yolo(tmp_path / "yolo" / folder, 4)
    write_files(tmp_path / "yolo", {"data.yaml": "names: [cat, dog]"})
    data = make(tmp_path / "yolo", train=["train/images", "more/images/train"])
    assert sizes(data) == {"train": 6, "val": 1, "test": 1}
    assert data.problems() == {}


def test_what_is_trained_on_is_not_measured(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train2014", names("t", 8), folder="train2014")
    write_coco(tmp_path, "instances_val2014", names("v", 6), folder="val2014")
    with pytest.raises(
        ValueError, match=r"the val split is part of data\.train=train2014,val2014.*data\.val="
    ):
        make(tmp_path, split="val", train=["train2014", "val2014"])
    assert sizes(make(tmp_path, split="val", train="train2014")) == {"val": 6}


def minival(root: Path) -> Path:
    """COCO 2014 in small: ids of train from 0, of val from 100; the list holds two of val."""
    write_coco(root, "instances_train2014", names("t", 8), folder="train2014")
    path = write_coco(root, "instances_val2014", names("v", 6), folder="val2014")
    content = json.loads(path.read_text())
    for item in content["images"]:
        item["id"] += 100
    for item in content["annotations"]:
        item["image_id"] += 100
    path.write_text(json.dumps(content))
    (root / "minival.txt").write_text("101\n104\n7000\n")
    return root


def test_a_test_split_by_image_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"train": ["train2014", "val2014"], "test_ids": "minival.txt"}
    data = make(minival(tmp_path), **settings, val_fraction=0.25)
    assert sizes(data) == {"train": 9, "val": 3, "test": 2}
    assert data.truth("test").image_ids.tolist() == [101, 104]
    assert data.truth("test").files.tolist() == ["val2014/v1.jpg", "val2014/v4.jpg"]
    files = [set(table.files.tolist()) for table in data.tables.values()]
    assert len(set.union(*files)) == sum(map(len, files)) == 14
    assert data.problems() == {"image id of data.test_ids not in the training files": ["7000"]}
    measured = make(tmp_path, split="test", **settings)
    assert measured.truth("test").boxes.tolist() == data.truth("test").boxes.tolist()
    words = ("data.train=[train2014,val2014]", "data.test_ids=minival.txt", f"data.root={tmp_path}")
    exact = open_truth(compose("eval", "predictions=answers.json", *words)).table
    assert exact.image_ids.tolist() == [101, 104]
    lone = make(None, annotations=str(tmp_path / "annotations/instances_val2014.json"), split="test",
                test_ids=str(tmp_path / "minival.txt"))  # fmt: skip
    assert lone.truth("test").image_ids.tolist() == [101, 104]
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "minival.txt").write_text("100\n")
    monkeypatch.chdir(tmp_path / "here")  # the current folder goes before the root
    assert make(tmp_path, split="test", **settings).truth("test").image_ids.tolist() == [100]


def test_ids_of_no_use(tmp_path: Path) -> None:
    minival(tmp_path)
    with pytest.raises(ValueError, match=r"none of the 3 image ids of data\.test_ids=.*data\.train="):
        make(tmp_path, test_ids="minival.txt")
    with pytest.raises(ValueError, match=r"data\.test_ids=minival\.txt and data\.test=val both set the test"):
        make(tmp_path, test_ids="minival.txt", test="val")
    with pytest.raises(FileNotFoundError, match=r"no file at data\.test_ids=nowhere\.txt"):
        make(tmp_path, test_ids="nowhere.txt")
    (tmp_path / "all.txt").write_text("\n".join(str(row) for row in range(8)))
    with pytest.raises(
        ValueError, match=r"data\.test_ids=.*all\.txt lists all training images: nothing is left"
    ):
        make(tmp_path, test_ids="all.txt")
    write_pairs(tmp_path / "voc", ["cat"] * 4)
    with pytest.raises(ValueError, match=r"test_ids=minival\.txt needs COCO's image ids; .* holds VOC"):
        make(tmp_path / "voc", test_ids="minival.txt")


@pytest.mark.parametrize("format", ["coco", "voc", "yolo"])
def test_classes_by_name(tmp_path: Path, format: str) -> None:
    if format == "coco":
        write_coco(tmp_path, "instances_train", names("a", 20))
    elif format == "voc":
        write_pairs(tmp_path, ["cat", "dog"] * 10)
    else:
        write_yolo(tmp_path, 20)
    data = make(tmp_path, classes=["dog"])
    assert data.class_names == ("dog",)
    assert sum(sizes(data).values()) == 20  # images without a dog are negatives
    assert sum(len(table.boxes) for table in data.tables.values()) == 10
    assert set(data.truth("train").labels.tolist()) == {0}
    assert data.truth("train").category_ids == ({"coco": 1, "voc": 2, "yolo": 1}[format],)
    (told,) = data.problems()["class left out by data.classes"]
    assert told.startswith(tmp_path.name)
    assert told.endswith(": 10 boxes of 1 classes")
    assert make(tmp_path, classes=["dog", "cat"]).class_names == ("dog", "cat")
    with pytest.raises(
        ValueError, match=r"data\.classes: no class 'owl' in .*; its classes are \[cat, dog\]"
    ):
        make(tmp_path, classes=["cat", "owl"])
    measured = make(tmp_path, classes="dog", class_names=["dog"], split="test")
    assert len(measured.truth("test").boxes) == 10
    with pytest.raises(ValueError, match=r"the classes of .* are \[dog\], but the model .* has \[cat\]"):
        make(tmp_path, classes=["dog"], class_names=["cat"], split="test")


def test_files_of_unlike_classes_have_some_in_common(tmp_path: Path) -> None:
    write_coco(tmp_path, "instances_train", names("t", 8), folder="train", classes=("cat", "dog"))
    write_coco(tmp_path, "instances_val", names("v", 8), folder="val", classes=("owl", "bat", "cat", "dog"))
    with pytest.raises(ValueError, match=r"'data\.classes=\[cat,dog\]' takes these alone"):
        make(tmp_path)
    data = make(tmp_path, classes=["cat", "dog"])
    assert data.truth("val").labels.tolist() == [0, 1, 0, 1]
    assert sizes(make(tmp_path, classes=["cat"], train=["train", "val"]))["train"] == 12


def test_lists_of_classes(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["cat"] * 4)
    with pytest.raises(ValueError, match=r"data\.classes is an empty list; data\.classes=null takes all"):
        make(tmp_path, classes=[])
    with pytest.raises(ValueError, match=r"data\.classes names 'cat' twice"):
        make(tmp_path, classes=["cat", "dog", "cat"])


def test_blood_cells_of_one_kind(test_data: Path) -> None:
    root = test_data / "datasets/detection/bccd"
    whole, white = make(root), make(root, classes=["WBC"])
    assert sizes(white) == sizes(whole) == {"train": 205, "val": 87, "test": 72}
    label = whole.class_names.index("WBC")
    for split, table in white.tables.items():
        truth = whole.truth(split)
        assert table.boxes.tolist() == truth.boxes[truth.labels == label].tolist()
    assert sizes(make(root, train="trainval", val="val")) == sizes(whole)
    told = white.problems()["class left out by data.classes"]
    assert sum(int(line.split(": ")[1].split()[0]) for line in told) == sum(
        int((table.labels != label).sum()) for table in whole.tables.values()
    )
