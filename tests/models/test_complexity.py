from __future__ import annotations

import torch
from torch import Tensor, nn

from mbapps.models.complexity import LayerRow, count
from mbapps.models.mobilenet import MobileNetV1


class Small(nn.Module):
    """Every kind of layer once, the linear one twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 8)
        self.register_buffer("offset", torch.ones(8))

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.depthwise(self.conv(images.float()))).mean(dim=(2, 3)) + self.offset
        return self.linear(self.linear(x))


def test_rows_and_sums_by_hand() -> None:
    complexity = count(Small(), 10)
    assert complexity.layers == [
        LayerRow("conv", "conv 3x3", (8, 5, 5), 3 * 9 * 8 + 8, 3 * 9 * 8 * 25),
        LayerRow("depthwise", "depthwise 3x3", (8, 5, 5), 9 * 8, 9 * 8 * 25),
        LayerRow("linear", "linear", (8,), 8 * 8 + 8, 2 * 8 * 8),
    ]
    assert complexity.macs == 5400 + 1800 + 128
    assert complexity.params == 224 + 72 + 16 + 72


def test_matrix_products_outside_layers_count() -> None:
    class Product(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            rows = images.float().flatten(1)  # [1, 12]
            return rows @ rows.new_empty(12, 5)

    complexity = count(Product(), 2)
    assert (complexity.macs, complexity.params, complexity.layers) == (60, 0, [])


def test_network_is_left_alone() -> None:
    body = MobileNetV1(0.25).train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    count(body, 64)
    assert body.training
    assert not any(module._forward_hooks for module in body.modules())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in body.parameters())
    for name, value in body.state_dict().items():
        assert torch.equal(value, before[name])


def test_layers_come_in_order_and_norms_are_the_rest() -> None:
    body = MobileNetV1(0.25)
    complexity = count(body, 96)
    assert [row.name for row in complexity.layers[:3]] == [
        "stem.conv",
        "blocks.0.depthwise.conv",
        "blocks.0.pointwise.conv",
    ]
    assert len(complexity.layers) == 27
    norms = sum(2 * module.num_features for module in body.modules() if isinstance(module, nn.BatchNorm2d))
    assert complexity.params == sum(row.params for row in complexity.layers) + norms
    assert complexity.macs == sum(row.macs for row in complexity.layers)
