from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files

from mbapps.data.utkface import ATTRIBUTES, is_utkface, judge, read_utkface

STRANGE = ["61_1_20170109142408075.jpg", "notes.png", "30_7_0_20170105183259439.jpg"]


def faces(root: Path, *names: str) -> Path:
    return write_files(root, dict.fromkeys(names))


def test_ages_and_gender_from_the_names(tmp_path: Path) -> None:
    faces(tmp_path, "18_0_4_20170105183259439.chip.jpg", "part2/60_1_0_20170105183259439.jpg", *STRANGE[:1])
    table = read_utkface(tmp_path)
    assert table.class_names == ATTRIBUTES == ("male", "age>=30", "age>=45", "age>=60")
    assert table.files.tolist() == ["18_0_4_20170105183259439.chip.jpg", "part2/60_1_0_20170105183259439.jpg"]
    assert table.labels.tolist() == [[1, 0, 0, 0], [0, 1, 1, 1]]
    assert list(table.problems.values()) == [[STRANGE[0]]]


def test_any_age_can_be_asked_for(tmp_path: Path) -> None:
    faces(tmp_path, "30_0_0_2017.jpg", "31_1_0_2017.jpg")
    wanted = ["female", "age > 30", "age<31", "age<=29", "age>=30"]
    table = read_utkface(tmp_path, wanted)
    assert table.class_names == tuple(wanted)
    assert table.labels.tolist() == [[0, 0, 1, 0, 1], [1, 1, 0, 0, 1]]


@pytest.mark.parametrize(
    "attribute", ["race", "age=30", "age>=__import__('os')", "Male", "age>=30 or male", ""]
)
def test_nothing_else_is_understood(attribute: str) -> None:
    with pytest.raises(ValueError, match="are male, female, and ages such as age>=30, got"):
        judge(attribute, np.array([30]), np.array([True]))


def test_most_names_decide(tmp_path: Path) -> None:
    assert not is_utkface(tmp_path)
    faces(tmp_path, *STRANGE)
    assert not is_utkface(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="no pictures named <age>_<gender>_<race>_<date> in data.root="
    ):
        read_utkface(tmp_path)
    faces(tmp_path, *(f"{age}_0_0_2017.jpg" for age in range(20, 24)))
    assert is_utkface(tmp_path)


def test_the_real_folder(test_data: Path) -> None:
    table = read_utkface(test_data / "datasets/faces/utkface_adult")
    assert len(table) == 1600
    assert table.problems == {}
    assert (np.diff(table.labels[:, 1:].mean(axis=0)) < 0).all()  # fewer are older
    assert 0.4 < table.labels[:, 0].mean() < 0.6
