from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.batches import LabelTable
from mbapps.data.class_splits import (
    ClassReader,
    as_classes,
    cut_classes,
    only_classes,
    read_class_split,
    read_class_splits,
)
from mbapps.data.splits import SPLITS

NOTHING: dict[str, str | None] = dict.fromkeys(SPLITS)
TENTHS = {"val": 0.1, "test": 0.1}


def pictures(*folders: str, count: int = 4) -> dict[str, str | None]:
    return {f"{folder}/{number}.png": None for folder in folders for number in range(count)}


def make_table(*labels: int, names: tuple[str, ...] = ("a", "b", "c")) -> LabelTable:
    files = np.array([f"{row}.png" for row in range(len(labels))], dtype=np.str_)
    return LabelTable(Path("set"), files, np.array(labels, dtype=np.int32), names)


def test_found_splits_are_read(tmp_path: Path) -> None:
    root = write_files(
        tmp_path, pictures(*(f"{split}/{name}" for split in SPLITS for name in ("cat", "dog")))
    )
    tables = read_class_splits(ClassReader(root, None), NOTHING, TENTHS, 0)
    assert list(tables) == list(SPLITS)
    assert all(len(table) == 8 for table in tables.values())
    assert tables["val"].folder == root / "val"


def test_missing_splits_are_cut_from_each_class_of_train(tmp_path: Path) -> None:
    root = write_files(tmp_path, pictures("train/cat", "train/dog", "test/dog", "test/cat", count=10))
    reader = ClassReader(root, None)
    tables = read_class_splits(reader, NOTHING, {"val": 0.2, "test": 0.1}, 0)
    assert {split: len(table) for split, table in tables.items()} == {"train": 16, "val": 4, "test": 20}
    assert np.bincount(tables["val"].labels).tolist() == [2, 2]
    assert not set(tables["train"].files) & set(tables["val"].files)
    again = read_class_splits(reader, NOTHING, {"val": 0.2, "test": 0.1}, 0)
    assert again["val"].files.tolist() == tables["val"].files.tolist()
    other = read_class_splits(reader, NOTHING, {"val": 0.2, "test": 0.1}, 1)
    assert other["val"].files.tolist() != tables["val"].files.tolist()


def test_a_folder_of_classes_is_cut_in_three(tmp_path: Path) -> None:
    root = write_files(tmp_path, pictures("cat", "dog", count=10))
    tables = read_class_splits(ClassReader(root, None), NOTHING, TENTHS, 0)
    assert {split: len(table) for split, table in tables.items()} == {"train": 16, "val": 2, "test": 2}
    assert len({file for table in tables.values() for file in table.files}) == 20


