from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_files
from PIL import Image

from mbapps.data.fine_grained import FineGrainedData
from mbapps.data.image_folder import read_image_folder
from mbapps.data.labelled import LabelledDataset
from mbapps.data.transforms import ClassificationTransform
from mbapps.images import central_view


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pictures each of two classes, 60 x 40 px, whose grey tells which one it is."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            path = tmp_path / "set" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (60, 40), (number + 100 * label,) * 3).save(path)
    return tmp_path / "set"


def make(root: Path, **settings: object) -> FineGrainedData:
    return FineGrainedData(root=str(root), **{"image_size": 32, "num_workers": 0, **settings})  # type: ignore[arg-type]


def test_batches_hold_what_the_table_says(root: Path) -> None:
    data = make(root, batch_size=5)
    seen = list(data.train_dataloader())
    assert [len(batch.images) for batch in seen] == [5, 5, 5]  # a smaller last one is dropped
    for batch in seen:
        assert batch.images.shape == (5, 3, 32, 32)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.sizes.tolist() == [[40, 60]] * 5
        assert batch.labels.tolist() == data.tables["train"].labels[batch.rows].tolist()
        assert torch.equal(batch.images[:, 0, 0, 0] >= 100, batch.labels == 1)
    (val,) = data.val_dataloader()
    assert val.rows.tolist() == [0, 1]


def test_validation_sees_the_middle_as_a_model_in_use_does(root: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(
        root / "cat" / "0.png"
    )
    data = make(root, central_crop=0.5, split="test")
    batch = next(iter(data.test_dataloader()))
    pixels = np.asarray(Image.open(root / "cat" / "0.png"))
    assert np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), central_view(pixels, 32, 0.5))
    views = data.views("test")
    assert np.array_equal(views[7, 0].image, views[8, 0].image)


