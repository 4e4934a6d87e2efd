"""People in folders, and lists of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.data.identities import images_each, named_people, read_people, read_people_list, take_people


def test_a_person_is_a_folder(tmp_path: Path) -> None:
    table = read_people(write_files(tmp_path, {
        "Bo_Li/Bo_Li_0001.jpg": None, "Bo_Li/2019/winter/a.png": None, "Ann/1.pgm": None, "Ann/notes.txt": "none",
        "Eve/readme.txt": "none", ".cache/x.jpg": None, "Ann/.thumb.png": None, "pairs.txt": "1",
    }))  # fmt: skip
    assert table.class_names == ("Ann", "Bo_Li")
    assert table.files.tolist() == ["Ann/1.pgm", "Bo_Li/2019/winter/a.png", "Bo_Li/Bo_Li_0001.jpg"]
    assert table.labels.tolist() == [0, 1, 1]
    assert images_each(table).tolist() == [1, 2]
    assert table.problems == {"folder of a person without pictures: left out": [str(tmp_path / "Eve")]}
    assert (table.face_crop, table.landmarks, table.pairs) == (None, None, None)


def test_the_share_that_shows_the_face_is_kept_of_each(tmp_path: Path) -> None:
    table = read_people(write_files(tmp_path, {"Ann/1.png": None, "Bo/1.png": None}), 0.5)
    assert table.face_crop is not None
    assert table.face_crop.tolist() == [0.5, 0.5]
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    assert table.part(0, image).shape == (20, 30, 3)


def test_a_lone_folder_of_folders_is_gone_into(tmp_path: Path) -> None:
    write_files(tmp_path, {"lfw/lfw/Ann/1.png": None, "lfw/lfw/Bo/1.png": None, "lfw/README": "text"})
    table = read_people(tmp_path)
    assert (table.folder, table.class_names) == (tmp_path / "lfw" / "lfw", ("Ann", "Bo"))
    alone = read_people(write_files(tmp_path / "one", {"Ann/1.png": None, "Ann/old/2.png": None}))
    assert alone.class_names == ("Ann",)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, FileNotFoundError, r"no folder of people at .*set"),
        ({"Ann/notes.txt": "none"}, FileNotFoundError, r"no pictures in .*/<person>/: a person is a folder"),
        (
            {"train/Ann/1.png": None, "test/Bo/1.png": None}, ValueError,
            r"holds the splits test, train, not people: set data\.root to the one to train on and data\.test",
        ),
    ],
)  # fmt: skip
def test_folders_without_people(tmp_path: Path, files: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_people(write_files(tmp_path / "set", files))


def test_an_empty_folder_holds_nobody(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no pictures in .*/<person>/: a person is a folder"):
        read_people(tmp_path)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_crop_out_of_range(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=r"data\.face_crop must be in \(0, 1\], got"):
        read_people(tmp_path, share)


def test_some_people_get_labels_of_their_own(tmp_path: Path) -> None:
    table = read_people(
        write_files(tmp_path, {f"{name}/{i}.png": None for name in "abcd" for i in (1, 2)}), 0.5
    )
    part = take_people(table, named_people(table, {"b", "d", "x"}))
    assert part.class_names == ("b", "d")
    assert part.labels.tolist() == [0, 0, 1, 1]
    assert part.files.tolist() == ["b/1.png", "b/2.png", "d/1.png", "d/2.png"]
    assert part.face_crop is not None
    assert len(part.face_crop) == 4


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Ann\nBo Li\n\n", ("Ann", "Bo Li")),
        ("\ufeffAnn\t3\r\nBo Li\t12\r\n", ("Ann", "Bo Li")),
        ("2\nAnn\t3\nBo\t1\n", ("Ann", "Bo")),
        ("2\n1\nAnn\t3\n2\nBo\t1\nEve\t4\n", ("Ann", "Bo", "Eve")),  # two folds
        ("Ann\nBo\nAnn\n", ("Ann", "Bo")),
        ("17\n4\n23\n", ("17", "4", "23")),  # names that are numbers
    ],
)
def test_lists_of_people(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    write_files(tmp_path, {"people.txt": text})
    assert read_people_list(tmp_path / "people.txt") == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\nAnn\nBo\n", r"its first line, 3, is neither the number of the 2 names below nor of folds"),
        ("2\n1\nAnn\n2\nBo\n", r"its first line, 2, is neither"),
        ("2\n1\nAnn\n1\nBo\nEve\n", r"its first line, 2, is neither"),
        ("\n", r"names nobody"),
    ],
)
def test_lists_that_do_not_add_up(tmp_path: Path, text: str, message: str) -> None:
    path = write_files(tmp_path, {"people.txt": text}) / "people.txt"
    with pytest.raises(ValueError, match=message):
        read_people_list(path)
    with pytest.raises(FileNotFoundError, match="no list of people at nowhere"):
        read_people_list(Path("nowhere"))


def test_real_folders(test_data: Path) -> None:
    faces = test_data / "datasets" / "faces"
    lfw = read_people(faces / "lfw_train")
    assert (len(lfw), len(lfw.class_names)) == (2171, 298)
    listed = named_people(lfw, set(read_people_list(faces / "lfw_train" / "people_dev.txt")))
    assert listed.sum() == len(read_people_list(faces / "lfw_train" / "people_dev.txt"))
    orl = read_people(faces / "orl")
    assert images_each(orl).tolist() == [10] * 40
