"""Whose batches a step has, in which order: the same for any number of workers, and after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from mbapps.data.face_attr import FaceAttrData
from mbapps.data.fine_grained import FineGrainedData
from mbapps.data.multi import JointLoader, MultiData, Turns

LENGTHS = {"detection": 4, "geo": 10}
EVEN = {"detection": 1.0, "geo": 1.0}


def test_each_step_has_a_batch_of_each_head() -> None:
    turns = Turns(LENGTHS, "each", EVEN, None, seed=0)
    assert list(turns) == [("detection", "geo")] * 10
    assert turns.passes == {"detection": 3, "geo": 1}
    assert len(Turns(LENGTHS, "each", EVEN, 7, seed=0)) == 7


def test_each_step_has_one_head_by_its_share() -> None:
    turns = Turns(LENGTHS, "one", {"detection": 3.0, "geo": 1.0}, 40, seed=0)
    drawn = list(turns)
    assert [drawn.count((name,)) for name in LENGTHS] == [30, 10]
    assert drawn[:30] != [("detection",)] * 30  # mixed
    assert len(Turns(LENGTHS, "one", EVEN, None, seed=0)) == 14


def test_the_order_is_that_of_seed_and_epoch() -> None:
    first, second = (Turns(LENGTHS, "one", EVEN, 40, seed=3) for _ in range(2))
    assert list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)
    first.set_epoch(1)
    assert list(first) == list(second)
    assert list(Turns(LENGTHS, "one", EVEN, 40, seed=4)) != list(Turns(LENGTHS, "one", EVEN, 40, seed=3))


@pytest.mark.parametrize(
    ("draw", "shares", "steps", "said"),
    [
        ("some", EVEN, None, r"draw must be one of \['each', 'one'\], got 'some'"),
        ("one", {"detection": 1.0, "geo": 0.0}, None, r"heads\.geo\.share must be > 0, got 0\.0"),
        ("one", EVEN, 0, "steps_per_epoch must be a whole number >= 1 or null, got 0"),
        ("one", EVEN, 2.5, "steps_per_epoch must be a whole number >= 1 or null, got 2.5"),
    ],
)
def test_settings_out_of_range(draw: str, shares: dict[str, float], steps: int | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Turns(LENGTHS, draw, shares, steps, seed=0)


def multi(textures: Path, faces: Path, workers: int, **settings: object) -> MultiData:
    common = {"image_size": 32, "batch_size": 8, "num_workers": workers, "augment": {"flip": 0.5}}
    parts = {
        "fine_grained": FineGrainedData(root=str(textures), **common),
        "face_attr": FaceAttrData(root=str(faces), **common),
    }
    chosen = {
        "draw": "one",
        "shares": {"fine_grained": 1.0, "face_attr": 2.0},
        "steps": 9,
        "seed": 5,
        **settings,
    }
    return MultiData(parts, **chosen)  # type: ignore[arg-type]


def epoch(loader: JointLoader, number: int) -> list[tuple[str, list[int], int]]:
    loader.sampler.set_epoch(number)
    return [
        (name, batch.rows.tolist(), int(batch.images.long().sum()))
        for step in loader
        for name, batch in step.items()
    ]


def test_any_number_of_workers_draws_the_same(textures: Path, tiny_faces: Path) -> None:
    alone, helped = (multi(textures, tiny_faces, workers).train_dataloader() for workers in (0, 2))
    wanted = epoch(alone, 1)
    assert [name for name, *_ in wanted].count(
        "face_attr"
    ) == 6  # of 4 batches in the set: gone through again
    assert epoch(helped, 1) == wanted
    assert epoch(alone, 0) != wanted
    assert epoch(alone, 1) == wanted  # as after a resume


def test_a_set_that_is_gone_through_again_comes_in_another_order(textures: Path, tiny_faces: Path) -> None:
    data = multi(textures, tiny_faces, 0, draw="each", steps=8)
    loader = data.train_dataloader()
    rows = [row for name, batch, _ in epoch(loader, 0) if name == "face_attr" for row in batch]
    assert sorted(rows[:32]) == sorted(rows[32:]) == list(range(32))
    assert rows[:32] != rows[32:]
    later = [row for name, batch, _ in epoch(loader, 1) if name == "face_attr" for row in batch]
    assert later[:32] not in (rows[:32], rows[32:])


def test_each_head_has_its_data(textures: Path, tiny_faces: Path) -> None:
    data = multi(textures, tiny_faces, 0)
    assert data.of("face_attr") is data.parts["face_attr"]
    assert data.parts["face_attr"].of("face_attr") is data.parts["face_attr"]
    assert [len(loader.dataset) for loader in data.val_dataloader()] == [16, 24]  # type: ignore[arg-type]
