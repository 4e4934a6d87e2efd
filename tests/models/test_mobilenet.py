from __future__ import annotations

from collections import Counter

import pytest
import torch

from mbapps.models.complexity import Complexity, count
from mbapps.models.mobilenet import BLOCKS, MobileNetV1, initialise, scaled
from mbapps.models.network import Network
from mbapps.tasks.fine_grained import FineGrainedHead

RESOLUTIONS = (224, 192, 160, 128)
MILLION_MACS = {  # by alpha, at RESOLUTIONS; Table 6 and 7 print 569, 418, 290, 186 and 325, 149, 41
    1.0: (568.7, 418.1, 290.7, 186.4),
    0.75: (325.4, 239.3, 166.4, 106.8),
    0.5: (149.5, 110.0, 76.5, 49.2),
    0.25: (41.0, 30.2, 21.1, 13.6),
}


def classifier(num_classes: int, **settings: object) -> Network:
    body = MobileNetV1(**settings)  # type: ignore[arg-type]
    return Network(body, {"fine_grained": FineGrainedHead(body, [f"class {n}" for n in range(num_classes)])})


def cost(num_classes: int, image_size: int = 224, **settings: object) -> Complexity:
    return count(classifier(num_classes, **settings), image_size)


@pytest.mark.parametrize("alpha", MILLION_MACS)
@pytest.mark.parametrize("num_classes", [1000, 1001])  # the paper's, and TF-Slim's with its background
def test_mult_adds_of_the_16_models(alpha: float, num_classes: int) -> None:
    macs = [cost(num_classes, image_size, alpha=alpha).macs for image_size in RESOLUTIONS]
    assert [round(value / 1e6, 1) for value in macs] == list(MILLION_MACS[alpha])


def test_params_of_the_imagenet_models() -> None:
    assert cost(1000).params == 4_231_976
    millions = [round(cost(1001, alpha=alpha).params / 1e6, 2) for alpha in MILLION_MACS]
    assert millions == [4.23, 2.59, 1.33, 0.47]


@pytest.mark.parametrize(
    ("settings", "macs", "params"),
    [
        ({"separable": False}, 4866e6, 29.3e6),  # Table 4
        ({}, 569e6, 4.2e6),
        ({"alpha": 0.75}, 325e6, 2.6e6),  # Table 5
        ({"shallow": True}, 307e6, 2.9e6),
    ],
)
def test_tables_4_and_5_within_one_percent(settings: dict[str, object], macs: float, params: float) -> None:
    ours = cost(1000, **settings)
    assert ours.macs == pytest.approx(macs, rel=0.01)
    assert ours.params == pytest.approx(params, rel=0.01)


def test_table_2_shares() -> None:
    shares: dict[str, Counter[str]] = {"macs": Counter(), "params": Counter()}
    for row in cost(1000).layers:
        shares["macs"][row.kind] += row.macs
        shares["params"][row.kind] += row.params
    shares["params"]["linear"] -= 1000  # the table leaves out the bias, as it does the norms
    percent = {
        name: {kind: round(100 * value / total.total(), 2) for kind, value in total.items()}
        for name, total in shares.items()
    }
    assert percent["params"] == {"conv 1x1": 74.59, "depthwise 3x3": 1.06, "conv 3x3": 0.02, "linear": 24.33}
    # printed: 94.86, 3.06, 1.19, 0.18, which adds up to 99.29: the 3x3 convolution has 1.91
    assert percent["macs"] == {"conv 1x1": 94.86, "depthwise 3x3": 3.06, "conv 3x3": 1.91, "linear": 0.18}


@pytest.mark.parametrize(
    ("settings", "image_size", "printed"),
    [
        ({"separable": False}, 224, (462.4, 2.36)),  # printed as 462
        ({}, 224, (52.3, 0.27)),
        ({"alpha": 0.75}, 224, (29.6, 0.15)),
        ({"alpha": 0.75}, 160, (15.1, 0.15)),  # rho 0.714
    ],
)
def test_table_3_one_layer(
    settings: dict[str, object], image_size: int, printed: tuple[float, float]
) -> None:
    body = MobileNetV1(**settings)  # type: ignore[arg-type]
    rows = [row for row in count(body, image_size).layers if row.name.startswith("blocks.7.")]
    macs, params = (sum(getattr(row, name) for row in rows) / 1e6 for name in ("macs", "params"))
    assert (round(macs, 1), round(params, 2)) == printed


@pytest.mark.parametrize(
    ("num_classes", "alpha", "millions"),
    [
        (120, 1.0, 3.330),  # Table 10, Stanford Dogs
        (120, 0.75, 1.909),
        (40, 1.0, 3.248),  # Table 12, face attributes
        (40, 0.5, 0.839),
        (40, 0.25, 0.223),
        (26_263, 1.0, 30.127),  # the cells of PlaNet (2016)
        (9_766, 1.0, 13.217),  # cells that give section 4.4's 13 M
    ],
)
def test_params_with_other_heads(num_classes: int, alpha: float, millions: float) -> None:
    assert round(cost(num_classes, alpha=alpha).params / 1e6, 3) == millions