def test_splits_may_be_named(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", pictures("web/cat", "web/dog", "clean/cat", "clean/dog"))
    elsewhere = write_files(tmp_path / "more", pictures("dog", "cat", count=2))
    named = {"train": "web", "val": "clean", "test": str(elsewhere)}
    tables = read_class_splits(ClassReader(root, None), named, TENTHS, 0)
    assert [tables[split].folder for split in SPLITS] == [root / "web", root / "clean", elsewhere]
    with pytest.raises(
        FileNotFoundError, match=r"'weeb' is neither a split of .*, which has all, nor a folder"
    ):
        read_class_splits(ClassReader(root, None), {**named, "train": "weeb"}, TENTHS, 0)


def test_classes_match_by_name_whatever_their_order(tmp_path: Path) -> None:
    root = write_files(
        tmp_path, pictures("train/ape", "train/cat", "train/dog", "val/dog", "test/cat", "test/dog")
    )
    tables = read_class_splits(ClassReader(root, None), NOTHING, TENTHS, 0)
    assert all(table.class_names == ("ape", "cat", "dog") for table in tables.values())
    assert tables["val"].labels.tolist() == [2] * 4
    assert sorted(set(tables["test"].labels.tolist())) == [1, 2]


def test_a_class_that_was_not_learned(tmp_path: Path) -> None:
    root = write_files(tmp_path, pictures("train/cat", "train/dog", "test/cat", "test/eel", "test/fox"))
    message = (
        r"/test holds classes that the training images in 'train' does not have: eel, fox; it has cat, dog"
    )
    with pytest.raises(ValueError, match=message):
        read_class_splits(ClassReader(root, None), NOTHING, TENTHS, 0)


def test_a_class_too_small_to_be_cut(tmp_path: Path) -> None:
    root = write_files(tmp_path, {**pictures("cat", count=9), **pictures("dog", count=2)})
    message = (
        r"the class 'dog' has 2 images, too few to cut \[1, 1\] for validation and test from: add images, leave it "
        r"out with data\.classes=, or name the splits"
    )
    with pytest.raises(ValueError, match=message):
        read_class_splits(ClassReader(root, None), NOTHING, TENTHS, 0)
    tables = read_class_splits(ClassReader(root, None, classes=["cat"]), NOTHING, TENTHS, 0)
    assert tables["train"].class_names == ("cat",)


def test_no_training_split(tmp_path: Path) -> None:
    root = write_files(tmp_path, pictures("val/cat", "test/cat"))
    with pytest.raises(
        FileNotFoundError, match=r"no training split in data\.root=.*, only test, val; name one with"
    ):
        read_class_splits(ClassReader(root, None), NOTHING, TENTHS, 0)


def test_one_split_alone(tmp_path: Path) -> None:
    root = write_files(tmp_path / "split", pictures("train/cat", "test/cat"))
    assert len(read_class_split(ClassReader(root, None), "test", None)) == 4
    assert read_class_split(ClassReader(root, None), "test", "train").folder == root / "train"
    with pytest.raises(
        FileNotFoundError, match=r"no val split in data\.root=.*, only test, train; name one with data"
    ):
        read_class_split(ClassReader(root, None), "val", None)
    whole = write_files(tmp_path / "whole", pictures("cat", "dog"))
    table = read_class_split(ClassReader(whole, None), "test", None)
    assert len(table) == 8
    assert table.problems == {"no test split: the whole set is measured": [str(whole)]}


def test_refusals_of_the_reader(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", pictures("cat"))
    with pytest.raises(
        ValueError, match=r"data\.format must be one of \['image_folder', 'stanford_dogs'\], got 'coco'"
    ):
        ClassReader(root, "coco")
    with pytest.raises(
        FileNotFoundError, match=r"no Stanford Dogs in data\.root=.*: it needs Images/ and train_list"
    ):
        ClassReader(root, "stanford_dogs")
    with pytest.raises(ValueError, match=r"data\.box_crop=true needs boxes: only Stanford Dogs has them"):
        ClassReader(root, None, box_crop=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no classes in data\.root=.*; looked for <class>/<image>"):
        ClassReader(tmp_path / "empty", None)


def test_a_subset_of_classes_keeps_the_order_asked_for() -> None:
    table = only_classes(make_table(0, 1, 2, 1, 0), ["c", "a"])
    assert table.class_names == ("c", "a")
    assert table.files.tolist() == ["0.png", "2.png", "4.png"]
    assert table.labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"data\.classes names d, but set has a, b, c"):
        only_classes(make_table(0, 1), ["a", "d"])


def test_many_classes_are_not_all_listed() -> None:
    names = tuple(f"class {row:03}" for row in range(120))
    with pytest.raises(ValueError, match=r"does not have: x; it has class 000, .*class 019 and 100 more$"):
        as_classes(make_table(0, names=("x",)), names, "it")


@pytest.mark.parametrize("fractions", [[0.1], [0.1, 0.25], [0.4, 0.4]])
def test_cuts_are_a_partition_of_each_class(fractions: list[float]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 90)
    parts = cut_classes(make_table(*labels), fractions, 7)
    assert len(parts) == len(fractions) + 1
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(90))
    for fraction, part in zip(fractions, parts, strict=False):
        assert np.array_equal(part, np.sort(part))
        for label in range(3):
            assert (labels[part] == label).sum() == round((labels == label).sum() * fraction)
