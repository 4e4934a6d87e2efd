from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mbapps.batches import PADDING
from mbapps.data.detection import DetectionData
from mbapps.data.detection_samples import MAX_TRIES
from mbapps.data.samplers import EpochSampler
from mbapps.data.splits import split_rows

NAMES = ("cat", "dog")


def write_image(path: Path, seed: int = 0, height: int = 40, width: int = 60) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_coco(root: Path, split: str, count: int, names: tuple[str, ...] = NAMES, boxes: int = 2) -> Path:
    """A COCO folder written by hand: image i has boxes [2 i, 3, 20, 10] of each class in turn."""
    images, annotations = [], []
    for index in range(count):
        write_image(root / split / f"{split}{index}.jpg", index)
        images.append({"id": 10 + index, "file_name": f"{split}{index}.jpg", "height": 40, "width": 60})
        for number in range(boxes):
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": 10 + index, "category_id": 3 + 4 * (number % len(names)),
                    "bbox": [2 * index % 30, 3, 20, 10], "area": 200, "iscrowd": 0,
                }
            )  # fmt: skip
    categories = [{"id": 3 + 4 * index, "name": name} for index, name in enumerate(names)]
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return root


def write_voc(root: Path, count: int) -> Path:
    for index in range(count):
        write_image(root / "JPEGImages" / f"{index}.jpg", index)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{index}.xml").write_text(
            f"<annotation><filename>{index}.jpg</filename><size><width>60</width><height>40</height></size>"
            f"<object><name>{NAMES[index % 2]}</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>25</xmax><ymax>30</ymax>"
            "</bndbox></object></annotation>"
        )
    return root


def make(root: Path, **settings: Any) -> DetectionData:
    return DetectionData(root=str(root), image_size=32, num_workers=0, batch_size=4, **settings)


def test_coco_is_found_and_batched(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_coco(tmp_path, split, 6)
    data = make(tmp_path)
    assert data.class_names == NAMES
    assert [len(data.truth(split)) for split in ("train", "val", "test")] == [6, 6, 6]
    batch = next(iter(data.val_dataloader()))
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.rows.tolist() == [0, 1, 2, 3]
    assert batch.sizes.tolist() == [[40, 60]] * 4
    expected = np.array([2, 3, 22, 13]) * 32 / np.array([60, 40, 60, 40])
    np.testing.assert_allclose(batch.boxes[1, 0], expected, rtol=1e-5)
    assert batch.labels.tolist() == [[0, 1]] * 4


def test_voc_is_found_and_cut_by_seeded_fractions(tmp_path: Path) -> None:
    data = make(write_voc(tmp_path, 20), val_fraction=0.2, test_fraction=0.1)
    sizes = [len(data.truth(split)) for split in ("train", "val", "test")]
    assert sizes == [14, 4, 2]
    files = [set(data.truth(split).files.tolist()) for split in ("train", "val", "test")]
    assert not files[0] & files[1]
    assert len(set.union(*files)) == 20
    again = make(tmp_path, val_fraction=0.2, test_fraction=0.1)
    assert again.truth("val").files.tolist() == data.truth("val").files.tolist()
    other = make(tmp_path, val_fraction=0.2, test_fraction=0.1, seed=1)
    assert other.truth("val").files.tolist() != data.truth("val").files.tolist()


def test_splits_by_file_and_by_name(tmp_path: Path) -> None:
    write_voc(tmp_path, 10)
    (tmp_path / "mine.txt").write_text("1\n2\n")
    data = make(tmp_path, val="mine.txt", test=str(tmp_path / "mine.txt"), train="all")
    assert sorted(Path(name).stem for name in data.truth("val").files.tolist()) == ["1", "2"]
    assert len(data.truth("test")) == 2
    assert len(data.truth("train")) == 8
    assert data.problems() == {"image of val or test left out of train": ["1.jpg", "2.jpg"]}
    coco = tmp_path / "coco"
    write_coco(coco, "train", 5)
    write_coco(coco, "val", 3)
    assert len(make(coco, test="val").truth("test")) == 3


def test_missing_splits_are_cut_from_training(tmp_path: Path) -> None:
    data = make(write_coco(tmp_path, "train", 20), val_fraction=0.1, test_fraction=0.15)
    assert [len(data.truth(split)) for split in ("train", "val", "test")] == [15, 2, 3]


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 4, ("cat", "dog"))
    write_coco(tmp_path, "val", 4, ("dog", "cat"))
    data = make(tmp_path, test="val")
    assert data.truth("val").class_names == NAMES
    assert data.truth("val").labels[:2].tolist() == [1, 0]  # written as dog, cat
    assert data.truth("val").category_ids == (7, 3)
    turned = make(tmp_path, test="val", class_names=("dog", "cat"))
    assert turned.truth("val").labels[:2].tolist() == [0, 1]


