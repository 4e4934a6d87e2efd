"""Synthetic people: the same traits in each of a person's pictures, in LFW's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mbapps.data.face_embed import FaceEmbedData
from mbapps.data.identities import images_each
from mbapps.data.synthetic import synthetic_root
from mbapps.data.synthetic_identities import (
    LONE,
    PAIRS_A_FOLD,
    PHOTOS,
    SIDE,
    draw_person,
    person_name,
    render_photo,
    write_identities,
)
from mbapps.images import read_image, resize


def test_the_set_is_as_lfw(tiny_people: Path) -> None:
    data = FaceEmbedData(root=str(tiny_people), image_size=32, num_workers=0)
    data.check_measurable()
    assert data.problems() == {}
    test = data.tables["test"]
    assert set(test.class_names) == {person_name(number) for number in range(14, 20)}
    assert len(test.pairs.same) == 3 * 2 * PAIRS_A_FOLD
    people = [
        set(test.labels[np.concatenate([test.pairs.first[rows], test.pairs.second[rows]])].tolist())
        for rows in (test.pairs.folds == fold for fold in range(3))
    ]
    assert sum(map(len, people)) == len(set.union(*people)) == 6  # nobody is in two folds
    assert data.lineage()["licence"] == "Apache-2.0"
    counts = [
        images_each(table)[row] for table in data.tables.values() for row in range(len(table.class_names))
    ]
    assert sorted(counts)[0] == 1
    assert sorted(counts)[1] >= PHOTOS[0]
    assert max(counts) <= PHOTOS[1]
    lone = person_name(LONE - 1)
    assert [path.name for path in (tiny_people / lone).iterdir()] == [f"{lone}_0001.jpg"]


def test_files_hold_what_is_rendered(tiny_people: Path) -> None:
    written = read_image(tiny_people / person_name(3) / f"{person_name(3)}_0002.jpg")
    rendered = render_photo(draw_person(0, 3), 0, 3, 1)
    assert rendered.shape == (SIDE, SIDE, 3)
    assert np.abs(written.astype(int) - rendered).mean() < 12  # jpeg
    assert np.array_equal(rendered, render_photo(draw_person(0, 3), 0, 3, 1))
    assert not np.array_equal(rendered, render_photo(draw_person(1, 3), 1, 3, 1))


def test_it_is_written_once(tiny_people: Path) -> None:
    assert write_identities(tiny_people, train=14, test=6) == tiny_people
    with pytest.raises(FileExistsError, match="holds something other than the synthetic set"):
        write_identities(tiny_people, train=15, test=6)


@pytest.mark.parametrize("counts", [{"train": 4, "test": 1}, {"train": 490, "test": 20}])
def test_too_few_and_too_many(tmp_path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(
        ValueError, match=r"synthetic people are 2 or more in test and 500 at most, got train="
    ):
        write_identities(tmp_path / "people", **counts)


def test_it_is_the_default_of_face_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBAPPS_DATA", str(tmp_path))
    folder = synthetic_root("face_embed", train=3, test=2)
    assert folder.name == "face_embed-v1-seed0-3-2"
    assert (folder / "pairs.txt").is_file()


def test_names_are_unique() -> None:
    assert len({person_name(number) for number in range(500)}) == 500


def test_pictures_alone_do_not_tell_people_apart() -> None:
    """Raw pixels say little: light, pose and surroundings differ more than people do."""
    shots = np.array([
        [resize(render_photo(draw_person(0, n), 0, n, k), 24, 24).reshape(-1) for k in range(3)] for n in range(24)
    ]).astype(float)  # fmt: skip
    shots -= shots.mean(axis=2, keepdims=True)
    shots /= np.linalg.norm(shots, axis=2, keepdims=True)
    genuine = (shots[:, 0] * shots[:, 1]).sum(axis=1)
    impostor = (shots[:, 0] * np.roll(shots[:, 2], 1, axis=0)).sum(axis=1)
    auc = (genuine[:, None] > impostor[None]).mean()
    assert 0.45 < auc < 0.85
