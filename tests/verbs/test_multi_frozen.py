"""Heads on a body that stays as it is: trained by themselves, and added to the heads of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from safetensors.torch import load_file
from several import NARROW, words

import mbapps
from mbapps.search.gallery import Gallery


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture
def based(cli: Cli, tiny: Path) -> Path:
    """A detector whose body has seen something."""
    return cli(
        "train", f"data.root={tiny}", "data.image_size=64", "data.batch_size=8", NARROW, "data.num_workers=0",
        "trainer.max_epochs=1", "trainer.progress=false", "trainer.accelerator=cpu",
    )  # fmt: skip


@pytest.mark.slow
def test_added_heads_leave_the_others_as_they_were(
    cli: Cli, based: Path, textures: Path, tiny_world: Path, tiny_people: Path, tmp_path: Path, capsys: Any
) -> None:
    """Bit by bit; heads on pooled features, on maps, and one that brings a geo-index."""
    new = words({"fine_grained": textures, "geo": tiny_world, "face_embed": tiny_people})
    folder = cli("train", *new, f"model={based / 'model'}", "mode=frozen", "heads.geo.task.lr=0.02")
    before, after = mbapps.load(based / "model"), mbapps.load(folder / "model")
    assert list(after.network.heads) == ["detection", "fine_grained", "geo", "face_embed"]
    old = tensors(based)
    for key, value in tensors(folder).items():
        if key in old:
            assert torch.equal(old[key], value), key
    assert set(old) < set(tensors(folder))
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        one, other = before.network(images)["detection"], after.network(images)["detection"]
    for key, value in one.items():
        assert torch.equal(value, other[key]), key
    photo = next((textures / "test").rglob("*.jpg"))
    assert after.predict(photo)[0].to_json()["detection"] == before.predict(photo)[0].to_json()
    assert after.facts["heads"]["detection"] == before.facts["heads"]["detection"]
    assert [data["name"] for data in after.facts["lineage"]["data"]] == ["set", "set", "world", "people"]
    said = capsys.readouterr().out
    assert "stays, and with it detection" in said
    assert said.count("the body sees each image once") == 3  # of the heads on pooled features

    found = results(folder)
    assert {"fine_grained_top1", "geo_median_error_km", "face_embed_all_pairs_auc", "relative"} <= set(found)
    assert "detection_AP" not in found
    for name in ("fine_grained", "geo", "face_embed"):
        assert (folder / "heads" / name / "metrics.csv").is_file()
    photos = cli(
        "predict", f"model={folder / 'model'}", f"source={tiny_world / 'images'}", f"gallery={folder / 'geo_index'}",
        "device=cpu",
    )  # fmt: skip
    told = json.loads((photos / "predictions.json").read_text(encoding="utf-8"))
    answers = next(iter(told["images"].values()))
    assert set(answers) == set(after.network.heads)
    assert "neighbours" in answers["geo"][0]
    assert len(list((photos / "maps").rglob("*.jpg"))) == len(told["images"])
    faces = [
        f"source={next(path for path in tiny_people.iterdir() if path.is_dir())}",
        f"gallery={tmp_path / 'faces'}",
    ]
    with pytest.raises(
        ValueError, match="a gallery needs a model with embeddings.*one is to be named by task="
    ):
        cli("index", f"model={folder / 'model'}", *faces)
    cli(
        "index",
        f"model={folder / 'model'}",
        "task=face_embed",
        "num_workers=0",
        "trainer.progress=false",
        *faces,
    )
    cli("search", "device=cpu", *faces)  # the gallery knows which head made it
    assert Gallery.open(tmp_path / "faces").model.view["head"] == "face_embed"
    with pytest.raises(
        ValueError, match="has a fine_grained head already; its heads are detection, fine_grained, geo, face"
    ):
        cli("train", *new, f"model={folder / 'model'}", "mode=frozen")


def test_a_body_from_weights_stays_too(cli: Cli, based: Path, textures: Path, tiny_faces: Path) -> None:
    """Under several heads or a single one."""
    start = f"backbone.weights={based / 'model'}"
    both = words({"fine_grained": textures, "face_attr": tiny_faces})
    several = cli("train", *both, start, NARROW, "mode=frozen", "task.lr=0.1")
    body = tensors(based)
    kept = tensors(several)
    assert all(torch.equal(kept[key], value) for key, value in body.items() if key.startswith("body."))
    alone = cli("train", *words({"face_attr": tiny_faces}), start, NARROW, "mode=frozen", "task.lr=0.1")
    assert results(alone)["epochs"] == 2
    assert set(tensors(alone)) < set(kept)
    assert list(mbapps.load(alone / "model").network.heads) == ["face_attr"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_head_it_was_at(
    cli: Cli, based: Path, textures: Path, tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.tasks.base import Task

    said = [
        "train", *words({"fine_grained": textures, "face_attr": tiny_faces}), f"model={based / 'model'}", "mode=frozen",
    ]  # fmt: skip
    whole = cli(*said)
    step = Task.training_step

    def stop(self: Task, batch: object, batch_idx: int) -> torch.Tensor | None:
        if self.current_epoch == 1 and self.head_name == "face_attr":
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", stop)
        with pytest.raises(KeyError, match="stop"):
            cli(*said, f"out={tmp_path / 'stopped'}")
    resumed = cli(f"resume={tmp_path / 'stopped'}")
    for key, value in tensors(whole).items():
        assert torch.equal(tensors(resumed)[key], value), key


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            (),
            r"model=.* is for mode=frozen, which adds heads to it; to train its body further give backbone\.weights=",
        ),
        (("mode=frozen", "backbone.alpha=0.5"), r"brings its body: leave backbone\.alpha=0\.5 out"),
        (
            ("mode=frozen", "norm=per_task"),
            r"norm=per_task is for mode=joint: in mode=frozen the body's norms stay",
        ),
    ],
)
def test_what_does_not_go_with_a_model_folder(
    cli: Cli, based: Path, textures: Path, extra: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        cli("train", *words({"fine_grained": textures}), f"model={based / 'model'}", *extra)


def test_no_model_folder_to_add_to(cli: Cli, textures: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model folder at .*nowhere: it has no model\.json"):
        cli("train", *words({"fine_grained": textures}), f"model={tmp_path / 'nowhere'}", "mode=frozen")


def test_a_loss_that_is_not_finite_is_told_with_its_head(cli: Cli, textures: Path, tiny_faces: Path) -> None:
    both = words({"fine_grained": textures, "face_attr": tiny_faces})
    with pytest.raises(
        FloatingPointError, match=r"heads\.face_attr: the loss is (nan|inf) in epoch 0.*\.jpg"
    ):
        cli("train", *both, NARROW, "mode=frozen", "heads.face_attr.task.lr=1e38")


def test_a_head_that_stopped_early_is_not_gone_on_with(
    cli: Cli, based: Path, textures: Path, tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.tasks.base import Task

    said = [
        "train", *words({"fine_grained": textures, "face_attr": tiny_faces}), f"model={based / 'model'}", "mode=frozen",
        "trainer.max_epochs=6", "trainer.early_stopping=1", "heads.fine_grained.task.lr=1e-9",
    ]  # fmt: skip
    step = Task.training_step

    def stop(self: Task, batch: object, batch_idx: int) -> torch.Tensor | None:
        if self.head_name == "face_attr":
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    def epochs(run: Path) -> int:
        lines = (run / "heads" / "fine_grained" / "metrics.csv").read_text().splitlines()
        place = lines[0].split(",").index("epoch")
        return max(int(line.split(",")[place]) for line in lines[1:])

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", stop)
        with pytest.raises(KeyError, match="stop"):
            cli(*said, f"out={stopped}")
    before = epochs(stopped)
    assert before < 5
    resumed = cli(f"resume={stopped}")
    assert epochs(resumed) == before
    assert {"fine_grained_top1", "face_attr_mean_AP"} <= set(results(resumed))
    assert list(mbapps.load(resumed / "model").network.heads)[-2:] == ["fine_grained", "face_attr"]