def test_other_classes_are_an_error_that_lists_both(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 4)
    with pytest.raises(ValueError, match=r"the classes of .* are \[cat, dog\], but .* has \[cat, owl\]"):
        make(tmp_path, class_names=("cat", "owl"))
    write_coco(tmp_path, "val", 4, ("cat", "owl"))
    with pytest.raises(ValueError, match=r"are \[cat, owl\], but .* has \[cat, dog\]"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"format": "yolo9"},
            ValueError,
            r"data.format must be one of \['coco', 'voc', 'yolo'\], got 'yolo9'",
        ),
        ({"format": "voc"}, FileNotFoundError, "no voc annotations in data.root="),
        ({"num_classes": 3}, ValueError, "data.num_classes=3, but the data has 2: cat, dog"),
        ({"val": "nowhere"}, FileNotFoundError, "'nowhere' is neither a split of .* nor a file"),
        ({"val_fraction": 0.9, "test_fraction": 0.5}, ValueError, "can't be split by data.val_fraction"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_coco(tmp_path, "train", 4)
    with pytest.raises(error, match=message):
        make(tmp_path, **settings)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at data\.root="):
        make(tmp_path / "nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"no annotations in data\.root=.*looked for COCO .*VOC .*YOLO"
    ):
        make(tmp_path)


def test_an_empty_set(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 4)
    write_coco(tmp_path, "val", 0)
    with pytest.raises(ValueError, match="instances_val.json lists no images"):
        make(tmp_path, test="val")


def test_batch_size(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 4)
    with pytest.raises(ValueError, match="data.batch_size must be >= 1, got 0"):
        DetectionData(root=str(tmp_path), image_size=32, batch_size=0)


def test_zero_objects_in_a_whole_batch(tmp_path: Path) -> None:
    data = make(write_coco(tmp_path, "train", 12, boxes=0), augment={})
    batch = next(iter(data.train_dataloader()))
    assert batch.boxes.shape == (4, 0, 4)
    assert batch.labels.shape == (4, 0)


def break_image(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_broken_images_are_replaced_in_training_and_skipped_in_validation(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path, split, 6)
        break_image(tmp_path / split / f"{split}1.jpg")
    data = make(tmp_path, test="val", augment={}, max_broken=0.5)
    batches = list(data.train_dataloader())
    assert all(len(batch.images) == 4 for batch in batches)
    seen = [row for batch in data.val_dataloader() for row in batch.rows.tolist()]
    assert seen == [0, 2, 3, 4, 5]
    for batch in [*data.val_dataloader(), *data.val_dataloader()]:
        data.on_before_batch_transfer(batch, 0)
    assert len(data.broken) == 1  # counted once, however often it is met
    assert "val1.jpg" in next(iter(data.broken))


def test_too_many_broken_images_stop_the_run(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 4)
    write_coco(tmp_path, "val", 4)
    for index in range(3):
        break_image(tmp_path / "val" / f"val{index}.jpg")
    data = make(tmp_path, test="val", max_broken=0.01)
    with pytest.raises(
        ValueError, match=r"3 of 12 images can't be read, more than data\.max_broken=0\.01.*\n.*val0\.jpg"
    ):
        [data.on_before_batch_transfer(batch, 0) for batch in data.val_dataloader()]


def test_a_batch_of_broken_images_only(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 4)
    write_coco(tmp_path, "val", 4)
    for index in range(4):
        break_image(tmp_path / "val" / f"val{index}.jpg")
    (batch,) = make(tmp_path, test="val").val_dataloader()
    assert batch.images.shape == (0, 3, 32, 32)
    assert len(batch.broken) == 4


def test_a_row_of_broken_images_is_not_read_to_its_end(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 30)
    write_coco(tmp_path, "val", 2)
    for index in range(29):
        break_image(tmp_path / "train" / f"train{index}.jpg")
    dataset = make(tmp_path, test="val", augment={}).dataset("train")
    assert len(dataset[0, 15].broken) == 14
    assert dataset[0, 15].row == 29
    first = dataset[0, 0]
    assert first.image is None
    assert len(first.broken) == MAX_TRIES < 29


def test_a_picture_scaled_after_it_was_annotated_keeps_its_boxes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path, split, 4)
    plain = make(tmp_path, test="val")
    (expected,) = plain.val_dataloader()
    for split in ("train", "val"):
        for index in range(4):
            write_image(tmp_path / split / f"{split}{index}.jpg", index, height=80, width=120)
    data = make(tmp_path, test="val")
    (batch,) = data.val_dataloader()
    assert batch.broken == ()
    assert batch.sizes.tolist() == [[40, 60]] * 4  # where the truth's boxes lie
    torch.testing.assert_close(batch.boxes, expected.boxes)
    sample, before = data.dataset("train")[0, 1], plain.dataset("train")[0, 1]
    np.testing.assert_allclose(sample.boxes, before.boxes, atol=1e-4)
    assert sample.size == (40, 60)
    assert data.picture("val", 0)[0].shape == (40, 60, 3)


def test_a_picture_of_another_shape_than_annotated_is_broken(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path, split, 4)
        write_image(tmp_path / split / f"{split}1.jpg", height=60, width=40)
    data = make(tmp_path, test="val", augment={})
    (batch,) = data.val_dataloader()
    assert batch.rows.tolist() == [0, 2, 3]
    assert [message.rpartition("/")[2] for message in batch.broken] == [
        "val1.jpg: annotated as 60x40, the picture is 40x60"
    ]
    sample = data.dataset("train")[0, 1]
    assert sample.row == 2
    assert "annotated as" in sample.broken[0]


def test_a_picture_of_unknown_size_is_as_it_is(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "train", 4) / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["width"]
    path.write_text(json.dumps(content))
    sample = make(tmp_path).dataset("train")[0, 0]
    assert (sample.size, sample.broken) == ((40, 60), ())


def test_crowds_are_not_learned(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 20)
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["category_id"] == 7)
    path.write_text(json.dumps(content))
    data = make(tmp_path)
    labels = next(iter(data.train_dataloader())).labels
    assert set(labels.unique().tolist()) <= {0, PADDING}
    assert data.truth("train").crowd.sum() == len(data.truth("train"))


