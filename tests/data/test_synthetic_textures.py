from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mbapps.data.fine_grained import FineGrainedData
from mbapps.data.synthetic import synthetic_root
from mbapps.data.synthetic_textures import CLASS_NAMES, SIDE, render_texture, write_textures
from mbapps.images import read_image

COUNTS = {"train": 24, "val": 8, "test": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_textures(tmp_path_factory.mktemp("textures") / "set", **COUNTS)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """[K, 40, H, W, 3]."""
    return np.array(
        [[render_texture(0, "train", label, n) for n in range(40)] for label in range(len(CLASS_NAMES))]
    )


def test_the_same_arguments_give_the_same_picture() -> None:
    first = render_texture(1, "val", 2, 3)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, render_texture(1, "val", 2, 3))
    others = [
        render_texture(*other)
        for other in ((2, "val", 2, 3), (1, "test", 2, 3), (1, "val", 3, 3), (1, "val", 2, 4))
    ]
    assert not any(np.array_equal(first, other) for other in others)


def test_neither_colour_nor_size_tells_the_class(pictures: np.ndarray) -> None:
    means = pictures.mean(axis=(2, 3))  # [K, 40, 3]
    contrast = pictures.std(axis=(2, 3, 4))  # [K, 40]
    for values in (means, contrast[..., None]):
        between, within = values.mean(axis=1).std(axis=0), values.std(axis=1).mean(axis=0)
        assert (within > 5).all()
        assert (between < within / 2).all()


def test_small_grey_pictures_do_not_tell_the_class(pictures: np.ndarray) -> None:
    """The nearest neighbour, by pixels of shrunken pictures, is of the right class hardly more often than by chance."""
    small = (
        pictures.mean(axis=4).reshape(*pictures.shape[:2], 16, SIDE // 16, 16, SIDE // 16).mean(axis=(3, 5))
    )
    flat = small.reshape(*small.shape[:2], -1)
    known, asked = flat[:, :30].reshape(-1, 256), flat[:, 30:].reshape(-1, 256)
    nearest = ((asked[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1) // 30
    assert np.mean(nearest == np.arange(len(asked)) // 10) < 2 / len(CLASS_NAMES)


def test_the_ordinary_reader_reads_it(folder: Path) -> None:
    data = FineGrainedData(root=str(folder), image_size=32, num_workers=0)
    assert data.class_names == CLASS_NAMES
    assert {split: len(table) for split, table in data.tables.items()} == COUNTS
    assert all(np.bincount(table.labels).tolist() == [len(table) // 8] * 8 for table in data.tables.values())
    assert data.problems() == {}
    assert data.lineage()["licence"] == "Apache-2.0"
    table = data.tables["train"]
    row = table.files.tolist().index("scaled/0002.jpg")
    image = read_image(table.folder / str(table.files[row]))
    assert np.abs(image.astype(int) - render_texture(0, "train", CLASS_NAMES.index("scaled"), 2)).mean() < 8


def test_a_complete_folder_is_reused_and_another_refused(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_textures(folder, **COUNTS) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(FileExistsError, match="holds something other than the synthetic set .*'seed': 1"):
        write_textures(folder, seed=1, **COUNTS)


def test_it_lies_beside_the_other_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path))
    folder = synthetic_root("fine_grained", train=8, val=8, test=8)
    assert folder == tmp_path / "synthetic" / "fine_grained-v1-seed0-8-8-8"
    assert len(list(folder.rglob("*.jpg"))) == 24
