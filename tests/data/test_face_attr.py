from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_files

from mbapps.batches import AttributeBatch, AttributeTable
from mbapps.data.celeba import LIST, PARTITION
from mbapps.data.face_attr import FaceAttrData, split_by_name
from mbapps.data.synthetic_faces import RATES, render_face, write_faces
from mbapps.images import read_image

QUICK = {"image_size": 32, "batch_size": 4, "num_workers": 0}


def named(*names: str) -> AttributeTable:
    files = np.array(names, dtype=np.str_)
    return AttributeTable(Path("faces"), files, np.ones((len(names), 1), dtype=np.int8), ("male",))


def celeba(root: Path, labels: list[tuple[int, str]], pictures: bool = True) -> Path:
    """A set of the attributes Hat and Bald; of each image the split and the values."""
    names = [f"{row:03}.jpg" for row in range(len(labels))]
    rows = [f"{name} {values}" for name, (_, values) in zip(names, labels, strict=True)]
    parts = [f"{name} {split}" for name, (split, _) in zip(names, labels, strict=True)]
    files: dict[str, str | None] = {
        LIST: "\n".join([str(len(labels)), "Hat Bald", *rows]),
        PARTITION: "\n".join(parts),
    }
    files |= {f"images/{name}": None for name in names if pictures}
    return write_files(root, files)


BALANCED = [(split, values) for split in (0, 0, 1, 2) for values in ("1 -1", "-1 1", "1 1", "-1 -1")]


def test_batches(tmp_path: Path) -> None:
    data = FaceAttrData(root=str(celeba(tmp_path, BALANCED)), augment={}, **QUICK)
    assert data.class_names == ("Hat", "Bald")
    assert {split: len(table) for split, table in data.tables.items()} == {"train": 8, "val": 4, "test": 4}
    data.check_measurable()
    batch = next(iter(data.val_dataloader()))
    assert isinstance(batch, AttributeBatch)
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert batch.sizes.tolist() == [[40, 60]] * 4
    assert data.problems() == {}
    assert len(data.preview(3)) == 3
    assert data.lineage()["images"] == {"train": 8, "val": 4, "test": 4}
    assert data.names("test", [0]) == ["012.jpg"]


def test_the_truth_is_drawn_and_the_picture_is_not(tmp_path: Path) -> None:
    data = FaceAttrData(root=str(celeba(tmp_path, BALANCED)), **QUICK)
    plain, titled = data.picture("test", 0)
    assert not plain.any()
    assert titled.any()
    assert titled.shape == plain.shape


def test_broken_and_unknown(tmp_path: Path) -> None:
    """An unreadable picture is replaced in training and left out elsewhere; 0 is unknown."""
    root = celeba(tmp_path, [(split, "1 0") for split in (0, 0, 1, 1, 2)])
    for name in ("000.jpg", "002.jpg"):
        (root / "images" / name).write_bytes(b"broken")
    data = FaceAttrData(root=str(root), **QUICK)
    train, val = (next(iter(loader)) for loader in (data.train_dataloader(), data.val_dataloader()))
    assert train.labels.tolist() == [[1, -1]] * 2
    assert len(train.broken) == 1
    assert val.labels.tolist() == [[1, -1]]
    assert len(val.broken) == 1


def test_an_attribute_without_a_positive_is_told(tmp_path: Path) -> None:
    labels = [(0, "1 -1"), (0, "1 1"), (1, "-1 1"), (2, "-1 -1")]
    data = FaceAttrData(root=str(celeba(tmp_path, labels)), **QUICK)
    constant, undefined = data.problems().items()
    assert undefined[0] == "attribute that no image has: its AP is undefined, and the mean leaves it out"
    assert undefined[1] == ["Hat in val", "Hat in test", "Bald in test"]
    assert constant == (
        "attribute that no image lacks: nothing is learned or measured by it, its AP is 1",
        ["Hat in train", "Bald in val"],
    )


def test_only_one_split_is_kept_for_measuring(tmp_path: Path) -> None:
    root = str(celeba(tmp_path, BALANCED))
    data = FaceAttrData(root=root, split="test", class_names=["Bald"], **QUICK)
    assert list(data.tables) == ["test"]
    assert data.class_names == ("Bald",)
    assert FaceAttrData(root=root, attributes="Hat", **QUICK).class_names == ("Hat",)


def test_the_split_of_an_image_does_not_depend_on_the_others() -> None:
    names = [f"{age}_0_0_{date}.jpg" for age in range(20, 70) for date in range(40)]
    whole = split_by_name(named(*names), 0.1, 0.2)
    assert len(whole["test"]) == pytest.approx(400, abs=60)
    assert len(whole["val"]) == pytest.approx(200, abs=45)
    assert sum(map(len, whole.values())) == 2000
    half = split_by_name(named(*(f"elsewhere/{name}" for name in names[::2])), 0.1, 0.2)
    for split, table in half.items():
        assert {Path(file).name for file in table.files} == set(whole[split].files) & set(names[::2])
    other = split_by_name(named(*names), 0.3, 0.2)
    assert other["test"].files.tolist() == whole["test"].files.tolist()


