"""Which people are trained on, which are measured, and what their batches hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_files

from mbapps.batches import ClassificationBatch
from mbapps.data.face_embed import FaceEmbedData, share_of_people
from mbapps.data.identities import read_people

QUICK: dict[str, Any] = {"image_size": 16, "batch_size": 8, "num_workers": 0}
OVERLAP = "person who is both trained on and measured: allowed by data.allow_overlap"


def people(root: Path, *names: str, pictures: int = 3, **texts: str) -> Path:
    files: dict[str, str | None] = {
        f"{name}/{name}_{i:04d}.png": None for name in names for i in range(1, pictures + 1)
    }
    return write_files(root, files | {f"{name}.txt": text for name, text in texts.items()})


def names(data: FaceEmbedData) -> dict[str, set[str]]:
    return {split: set(table.class_names) for split, table in data.tables.items()}


MANY = tuple(f"p{number:02d}" for number in range(40))


def test_batches_hold_people_with_several_pictures_each(tmp_path: Path) -> None:
    root = people(tmp_path, *MANY)
    data = FaceEmbedData(root=str(root), augment={}, **QUICK)
    data.check_measurable()
    assert sum(map(len, names(data).values())) == len(set.union(*names(data).values())) == 40
    assert data.class_names == data.tables["train"].class_names
    for batch in data.train_dataloader():
        assert isinstance(batch, ClassificationBatch)
        assert np.unique(batch.labels, return_counts=True)[1].tolist() == [4, 4]
    assert batch.images.shape == (8, 3, 16, 16)
    plain = FaceEmbedData(root=str(root), images_per_person=None, **{**QUICK, "batch_size": 5})
    rows = [row for batch in plain.train_dataloader() for row in batch.rows.tolist()]
    assert len(rows) == len(set(rows)) > len(plain.tables["train"]) - 5
    assert sum(len(batch.rows) for batch in data.test_dataloader()) == len(data.tables["test"])
    assert data.problems() == {}
    assert data.names("val", [0])[0].endswith("_0001.png")


def test_who_is_measured_does_not_depend_on_the_others(tmp_path: Path) -> None:
    whole = FaceEmbedData(root=str(people(tmp_path / "all", *MANY)), **QUICK)
    half = FaceEmbedData(root=str(people(tmp_path / "half", *MANY[::2])), **QUICK)
    for split, some in names(half).items():
        assert some == names(whole)[split] & set(MANY[::2])
    alone = FaceEmbedData(
        root=str(tmp_path / "all"), split="test", batch_size=1, image_size=16, num_workers=0
    )
    assert names(alone) == {"test": names(whole)["test"]}


def test_a_small_set_has_pairs_in_each_split(tmp_path: Path) -> None:
    data = FaceEmbedData(
        root=str(people(tmp_path, *"abcdef")), val_fraction=0.01, test_fraction=0.01, **QUICK
    )
    assert {split: len(some) for split, some in names(data).items()} == {"train": 2, "val": 2, "test": 2}


def test_shares_of_people_are_near_what_was_asked_for(tmp_path: Path) -> None:
    table = read_people(people(tmp_path, "a"))
    many = replace(
        table, class_names=tuple(f"{i}" for i in range(2000)), labels=np.arange(2000, dtype=np.int32),
    )  # fmt: skip
    among = np.arange(2000) < 1000
    taken = share_of_people(many, among, 0.2, "test")
    assert not (taken & ~among).any()
    assert taken.sum() == pytest.approx(200, abs=40)


def test_pairs_and_lists_say_who_is_measured(tmp_path: Path) -> None:
    pairs = "1\np00\t1\t2\np00\t3\tp01\t1\n"
    root = people(tmp_path, *MANY[:8], pairs=pairs, some="p02\np03\nNobody\n", other="p04\np05\np06\np07")
    data = FaceEmbedData(root=str(root), **QUICK)
    assert names(data)["test"] == {"p00", "p01"}
    assert data.tables["test"].pairs.same.tolist() == [True, False]
    root.joinpath("pairs.txt").rename(root / "moved.txt")
    moved = FaceEmbedData(root=str(root), pairs=str(root / "moved.txt"), split="test", **QUICK)
    assert names(moved) == {"test": {"p00", "p01"}}
    lists = {"test_people": str(root / "some.txt"), "train_people": str(root / "other.txt")}
    listed = FaceEmbedData(root=str(root), **lists, **QUICK)
    assert names(listed)["test"] == {"p02", "p03"}
    assert names(listed)["train"] | names(listed)["val"] == {"p04", "p05", "p06", "p07"}
    assert listed.problems() == {"person of data.test_people without pictures: left out": ["Nobody"]}
    assert listed.tables["test"].pairs is None
    with pytest.raises(ValueError, match=r"none of the 1 people of data\.train_people=.*has a folder"):
        FaceEmbedData(
            root=str(root), train_people=str(write_files(root, {"x.txt": "Nobody"}) / "x.txt"), **QUICK
        )


def test_another_folder_is_measured_whole(tmp_path: Path) -> None:
    root = people(tmp_path / "train", *MANY[:9])
    test = people(tmp_path / "test", "Ann", "Bo", pairs="1\nAnn\t1\t2\nAnn\t1\tBo\t1\n")
    data = FaceEmbedData(root=str(root), test=str(test), **QUICK)
    assert names(data)["test"] == {"Ann", "Bo"}
    assert len(names(data)["train"] | names(data)["val"]) == 9
    assert data.tables["test"].pairs is not None
    alone = FaceEmbedData(root="nowhere", test=str(test), split="test", **QUICK)
    assert (names(alone), alone.lineage()["name"]) == ({"test": {"Ann", "Bo"}}, "test")


def test_people_who_are_trained_on_and_measured(tmp_path: Path) -> None:
    root = people(tmp_path / "train", *MANY[:20])
    test = people(tmp_path / "test", *MANY[2:17], "Ann")
    with pytest.raises(
        ValueError, match=r"15 people are both to be trained on and to be measured: p02, .*, p11 and 5 m"
    ):
        FaceEmbedData(root=str(root), test=str(test), **QUICK)
    data = FaceEmbedData(root=str(root), test=str(test), allow_overlap=True, **QUICK)
    assert len(names(data)["test"]) == 16
    assert data.problems() == {OVERLAP: list(MANY[2:17])}
    lists = write_files(tmp_path, {"a.txt": "\n".join(MANY[:8]), "b.txt": "\n".join(MANY[7:11])})
    both = {"train_people": str(lists / "a.txt"), "test_people": str(lists / "b.txt")}
    with pytest.raises(
        ValueError, match=r"1 people are both .*: p07; take them out .* data\.allow_overlap=true"
    ):
        FaceEmbedData(root=str(root), **both, **QUICK)
    allowed = FaceEmbedData(root=str(root), allow_overlap=True, **both, **QUICK)
    assert names(allowed)["test"] == set(MANY[7:11])
    assert "p07" in names(allowed)["train"] | names(allowed)["val"]


def test_the_face_is_cut_out(tmp_path: Path) -> None:
    root = people(tmp_path, *"abcdef", pairs="1\na 1 2\na 1 b 1\n")
    data = FaceEmbedData(root=str(root), face_crop=0.5, **QUICK)
    plain, titled = data.picture("test", 0)
    assert plain.shape == (20, 30, 3)
    assert (plain != titled).any()
    points = "20 15 40 15 30 22 23 30 37 30"
    lines = [f"{name}/{name}_{i:04d}.png {points}" for name in "abcdef" for i in (1, 2)]
    write_files(root, {"points.txt": "\n".join(lines)})
    aligned = FaceEmbedData(root=str(root), landmarks="points.txt", **QUICK)  # a name in the folder
    assert {split: len(table) for split, table in aligned.tables.items()}["test"] == 4
    assert aligned.picture("test", 0)[0].shape == (224, 224, 3)
    prints = {one.lineage()["fingerprint"] for one in (data, aligned, FaceEmbedData(root=str(root), **QUICK))}
    assert len(prints) == 3
    assert len(data.preview(3)) == 3


def test_people_with_one_picture_stay(tmp_path: Path) -> None:
    root = people(tmp_path, *MANY[:20])
    people(root, *MANY[20:], pictures=1)
    data = FaceEmbedData(root=str(root), **QUICK)
    train = data.tables["train"]
    rows = [row for batch in data.train_dataloader() for row in batch.rows.tolist()]
    assert set(rows) == set(range(len(train)))  # all are used
    assert any(name in MANY[20:] for name in names(data)["test"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 6}, r"data\.batch_size=6 must be a multiple of data\.images_per_person=4, twice at least"),
        ({"batch_size": 4}, r"data\.batch_size=4 must be a multiple"),
        ({"images_per_person": 1}, r"data\.images_per_person must be a whole number >= 2, or null for none, got 1"),
        ({"num_classes": 3}, r"data\.num_classes=3, but the data has 2"),
        ({"val_fraction": 0.999}, r"leaves 0 people to train on, 0 of them with two or more pictures; it takes 2"),
        ({"test_fraction": 1.5}, r"data\.test_fraction must be in \(0, 1\), got 1\.5"),
        ({"split": "dev"}, r"split must be one of"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceEmbedData(root=str(people(tmp_path, *"abcdef")), **{**QUICK, "val_fraction": 0.01, **settings})


def test_splits_without_pairs(tmp_path: Path) -> None:
    root = people(tmp_path / "one", *MANY[:6])
    lists = write_files(tmp_path, {"a.txt": "p00", "b.txt": "p01\np02"})
    with pytest.raises(
        ValueError, match=r"the test split of .* has 1 people, 1 of them with two or more pictures"
    ):
        FaceEmbedData(root=str(root), test_people=str(lists / "a.txt"), **QUICK)
    data = FaceEmbedData(root=str(root), test_people=str(lists / "b.txt"), **QUICK)
    data.tables["val"] = data.tables["val"].take(np.array([0]))
    with pytest.raises(ValueError, match=r"the val split of .* raise data\.val_fraction"):
        data.check_measurable()


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at data\.root=nowhere"):
        FaceEmbedData(root="nowhere", **QUICK)


def test_real_faces(test_data: Path) -> None:
    faces = test_data / "datasets" / "faces"
    lfw = faces / "lfw_train"
    data = FaceEmbedData(
        root=str(lfw), face_crop=0.55, pairs=str(lfw / "pairs_dev.txt"),
        test_people=str(lfw / "people_dev.txt"), **QUICK,
    )  # fmt: skip
    data.check_measurable()
    assert len(data.tables["test"].pairs.same) == 600
    assert next(iter(data.test_dataloader())).images.float().std() > 20
    orl = FaceEmbedData(root=str(faces / "orl"), **QUICK)
    assert sum(len(table) for table in orl.tables.values()) == 400


def test_a_folder_to_measure_may_be_cut_otherwise(tiny_people: Path) -> None:
    both = {"image_size": 32, "face_crop": 1.0, "test_face_crop": 0.5}
    data = FaceEmbedData(root=str(tiny_people), test=str(tiny_people), allow_overlap=True, **both)
    measured, learned = data.views("test")[0, 0].image, data.views("val")[0, 0].image
    whole = FaceEmbedData(root=str(tiny_people), test=str(tiny_people), allow_overlap=True, image_size=32)
    assert (learned == whole.views("val")[0, 0].image).all()
    assert (measured != whole.views("test")[0, 0].image).any()
    assert data.face_crop == 1.0
    assert FaceEmbedData(root=None, test=str(tiny_people), split="test", **both).face_crop == 0.5
    with pytest.raises(
        ValueError, match=r"data\.test_face_crop=0\.5 is of the folder data\.test=, and there is none"
    ):
        FaceEmbedData(root=str(tiny_people), image_size=32, test_face_crop=0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"face_crop": "abc"}, r"data\.face_crop must be in \(0, 1\], got abc"),
        (
            {"images_per_person": "abc"},
            r"images_per_person must be a whole number >= 2, or null for none, got 'abc'",
        ),
    ],
)
def test_settings_of_another_kind(tiny_people: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceEmbedData(root=str(tiny_people), image_size=32, **setting)
