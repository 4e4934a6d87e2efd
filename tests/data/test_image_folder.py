"""Folders of classes, Stanford Dogs, and which split comes from where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_files

from mbapps.data.class_splits import ClassReader, cut_classes
from mbapps.data.fine_grained import FineGrainedData, read_row
from mbapps.data.image_folder import class_folders, read_image_folder


def photos(*folders: str, count: int = 4) -> dict[str, str | None]:
    return {f"{folder}/{row}.jpg": None for folder in folders for row in range(count)}


def make(root: Path | None, **settings: Any) -> FineGrainedData:
    place = str(root) if root else None
    return FineGrainedData(root=place, image_size=32, num_workers=0, batch_size=4, **settings)


def sizes(data: FineGrainedData) -> dict[str, int]:
    return {split: len(table) for split, table in data.tables.items()}


def test_classes_are_folders_in_order_and_images_may_lie_deeper(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {"b/1.jpg": None, "a/deep/2.png": None, "a/1.JPG": None, "a/notes.txt": "", ".x/1.jpg": None},
    )
    table = read_image_folder(tmp_path)
    assert table.class_names == ("a", "b")
    assert table.files.tolist() == ["a/1.JPG", "a/deep/2.png", "b/1.jpg"]
    assert table.labels.tolist() == [0, 0, 1]


def test_splits_are_told_by_their_folders(tmp_path: Path) -> None:
    write_files(
        tmp_path, photos("train/cat", "train/dog", "validation/cat", "validation/dog", "test/cat", "test/dog")
    )
    assert list(class_folders(tmp_path)) == ["test", "train", "val"]
    data = make(tmp_path)
    assert sizes(data) == {"train": 8, "val": 8, "test": 8}
    assert data.class_names == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_files(tmp_path, photos("train", "bus"))
    assert class_folders(tmp_path) == {"all": tmp_path}
    assert make(tmp_path).class_names == ("bus", "train")


def test_missing_splits_are_cut_from_each_class(tmp_path: Path) -> None:
    write_files(tmp_path, photos("a", count=20) | photos("b", count=10))
    data = make(tmp_path, val_fraction=0.2, test_fraction=0.1)
    assert sizes(data) == {"train": 21, "val": 6, "test": 3}
    for split, counts in (("train", [14, 7]), ("val", [4, 2]), ("test", [2, 1])):
        assert np.bincount(data.truth(split).labels).tolist() == counts
    files = [set(table.files.tolist()) for table in data.tables.values()]
    assert len(set.union(*files)) == 30
    assert make(tmp_path, val_fraction=0.2).truth("val").files.tolist() == data.truth("val").files.tolist()


def test_one_split_alone_is_measured(tmp_path: Path) -> None:
    write_files(tmp_path, photos("train/cat", "train/dog", "test/cat", "test/dog", count=3))
    assert sizes(make(tmp_path, split="test", class_names=["dog", "cat"])) == {"test": 6}
    with pytest.raises(
        FileNotFoundError, match=r"no val split in .*only test, train; name one with data\.val="
    ):
        make(tmp_path, split="val")
    whole = make(tmp_path / "train", split="test")
    assert sizes(whole) == {"test": 6}
    assert "no test split: the whole set is measured" in whole.problems()


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no synthetic set for task=fine_grained, .*set data.root"):
        make(None)
    with pytest.raises(FileNotFoundError, match="no folder at data.root="):
        make(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no classes in data.root=.*looked for <class>/<image>"):
        make(tmp_path)
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no images in .*/<class>/"):
        make(tmp_path / "empty")
    one = write_files(tmp_path / "one", photos("cat", count=9))
    with pytest.raises(ValueError, match="has one class only, 'cat'"):
        make(one)
    few = write_files(tmp_path / "few", photos("cat", "dog", count=2))
    with pytest.raises(ValueError, match="a class has 2 images, too few to cut"):
        make(few)
    more = write_files(tmp_path / "more", photos("train/cat", "train/dog", "test/cat", "test/owl"))
    with pytest.raises(
        ValueError, match="holds classes that the training images do not have: owl; known are cat, dog"
    ):
        make(more)
    twice = write_files(tmp_path / "twice", photos("val/cat", "valid/cat"))
    with pytest.raises(ValueError, match="are both of the split 'val'; name one with data.val="):
        make(twice)
    with pytest.raises(
        ValueError, match=r"data.format must be one of \['image_folder', 'stanford_dogs'\], got 'coco'"
    ):
        make(more, format="coco")
    with pytest.raises(ValueError, match="data.box_crop=true needs boxes"):
        make(few, box_crop=True)
    with pytest.raises(FileNotFoundError, match="'nope' is neither a split of"):
        make(more, test="nope")
    with pytest.raises(ValueError, match="data.num_classes=3, but the data has 2: cat, dog"):
        make(write_files(tmp_path / "two", photos("cat", "dog", count=9)), num_classes=3)


def test_an_empty_class_folder_is_told(tmp_path: Path) -> None:
    write_files(tmp_path, photos("cat", "dog", count=5))
    (tmp_path / "owl").mkdir()
    data = make(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.problems() == {"class folder without images": [str(tmp_path / "owl")]}


def test_batches_and_broken_images(tmp_path: Path) -> None:
    write_files(tmp_path, photos("train/cat", "train/dog", "val/cat", "val/dog"))
    (tmp_path / "val" / "cat" / "1.jpg").write_bytes(b"no image")
    (tmp_path / "train" / "dog" / "3.jpg").write_bytes(b"no image")
    data = make(tmp_path, test="val", max_broken=0.5)
    first, second = data.val_dataloader()
    assert first.images.shape == (3, 3, 32, 32)
    assert (first.rows.tolist(), first.labels.tolist(), first.sizes.tolist()) == (
        [0, 2, 3],
        [0, 0, 0],
        [[40, 60]] * 3,
    )
    assert second.labels.tolist() == [1, 1, 1, 1]
    assert "1.jpg" in first.broken[0]
    assert all(len(batch.images) == 4 for batch in data.train_dataloader())  # the next image stands in


def write_dogs(root: Path) -> Path:
    from scipy.io import savemat

    names = [f"n01-{breed}/n01_{row}.jpg" for breed in ("Pug", "Great_Dane") for row in range(4)]
    write_files(root, {f"Images/{name}": None for name in names})
    for name in names:
        write_files(root, {
            f"Annotation/{name[:-4]}": "<annotation><object><bndbox><xmin>10</xmin><ymin>5</ymin><xmax>40</xmax>"
            "<ymax>35</ymax></bndbox></object></annotation>"
        })  # fmt: skip
    lists = {
        "train": [name for name in names if name[-5] != "3"],
        "test": [name for name in names if name[-5] == "3"],
    }
    for split, part in lists.items():
        cells = np.empty((len(part), 1), dtype=object)
        cells[:, 0] = part
        savemat(root / f"{split}_list.mat", {"file_list": cells})
    return root


def test_stanford_dogs(tmp_path: Path) -> None:
    root = write_dogs(tmp_path)
    data = make(root, val_fraction=0.3)
    assert data.class_names == ("Great Dane", "Pug")
    assert sizes(data) == {"train": 4, "val": 2, "test": 2}
    assert read_row(data.truth("test"), 0).shape == (40, 60, 3)
    cropped = make(root, val_fraction=0.3, box_crop=True)
    assert read_row(cropped.truth("test"), 0).shape == (30, 30, 3)


def test_damaged_stanford_dogs(tmp_path: Path) -> None:
    root = write_dogs(tmp_path)
    (root / "Annotation" / "n01-Pug" / "n01_0").write_text("<nothing/>")
    (root / "Images" / "n01-Pug" / "n01_1.jpg").unlink()
    problems = make(root, val_fraction=0.3, box_crop=True).problems()
    assert problems == {
        "listed image not found": ["n01-Pug/n01_1.jpg"],
        "image without a box: taken whole": ["n01-Pug/n01_0.jpg"],
    }
    (root / "test_list.mat").write_bytes(b"none")
    with pytest.raises(ValueError, match="test_list.mat is no list of Stanford Dogs"):
        make(root)
    with pytest.raises(FileNotFoundError, match="no Stanford Dogs in data.root="):
        ClassReader(tmp_path / "Images", "stanford_dogs", False)


def test_cut_classes_gives_every_part_a_row_of_each_class() -> None:
    labels = np.array([0] * 3 + [1] * 100)
    val, test, rest = cut_classes(labels, [0.1, 0.1], seed=0)
    assert [np.bincount(labels[part]).tolist() for part in (val, test, rest)] == [[1, 10], [1, 10], [1, 80]]
    assert sorted(np.concatenate([val, test, rest]).tolist()) == list(range(103))
