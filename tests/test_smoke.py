from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import QUICK, compose
from hydra.core.hydra_config import HydraConfig

from mbapps import app
from mbapps.starting import build_network

CONF = Path(__file__).parent.parent / "conf"
TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml") if path.stem != "multi")
SETS = {  # of each task the fixture of its data, and settings
    # else the mining leaves whole maps without a gradient
    "detection": ("tiny", "task.head.negative_ratio=1000"),
    "face_attr": ("tiny_faces",),
    "face_embed": ("tiny_people", "task.head.triplet=1", "task.head.arcface=1"),
    "fine_grained": ("textures",),
    "geo": ("tiny_world", "data.cells.max_photos=10", "data.cells.min_photos=1"),
}


@pytest.fixture
def built(request: pytest.FixtureRequest):  # noqa: ANN201
    fixture, *words = SETS[request.param]
    root = request.getfixturevalue(fixture)
    cfg = compose(f"task={request.param}", f"data.root={root}", *words, *QUICK)
    HydraConfig.instance().set_config(cfg)
    data = app.build_data(cfg)
    network, _ = build_network(cfg, {request.param: data.class_names})
    yield data, app.build_task(cfg, network)
    HydraConfig.instance().cfg = None


def test_there_are_tasks_to_train() -> None:
    assert set(TASKS) == set(SETS)


@pytest.mark.parametrize("built", TASKS, indirect=True)
def test_two_steps_reach_every_parameter(built) -> None:  # noqa: ANN001
    data, task = built
    task.train()
    optimizer = torch.optim.SGD(task.network.parameters(), lr=1e-3)
    for _, batch in zip(range(2), data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        loss = task.head.loss(task(batch.images)[task.head_name], batch)["loss"]
        assert math.isfinite(loss.item())
        loss.backward()
        optimizer.step()
    for name, parameter in task.network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if ".boxes." not in name:  # a map without a matched anchor in these batches has no box to learn
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("built", TASKS, indirect=True)
def test_one_batch_can_be_learned_by_heart(built) -> None:  # noqa: ANN001
    data, task = built
    task.train()
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = task.head.loss(task(batch.images)[task.head_name], batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]
