from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
from mbapps.tasks.base import Task
from mbapps.tasks.checkpoints import AtomicCheckpoints
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.fine_grained import FineGrainedHead
from mbapps.tasks.optimising import WarmedUpEma, parameter_groups, warmup_cosine


def make_task(**settings: object) -> Task:
    body = MobileNetV1(alpha=0.25)
    network = Network(body, {"detection": DetectionHead(body, ("a", "b"), 64)})
    return Task(network, metric=lambda truth: None, monitor="AP", **settings)  # type: ignore[arg-type,return-value]


def test_no_decay_on_depthwise_filters_norms_and_biases() -> None:
    network = make_task().network
    groups = parameter_groups(network, 0.05, 0.01)
    assert [group["weight_decay"] for group in groups] == [0.05, 0, 0.05, 0]
    by_id = {id(parameter): name for name, parameter in network.named_parameters()}
    assert sum(len(group["params"]) for group in groups) == len(by_id)
    for decayed in groups[::2]:
        for parameter in decayed["params"]:
            assert by_id[id(parameter)].endswith("weight")
            assert "depthwise" not in by_id[id(parameter)]
            assert "norm" not in by_id[id(parameter)]
    assert any("depthwise.conv.weight" in by_id[id(parameter)] for parameter in groups[1]["params"])
    undecayed = parameter_groups(network, 0.0, 0.01)  # two groups of the same decay stay two
    assert [len(group["params"]) for group in undecayed] == [len(group["params"]) for group in groups]


def test_the_body_may_learn_at_a_rate_of_its_own() -> None:
    network = make_task().network
    groups = parameter_groups(network, 0.05, 0.01, 0.1)
    assert [group["name"] for group in groups] == ["body", "body_no_decay", "heads", "heads_no_decay"]
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.001, 0.01, 0.01])
    assert [group["body"] for group in groups] == [True, True, False, False]
    body = {id(parameter) for parameter in network.body.parameters()}
    for group in groups:
        assert all((id(parameter) in body) == group["body"] for parameter in group["params"])


def test_the_rate_rises_then_falls() -> None:
    schedule = warmup_cosine(warmup=5, total=50)
    values = [schedule(step) for step in range(51)]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(later <= earlier for earlier, later in zip(values[4:], values[5:], strict=False))
    assert values[-1] == pytest.approx(0.01)
    assert warmup_cosine(0, 10)(0) == 1
    late = warmup_cosine(warmup=5, total=50, start=10)
    assert [late(step) for step in range(10)] == [0] * 10
    assert [late(step) for step in range(10, 15)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert late(50) == pytest.approx(0.01)
    assert warmup_cosine(5, 50, start=99)(50) == 0
    constant = warmup_cosine(2, 10, final=1.0)
    assert [constant(step) for step in range(11)] == [0.5, *[1.0] * 10]


def test_ema_follows_early_and_averages_late() -> None:
    ema = WarmedUpEma(0.9)
    average, current = [torch.zeros(3)], [torch.ones(3)]
    ema(average, current, torch.tensor(0))
    torch.testing.assert_close(average[0], torch.full((3,), 0.9))  # decay (1 + 0) / (10 + 0)
    average = [torch.zeros(3)]
    ema(average, current, torch.tensor(10_000))
    torch.testing.assert_close(average[0], torch.full((3,), 0.1))
    counters = [torch.tensor(3)]
    ema(counters, [torch.tensor(8)], torch.tensor(100))
    assert counters[0].item() == 8


def test_frozen_blocks_do_not_learn_and_keep_their_statistics() -> None:
    task = make_task(freeze_blocks=3)
    task.train()
    stages = task.network.body.stages()
    for index, stage in enumerate(stages):
        assert all(parameter.requires_grad == (index >= 3) for parameter in stage.parameters())
        norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(norm.training == (index >= 3) for norm in norms)
    assert sum(len(group["params"]) for group in parameter_groups(task.network, 0.1, 0.01)) == sum(
        parameter.requires_grad for parameter in task.network.parameters()
    )


def test_freeze_bn_keeps_the_bodys_statistics_only() -> None:
    task = make_task(freeze_bn=True)
    task.train()
    norms = {
        name: module for name, module in task.network.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    assert all(norm.training == name.startswith("heads") for name, norm in norms.items())
    assert all(parameter.requires_grad for parameter in task.network.body.parameters())


def test_a_body_that_rests_keeps_its_statistics() -> None:
    task = make_task(freeze_epochs=1)
    task.train()
    assert task.body_rests
    norms = {
        name: module for name, module in task.network.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    assert all(norm.training == name.startswith("heads") for name, norm in norms.items())
    assert all(parameter.requires_grad for parameter in task.network.body.parameters())  # it will wake


def test_a_frozen_body_does_not_learn_at_all() -> None:
    body = MobileNetV1(alpha=0.25)
    network = Network(body, {"fine_grained": FineGrainedHead(body, ("a", "b"), 64)})
    task = Task(network, metric=lambda truth: None, monitor="top1", freeze_body=True)  # type: ignore[arg-type,return-value]
    task.train()
    assert not any(parameter.requires_grad for parameter in body.parameters())
    assert not any(module.training for module in body.modules() if isinstance(module, nn.BatchNorm2d))
    assert [group["name"] for group in parameter_groups(network, 0.1, 0.01)] == ["heads", "heads_no_decay"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adam"}, r"task.optimizer must be one of \['adamw', 'rmsprop', 'sgd'\], got 'adam'"),
        ({"lr": 0.0}, "task.lr must be > 0, got 0.0"),
        ({"final_lr": 1.5}, r"task.final_lr must be in \[0, 1\], got 1.5"),
        ({"ema_decay": 1.0}, r"task.ema_decay must be in \[0, 1\), got 1.0"),
        ({"freeze_blocks": 15}, "task.freeze_blocks must be 0 to 14, got 15"),
        ({"body_lr": 0.0}, r"task.body_lr must be in \(0, 1\], got 0.0"),
        ({"body_lr": 1.5}, r"task.body_lr must be in \(0, 1\], got 1.5"),
        ({"freeze_epochs": -1}, "task.freeze_epochs must be >= 0, got -1"),
        (
            {"freeze_body": True},
            r"task.freeze_body=true is for heads on pooled features, which are computed once; the detection head sees "
            r"whole maps: set task.freeze_blocks=14",
        ),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(**settings)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saver = AtomicCheckpoints()
    saver.save_checkpoint({"epoch": 1}, path)

    def full(self: object, checkpoint: object, path: Path, storage_options: object = None) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pytorch_lightning.plugins.io.TorchCheckpointIO.save_checkpoint", full)
    with pytest.raises(
        OSError, match=rf"could not save .*last\.ckpt: No space left .* resume={tmp_path / 'run'}$"
    ):
        saver.save_checkpoint({"epoch": 2}, str(path))  # Lightning hands over a string
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_norms_rest_from_an_epoch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(freeze_bn=2)
    norms = [module for module in task.network.body.modules() if isinstance(module, nn.BatchNorm2d)]
    for epoch, learning in ((0, True), (1, True), (2, False), (3, False)):
        monkeypatch.setattr(Task, "current_epoch", epoch)
        task.on_train_epoch_start()
        assert all(norm.training == learning for norm in norms)
    with pytest.raises(
        ValueError, match="task.freeze_bn must be true, false or a number of epochs >= 0, got -1"
    ):
        make_task(freeze_bn=-1)