def test_params_of_the_body_alone() -> None:
    millions = [
        round(count(MobileNetV1(alpha), 32).params / 1e6, 3) for alpha in (1.25, 1.0, 0.75, 0.5, 0.25)
    ]
    assert millions == [4.990, 3.207, 1.817, 0.819, 0.213]


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("image_size", [64, 75])
def test_features_are_as_announced(alpha: float, padding: str, image_size: int) -> None:
    body = MobileNetV1(alpha, padding).eval()
    with torch.inference_mode():
        maps = body(torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8))
    assert list(maps) == list(body.features) == ["c3", "c4", "c5"]
    for name, stride in (("c3", 8), ("c4", 16), ("c5", 32)):
        assert body.features[name].stride == stride
        side = -(-image_size // stride)
        assert maps[name].shape == (2, body.features[name].channels, side, side)
    assert [feature.channels for feature in body.features.values()] == [
        256 * alpha,
        512 * alpha,
        1024 * alpha,
    ]


@pytest.mark.parametrize("settings", [{"shallow": True}, {"separable": False}])
def test_control_networks_give_the_same_maps(settings: dict[str, bool]) -> None:
    body = MobileNetV1(0.25, **settings)  # type: ignore[arg-type]
    assert body.features == MobileNetV1(0.25).features
    maps = body(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert {name: x.shape[1:] for name, x in maps.items()} == {
        "c3": (64, 8, 8), "c4": (128, 4, 4), "c5": (256, 2, 2)
    }  # fmt: skip


def test_input_is_normalised_inside() -> None:
    body = MobileNetV1(0.25, mean=(10, 20, 30), std=(2, 4, 5))
    pixels = torch.tensor([10, 24, 20], dtype=torch.uint8).view(1, 3, 1, 1)
    assert body.normalize(pixels).flatten().tolist() == [0, 1, -2]


def test_settings_rebuild_the_body() -> None:
    body = MobileNetV1(0.5, "symmetric", "relu", 1e-5, shallow=True, mean=(1, 2, 3))
    twin = MobileNetV1(**body.settings)  # type: ignore[arg-type]
    assert twin.settings == body.settings
    twin.load_state_dict(body.state_dict())


def test_stages_are_stem_and_blocks() -> None:
    body = MobileNetV1(0.25)
    assert body.stages() == [body.stem, *body.blocks]
    assert len(body.stages()) == 14


def test_narrow_layers_keep_eight_channels() -> None:
    body = MobileNetV1(0.1)
    assert [scaled(32, 0.1), body.scaled(64), body.scaled(64, 16)] == [8, 8, 16]
    assert body.stem.conv.out_channels == 8
    assert body.features["c5"].channels == int(BLOCKS[-1][0] * 0.1)


def test_initialise_keeps_the_signal_alive() -> None:
    torch.manual_seed(0)
    body = MobileNetV1(0.25)
    initialise(body)
    layers = [layer for layer in body.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in (layer for layer in layers if layer.groups == 1):
        std = (2 / layer.weight[0].numel()) ** 0.5
        assert layer.weight.abs().max() <= 2 * std
        if layer.weight.numel() > 5000:  # enough of them to tell the spread
            assert layer.weight.std().item() == pytest.approx(
                0.88 * std, rel=0.03
            )  # of a normal cut at 2 std
    initialise(body, std=0.01)
    assert body.stem.conv.weight.abs().max() <= 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, r"backbone\.alpha must be > 0, got 0"),
        ({"alpha": -1.0}, r"backbone\.alpha must be > 0, got -1\.0"),
        ({"padding": "valid"}, r"backbone\.padding must be one of \['same', 'symmetric'\], got 'valid'"),
        ({"activation": "gelu"}, r"backbone\.activation must be one of .*'relu6'.*, got 'gelu'"),
        ({"mean": (0.0, 0.0)}, r"mean and std need three values, std > 0, got mean \(0\.0, 0\.0\)"),
        ({"std": (1.0, 1.0, 0.0)}, r"mean and std need three values, std > 0.*std \(1\.0, 1\.0, 0\.0\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileNetV1(**settings)  # type: ignore[arg-type]


def test_depthwise_filters_start_near_the_identity() -> None:
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.5)
    initialise(body)
    identity = torch.zeros(3, 3)
    identity[1, 1] = 1
    for block in body.blocks:
        torch.testing.assert_close(block.depthwise.conv.weight.mean(dim=(0, 1)), identity, atol=0.1, rtol=0)
        pointwise = block.pointwise.conv.weight
        assert pointwise.std().item() == pytest.approx(0.88 * (2 / pointwise.shape[1]) ** 0.5, rel=0.1)
