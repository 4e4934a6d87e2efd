from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mbapps.sheet import CELL, GAP, MAX_ROWS, SAME, draw_sheet


def hit(file: object, score: float, same: bool | None = None) -> dict[str, object]:
    return {
        "file": str(file),
        "similarity": score,
        "id": "a/very/long/name/" + "x" * 90,
        "person": "日本",
        "same": same,
    }


def test_pictures_frames_and_gaps(tmp_path: Path) -> None:
    Image.new("RGB", (300, 100), (250, 10, 10)).save(tmp_path / "red.png")
    found = [hit(tmp_path / "red.png", 0.9, True), hit(tmp_path / "gone.png", 0.2, False)]
    sheet = draw_sheet({str(tmp_path / "red.png"): found, str(tmp_path / "gone.png"): []})
    middle = GAP + CELL // 2
    assert sheet[middle, middle].tolist() == [250, 10, 10]
    first = 2 * GAP + CELL + GAP
    assert sheet[middle, first + CELL // 2].tolist() == [250, 10, 10]
    assert (sheet[:, first - 1] == SAME).all(axis=1).any()
    grey = sheet[middle, first + CELL + GAP + CELL // 2]
    assert len(set(grey.tolist())) <= 3
    assert grey.max() < 90  # the picture is no longer there
    assert sheet.dtype == np.uint8


def test_a_sheet_stays_small() -> None:
    many = {f"{number}.jpg": [hit("x", 0.1)] * 100 for number in range(MAX_ROWS + 30)}
    assert max(draw_sheet(many).shape) < 12_000
    assert draw_sheet({}).size > 0
