from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mbapps.data import yolo_labels
from mbapps.data.yolo_labels import Labels, read_labels


def read(tmp_path: Path, *contents: str | bytes) -> tuple[Labels, dict[str, list[str]]]:
    """Columns of some label files 0.txt, 1.txt, …, and what was told, without the folder."""
    files = []
    for row, content in enumerate(contents):
        path = tmp_path / f"{row}.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        files.append(str(path))
    problems: dict[str, list[str]] = {}
    labels = read_labels(files, problems)
    told = {
        reason: [line.removeprefix(f"{tmp_path}/") for line in lines] for reason, lines in problems.items()
    }
    return labels, told


def test_boxes(tmp_path: Path) -> None:
    labels, told = read(tmp_path, "3 0.5 0.5 0.2 0.4\n\n0 .25 5e-1 0.1 0.1\n", "", "1 0.5 0.5 1 1")
    assert labels.owners.tolist() == [0, 0, 2]
    assert labels.lines.tolist() == [1, 3, 1]
    assert labels.classes.tolist() == [3, 0, 1]
    np.testing.assert_allclose(labels.boxes, [[0.4, 0.3, 0.6, 0.7], [0.2, 0.45, 0.3, 0.55], [0, 0, 1, 1]])
    np.testing.assert_allclose(labels.areas, [0.08, 0.01, 1])
    assert told == {}


def test_polygons_give_their_box_and_their_own_area(tmp_path: Path) -> None:
    star = "2 0.5 0.1 0.6 0.4 0.9 0.5 0.6 0.6 0.5 0.9 0.4 0.6 0.1 0.5 0.4 0.4"
    labels, told = read(tmp_path, f"1 0.2 0.2 0.6 0.2 0.2 0.8\n0 0.5 0.5 0.2 0.2\n{star}\n")
    assert labels.classes.tolist() == [1, 0, 2]
    np.testing.assert_allclose(
        labels.boxes, [[0.2, 0.2, 0.6, 0.8], [0.4, 0.4, 0.6, 0.6], [0.1, 0.1, 0.9, 0.9]]
    )
    # the star: a square of side 0.2 and four triangles of base 0.2 and height 0.3
    np.testing.assert_allclose(labels.areas, [0.12, 0.04, 0.04 + 4 * 0.03])
    assert told == {}


def test_line_ends_blanks_and_byte_order_marks(tmp_path: Path) -> None:
    labels, told = read(
        tmp_path, b"\xef\xbb\xbf1 0.5 0.5 0.2 0.2\r\n\t2\t0.5  0.5 0.2 0.2 \r\n\r\n", b" \n\n"
    )
    assert labels.classes.tolist() == [1, 2]
    assert labels.lines.tolist() == [1, 2]
    assert told == {}


def test_lines_that_are_no_box_are_dropped_and_told(tmp_path: Path) -> None:
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 wide",
        "-1 0.5 0.5 0.2 0.2",
        "1.5 0.5 0.5 0.2 0.2",
        "nan 0.5 0.5 0.2 0.2",
        "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",
        "cat",
        "0,0.5,0.5,0.2,0.2",
    ]
    labels, told = read(tmp_path, "", "\n".join(lines))
    assert labels.owners.tolist() == [1]
    assert told == {
        "label line dropped: it is no box": [
            "1.txt:2: 4 numbers, a box needs 5",
            "1.txt:3: 'wide' is no number",
            "1.txt:4: the class must be a whole number >= 0, got -1",
            "1.txt:5: the class must be a whole number >= 0, got 1.5",
            "1.txt:6: the class must be a whole number >= 0, got nan",
            "1.txt:7: 8 numbers are neither a class and a box nor a class and points",
            "1.txt:8: 'cat' is no number",
            "1.txt:9: '0,0.5,0.5,0.2,0.2' is no number",
        ]
    }


def test_no_line_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no line of 2 label files can be read as a box, e\.g\. .*0\.txt:2: 2 n"
    ):
        read(tmp_path, "\n0 1", "<annotation>")


def test_a_score_is_not_used(tmp_path: Path) -> None:
    labels, told = read(tmp_path, "0 0.5 0.5 0.2 0.2 0.97\n1 0.5 0.5 0.2 0.2\n")
    assert labels.classes.tolist() == [0, 1]
    np.testing.assert_allclose(labels.boxes[0], [0.4, 0.4, 0.6, 0.6])
    assert told == {"sixth number of a label line not used": ["0.txt:1"]}


def test_repeated_lines_of_one_file_count_once(tmp_path: Path) -> None:
    box, other = "0 0.5 0.5 0.2 0.2\n", "1 0.5 0.5 0.2 0.2\n"
    labels, told = read(tmp_path, box + other + box + "0 0.50 .5 0.2 0.2\n", box)
    assert labels.owners.tolist() == [0, 0, 1]
    assert labels.classes.tolist() == [0, 1, 0]
    assert told == {"label line repeated": ["0.txt:3", "0.txt:4"]}


def test_numbers_that_are_not_finite_stay_for_the_check_of_boxes(tmp_path: Path) -> None:
    labels, told = read(tmp_path, "0 nan 0.5 0.2 0.2\n0 0.1 inf 0.2 0.2 0.3 0.4\n")
    assert not np.isfinite(labels.boxes).all(axis=1).any()
    assert told == {}


def test_text_is_parsed_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [f"{row} 0.5 0.5 0.{row + 1} 0.2\n" * (row % 3) for row in range(9)]
    whole, told = read(tmp_path, *contents)
    monkeypatch.setattr(yolo_labels, "CHUNK", 30)
    parts, told_again = read(tmp_path, *contents)
    assert told == told_again
    assert len(whole.owners) == 6
    for one, other in zip(whole, parts, strict=True):
        assert one.tolist() == other.tolist()


def test_no_files() -> None:
    assert len(read_labels([], {}).owners) == 0
