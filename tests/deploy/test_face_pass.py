from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import save

import mbapps
from mbapps.deploy.bundle import Bundle, head_views
from mbapps.deploy.face_pass import with_faces
from mbapps.faces import cut, squares
from mbapps.together import Together


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "model"
    return save(folder, "detection", "fine_grained", "face_attr", "face_embed", names=("person", "dog"))


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((90, 120), (64, 200))
    ]


def test_heads_of_faces_answer_for_what_the_detector_found(model: Path, photos: list[np.ndarray]) -> None:
    bundle = mbapps.load(model)
    assert bundle.faces is not None
    made = bundle.predict(photos, score_thresh={"detection": 0.3})
    assert all(isinstance(one, Together) for one in made)
    counts = [len(one.faces) for one in made]
    assert max(counts) > 1
    plain = Bundle.open(model)
    for one, photo in zip(made, photos, strict=True):
        assert list(one.answers) == ["detection", "fine_grained"]
        (alone,) = plain.only(["detection"]).predict(photo, score_thresh=0.3)
        assert np.allclose(one.answers["detection"].boxes, alone.boxes, atol=0.05)
        for face in one.faces:
            assert face.found_by == "person"
            views = head_views(plain.facts["heads"]["face_embed"], [cut(photo, face.box)])
            with torch.inference_mode():
                vector = plain.network(views, ["face_embed"])["face_embed"]["embeddings"][0].numpy()
            assert np.allclose(face.answers["face_embed"].vector, vector, atol=1e-5)
            assert set(face.answers) == {"face_attr", "face_embed"}


def test_faces_do_not_depend_on_the_batch(model: Path, photos: list[np.ndarray]) -> None:
    bundle = mbapps.load(model)
    many = bundle.predict(photos * 2, batch_size=3)
    for one, photo in zip(many, photos * 2, strict=True):
        (alone,) = bundle.predict(photo, batch_size=1)
        assert [face.box for face in alone.faces] == [face.box for face in one.faces]
        for face, same in zip(alone.faces, one.faces, strict=True):
            assert np.allclose(
                face.answers["face_embed"].vector, same.answers["face_embed"].vector, atol=1e-5
            )


def test_a_crop_is_seen_whole(model: Path, photos: list[np.ndarray]) -> None:
    bundle = mbapps.load(model)
    heads = dict(bundle.facts["heads"])
    heads["face_embed"] = {**heads["face_embed"], "face_crop": 0.5}
    cropping = replace(bundle, facts={**bundle.facts, "heads": heads})
    for one, other in zip(bundle.predict(photos), cropping.predict(photos), strict=True):
        for face, same in zip(one.faces, other.faces, strict=True):
            assert np.array_equal(face.answers["face_embed"].vector, same.answers["face_embed"].vector)


def test_a_photo_without_faces_has_none(model: Path) -> None:
    empty = with_faces(Bundle.open(model), least=10_000)
    (made,) = empty.predict(np.zeros((50, 50, 3), dtype=np.uint8))
    assert made.faces == []
    assert made.to_json()["faces"] == []


def test_another_model_finds_the_faces(model: Path, photos: list[np.ndarray], tmp_path: Path) -> None:
    finder = save(tmp_path / "finder", "detection", seed=3, names=("face", "person"))
    alone = save(tmp_path / "alone", "face_attr", names=("hat",))
    assert mbapps.load(alone).predict(photos[0])[0].to_json()[0]["name"] == "hat"  # of the whole image
    (made,) = mbapps.load(alone, faces=finder).predict(photos[0])
    found = Bundle.open(finder).predict(photos[0])[0]
    assert made.answers == {}
    kept = squares(found, photos[0].shape[:2])[0]
    assert [face.box for face in made.faces] == [tuple(box) for box in kept.tolist()]
    assert 0 < len(kept) <= sum(found.labels == 0)  # not persons, since it knows faces
    assert {face.found_by for face in made.faces} == {"face"}
    assert mbapps.load(model, faces=finder).predict(photos[0])[0].faces[0].found_by == "face"


def test_what_does_not_fit_is_told(model: Path, tmp_path: Path) -> None:
    flowers = Bundle.open(save(tmp_path / "flowers", "fine_grained"))
    dogs = Bundle.open(save(tmp_path / "dogs", "detection", names=("dog", "cat")))
    assert with_faces(flowers) is flowers
    with pytest.raises(
        ValueError, match="finds faces for face_attr and face_embed heads; .* only fine_grained"
    ):
        with_faces(flowers, Bundle.open(model))
    with pytest.raises(
        ValueError, match="a detector with a class called face or person; .* detection of dog, cat"
    ):
        with_faces(Bundle.open(model), dogs)
    with pytest.raises(ValueError, match="min_face must be >= 1 px, got 0"):
        with_faces(Bundle.open(model), least=0)


def test_a_detector_nobody_set_thresholds_for_is_believed_from_a_half_on(
    model: Path, photos: list[np.ndarray]
) -> None:
    bundle = Bundle.open(model)
    bundle.facts["heads"]["detection"]["thresholds"] = None
    for one, photo in zip(with_faces(bundle, least=1).predict(photos), photos, strict=True):
        scores = one.answers["detection"].scores[one.answers["detection"].labels == 0]
        assert (scores < 0.5).any()
        sure = squares(one.answers["detection"].above(0.5), photo.shape[:2], 1)[1]
        assert 0 < len(one.faces) == len(sure)
        assert min(face.score for face in one.faces) >= 0.5
