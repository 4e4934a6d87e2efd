from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, Cli

import mbapps
from mbapps.deploy.saving import fingerprint
from mbapps.geo.cells import levels
from mbapps.geo.partition_files import open_partitions
from mbapps.place_prediction import Place
from mbapps.search.gallery import Gallery

GEO = ("task=geo", "trainer.max_epochs=1", "data.cells.max_photos=10", "data.cells.min_photos=1")


def numbers(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_training_leaves_a_model_and_a_geo_index(cli: Cli, tiny_world: Path) -> None:
    run = cli(*GEO, f"data.root={tiny_world}", *QUICK)
    gallery, found = Gallery.open(run / "geo_index"), numbers(run)
    assert len(gallery) == 48
    assert set(gallery.columns) == {"file", "lat", "lon", "place"}
    assert gallery.model.fingerprint == fingerprint(run / "model")
    for method in ("cells", "neighbours", "hybrid"):
        for name in ("median_error_km", "share_within_2500_km", "coverage", "median_radius_km"):
            assert np.isfinite(found[f"method_{name}/{method}"]), (name, method)
    assert found["median_error_km"] == found["method_median_error_km/hybrid"]
    assert "val_coverage" not in found  # it was fitted there
    head = json.loads((run / "model" / "model.json").read_text())["heads"]["geo"]
    assert set(head["settings"]["fitted"]["radius"]) == {"cells", "neighbours", "hybrid"}
    (part,) = open_partitions(run / "partition").values()
    assert len(part) == len(head["class_names"])
    report = (run / "report.html").read_text()
    for title in ("Truth and guess", "By method", "By continent"):
        assert title in report
    model = mbapps.load(run / "model")
    (place,) = model.predict(np.zeros((40, 60, 3), dtype=np.uint8))
    assert isinstance(place, Place)
    assert place.radius_km is not None
    assert place.probabilities is not None
    assert place.probabilities.sum() == pytest.approx(1)


def test_nested_partitions_without_a_geo_index(cli: Cli, tiny_world: Path) -> None:
    words = (
        "data.cells.max_photos=[20,8]",
        "task.gallery_photos=0",
        "task.head.smoothing_km=75",
        "task.head.dim=8",
    )
    run = cli(*GEO, *words, f"data.root={tiny_world}", *QUICK)
    assert not (run / "geo_index").exists()
    assert "method_coverage/hybrid" not in numbers(run)
    parts = open_partitions(run / "partition")
    assert list(parts) == ["20", "8"]
    again = cli("eval", f"model={run / 'model'}", f"data.root={tiny_world}", *QUICK[2:])
    assert numbers(again)["median_error_km"] == pytest.approx(numbers(run)["median_error_km"])


def test_a_geo_index_of_some_photos(cli: Cli, tiny_world: Path) -> None:
    run = cli(*GEO, "task.gallery_photos=7", f"data.root={tiny_world}", *QUICK)
    assert len(Gallery.open(run / "geo_index")) == 7


def test_coarse_only_leaves_nothing_fine(cli: Cli, tiny_world: Path) -> None:
    run = cli(*GEO, "data.cells.max_photos=1", "task.coarse_only=country", f"data.root={tiny_world}", *QUICK)
    (part,) = open_partitions(run / "partition").values()
    assert levels(part.cells).max() == 3
    assert not (run / "geo_index").exists()
    with pytest.raises(ValueError, match="trained with task.coarse_only=country: it gives no embeddings"):
        cli(
            "index", f"model={run / 'model'}", f"source={tiny_world / 'images'}", f"gallery={run / 'gallery'}"
        )


@pytest.mark.slow
def test_the_cells_of_another_run(cli: Cli, tiny_world: Path) -> None:
    first = cli(*GEO, "task.gallery_photos=0", f"data.root={tiny_world}", *QUICK)
    words = (
        "task=geo",
        "trainer.max_epochs=1",
        "task.gallery_photos=0",
        f"data.partition={first / 'partition'}",
    )
    second = cli(*words, f"backbone.weights={first / 'model'}", f"data.root={tiny_world}", *QUICK)
    names = [json.loads((run / "model" / "model.json").read_text())["heads"]["geo"]["class_names"]
             for run in (first, second)]  # fmt: skip
    assert names[0] == names[1]


def test_settings_are_looked_at_before_an_epoch(cli: Cli, tiny_world: Path) -> None:
    with pytest.raises(ValueError, match="task.gallery_photos must be a whole number >= 0, got -1"):
        cli(*GEO, "task.gallery_photos=-1", f"data.root={tiny_world}", *QUICK)
    words = ("data.cells.max_photos=1", "task.coarse_only=country", "data.coarse_only=null")
    with pytest.raises(ValueError, match="coarse_only=country allows no cell finer than level 3"):
        cli(*GEO, *words, f"data.root={tiny_world}", *QUICK)


def test_too_few_photos_for_a_radius_are_told(
    cli: Cli, tiny_world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli(*GEO, "task.head.coverage=0.99", "task.gallery_photos=0", f"data.root={tiny_world}", *QUICK)
    assert (
        "answers have no radius: 24 photos are too few to fit one that holds 99%" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_an_architecture_teaches_places(cli: Cli, tiny_world: Path) -> None:
    words = ("distill.teacher=timm:resnet18", "distill.pretrained=false", "distill.max_epochs=1")
    run = cli(*GEO, *words, "task.gallery_photos=0", f"data.root={tiny_world}", *QUICK)
    assert np.isfinite(numbers(run)["median_error_km"])
