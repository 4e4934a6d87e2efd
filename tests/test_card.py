from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mbapps.card import LIMITS, write_card


def model(**changes: Any) -> dict[str, Any]:
    head = {
        "class": "DetectionHead",
        "settings": {},
        "class_names": ["cat", "<dog>", "a|b"],
        "image_size": 300,
        "thresholds": [0.3, 0.4, 0.5],
        "metrics": {"AP": 0.512345, "val_AP": 0.6, "val_AP50": 0.75, "AP/cat": 0.25},
    }
    return {
        "format": 1,
        "version": "0.1.0",
        "body": {"alpha": 0.5},
        "heads": {"detection": head},
        "params": 1331592,
        "macs": 149000000,
        "lineage": {
            "data": [
                {"name": "bccd", "licence": "MIT", "images": {"train": 205, "val": 87}, "fingerprint": "f00"}
            ],
            "weights": None,
            "teacher": None,
        },
        "command": "mbapps train data.root=bccd",
        **changes,
    }


def card(tmp_path: Path, facts: dict[str, Any]) -> str:
    path = write_card(tmp_path / "CARD.md", facts)
    assert path == tmp_path / "CARD.md"
    return path.read_text(encoding="utf-8")


def test_card_holds_what_a_user_asks_for(tmp_path: Path) -> None:
    text = card(tmp_path, model())
    assert text.startswith("# MobileNet 0.5: detection\n")
    assert "1,331,592 parameters, 149,000,000 mult-adds" in text
    assert "| AP | 0.5123 | 0.6000 |" in text
    assert "| AP50 | – | 0.7500 |" in text
    assert "| cat | 0.3000 | 0.2500 |" in text
    assert "resized to 300x300 pixels" in text
    assert "| bccd | MIT | train 205, val 87 | f00 |" in text
    assert "- Weights it started from: none" in text
    assert "`mbapps train data.root=bccd`" in text
    assert LIMITS["detection"] in text
    assert "mbapps predict model=" in text
    assert "(detection)" not in text  # one head needs no mark


def test_class_names_do_not_break_the_table(tmp_path: Path) -> None:
    text = card(tmp_path, model())
    assert r"| a\|b | 0.5000 | – |" in text
    assert "| &lt;dog> | 0.4000 | – |" in text


def test_unknown_origin_is_said(tmp_path: Path) -> None:
    lineage = {
        "data": [{"name": "mine", "licence": None, "images": 10, "fingerprint": "f"}],
        "weights": "keras",
    }
    text = card(tmp_path, model(lineage=lineage))
    assert "| mine | unknown | 10 | f |" in text
    assert "The licence of mine is unknown" in text
    assert "- Weights it started from: keras" in text
    text = card(tmp_path, model(lineage={}, command=None))
    assert "What it was trained on is unknown." in text
    assert "- Weights it started from: unknown" in text
    assert "Command" not in text


def test_many_classes_are_counted(tmp_path: Path) -> None:
    facts = model()
    facts["heads"]["detection"] |= {
        "class_names": [f"c{i}" for i in range(80)],
        "thresholds": None,
        "metrics": {},
    }
    text = card(tmp_path, facts)
    assert "## Classes: 80\n\nc0; c1;" in text
    assert "c29" in text
    assert "c30" not in text
    assert "and 50 more, listed in `model.json`." in text
    assert "None were measured." in text


@pytest.mark.parametrize("name", ["geo", "face_attr", "face_embed"])
def test_heads_about_people_and_places_are_limited_plainly(tmp_path: Path, name: str) -> None:
    facts = model()
    facts["heads"] = {name: facts["heads"]["detection"], "own": facts["heads"]["detection"]}
    text = card(tmp_path, facts)
    assert "**Do not use it to" in LIMITS[name].replace("**Do\nnot", "**Do not")
    assert LIMITS[name] in text
    assert f"## Numbers ({name})" in text
    assert "**own.** For images and classes like those it was trained on" in text


def test_what_is_seen_of_an_image_is_told(tmp_path: Path) -> None:
    facts = model()
    assert "- detection: resized to 300x300 pixels" in card(tmp_path, facts)
    head = {**facts["heads"]["detection"], "settings": {"central_crop": 0.875}, "image_size": 224}
    text = card(tmp_path, model(heads={"fine_grained": head}))
    assert "- fine_grained: the middle 87.5% of each side is cut out and resized to 224x224 pixels" in text


