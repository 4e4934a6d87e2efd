"""Which images `mbapps export` compares, measures and takes ranges from."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from class_files import break_file, write_classes, write_images
from conftest import Cli
from model_files import save
from omegaconf import OmegaConf

from mbapps import export_data
from mbapps.deploy import export as exporting
from mbapps.deploy.eight_bits import Prepared
from mbapps.export_data import Opened, check_images, choose, images_of

CPU = ("trainer.accelerator=cpu", "trainer.progress=false", "data.num_workers=0")


def paths(name: str, count: int) -> list[Path]:
    return [Path(f"/{name}/{number:04}") for number in range(count)]


def config(**keys: Any) -> Any:
    return OmegaConf.create(
        {"source": None, "calibration": None, "images": 32, "calibration_images": 300, **keys}
    )


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files stand for the images in them, and folders /name-count for their files."""

    def find(source: str) -> tuple[list[Path], list[Path]]:
        name, count = str(source).strip("/").split("-")
        return paths(name, int(count)), []

    monkeypatch.setattr("mbapps.sources.find_sources", find)
    monkeypatch.setattr(export_data, "read", lambda files, told, key: list(files))


def opened(name: str, total: int, measured: range) -> Opened:
    files = [f"{number:04}" for number in measured]
    table = SimpleNamespace(folder=Path(f"/{name}"), files=files)
    data = SimpleNamespace(root=f"/{name}-{total}", tables={"test": table})
    return Opened(data, "test", ("root",))


def test_lists_share_and_make_up_for_each_other() -> None:
    short, long = paths("a", 10), paths("b", 1000)
    found = choose([long, short], 300)
    assert len(found) == 300
    assert set(short) <= set(found)
    assert len(choose([long, paths("c", 1000)], 32)) == 32
    assert len(choose([short, short], 8)) == 8  # a list that comes twice
    assert choose([short], 100) == short


@pytest.mark.parametrize(
    ("total", "compared", "ranged"), [(2000, 32, 300), (100, 25, 75), (12, 3, 9), (1, 1, 1)]
)
def test_ranges_are_of_other_images_than_are_compared(
    chosen: None, total: int, compared: int, ranged: int
) -> None:
    for keys in (("source",), ("calibration",), ("source", "calibration")):
        one, two = images_of(config(**dict.fromkeys(keys, f"/a-{total}")), "geo", {}, calibrated=True)
        assert two is not None
        assert (len(one.images), len(two.images)) == (compared, ranged)
        assert set(one.images).isdisjoint(two.images) or total == 1  # type: ignore[arg-type]
        assert one.source == two.source == f"/a-{total}"


def test_ranges_are_not_of_images_that_are_measured(chosen: None, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"a": opened("a", 500, range(300, 500)), "b": opened("a", 500, range(300, 500))}
    one, two = images_of(config(), "geo", data, calibrated=True)
    assert two is not None
    assert len(one.images) == 32  # heads that share a folder do not halve it
    assert one.source == "/a-500"
    assert {file.name for file in two.images} <= {f"{number:04}" for number in range(300)}  # type: ignore[attr-defined]
    assert set(one.images).isdisjoint(two.images)  # type: ignore[arg-type]
    assert len(two.images) > 260
    assert capsys.readouterr().out == ""
    whole = {"a": opened("a", 50, range(50))}
    one, two = images_of(config(), "geo", whole, calibrated=True)
    assert two is not None
    assert set(one.images).isdisjoint(two.images)  # type: ignore[arg-type]
    assert "source: 38 of 38 images that give ranges are measured too: there are no others" in (
        capsys.readouterr().out
    )
    mixed = {"a": opened("a", 50, range(50)), "b": opened("b", 500, range(100))}
    _, two = images_of(config(), "geo", mixed, calibrated=True)
    assert two is not None
    assert {str(file.parent) for file in two.images} == {"/a", "/b"}  # type: ignore[attr-defined]
    one, none = images_of(config(source="/z-40"), "geo", whole, calibrated=False)
    assert (len(one.images), none) == (32, None)


def test_drawings_give_no_ranges_to_a_model_of_photos() -> None:
    from mbapps.data.synthetic import synthetic_name

    drawn = {"lineage": {"data": [{"name": synthetic_name("geo")}]}}
    check_images(config(), "geo", {}, drawn)
    check_images(config(source="/a-3"), "geo", {}, {})
    with pytest.raises(ValueError, match=r"none are named: name a few hundred by calibration="):
        check_images(config(), "geo", {}, {"lineage": {"data": [{"name": "photos"}]}})


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, list[Any]]]:
    """Export nothing: note the split and count of what would be measured, and the metrics."""
    seen: list[tuple[str, int, list[Any]]] = []

    def stand_in(
        model: Path, bundle: Any, *values: object, metrics: Any, int8: Prepared | None, **settings: object
    ) -> Any:
        seen.append((metrics[0].name, metrics[0].images, metrics))
        for metric in metrics:
            metric.measure(bundle.network)
        return exporting.Exported(model / "model.json", None)

    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    monkeypatch.setattr(exporting, "export", stand_in)
    return seen


def test_test_is_measured_where_there_is_no_val(
    cli: Cli,
    tmp_path: Path,
    splits: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "set"
    write_classes(root / "train", 6)
    write_classes(root / "test", 4)
    model = save(tmp_path / "model", "fine_grained", names=("akita", "beagle", "pug"))
    words = ("export", f"model={model}", *CPU)
    monkeypatch.setitem(sys.modules, "jax", None)  # its processes are not forked
    cli(*words, f"data.root={root}")
    assert (
        "fine_grained: there is no val split, so that the test split is measured" in capsys.readouterr().out
    )
    assert splits[-1][1] == 12
    with pytest.raises(FileNotFoundError, match=r"no val split in data\.root="):
        cli(*words, f"data.root={root}", "split=val")
    with pytest.raises(
        FileNotFoundError, match=r"'validaton' is neither a split"
    ):  # a slip is told, and not measured on test
        cli(*words, f"data.root={root}", "data.val=validaton")


def test_a_number_that_the_data_does_not_have_is_told(
    cli: Cli, tmp_path: Path, splits: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    write_classes(root / "test", 4)
    model = save(tmp_path / "model", "fine_grained", names=("akita", "beagle", "pug"))

    def measure_nothing(cfg: Any, folder: Path, task: Any, data: Any, split: str) -> None:
        task.numbers = {split: {"top1": float("nan")}}

    monkeypatch.setattr("mbapps.measuring.collect", measure_nothing)
    with pytest.raises(
        ValueError, match=r"top1 is nan for the model itself: the test split has nothing to measure"
    ):
        cli("export", f"model={model}", *CPU, f"data.root={root}", "split=test")


def test_images_that_can_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [*write_images(tmp_path / "a", 2), break_file(tmp_path / "a" / "broken.png")]
    assert len(export_data.read(files, "a", "source")) == 2
    assert "source: 1 of 3 images can't be read and are left out: " in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"none of 1 images of a can be read; name others by calibration="):
        export_data.read(files[2:], "a", "calibration")
