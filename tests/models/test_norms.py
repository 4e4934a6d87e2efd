"""Folded norms get their statistics back, and the network computes what it did."""

import pytest
import torch
from torch import nn

from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.models.norms import fold_norms, is_folded, unfold_norms
from mbapps.tasks.detection import DetectionHead


@pytest.fixture
def network() -> Network:
    """A network whose norms are mere biases, eps 0."""
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25, bn_eps=0.0)
    initialise(body)
    network = Network(body, {"detection": DetectionHead(body, ("a", "b"), 64)})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0.5, 0.5)
    return network


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator) for _ in range(count)
    ]


@torch.no_grad()
def test_unfolding_keeps_every_answer(network: Network) -> None:
    assert is_folded(network)
    images = batches(3)
    other = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    network.eval()
    before = network(other)["detection"]
    unfold_norms(network, images)
    after = network(other)["detection"]
    for key in before:
        torch.testing.assert_close(after[key], before[key], rtol=1e-3, atol=1e-5)
    assert not is_folded(network)
    assert network.body.settings["bn_eps"] == 1e-3  # so that the model folder says it
    assert not network.training


@torch.no_grad()
def test_statistics_are_those_of_the_images_seen(network: Network) -> None:
    images = torch.cat(batches(2))
    unfold_norms(network, images.split(4))
    stem = network.body.stem
    seen = stem.conv(network.body.normalize(images))
    torch.testing.assert_close(stem.norm.running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    variance = seen.var(dim=(0, 2, 3), unbiased=False)
    torch.testing.assert_close(stem.norm.running_var, variance, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_training_step_then_starts_where_the_network_was(network: Network) -> None:
    (images,) = batches(1)
    network.eval()
    before = network(images)["detection"]["logits"]
    unfold_norms(network, [images])
    network.train()
    after = network(images)["detection"]["logits"]
    torch.testing.assert_close(after, before, rtol=0.05, atol=0.05 * float(before.std()))


def test_no_image_is_an_error(network: Network) -> None:
    with pytest.raises(ValueError, match="no training image could be read"):
        unfold_norms(network, [torch.empty(0, 3, 64, 64, dtype=torch.uint8)])


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@torch.no_grad()
def test_a_folded_copy_answers_alike(padding: str) -> None:
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25, padding=padding)
    initialise(body)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            for part in (module.weight, module.running_var):
                nn.init.uniform_(part, 0.5, 2.0)  # type: ignore[arg-type]
            for part in (module.bias, module.running_mean):
                nn.init.normal_(part, 0.0, 0.5)  # type: ignore[arg-type]
    body.eval()
    images = batches(1)[0]
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    folded = fold_norms(body)
    torch.testing.assert_close(folded(images)["c5"], body(images)["c5"], rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in body.state_dict().items())