def test_rotated_photographs_are_turned_upright(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(root / "cat" / "0.jpg", exif=exif)
    sample = make(root, split="test").dataset("test")[0, 0]
    assert sample.size == (60, 40)


def test_augmentation_depends_on_seed_epoch_and_row_alone(root: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(
        root / "cat" / "0.png"
    )
    table = read_image_folder(root)
    first, second = (LabelledDataset(table, 32, 1.0, ClassificationTransform(32), 0) for _ in range(2))
    _ = first[0, 5]
    assert np.array_equal(first[3, 0].image, second[3, 0].image)
    assert not np.array_equal(first[3, 0].image, first[4, 0].image)
    other = LabelledDataset(table, 32, 1.0, ClassificationTransform(32), 1)
    assert not np.array_equal(first[3, 0].image, other[3, 0].image)


def test_without_augmentation_the_whole_image_is_seen(root: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(
        root / "cat" / "0.png"
    )
    data = make(root, augment=None, seed=3)
    row = (
        data.tables["train"].files.tolist().index("cat/0.png")
        if "cat/0.png" in data.tables["train"].files
        else None
    )
    assert row is not None
    assert np.array_equal(data.dataset("train")[0, row].image, np.asarray(Image.open(root / "cat" / "0.png")))


def test_broken_images_are_skipped_and_counted(root: Path) -> None:
    (root / "cat" / "0.png").write_bytes(b"no image")
    whole = make(root, split="test", max_broken=0.1, batch_size=32)
    (batch,) = whole.test_dataloader()
    batch = whole.on_before_batch_transfer(batch, 0)
    assert len(batch.images) == 19
    assert 0 not in batch.rows
    (message,) = whole.broken
    assert "cat/0.png" in message
    table = read_image_folder(root)
    training = LabelledDataset(table, 32, 1.0, ClassificationTransform(32), 0)
    sample = training[0, 0]  # the next one takes its place
    assert (sample.row, sample.label, len(sample.broken)) == (1, 0, 1)


def test_too_many_broken_images_stop_the_run(root: Path) -> None:
    for number in range(4):
        (root / "cat" / f"{number}.png").write_bytes(b"")
    data = make(root, split="test", batch_size=32)
    with pytest.raises(ValueError, match=r"4 of 20 images can't be read, more than data\.max_broken=0\.01"):
        data.on_before_batch_transfer(next(iter(data.test_dataloader())), 0)


def test_a_split_of_broken_images_alone(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    table = read_image_folder(root)
    sample = LabelledDataset(table, 32, 1.0, ClassificationTransform(32), 0)[0, 3]
    assert sample.image is None
    assert len(sample.broken) == 20
    batch = make(root, split="test").collate([sample])
    assert batch.images.shape == (0, 3, 32, 32)
    assert batch.sizes.shape == (0, 2)


def test_pictures_for_the_report(root: Path) -> None:
    data = make(root)
    previews = data.preview(6)
    assert [picture.shape for picture in previews] == [(32, 32, 3)] * 6
    plain, drawn = data.picture("train", 0)
    assert plain.shape == drawn.shape == (40, 60, 3)
    assert not np.array_equal(plain, drawn)
    assert plain[-1].tolist() == drawn[-1].tolist()  # only the label is added
    assert data.names("train", [0]) == [str(data.tables["train"].files[0])]


def test_lineage(root: Path) -> None:
    (root / "LICENSE").write_text("CC0\n")
    facts = make(root).lineage()
    assert (facts["name"], facts["licence"]) == ("set", "CC0")
    assert facts["images"] == {"train": 16, "val": 2, "test": 2}
    assert make(root).lineage() == facts
    assert make(root, seed=1).lineage()["fingerprint"] != facts["fingerprint"]


def test_problems_are_told_once(tmp_path: Path) -> None:
    root = write_files(tmp_path, {f"{name}/{n}.png": None for name in ("a", "b") for n in range(10)})
    (root / "empty").mkdir()
    assert make(root).problems() == {"class folder without images: left out": [str(root / "empty")]}


def test_a_model_is_measured_among_all_its_classes(root: Path) -> None:
    data = make(root, split="test", class_names=["dog", "eel", "cat"])
    assert data.class_names == ("dog", "eel", "cat")
    assert sorted(set(data.tables["test"].labels.tolist())) == [0, 2]
    message = (
        r"classes that the model, unless data\.class_map= says which is which, does not have: dog; it has cat"
    )
    with pytest.raises(ValueError, match=message):
        make(root, split="test", class_names=["cat", "eel"])


def test_a_class_map_keeps_the_names_of_the_data(root: Path) -> None:
    data = make(root, split="test", class_names=["eel", "Dog, hound", "CAT"], class_map="names")
    assert data.class_names == ("cat", "dog")
    columns = data.truth("test").columns
    assert columns is not None
    assert columns.tolist() == [2, 1]


def test_a_subset_of_classes(tmp_path: Path) -> None:
    root = write_files(tmp_path, {f"{name}/{n}.png": None for name in ("a", "b", "c") for n in range(10)})
    data = make(root, classes=["c", "a"])
    assert data.class_names == ("c", "a")
    assert len(data.tables["train"]) == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": "cat"}, r"set has one class only, 'cat': there is nothing to tell apart"),
        ({"classes": ["cat"]}, r"set has one class only, 'cat': there is nothing to tell apart"),
        ({"num_classes": 3}, r"data\.num_classes=3, but the data has 2: cat, dog"),
        ({"val_fraction": 1.0}, r"data\.val_fraction must be in \(0, 1\), got 1\.0"),
        ({"test_fraction": 0.0}, r"data\.test_fraction must be in \(0, 1\), got 0\.0"),
        ({"split": "training"}, r"split must be one of \['train', 'val', 'test'\], got 'training'"),
        ({"batch_size": 0}, r"data\.batch_size must be >= 1, got 0"),
        ({"class_map": "names"}, r"data\.class_map is for measuring a model: mbapps eval model=<folder>"),
    ],
)
def test_refusals(root: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(root, **settings)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at data\.root=.*nowhere"):
        make(tmp_path / "nowhere")


def test_nothing_to_choose_by(root: Path) -> None:
    data = make(root)
    data.check_measurable()
    data.tables["val"] = data.tables["val"].take(np.zeros(0, np.int64))
    with pytest.raises(
        ValueError, match="the val split of .*set is empty: there is nothing to choose the best epoch"
    ):
        data.check_measurable()