def test_utkface_is_found_by_looking(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{20 + age}_{age % 2}_0_2017.jpg": None for age in range(60)})
    data = FaceAttrData(root=str(tmp_path), **QUICK)
    assert data.class_names == ("male", "age>=30", "age>=45", "age>=60")
    assert sum(len(table) for table in data.tables.values()) == 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "imdb"}, r"data\.format must be one of \['celeba', 'utkface'\], got 'imdb'"),
        ({"split": "dev"}, r"split must be one of .*, got 'dev'"),
        ({"test_fraction": 1.0}, r"data\.test_fraction must be in \(0, 1\), got 1\.0"),
        ({"attributes": ["Hat", "Hat"]}, r"data\.attributes names Hat more than once"),
        ({"num_classes": 40}, r"data\.num_classes=40, but the data has 2: Hat, Bald"),
    ],
)
def test_refusals(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceAttrData(root=str(celeba(tmp_path, BALANCED)), **{**QUICK, **settings})  # type: ignore[arg-type]


def test_folders_without_attributes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at data\.root=nowhere"):
        FaceAttrData(root="nowhere", **QUICK)
    write_files(tmp_path, {"cat.jpg": None})
    with pytest.raises(FileNotFoundError, match=r"no face attributes in data\.root=.*; looked for CelebA's"):
        FaceAttrData(root=str(tmp_path), **QUICK)


def test_splits_that_are_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the val split of .* is empty; raise data\.val_fraction"):
        FaceAttrData(root=str(celeba(tmp_path, [(0, "1 1"), (2, "1 1")])), **QUICK)
    with pytest.raises(
        ValueError, match=r"data\.val_fraction=0\.5 and data\.test_fraction=0\.5 leave nothing"
    ):
        split_by_name(named("a.jpg"), 0.5, 0.5)


def test_validation_without_any_positive(tmp_path: Path) -> None:
    data = FaceAttrData(root=str(celeba(tmp_path, [(0, "1 1"), (1, "-1 -1"), (2, "1 1")])), **QUICK)
    with pytest.raises(ValueError, match="no image in the val split of .* has any attribute"):
        data.check_measurable()


def test_synthetic_faces_are_a_whole_set(tmp_path: Path) -> None:
    root = write_faces(tmp_path / "faces", train=6, val=2, test=2)
    data = FaceAttrData(root=str(root), **QUICK)
    assert data.class_names == tuple(RATES)
    assert {split: len(table) for split, table in data.tables.items()} == {"train": 6, "val": 2, "test": 2}
    assert data.lineage()["licence"] == "Apache-2.0"
    face = render_face(0, "val", 1)
    assert data.tables["val"].labels[1].tolist() == face.present.astype(int).tolist()
    written = read_image(root / "img_align_celeba" / str(data.tables["val"].files[1]))
    assert np.abs(written.astype(int) - face.image).mean() < 12  # jpeg
    assert write_faces(root, train=6, val=2, test=2) == root
    with pytest.raises(FileExistsError, match="holds something other than the synthetic set"):
        write_faces(root, train=7, val=2, test=2)


def test_synthetic_faces_vary() -> None:
    faces = [render_face(0, "train", index) for index in range(150)]
    rates = np.mean([face.present for face in faces], axis=0)
    np.testing.assert_allclose(rates, list(RATES.values()), atol=0.12)
    centres = np.array([face.image[100:120, 80:100].mean(axis=(0, 1)) for face in faces])
    assert centres.std(axis=0).min() > 30  # of skin and light
    assert np.array_equal(render_face(0, "train", 3).image, faces[3].image)
    assert not np.array_equal(render_face(1, "train", 3).image, faces[3].image)


def test_an_attribute_that_all_have_is_told(tmp_path: Path) -> None:
    root = celeba(tmp_path, [(split, f"1 {bald}") for split in (0, 0, 1, 1, 2, 2) for bald in (1, -1)])
    (told,) = FaceAttrData(root=str(root), **QUICK).problems().values()
    assert told == ["Hat in train", "Hat in val", "Hat in test"]


def test_a_model_is_measured_on_all_its_attributes(tmp_path: Path) -> None:
    root = str(celeba(tmp_path, BALANCED))
    names = ("Bald", "Hat")
    assert (
        FaceAttrData(root=root, class_names=names, attributes=["Hat", "Bald"], **QUICK).class_names == names
    )
    with pytest.raises(
        ValueError, match=r"measured on all its attributes, Bald, Hat: leave data\.attributes= out"
    ):
        FaceAttrData(root=root, class_names=names, attributes=["Hat"], **QUICK)
