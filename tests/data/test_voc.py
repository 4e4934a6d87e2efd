from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbapps.data.voc import read_voc, voc_splits

Devkit = Callable[..., Path]
CAT, DOG = ("cat", (1, 2, 11, 22)), ("dog", (5, 5, 9, 9))


def xml(
    *objects: tuple[str, tuple[object, ...]],
    filename: str = "",
    size: tuple[int, int] = (40, 60),
    extra: str = "",
) -> str:
    """An annotation of an image of `size` (height, width); `extra` goes into each object."""
    items = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in objects
    )
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{items}</annotation>"


@pytest.fixture
def devkit(tmp_path: Path) -> Devkit:
    """Write a devkit: annotation text by name, names of images, and names by split."""

    def write(annotations: dict[str, str], images: str | None = None, **splits: str) -> Path:
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in annotations.items():
            (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        for name in annotations if images is None else images.split():
            Image.new("RGB", (60, 40)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        for split, names in splits.items():
            (tmp_path / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names.split()) + "\n")
        return tmp_path

    return write


def test_columns(devkit: Devkit) -> None:
    root = devkit({"b": xml(DOG, CAT), "a": xml(), "c": xml(CAT)})
    table = read_voc(root, None)
    assert table.folder == root / "JPEGImages"
    assert table.files.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.image_ids.tolist() == [1, 2, 3]
    assert table.sizes.tolist() == [[40, 60]] * 3
    assert table.class_names == ("cat", "dog")
    assert table.category_ids == (1, 2)
    assert table.starts.tolist() == [0, 0, 2, 3]
    assert table.labels.tolist() == [1, 0, 0]
    assert table.boxes.tolist() == [[5, 5, 9, 9], [1, 2, 11, 22], [1, 2, 11, 22]]
    assert table.areas.tolist() == [16, 200, 200]
    assert not table.crowd.any()
    assert table.problems == {}


def test_splits_agree_on_classes_and_numbers(devkit: Devkit) -> None:
    root = devkit({"a": xml(CAT), "b": xml(DOG)}, train="a", test="b")
    splits = voc_splits(root)
    train, test = read_voc(root, splits["train"]), read_voc(root, splits["test"])
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0], [1])
    assert (train.image_ids.tolist(), test.image_ids.tolist()) == ([1], [2])


def test_given_classes_drop_the_others(devkit: Devkit) -> None:
    table = read_voc(devkit({"a": xml(CAT, DOG)}), None, ["dog"])
    assert table.labels.tolist() == [0]
    assert table.problems == {"object of unknown class": ["a.jpg: cat"]}


def test_difficult_objects_are_crowds(devkit: Devkit) -> None:
    table = read_voc(devkit({"a": xml(CAT, extra="<difficult>1</difficult>"), "b": xml(CAT)}), None)
    assert table.crowd.tolist() == [True, False]


def test_parts_of_an_object_are_no_objects(devkit: Devkit) -> None:
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
    part = f"<part><name>head</name><bndbox>{box}</bndbox></part>"
    table = read_voc(devkit({"a": xml(CAT, extra=part)}), None)
    assert table.class_names == ("cat",)
    assert table.boxes.tolist() == [[1, 2, 11, 22]]


def test_bad_boxes_go_only_where_asked(devkit: Devkit) -> None:
    root = devkit({"a": xml(("cat", (5, 5, 5, 5)), ("cat", (0, 0, 99, 10)), ("cat", ("?", 0, 9, 9)))})
    assert len(read_voc(root, None, clean=False).boxes) == 3
    table = read_voc(root, None)
    assert table.boxes.tolist() == [[0, 0, 60, 10]]
    assert table.problems == {
        "box not finite": ["a.jpg: box nan 0 9 9"],
        "box without area": ["a.jpg: box 5 5 5 5"],
        "box clipped to the image": ["a.jpg: box 0 0 99 10"],
    }


def test_an_object_needs_a_name_and_a_box(devkit: Devkit) -> None:
    text = xml(CAT).replace("</annotation>", "<object><name>dog</name></object><object/></annotation>")
    table = read_voc(devkit({"a": text}), None)
    assert table.class_names == ("cat",)
    assert table.problems == {"object without a name or a box": ["a.xml", "a.xml"]}


def test_what_has_no_partner_is_told(devkit: Devkit) -> None:
    root = devkit({"a": xml(CAT), "b": xml(CAT)}, images="a c", train="a b c d")
    for split in (None, voc_splits(root)["train"]):
        table = read_voc(root, split)
        assert table.files.tolist() == ["a.jpg"]
        assert table.problems["image without annotation"] == ["c.jpg"]
        assert table.problems["image file missing"] == (["b"] if split is None else ["b", "d"])


def test_the_xml_may_name_another_image(devkit: Devkit) -> None:
    root = devkit({"a": xml(CAT, filename="photo.jpg"), "b": xml(CAT, filename="photo.jpg")}, images="photo")
    table = read_voc(root, None)
    assert table.files.tolist() == ["photo.jpg"]
    assert table.problems["second annotation of an image"] == ["b.xml: photo.jpg"]


def test_a_broken_annotation_is_skipped_and_told(devkit: Devkit) -> None:
    root = devkit({"a": xml(CAT), "b": "<annotation><obj", "c": "<html/>"}, train="a b", val="a")
    table = read_voc(root, None)
    assert table.files.tolist() == ["a.jpg"]
    assert [line[:6] for line in table.problems["broken annotation"]] == ["b.xml:", "c.xml:"]
    assert "<annotation> expected, got <html>" in table.problems["broken annotation"][1]
    assert read_voc(root, voc_splits(root)["val"]).problems == {}


