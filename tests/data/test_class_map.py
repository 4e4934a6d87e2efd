from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import LabelTable
from mbapps.data.class_map import map_classes

IMAGENET = (
    "background", "crane", "collie", "Border collie", "Pekinese, Pekingese, Peke", "Shih-Tzu",
    "black-and-tan coonhound", "crane", "Cardigan, Cardigan Welsh corgi", "cardigan",
)  # fmt: skip


def make_table(*names: str) -> LabelTable:
    files = np.array([f"{name}.png" for name in names], dtype=np.str_)
    return LabelTable(Path("set"), files, np.arange(len(names), dtype=np.int32), names)


def test_names_match_but_for_case_and_spacing() -> None:
    table = make_table("border_collie", "shih tzu", "Peke", "Black-and-Tan_Coonhound", "Collie")
    mapped = map_classes(table, IMAGENET, "names")
    assert mapped.columns is not None
    assert mapped.columns.tolist() == [3, 5, 4, 6, 2]
    assert mapped.class_names == table.class_names
    assert mapped.labels is table.labels


def test_case_decides_where_it_must() -> None:
    columns = map_classes(make_table("Cardigan", "cardigan", "COLLIE"), IMAGENET, "names").columns
    assert columns is not None
    assert columns.tolist() == [8, 9, 2]
    with pytest.raises(ValueError, match="'CARDIGAN' may be any of 2 of the model's"):
        map_classes(make_table("CARDIGAN"), IMAGENET, "names")


def test_the_breeds_of_stanford_dogs_are_imagenets(test_data: Path) -> None:
    lines = (test_data / "weights" / "imagenet_labels_1001.txt").read_text().splitlines()
    breeds = (
        "Chihuahua", "Japanese_spaniel", "Maltese_dog", "Pekinese", "Shih-Tzu", "Blenheim_spaniel", "papillon",
        "toy_terrier", "Rhodesian_ridgeback", "Afghan_hound", "basset", "black-and-tan_coonhound", "Walker_hound",
        "wire-haired_fox_terrier", "Staffordshire_bullterrier", "American_Staffordshire_terrier", "Boston_bull",
        "soft-coated_wheaten_terrier", "flat-coated_retriever", "German_short-haired_pointer", "boxer", "collie",
        "Border_collie", "EntleBucher", "Great_Dane", "Cardigan", "African_hunting_dog", "dhole", "dingo", "Leonberg",
    )  # fmt: skip
    names = [name.replace("_", " ") for name in breeds]
    columns = map_classes(make_table(*names), lines, "names").columns
    assert columns is not None
    assert all(lines[column].startswith(name) for column, name in zip(columns, names, strict=True))
    assert ((columns > 151) & (columns < 277)).all()  # ImageNet's dogs, behind the background


def test_a_file_of_pairs(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("sheepdog\tborder collie\n\n lion dog \t Pekinese, Pekingese, Peke \n")
    mapped = map_classes(make_table("lion dog", "tulip", "sheepdog"), IMAGENET, str(path))
    assert mapped.class_names == ("sheepdog", "lion dog")
    assert mapped.columns is not None
    assert mapped.columns.tolist() == [3, 4]
    assert mapped.files.tolist() == ["lion dog.png", "sheepdog.png"]
    assert mapped.labels.tolist() == [1, 0]
    assert mapped.problems == {"class without a line in data.class_map: left out": ["tulip"]}


def test_names_that_do_not_match() -> None:
    with pytest.raises(
        ValueError, match=r"the class 'tulip' is none of the model's, so 'tulip' .* data\.class_map="
    ):
        map_classes(make_table("collie", "tulip"), IMAGENET, "names")
    with pytest.raises(ValueError, match="the class 'Crane' may be any of 2 of the model's"):
        map_classes(make_table("Crane"), IMAGENET, "names")
    with pytest.raises(
        ValueError, match="takes several classes for the same one of the model: Peke, pekingese$"
    ):
        map_classes(make_table("Peke", "collie", "pekingese"), IMAGENET, "names")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "collie\tcollie\npeke Pekinese\n",
            r"map\.txt:2 must be `data name<TAB>model class`, got 'peke Pekinese'",
        ),
        ("collie\t\n", r"map\.txt:1 must be"),
        ("collie\tcollie\ncollie\tShih-Tzu\n", r"map\.txt:2 names 'collie' again"),
        ("tulip\tcollie\n", r"map\.txt names tulip, but the data's classes are collie, peke"),
        ("", r"map\.txt names no class, but the data's classes are collie, peke"),
        ("collie\tKollie\n", "the class 'Kollie' is none of the model's, so 'collie' can't be measured"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        map_classes(make_table("collie", "peke"), IMAGENET, str(path))


def test_no_file() -> None:
    with pytest.raises(
        FileNotFoundError, match='no file at data.class_map=nope; it is a text file, or "names"'
    ):
        map_classes(make_table("collie"), IMAGENET, "nope")
