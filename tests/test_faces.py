from __future__ import annotations

import numpy as np
import pytest

from mbapps.faces import FACE, HAIR, MARGIN, PERSON, UPPER, Face, cut, draw_faces, kind_of, squares
from mbapps.predictions import Attributes, Detections, Embedding
from mbapps.together import Together


def found(boxes: list[list[float]], names: tuple[str, ...], labels: list[int] | None = None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.array([0] * count if labels is None else labels, dtype=np.int64),
        names,
    )


@pytest.mark.parametrize(
    ("names", "kind"), [(("dog", "Person"), PERSON), (("person", "FACE"), FACE), (("dog",), None), ((), None)]
)
def test_faces_are_found_before_persons(names: tuple[str, ...], kind: str | None) -> None:
    assert kind_of(names) == kind


def test_a_face_has_a_square_about_its_middle() -> None:
    boxes, scores = squares(
        found([[100, 80, 140, 140], [10, 10, 60, 60]], ("face", "dog"), [0, 1]), (400, 300)
    )
    side = 60 * MARGIN
    assert boxes.tolist() == [[120 - side / 2, 110 - side / 2, 120 + side / 2, 110 + side / 2]]
    assert scores.tolist() == pytest.approx([0.9])


def test_a_person_has_a_square_near_the_top_of_the_box() -> None:
    standing, wide = [100, 50, 200, 450], [300, 100, 500, 200]
    boxes, _ = squares(found([standing, wide], ("person",)), (600, 600), least=1)
    side, top = UPPER * 100 / 2, 50 + HAIR * UPPER * 100 / 2  # the root of 100 / 400
    assert boxes[0].tolist() == pytest.approx([150 - side / 2, top, 150 + side / 2, top + side], abs=0.01)
    assert boxes[1].tolist() == pytest.approx([340, 100 + HAIR * 120, 460, 220 + HAIR * 120], abs=0.01)


def test_squares_lie_inside_the_image_and_are_not_small() -> None:
    names = ("face",)
    boxes, _ = squares(found([[0, 0, 90, 100], [-40, 150, 50, 290], [0, 0, 300, 300]], names), (240, 200))
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 200).all()
    assert (boxes[:, 3] <= 240).all()
    assert np.allclose(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    assert boxes[2, 2] - boxes[2, 0] == 200  # no larger than the image
    assert len(squares(found([[10, 10, 30, 30]], names), (99, 99), least=27)[0]) == 0
    assert len(squares(found([[10, 10, 30, 30]], names), (99, 99), least=26)[0]) == 1
    assert squares(found([], names), (99, 99))[0].shape == (0, 4)


def test_one_face_has_one_square() -> None:
    twice = [[100, 50, 200, 150], [104, 52, 204, 152], [160, 50, 260, 150]]
    boxes, scores = squares(found(twice, ("face",)), (400, 400))
    assert boxes[:, 0].tolist() == [85, 145]
    assert scores.tolist() == pytest.approx([0.9, 0.5])


def test_cutting_gives_the_pixels_inside() -> None:
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    assert (cut(image, (5, 4, 15, 14)) == image[4:14, 5:15]).all()
    assert cut(image, (29.9, 19.8, 30, 20)).shape == (1, 1, 3)


def make_face(by: str = FACE) -> Face:
    attributes = Attributes(np.array([0.8, 0.2]), ("smiling", "hat"))
    vector = np.array([0.6, 0.8], dtype=np.float32)
    return Face((10, 20, 60, 70), 0.87654321, by, {"face_attr": attributes, "face_embed": Embedding(vector)})


def test_a_face_says_where_it_is_and_what_heads_say() -> None:
    plain = Together({}, [make_face(PERSON)]).to_json()
    (told,) = plain["faces"]
    assert told["box"] == [10, 20, 60, 70]
    assert told["score"] == 0.87654
    assert told["found_by"] == "person"
    assert [one["name"] for one in told["face_attr"] if one["present"]] == ["smiling"]
    assert told["face_embed"] == [{"embedding": [0.6, 0.8]}]
    assert Together({}, []).to_json() == {"faces": []}
    assert "faces" not in Together({}).to_json()


def test_faces_are_framed() -> None:
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    drawn = draw_faces(image, [make_face()])
    assert drawn[20, 30].tolist() == [255, 255, 255]
    assert drawn[24:50, 16:54].sum() == 0  # inside it the photo is as it was
    assert (draw_faces(image, []) == image).all()
    assert (Together({}, [make_face()]).draw(image) == drawn).all()
