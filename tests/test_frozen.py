"""A head on a frozen body: trained on features that are computed once, it is the head that images would have made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Cli

from mbapps.data.synthetic_textures import write_textures
from mbapps.models.folder import read_tensors

WORDS = ("train", "task=fine_grained", *QUICK, "trainer.max_epochs=3", "task.lr=0.1")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "model" / "model.safetensors")


def results(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("extra", [(), ("task.test_flip=true",)])
def test_the_head_is_that_of_a_run_on_images(cli: Cli, textures: Path, extra: tuple[str, ...]) -> None:
    words = [*WORDS, f"data.root={textures}", "data.augment=null", "task.head.central_crop=1.0", *extra]
    cached, live = cli(*words, "task.freeze_body=true"), cli(*words, "task.freeze_blocks=14")
    for key, value in tensors(live).items():
        torch.testing.assert_close(tensors(cached)[key], value, atol=1e-4, rtol=1e-4, msg=key)
    for name in ("top1", "nll", "val_top1", "val_nll", "epochs"):
        assert results(cached)[name] == pytest.approx(results(live)[name], abs=1e-4)


def test_each_image_is_seen_once_and_this_is_told(
    cli: Cli, textures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mbapps.models.mobilenet import MobileNetV1

    seen = 0
    forward = MobileNetV1.forward

    def counting(self: MobileNetV1, images: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal seen
        seen += len(images)
        return forward(self, images)

    monkeypatch.setattr(MobileNetV1, "forward", counting)
    folder = cli(*WORDS, f"data.root={textures}", "task.freeze_body=true")
    sizing = seen - (
        2 * 32 + 16 + 16 + 16
    )  # both views of train, val, then val and test as the model sees them
    assert 0 <= sizing <= 2  # counting the network's operations runs an image of its own
    said = capsys.readouterr().out
    assert (
        "the body sees each image once, uncropped by chance; only flip of data.augment has a part in it"
        in said
    )
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all("linear" in key for key in checkpoint)
    assert any(key.startswith("body.stem") for key in tensors(folder))


def test_no_augmentation_no_mirror(cli: Cli, textures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli(*WORDS, f"data.root={textures}", "task.freeze_body=true", "data.augment=null")
    assert "data.augment has no part in it" in capsys.readouterr().out


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    cli: Cli, textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.tasks.base import Task

    words = [*WORDS, f"data.root={textures}", "task.freeze_body=true"]
    whole = cli(*words)
    step = Task.training_step

    def stop(self: Task, batch: object, batch_idx: int) -> torch.Tensor | None:
        if self.current_epoch == 2:
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", stop)
        with pytest.raises(KeyError, match="stop"):
            cli(*words, f"out={tmp_path / 'stopped'}")
    resumed = cli(f"resume={tmp_path / 'stopped'}")
    for key, value in tensors(whole).items():
        assert torch.equal(tensors(resumed)[key], value), key


def test_broken_images_are_left_out(cli: Cli, tmp_path: Path) -> None:
    root = write_textures(tmp_path / "set", train=32, val=16, test=16)
    (root / "train" / "barred" / "0000.jpg").write_bytes(b"no image")
    words = [*WORDS, f"data.root={root}", "task.freeze_body=true"]
    folder = cli(*words, "data.max_broken=0.05")
    (broken,) = results(folder)["context"]["broken"]  # type: ignore[index]
    assert "barred/0000.jpg" in broken
    for path in (root / "val").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match="17 of 64 images can't be read|of 64 images can't be read, more than"
    ):
        cli(*words)
    with pytest.raises(ValueError, match="no image of the val split of .*set can be read"):
        cli(*words, "data.max_broken=1.0")


def test_a_head_that_sees_maps_is_refused(cli: Cli, tiny: Path) -> None:
    with pytest.raises(
        ValueError, match=r"task\.freeze_body=true is for heads on pooled features.*freeze_blocks=14"
    ):
        cli("train", f"data.root={tiny}", *QUICK, "task.freeze_body=true")
