from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_files

from mbapps.data.image_folder import class_folders, read_image_folder


def test_a_class_is_a_folder(tmp_path: Path) -> None:
    root = write_files(tmp_path, {
        "dog/b.png": None, "dog/a.JPG": None, "cat/deep/er/c.jpeg": None, "cat/notes.txt": "no image",
        "loose.png": None, ".hidden/x.png": None, "dog/.DS.png": None, "cat/.git/y.png": None,
    })  # fmt: skip
    table = read_image_folder(root)
    assert table.class_names == ("cat", "dog")
    assert table.files.tolist() == ["cat/deep/er/c.jpeg", "dog/a.JPG", "dog/b.png"]
    assert table.labels.tolist() == [0, 1, 1]
    assert table.problems == {}
    assert (table.folder, table.crops, table.columns) == (root, None, None)


def test_it_reads_what_torchvision_reads(test_data: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    root = test_data / "datasets" / "fine_grained" / "flowers12" / "test"
    theirs, ours = datasets.ImageFolder(str(root)), read_image_folder(root)
    assert list(ours.class_names) == theirs.classes
    assert [(str(root / file), label) for file, label in zip(ours.files, ours.labels, strict=True)] == [
        (path, label) for path, label in theirs.samples
    ]


def test_an_empty_class_is_told_and_left_out(tmp_path: Path) -> None:
    root = write_files(tmp_path, {"cat/a.png": None, "dog/a.png": None, "eel/readme.txt": "none yet"})
    table = read_image_folder(root)
    assert table.class_names == ("cat", "dog")
    assert table.problems == {"class folder without images: left out": [str(root / "eel")]}


def test_links_are_followed(tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", {"a.png": None})
    root = write_files(tmp_path / "set", {"cat/a.png": None})
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    assert read_image_folder(root).files.tolist() == ["cat/a.png", "dog/a.png"]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder of classes at .*nowhere"):
        read_image_folder(tmp_path / "nowhere")
    write_files(tmp_path, {"cat/a.txt": "x", "loose.png": None})
    with pytest.raises(FileNotFoundError, match=r"no images in .*/<class>/: a class is a folder"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test"), {"train": "train", "val": "val", "test": "test"}),
        (("Training", "valid"), {"train": "Training", "val": "valid"}),
        (("testing", "validation"), {"test": "testing", "val": "validation"}),
        (("pug", "train"), {"all": "."}),  # a dog set may well have a class "train"
        (("pug", "beagle"), {"all": "."}),
        ((), {}),
    ],
)
def test_split_folders_are_told_by_their_names(
    tmp_path: Path, folders: tuple[str, ...], splits: dict[str, str]
) -> None:
    for name in (*folders, ".cache"):
        (tmp_path / name).mkdir()
    assert class_folders(tmp_path) == {split: tmp_path / name for split, name in splits.items()}


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    for name in ("val", "valid"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        ValueError, match=r"/val and .*/valid are both of the split 'val'; name one with data\.val="
    ):
        class_folders(tmp_path)


def test_folders_beside_the_splits(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{split}/pug/1.png": None for split in ("train", "test")})
    (tmp_path / "annotations").mkdir()
    assert set(class_folders(tmp_path)) == {"train", "test"}
    write_files(tmp_path, {"more/1.png": None})
    with pytest.raises(
        ValueError, match="has split folders and, beside them, images in more: move these elsewhere"
    ):
        class_folders(tmp_path)
