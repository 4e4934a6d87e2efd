"""Lists of five landmarks in each face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.batches import IdentityTable
from mbapps.data.identities import read_people
from mbapps.data.landmarks import WITHOUT, read_landmarks

FIVE = "20 15 40 15 30 22 23 30 37 30"
HEADER = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


@pytest.fixture
def people(tmp_path: Path) -> IdentityTable:
    return read_people(
        write_files(tmp_path / "set", dict.fromkeys(["Ann/a b.png", "Ann/1.png", "Bo/1.png", "Bo/2.png"]))
    )


def listed(folder: Path, *lines: str) -> Path:
    return write_files(folder, {"landmarks.txt": "\n".join(lines)}) / "landmarks.txt"


def test_files_by_path_and_by_a_name_that_only_one_has(people: IdentityTable, tmp_path: Path) -> None:
    path = listed(
        tmp_path, "4", HEADER, f"Bo/1.png  {FIVE}", f"2.png {FIVE}", f"1.png {FIVE}", f"a b.png {FIVE}"
    )
    table = read_landmarks(path, people)
    assert table.files.tolist() == ["Ann/a b.png", "Bo/1.png", "Bo/2.png"]  # 1.png might be either's
    assert table.labels.tolist() == [0, 1, 1]
    assert table.problems == {WITHOUT: ["Ann/1.png"]}
    assert table.landmarks is not None
    assert table.landmarks.shape == (3, 5, 2)
    assert table.landmarks[0].reshape(-1).tolist() == [float(word) for word in FIVE.split()]
    assert table.part(0, np.zeros((40, 60, 3), dtype=np.uint8)).shape == (224, 224, 3)


@pytest.mark.parametrize("comma", [",", "\t", ", "])
def test_commas_and_tabs(people: IdentityTable, tmp_path: Path, comma: str) -> None:
    path = listed(
        tmp_path, comma.join(["file", *HEADER.split()]), comma.join(["./Ann/a b.png", *FIVE.split()])
    )
    assert read_landmarks(path, people).files.tolist() == ["Ann/a b.png"]


def test_points_that_are_no_face_are_left_out(people: IdentityTable, tmp_path: Path) -> None:
    path = listed(tmp_path, f"2.png {FIVE}", "Ann/1.png" + " 7" * 10, "Bo/1.png" + " nan" * 10)
    table = read_landmarks(path, people)
    assert table.files.tolist() == ["Bo/2.png"]
    assert table.problems["face whose landmarks are not five points: left out"] == ["Ann/1.png", "Bo/1.png"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"2.png {FIVE}", f"2.png {FIVE}"], r"line 2: 2\.png has landmarks already"),
        ([f"2.png {FIVE}", "1.png 1 2 3"], r"line 2: expected a file and 10 numbers, got '1\.png 1 2 3'"),
        (["1.png 1 2 3", f"2.png {FIVE}"], r"line 1: expected a file and 10 numbers"),
        (["3", HEADER], r"has no landmarks: a line is a file and 10 numbers"),
        (
            [f"cat.png {FIVE}"],
            r"has landmarks for none of the 4 pictures in .*set; it begins with 'cat\.png'",
        ),
        (
            ["2.png 40 15 20 15 30 22 37 30 23 30"],
            r"left and right are swapped in 1 of 1 faces; each line is left eye, right eye, nose",
        ),
    ],
)
def test_lists_that_are_wrong(people: IdentityTable, tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_landmarks(listed(tmp_path, *lines), people)


def test_no_list(people: IdentityTable) -> None:
    with pytest.raises(FileNotFoundError, match=r"no list of landmarks at data\.landmarks=nowhere"):
        read_landmarks(Path("nowhere"), people)