def geo(lineage: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    fitted = {"temperature": 1.5, "weight": 0.25, "radius": {"cells": 1.5, "neighbours": 2.5, "hybrid": 2.0}}
    settings = {"coverage": 0.9, "coarse_only": None, "fitted": fitted, **changes.pop("settings", {})}
    head = {"class": "GeoHead", "class_names": ["132f", "1334", "89"], "image_size": 112, "metrics": {}}
    return model(
        heads={"geo": {**head, "settings": settings, **changes}},
        lineage={"data": [lineage or {"name": "world"}]},
    )


def test_a_model_of_places_tells_its_cells_radius_and_index(tmp_path: Path) -> None:
    text = card(tmp_path, geo())
    assert "## Cells: 3\n\n" in text
    assert "| 2 | 1 | 2,305 |\n| 5 | 1 | 288.1 |\n| 6 | 1 | 144.1 |" in text
    assert "hold the true place of 90% of the photos" in text
    assert (
        "(cells 1.500, neighbours 2.500, hybrid 2.000): the least that held as many of the validation photos"
        in text
    )
    assert "Its photos weigh 0.2500 in the answer, the cells the rest." in text
    assert "Its cells are not k-anonymous" in text
    assert "tells places as finely as its cells go" in text
    assert "## Classes" not in text
    own = geo(calibration={"data": "mine", "images": 1234})
    assert "the least that held as many of 1,234 photos of mine" in card(tmp_path, own)


def test_a_model_of_places_tells_how_coarse_it_is(tmp_path: Path) -> None:
    coarse = {"coarse_only": "country", "fitted": None}
    text = card(tmp_path, geo({"name": "world", "min_users": 5}, settings=coarse))
    assert "(`task.coarse_only=country`): no cell is finer than level 3, about 1,152 km across" in text
    assert "Its cells are k-anonymous: each holds photos of at least 5 people" in text
    assert "None is told: there were too few photos to fit it to." in text
    assert "**Geo-index.**" not in text


def test_nested_cells_are_told(tmp_path: Path) -> None:
    text = card(tmp_path, geo(class_names=["a/1", "b/04", "b/1c"]))
    assert "the finest of 2 nested partitions, of 1 and 2 cells" in text
    assert "no cells of the Earth" in card(tmp_path, geo(class_names=["cat", "dog"]))


def test_card_lists_files_for_other_runtimes(tmp_path: Path) -> None:
    compared = {"images": 32, "relative_error": 1.25e-6, "agreement": 1.0, "signal_db": 117.3}
    metrics = {"AP": {"original": 0.5012, "file": 0.4987, "images": 72}}
    int8 = {
        "int8": 27,
        "layers": 28,
        "calibration_images": 300,
        "warning": "few images",
        "equalized_channels": 9,
    }
    exports = {
        "onnx": {"file": "exports/onnx/model.onnx", "bytes": 1_250_000, "passed": True, **compared},
        "litert": {"file": "exports/a|b.tflite", "bytes": 4, "passed": False, "relative_error": None},
        "onnx_int8": {
            **compared,
            "file": "exports/onnx_int8/model.onnx",
            "bytes": 400_000,
            "passed": True,
            "signal_db": 30.4,
            "metrics": metrics,
            "int8": int8,
        },
        "coreml": {"file": "exports/coreml/model.mlpackage", "bytes": 9, "passed": None},
    }
    text = card(tmp_path, model(exports=exports))
    assert "| onnx | exports/onnx/model.onnx | 1.25 | 32 | 1.25e-06 | 1 | – | yes |" in text
    assert "model.onnx | 0.40 | 32 | 30 dB | 1 | AP 0.5012 -> 0.4987 | yes |" in text
    assert "27 of 28 layers in 8 bits, ranges from 300 images. 9 channels were equalised. few images." in text
    assert r"| litert | exports/a\|b.tflite | 0.00 | – | unknown | unknown | – | NO |" in text
    assert "| coreml | exports/coreml/model.mlpackage | 0.00 | – | unknown | unknown | – | not run |" in text
    assert "other runtimes" not in card(tmp_path, model())