def test_only_broken_annotations_are_refused(devkit: Devkit) -> None:
    root = devkit({"a": "<annotation><obj"})
    with pytest.raises(ValueError, match=r"no annotation in .*Annotations can be read, e\.g\. a\.xml: "):
        read_voc(root, None)


def test_what_is_not_there_is_refused(devkit: Devkit, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at .*elsewhere; set data\.root"):
        read_voc(tmp_path / "elsewhere", None)
    with pytest.raises(FileNotFoundError, match=r"no xml annotations in .*; set data\.root"):
        read_voc(tmp_path, None)
    root = devkit({"a": xml(CAT)}, images="", train="x y")
    with pytest.raises(FileNotFoundError, match=r"none of the images of .*Annotations is in .*JPEGImages"):
        read_voc(root, None)
    with pytest.raises(
        FileNotFoundError, match=r"has no annotation of the names asked for, e\.g\. \['x', 'y'\]"
    ):
        read_voc(root, voc_splits(root)["train"])
    with pytest.raises(FileNotFoundError, match=r"no list of names at .*none\.txt"):
        read_voc(root, tmp_path / "none.txt")


def test_names_of_a_split(devkit: Devkit, tmp_path: Path) -> None:
    root = devkit({"a": xml(CAT), "b": xml(CAT), "c": xml(CAT)})
    (root / "Annotations" / "d e.xml").write_text(xml(CAT))
    Image.new("RGB", (60, 40)).save(root / "JPEGImages" / "d e.jpg")
    names = tmp_path / "names.txt"
    names.write_text("b  1\nd e\n\na.jpg\nb -1\n")
    assert read_voc(root, names).files.tolist() == ["b.jpg", "d e.jpg", "a.jpg"]


def test_a_missing_size_is_read_from_the_upright_image(devkit: Devkit) -> None:
    root = devkit({"a": xml(CAT, size=(0, 0)), "b": xml(CAT, size=(0, 0)), "c": xml(CAT, size=(0, 0))})
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 40)).save(root / "JPEGImages" / "b.jpg", exif=turned)
    (root / "JPEGImages" / "c.jpg").write_text("no image")
    table = read_voc(root, None)
    assert table.sizes.tolist() == [[40, 60], [60, 40], [0, 0]]
    assert table.problems == {"size read from the image": ["a.jpg", "b.jpg"], "size unknown": ["c.jpg"]}


@pytest.mark.parametrize(
    ("lists", "found"),
    [
        (["train", "val", "trainval", "test"], {"train": "train", "val": "val", "test": "test"}),
        (["trainval", "test"], {"test": "test", "train": "trainval"}),
        (["trainval", "val"], {"val": "val", "trainval": "trainval"}),
    ],
)
def test_splits_are_lists_of_names(devkit: Devkit, lists: list[str], found: dict[str, str]) -> None:
    root = devkit({"a": xml(CAT)}, **dict.fromkeys(lists, "a"))
    assert voc_splits(root) == {
        split: root / "ImageSets/Main" / f"{name}.txt" for split, name in found.items()
    }


def test_folders_without_lists(devkit: Devkit, tmp_path: Path) -> None:
    assert voc_splits(tmp_path / "elsewhere") == {}
    assert voc_splits(tmp_path) == {}
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.xml").write_text(xml(CAT))
    assert voc_splits(flat) == {}
    Image.new("RGB", (60, 40)).save(flat / "a.png")
    assert voc_splits(flat) == {"all": None}
    assert read_voc(flat, None).files.tolist() == ["a.png"]
    assert voc_splits(devkit({"a": xml(CAT)})) == {"all": None}


def test_folders_of_pairs(tmp_path: Path) -> None:
    assert voc_splits(tmp_path) == {}
    (tmp_path / "train").mkdir()
    for folder in ("valid", "test_a", "test_b", "photos"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.xml").write_text(xml(CAT if folder == "valid" else DOG))
        Image.new("RGB", (60, 40)).save(tmp_path / folder / "a.jpg")
    splits = voc_splits(tmp_path)
    assert splits == {
        "val": tmp_path / "valid", "test_a": tmp_path / "test_a", "test_b": tmp_path / "test_b",
    }  # fmt: skip
    table = read_voc(tmp_path, splits["val"])
    assert (table.folder, table.class_names) == (tmp_path / "valid", ("cat", "dog"))


def test_bccd(test_data: Path) -> None:
    root = test_data / "datasets/detection/bccd"
    raw = read_voc(root, None, clean=False)
    assert (len(raw), len(raw.boxes)) == (364, 4888)
    assert dict(zip(raw.class_names, np.bincount(raw.labels).tolist(), strict=True)) == {
        "Platelets": 361, "RBC": 4155, "WBC": 372,
    }  # fmt: skip
    clean = read_voc(root, None)
    assert len(clean.boxes) == 4886
    assert {reason: len(lines) for reason, lines in clean.problems.items()} == {"box without area": 2}
    assert {split: len(read_voc(root, path)) for split, path in voc_splits(root).items()} == {
        "train": 205, "val": 87, "test": 72,
    }  # fmt: skip


def test_odd_fruit(test_data: Path) -> None:
    root = test_data / "datasets/odd/voc_odd_fruit"
    assert voc_splits(root) == {"all": None}
    table = read_voc(root, None)
    assert len(table) == 18
    assert table.class_names == ("apple", "banana", "orange")
    assert (table.sizes > 0).all()
    assert len(table.problems["size read from the image"]) == 12
    sides = table.sizes[table.box_images()][:, [1, 0]]
    assert (table.boxes[:, 2:] <= sides).all()
