from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.data.celeba import LIST, PARTITION, celeba_list, read_celeba, read_partition

ROWS = "3\nBald Smiling Hat \na.jpg -1  1  1\nb.jpg  1 -1  0\nc.jpg -1 -1 -1\n"


def celeba(root: Path, **files: str | None) -> Path:
    pictures = {f"img_align_celeba/{name}.jpg": None for name in "abc"}
    return write_files(root, {LIST: ROWS, **pictures, **files})


def test_values_and_order(tmp_path: Path) -> None:
    table = read_celeba(celeba(tmp_path))
    assert table.class_names == ("Bald", "Smiling", "Hat")
    assert table.files.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.labels.tolist() == [[0, 1, 1], [1, 0, -1], [0, 0, 0]]
    assert table.labels.dtype == np.int8
    assert table.problems == {}
    some = read_celeba(tmp_path, ["Hat", "Bald"])
    assert some.class_names == ("Hat", "Bald")
    assert some.labels.tolist() == [[1, 0], [-1, 1], [0, 0]]


@pytest.mark.parametrize("folder", ["images", "Img/img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_pictures_may_lie_elsewhere(tmp_path: Path, folder: str) -> None:
    write_files(tmp_path, {f"Anno/{LIST}": ROWS, f"{folder}/b.jpg": None})
    table = read_celeba(tmp_path)
    assert table.folder == tmp_path / folder
    assert table.files.tolist() == ["b.jpg"]
    assert table.problems == {"listed image not found": ["a.jpg", "c.jpg"]}


def test_what_is_wrong_with_the_list_is_told(tmp_path: Path) -> None:
    rows = ROWS.replace("3\n", "202599\n", 1) + "d.jpg 1 1\ne.jpg 1 2 1\n"
    table = read_celeba(celeba(tmp_path, **{LIST: rows}))
    assert len(table) == 3
    counts, bad = table.problems.values()
    assert counts == [f"{tmp_path / LIST}: 202,599 in its first line, 5 rows"]
    assert bad == ["d.jpg 1 1", "e.jpg 1 2 1"]


def test_labels_without_pictures(tmp_path: Path) -> None:
    write_files(tmp_path, {LIST: ROWS})
    with pytest.raises(
        FileNotFoundError, match=r"none of the 3 pictures .* is there, for instance a\.jpg: put them"
    ):
        read_celeba(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Bald Smiling\na.jpg 1 1\nb.jpg 1 1\n", "is no list of CelebA: its first line is the count"),
        ("", "is no list of CelebA"),
        ("1\nBald Smiling\na.jpg yes no\n", "has no row with 1, -1 or 0 for each of its 2 attributes"),
    ],
)
def test_no_list(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_celeba(celeba(tmp_path, **{LIST: text}))


def test_a_binary_file_is_no_list(tmp_path: Path) -> None:
    (celeba(tmp_path) / LIST).write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="is no text"):
        read_celeba(tmp_path)


def test_an_unknown_attribute(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no attribute Beard, Age; it has Bald, Smiling, Hat$"):
        read_celeba(celeba(tmp_path), ["Beard", "Hat", "Age"])


def test_no_celeba(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CelebA in data.root="):
        read_celeba(tmp_path)


def test_partition(tmp_path: Path) -> None:
    root = celeba(tmp_path, **{f"Eval/{PARTITION}": "b.jpg 0\na.jpg 2\n"})
    table = read_celeba(root)
    parts = read_partition(root, table)
    assert parts is not None
    assert {split: part.files.tolist() for split, part in parts.items()} == {
        "train": ["b.jpg"],
        "val": [],
        "test": ["a.jpg"],
    }
    assert table.problems == {f"image that {PARTITION} does not list": ["c.jpg"]}


def test_a_bad_partition(tmp_path: Path) -> None:
    root = celeba(tmp_path, **{PARTITION: "a.jpg 0\nb.jpg 3\n"})
    with pytest.raises(
        ValueError, match=f"{PARTITION}, line 2: a line is a file name and 0 .* got 'b.jpg 3'"
    ):
        read_partition(root, read_celeba(root))


def test_without_a_partition(tmp_path: Path) -> None:
    assert read_partition(celeba(tmp_path), read_celeba(tmp_path)) is None


def test_the_real_list(tmp_path: Path, test_data: Path) -> None:
    shutil.copy(test_data / "datasets/faces/celeba_attr/list_attr_celeba_first500.txt", tmp_path / LIST)
    write_files(tmp_path, {"images/000001.jpg": None, "images/000500.jpg": None})
    assert celeba_list(tmp_path)
    table = read_celeba(tmp_path)
    assert len(table.class_names) == 40
    assert table.files.tolist() == ["000001.jpg", "000500.jpg"]
    row = dict(zip(table.class_names, table.labels[0].tolist(), strict=True))
    assert (row["Smiling"], row["Male"], row["Young"], row["Bald"]) == (1, 0, 1, 0)
    reasons = {reason: len(places) for reason, places in table.problems.items()}
    assert reasons == {
        "list whose first line counts other images than it has": 1,
        "listed image not found": 498,
    }


def test_a_repeated_row_counts_once(tmp_path: Path) -> None:
    table = read_celeba(celeba(tmp_path, **{LIST: ROWS.replace("3\n", "4\n", 1) + "a.jpg 1 1 1\n"}))
    assert table.files.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.labels[0].tolist() == [0, 1, 1]
    assert table.problems == {"image that is listed again: its first row counts": ["a.jpg"]}
