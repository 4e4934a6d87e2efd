"""LFW's lists of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_files

from mbapps.batches import IdentityTable
from mbapps.data.identities import read_people
from mbapps.data.pairs import list_pairs, read_pairs


@pytest.fixture
def people(tmp_path: Path) -> IdentityTable:
    """Names as LFW's, names with blanks, and plain numbers as ORL's."""
    files = [f"{name}/{name}_{i:04d}.jpg" for name in ("Ann", "Bo Li") for i in (1, 2, 3)]
    return read_people(
        write_files(tmp_path / "set", dict.fromkeys([*files, "s1/1.pgm", "s1/10.pgm", "s2/1.pgm"]))
    )


def written(folder: Path, text: str) -> Path:
    return write_files(folder, {"pairs.txt": text}) / "pairs.txt"


def test_folds_of_genuine_and_impostor_pairs(people: IdentityTable, tmp_path: Path) -> None:
    text = "2\t1\nAnn\t1\t3\nAnn\t2\tBo Li\t1\ns1\t1\t10\ns1\t1\ts2\t1\n"
    pairs = read_pairs(written(tmp_path, text), people).pairs
    assert pairs is not None
    named = [(people.files[a], people.files[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert named == [
        ("Ann/Ann_0001.jpg", "Ann/Ann_0003.jpg"),
        ("Ann/Ann_0002.jpg", "Bo Li/Bo Li_0001.jpg"),
        ("s1/1.pgm", "s1/10.pgm"),
        ("s1/1.pgm", "s2/1.pgm"),
    ]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]


def test_one_fold_and_blanks(people: IdentityTable, tmp_path: Path) -> None:
    table = read_pairs(written(tmp_path, "2\nAnn 1 2\n\ns1 1 10\nAnn 1 s1 1\nAnn 2 s2 1\n"), people)
    assert table.pairs is not None
    assert table.pairs.folds.tolist() == [0] * 4
    assert table.pairs.same.tolist() == [True, True, False, False]
    assert table.problems == {}


def test_a_picture_that_is_missing_is_told_and_too_many_are_refused(
    people: IdentityTable, tmp_path: Path
) -> None:
    text = "2\nAnn 1 2\nAnn 1 9\nAnn 1 s1 1\nAnn 2 s2 1\n"
    table = read_pairs(written(tmp_path, text), people)
    assert table.pairs is not None
    assert table.pairs.same.tolist() == [True, False, False]
    told = f"{tmp_path / 'pairs.txt'}, line 3: no picture 9 of Ann"
    assert table.problems == {"pair with a picture that is not there: left out": [told]}
    worse = written(tmp_path, text.replace("s1 1", "Nobody 4"))
    with pytest.raises(
        ValueError, match=r"2 of 4 pairs name pictures that are not in .*set, more than 1%"
    ) as error:
        read_pairs(worse, people)
    assert "line 4: no picture 4 of Nobody" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"pairs\.txt is empty"),
        ("Ann 1 2\n", r"the first line must be the number of pairs of each kind, .* got 'Ann 1 2'"),
        ("0\n", r"the first line must be the number of pairs"),
        ("2 1\nAnn 1 2\nAnn 1 s1 1\n", r"2 x 1 pairs of each kind are 4 lines after the first, there are 2"),
        ("1\nAnn 1 2\nAnn 1 3\n", r"fold 1 has 2 pairs of one person and 0 of two, not 1 of each"),
        ("1\nAnn 1 2\nAnn 1 s1\n", r"pairs\.txt, line 3: a pair is `name i j` or `name i other j`"),
        ("1\nAnn 1 2\nAnn x s1 1\n", r"line 3: a pair is"),
        ("1\nAnn 1 2\nAnn 1 Ann 2\n", r"line 3: a pair of two people names Ann twice"),
        ("1\nAnn 2 2\nAnn 1 s1 2\n", r"line 2: a picture is paired with itself: 'Ann 2 2'"),
    ],
)
def test_lists_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list_pairs(written(tmp_path, text))


def test_no_list() -> None:
    with pytest.raises(FileNotFoundError, match="no list of pairs at nowhere"):
        list_pairs(Path("nowhere"))


def test_real_pairs(test_data: Path) -> None:
    root = test_data / "datasets" / "faces" / "lfw_train"
    table = read_pairs(root / "pairs_dev.txt", read_people(root))
    assert table.pairs is not None
    assert len(table.pairs.same) == 600
    assert table.pairs.same.sum() == 300
    same = table.labels[table.pairs.first] == table.labels[table.pairs.second]
    assert (same == table.pairs.same).all()