def test_lineage_and_previews(tmp_path: Path) -> None:
    data = make(write_coco(tmp_path, "train", 12))
    (tmp_path / "LICENSE").write_text("\nMIT License\nmore")
    lineage = data.lineage()
    assert lineage["licence"] == "MIT License"
    assert lineage["images"] == {"train": 10, "val": 1, "test": 1}
    assert len(lineage["fingerprint"]) == 16
    assert lineage["fingerprint"] == make(tmp_path).lineage()["fingerprint"]
    assert [picture.shape for picture in data.preview(3)] == [(32, 32, 3)] * 3
    plain, truth = data.picture("val", 0)
    assert plain.shape == truth.shape == (40, 60, 3)
    assert not np.array_equal(plain, truth)


def test_augmentation_does_not_depend_on_workers(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 12)

    def first_batch(num_workers: int) -> torch.Tensor:
        data = DetectionData(
            root=str(tmp_path), image_size=32, batch_size=4, num_workers=num_workers, augment={}
        )
        return next(iter(data.train_dataloader())).images

    torch.testing.assert_close(first_batch(0), first_batch(2), atol=0, rtol=0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_sampler_covers_each_row_once(world_size: int) -> None:
    parts = [
        EpochSampler(10, seed=0, shuffle=False, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    rows = [row for part in parts for _, row in part]
    repeated = -10 % world_size  # the fewest that give every process as many
    assert sorted(rows) == sorted([*range(10), *range(repeated)])
    assert len({len(list(part)) for part in parts}) == 1
    assert [len(list(part)) for part in parts] == [len(part) for part in parts]


def test_sampler_orders_by_seed_and_epoch() -> None:
    parts = [EpochSampler(10, seed=0, shuffle=True, rank=rank, world_size=3) for rank in range(3)]
    assert [len(list(part)) for part in parts] == [4, 4, 4] == [len(part) for part in parts]
    assert {row for part in parts for _, row in part} == set(range(10))
    sampler = EpochSampler(10, seed=0, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert {epoch for epoch, _ in second} == {1}
    assert [row for _, row in first] != [row for _, row in second]
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_split_rows() -> None:
    val, test, rest = split_rows(10, [0.2, 0.1], 0)
    assert sorted([*val, *test, *rest]) == list(range(10))
    assert [len(val), len(test), len(rest)] == [2, 1, 7]
    with pytest.raises(ValueError, match="2 images can't be split"):
        split_rows(2, [0.5, 0.5], 0)


def test_validation_needs_an_object(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 6)
    make(tmp_path).check_measurable()
    write_coco(tmp_path, "val", 3, boxes=0)
    with pytest.raises(ValueError, match=r"the val split of .* has no object .* raise data\.val_fraction"):
        make(tmp_path, test="val").check_measurable()


def with_one_dog(root: Path) -> Path:
    """A COCO folder of ten training images with a cat each, the first with a dog too."""
    for split in ("train", "val", "test"):
        write_coco(root, split, 10)
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    dog = content["categories"][1]["id"]
    content["annotations"] = [
        box for box in content["annotations"] if box["category_id"] != dog or box["image_id"] == 10
    ]
    path.write_text(json.dumps(content))
    return root


def rows_of_an_epoch(data: DetectionData) -> np.ndarray:
    return np.array([row for _, row in data.train_dataloader().sampler])  # type: ignore[attr-defined]


def test_classes_can_share_an_epoch_equally(tmp_path: Path) -> None:
    root = with_one_dog(tmp_path)
    assert sorted(rows_of_an_epoch(make(root)).tolist()) == list(range(10))
    data = make(root, sampling="class_balanced")
    rows = rows_of_an_epoch(data)
    assert len(rows) == 10
    assert (rows == 0).sum() in (5, 6)  # all of the dogs' half, and a tenth of the cats'
    assert [row for _, row in data.val_dataloader().sampler] == list(range(10))  # measured once each


def test_rare_classes_are_repeated(tmp_path: Path) -> None:
    data = make(with_one_dog(tmp_path), sampling="repeat_factor", repeat_threshold=0.9)
    rows = rows_of_an_epoch(data)
    assert np.bincount(rows).tolist() == [3, *[1] * 9]  # sqrt(0.9 / 0.1)
    with pytest.raises(ValueError, match=r"data.repeat_threshold must be in \(0, 1\], got 2"):
        make(tmp_path, sampling="repeat_factor", repeat_threshold=2)
    with pytest.raises(ValueError, match="data.sampling must be null or one of"):
        make(tmp_path, sampling="repeat")


def test_crowds_make_no_class_frequent(tmp_path: Path) -> None:
    root = with_one_dog(tmp_path)
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for box in content["annotations"]:
        box["iscrowd"] = int(box["category_id"] == content["categories"][1]["id"])
    path.write_text(json.dumps(content))
    presence = make(root).truth("train").presence()
    assert presence.sum(axis=0).tolist() == [10, 0]
