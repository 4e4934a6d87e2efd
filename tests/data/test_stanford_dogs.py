"""A small Stanford Dogs in its published layout: MATLAB lists, WordNet folders, boxes as VOC xml without a suffix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_files
from PIL import Image
from scipy.io import savemat

from mbapps.data.fine_grained import FineGrainedData
from mbapps.data.image_folder import read_image_folder
from mbapps.data.labelled import read_row
from mbapps.data.stanford_dogs import dogs_lists, read_stanford_dogs

CHIHUAHUA, TERRIER = "n02085620-Chihuahua", "n02105056-black-and-tan_coonhound"
NAMES = ["Chihuahua", "black-and-tan coonhound"]
BOX = "<object><name>x</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    annotations = np.empty((len(names), 1), dtype=object)
    annotations[:, 0] = [name.removesuffix(".jpg") for name in names]
    labels = np.ones((len(names), 1), dtype=np.uint8)
    savemat(path, {"file_list": cells, "annotation_list": annotations, "labels": labels})


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    """Two breeds, four train and two test pictures of 60 x 40 px, left half black and right half white."""
    root = tmp_path / "dogs"
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for folder in (TERRIER, CHIHUAHUA):
        for number in range(3):
            name = f"{folder}/{folder.partition('-')[0]}_{number}.jpg"
            pixels = np.zeros((40, 60, 3), np.uint8)
            pixels[:, 30:] = 255
            path = root / "Images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=95)
            xml = root / "Annotation" / name.removesuffix(".jpg")
            xml.parent.mkdir(parents=True, exist_ok=True)
            boxes = BOX.format(35, 5, 55, 30) + BOX.format(0, 0, 9, 9)
            xml.write_text(f"<annotation>{boxes}</annotation>")
            lists["test" if number == 2 else "train"].append(name)
    for split, names in lists.items():
        write_list(root / f"{split}_list.mat", names)
    return root


@pytest.mark.parametrize("lists", [".", "lists"])
def test_lists_are_found_where_the_archives_put_them(dogs: Path, lists: str) -> None:
    (dogs / "lists").mkdir()
    for name in ("train_list.mat", "test_list.mat"):
        (dogs / name).rename(dogs / lists / name)
    assert dogs_lists(dogs) == {split: dogs / lists / f"{split}_list.mat" for split in ("train", "test")}
    (dogs / "Images").rename(dogs / "images of dogs")
    assert dogs_lists(dogs) == {}


def test_breeds_are_named_without_their_numbers(dogs: Path) -> None:
    table = read_stanford_dogs(dogs, dogs / "train_list.mat")
    assert list(table.class_names) == NAMES  # sorted as Python sorts
    assert table.labels.tolist() == [1, 1, 0, 0]  # in the order of the list
    assert table.files[0] == f"{TERRIER}/n02105056_0.jpg"
    assert table.crops is None
    assert table.problems == {}


def test_the_first_box_is_cropped_to(dogs: Path) -> None:
    table = read_stanford_dogs(dogs, dogs / "test_list.mat", box_crop=True)
    assert table.crops is not None
    assert table.crops.tolist() == [[35, 5, 55, 30]] * 2
    image = read_row(table, 0)
    assert image.shape == (25, 20, 3)
    assert image.min() > 240  # the white half
    whole = read_row(read_stanford_dogs(dogs, dogs / "test_list.mat"), 0)
    assert whole.shape == (40, 60, 3)


@pytest.mark.parametrize(
    "content",
    [None, "<annotation>", "<annotation><object/></annotation>", f"<a>{BOX.format('a', 1, 2, 3)}</a>"],
)
def test_an_image_without_a_box_is_taken_whole_and_told(dogs: Path, content: str | None) -> None:
    name = f"{CHIHUAHUA}/n02085620_2"
    path = dogs / "Annotation" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    table = read_stanford_dogs(dogs, dogs / "test_list.mat", box_crop=True)
    assert table.problems == {"image without a box: taken whole": [f"{name}.jpg"]}
    assert read_row(table, 1).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((50, 30, 90, 90), (10, 10)),
        ((-5, -5, 10, 20), (20, 10)),
        ((70, 0, 90, 9), (40, 60)),
        ((9, 9, 5, 20), (40, 60)),
    ],
)
def test_boxes_outside_are_cut_and_empty_ones_are_the_whole_image(
    dogs: Path, box: tuple[int, ...], shape: tuple[int, int]
) -> None:
    (dogs / "Annotation" / f"{CHIHUAHUA}/n02085620_2").write_text(
        f"<annotation>{BOX.format(*box)}</annotation>"
    )
    table = read_stanford_dogs(dogs, dogs / "test_list.mat", box_crop=True)
    assert read_row(table, 1).shape[:2] == shape


def test_boxes_need_their_folder(dogs: Path) -> None:
    (dogs / "Annotation").rename(dogs / "boxes")
    with pytest.raises(
        FileNotFoundError, match=r"data\.box_crop=true needs the boxes in .*Annotation, which is not"
    ):
        read_stanford_dogs(dogs, dogs / "train_list.mat", box_crop=True)


def test_listed_images_that_are_missing(dogs: Path) -> None:
    gone = f"{CHIHUAHUA}/n02085620_0.jpg"
    (dogs / "Images" / gone).unlink()
    table = read_stanford_dogs(dogs, dogs / "train_list.mat")
    assert len(table) == 3
    assert table.problems == {"listed image not found": [gone]}
    write_list(dogs / "train_list.mat", [gone])
    with pytest.raises(
        FileNotFoundError, match=r"none of the images that .*train_list\.mat lists is in .*Images"
    ):
        read_stanford_dogs(dogs, dogs / "train_list.mat")


@pytest.mark.parametrize("damage", ["cut", "text", "other", "empty"])
def test_a_damaged_list(dogs: Path, damage: str) -> None:
    path = dogs / "train_list.mat"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:150])
    elif damage == "other":
        savemat(path, {"labels": np.ones(3)})
    else:
        path.write_text("n02085620-Chihuahua/a.jpg\n" if damage == "text" else "")
    with pytest.raises(
        ValueError, match=r"train_list\.mat is no list of Stanford Dogs: it has no readable file_list"
    ):
        read_stanford_dogs(dogs, path)


def test_the_data_module_cuts_validation_from_train(dogs: Path) -> None:
    data = FineGrainedData(root=str(dogs), image_size=32, val_fraction=0.5, num_workers=0)
    assert list(data.class_names) == NAMES
    assert {split: len(table) for split, table in data.tables.items()} == {"train": 2, "val": 2, "test": 2}
    cropped = FineGrainedData(root=str(dogs), image_size=32, val_fraction=0.5, box_crop=True, num_workers=0)
    batch = next(iter(cropped.test_dataloader()))
    assert batch.sizes.tolist() == [[25, 20]] * 2
    assert batch.images.min() > 230
    assert cropped.lineage()["fingerprint"] != data.lineage()["fingerprint"]


def test_the_second_step_of_the_paper_finds_the_classes_of_the_first(dogs: Path, tmp_path: Path) -> None:
    """Breeds are numbered as in folders named after them, whatever their WordNet numbers."""
    (dogs / "Images" / TERRIER).rename(dogs / "Images" / "n01000000-black-and-tan_coonhound")
    number = "n01000000-black-and-tan_coonhound/n02105056_0.jpg"
    write_list(dogs / "train_list.mat", [number, f"{CHIHUAHUA}/n02085620_0.jpg"])
    web = write_files(tmp_path / "web", {f"{name}/1.png": None for name in NAMES})
    assert read_stanford_dogs(dogs, dogs / "train_list.mat").class_names == read_image_folder(web).class_names
