"""What is done to a network before it is quantised: it needs no runtime."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli
from model_files import SIDE, network, pictures, save
from torch import Tensor, nn

from mbapps.deploy import export as exporting
from mbapps.deploy.bundle import Bundle, stack_views
from mbapps.deploy.domain import FAR, domain_shift
from mbapps.deploy.eight_bits import Prepared, evenly, prepare
from mbapps.deploy.equalize import equalize
from mbapps.deploy.graph import fold_norms
from mbapps.deploy.layer_names import chosen_layers, find_places, weighted_layers, weights_of
from mbapps.deploy.rounding import correct_biases, in_8_bits, round_activations
from mbapps.deploy.saving import describe, save_bundle
from mbapps.deploy.triage import triage
from mbapps.images import central_view, read_image, resize, write_image
from mbapps.models.complexity import count
from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
from mbapps.sources import find_sources
from mbapps.tasks.face_attr import FaceAttrHead


def pixels(number: int, seed: int = 0) -> Tensor:
    views = np.stack([resize(image, SIDE, SIDE) for image in pictures(number, seed)])
    return torch.from_numpy(views).permute(0, 3, 1, 2)


@torch.inference_mode()
def logits(made: Network, images: Tensor) -> Tensor:
    return made(images)["face_attr"]["logits"]


def test_names_are_those_of_info() -> None:
    made = network("detection", "face_attr")
    rows = {row.name.removesuffix(".conv") for row in count(made, SIDE).layers}
    assert set(weighted_layers(fold_norms(made))) == rows
    assert chosen_layers(made, ["body.stem.conv", "body.blocks.1", "body.stem"]) == [
        "body.stem", "body.blocks.1.depthwise", "body.blocks.1.pointwise",
    ]  # fmt: skip
    with pytest.raises(
        ValueError,
        match=r"quantize\.keep: the model has no layer body\.stages\.3\.depthwise; near it are .*blocks",
    ):
        chosen_layers(made, ["body.stages.3.depthwise"])
    with pytest.raises(ValueError, match=r"no layer zzz; there is body\.stem, for one; mbapps info"):
        chosen_layers(made, ["zzz"])


def test_a_layer_is_found_by_its_weights_whatever_their_order() -> None:
    made = fold_norms(network("face_attr"))
    weights = weights_of(made, weighted_layers(made))
    there = [(number, values.T[::-1]) for number, values in enumerate(weights.values())]
    wanted = {name: weights[name] for name in ("body.blocks.2.depthwise", "body.stem")}
    assert find_places(there, wanted) == [0, list(weights).index("body.blocks.2.depthwise")]
    with pytest.raises(ValueError, match=r"the file does not have body\.stem as a layer of its own"):
        find_places(there[1:], wanted)


def test_rounding_keeps_zero_and_the_range() -> None:
    values = torch.tensor([-1.0, 0.0, 0.3, 4.1])
    found = round_activations(values)
    assert found[1] == 0
    assert (found - values).abs().max() <= 5.1 / 255
    made = fold_norms(network("face_attr"))
    before = copy.deepcopy(made.state_dict())
    with in_8_bits(made, ["body.stem"]):
        assert len(torch.unique(made.body.stem.conv.weight[0])) <= 255
        assert not torch.equal(made.body.stem.conv.weight, before["body.stem.conv.weight"])
        taken: list[Tensor] = []
        made.body.stem.conv.register_forward_hook(lambda layer, inputs, output: taken.append(inputs[0]))
        made.body.stem(made.body.normalize(pixels(2)))
        assert len(torch.unique(taken[0])) <= 256
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_corrected_biases_take_the_shift_away() -> None:
    made = fold_norms(network("face_attr"))
    with torch.no_grad():
        made.body.blocks[2].depthwise.conv.weight[0] *= 50  # coarse rounding of what comes next
    images = pixels(24)
    wanted = logits(made, images)

    def error(tried: Network, images: Tensor, wanted: Tensor) -> float:
        with in_8_bits(tried, weighted_layers(tried)):
            return float((logits(tried, images).mean(0) - wanted.mean(0)).abs().max())

    corrected = copy.deepcopy(made)
    correct_biases(corrected, images, weighted_layers(corrected))
    assert error(corrected, images, wanted) < 0.1 * error(made, images, wanted)
    others = pixels(24, seed=9)
    assert error(corrected, others, logits(made, others)) < error(made, others, logits(made, others))


def test_triage_tells_of_the_network_that_is_written() -> None:
    made, images = fold_norms(network("face_attr")), pixels(8)
    wanted = logits(made, images)
    for row in triage(made, images)[:6]:
        alone = copy.deepcopy(made)
        correct_biases(alone, images, [row.name])
        with in_8_bits(alone, [row.name]):
            error = (logits(alone, images) - wanted).square().mean() / wanted.var()
        assert row.error == pytest.approx(float(error), rel=0.02)
    assert torch.equal(logits(made, images), wanted)


def test_few_images_are_told(model: Path) -> None:
    bundle = Bundle.open(model)
    assert "ranges of 3 calibration images may not hold for others" in prepare(bundle, pictures(3)).warning()
    assert prepare(bundle, pictures(32)).warning() == ""


def test_chosen_images_are_spread_over_all() -> None:
    assert evenly(720, 300)[-1] >= 717
    assert len(set(evenly(720, 300))) == 300
    assert evenly(3, 8) == [0, 1, 2]


def test_the_guilty_layer_is_named() -> None:
    made = fold_norms(network("face_attr"))
    guilty = "body.blocks.4.pointwise"  # which reads the map
    with torch.no_grad():  # one channel spreads the range of the map that all share
        made.body.blocks[4].depthwise.activation = nn.ReLU()
        made.body.blocks[4].depthwise.conv.bias[3] += 3000
        made.body.blocks[4].pointwise.conv.weight[:, 3] = 0
    found = triage(made, pixels(4))
    assert [layer.name for layer in found if layer.guilty] == [guilty]
    assert sum(layer.share for layer in found) == pytest.approx(1)
    worst = max(found, key=lambda layer: layer.error)
    assert (worst.name, worst.kind) == (guilty, "conv")
    assert worst.signal_db < min(layer.signal_db for layer in found if layer is not worst)
    assert worst.to_json()["guilty"] is True
    kept = triage(made, pixels(4), [guilty])
    assert guilty not in [layer.name for layer in kept if layer.guilty]
    assert next(layer for layer in kept if layer.name == guilty).kept
    assert sum(layer.share for layer in kept) == pytest.approx(1)


@pytest.mark.parametrize("activation", ["relu6", "relu"])
def test_equalisation_leaves_float_answers_as_they_were(activation: str) -> None:
    body = MobileNetV1(alpha=0.25, shallow=True, activation=activation)
    made = network("face_attr")
    made = Network(body, {"face_attr": FaceAttrHead(body, ("a", "b", "c"), SIDE)}).eval()
    torch.manual_seed(0)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.01, 1.0)
            module.weight.data.uniform_(0.2, 2.0)  # type: ignore[union-attr]
            module.bias.data.normal_()  # type: ignore[union-attr]
    folded = fold_norms(made)
    scaled = copy.deepcopy(folded)
    images = pixels(32)
    assert equalize(scaled, images) > 100
    wanted = logits(folded, images)
    size = float(wanted.max() - wanted.min())
    assert (logits(scaled, images) - wanted).abs().max() < 1e-5 * size
    others = pixels(16, seed=9)
    wanted = logits(folded, others)
    assert (logits(scaled, others) - wanted).abs().max() < 0.01 * size
    used = []
    for tried in (folded, scaled):
        peaks = tried.body.stem(tried.body.normalize(images)).amax((0, 2, 3))
        used.append(float((peaks / peaks.max()).mean()))
    assert used[1] > used[0]  # channels use more of the range that they share


def test_equalisation_mends_channels_that_hardly_use_their_range() -> None:
    balanced = fold_norms(network("face_attr"))
    made, images = copy.deepcopy(balanced), pixels(32)
    torch.manual_seed(1)
    with torch.no_grad():
        for block in made.body.blocks:
            peaks = block.depthwise(torch.rand(1, block.depthwise.conv.in_channels, 8, 8)).amax((0, 2, 3))
            factors = torch.where(peaks < 5, 10 ** (-1.5 * torch.rand_like(peaks)), 1.0)
            block.depthwise.conv.weight *= factors.view(-1, 1, 1, 1)
            block.depthwise.conv.bias *= factors
            block.pointwise.conv.weight /= factors.view(1, -1, 1, 1)
    others = pixels(16, seed=9)
    wanted, errors = logits(made, others), []
    for equalized in (False, True):
        tried = copy.deepcopy(made)
        if equalized:
            assert equalize(tried, images) > 50
        correct_biases(tried, images, weighted_layers(tried))
        with in_8_bits(tried, weighted_layers(tried)):
            errors.append(float((logits(tried, others) - wanted).square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_equalisation_scales_no_channel_without_end() -> None:
    made = fold_norms(network("face_attr"))
    with torch.no_grad():
        made.body.stem.conv.weight[0] *= 1e-5
        made.body.stem.conv.bias[0] = 1e-5
    before = made.body.stem.conv.bias[0].clone()
    equalize(made, pixels(32))
    assert made.body.stem.conv.bias[0] / before == pytest.approx(32)


def test_equalisation_needs_an_activation_that_lets_factors_through() -> None:
    body = MobileNetV1(alpha=0.25, shallow=True, activation="hard_swish")
    made = fold_norms(Network(body, {"face_attr": FaceAttrHead(body, ("a",), SIDE)}).eval())
    with pytest.raises(
        ValueError, match=r"quantize\.equalize=true is for relu6 and relu, .*not for Hardswish"
    ):
        equalize(made, pixels(2))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose norms remember blocks of colour."""
    torch.manual_seed(0)
    body = MobileNetV1(alpha=0.25, shallow=True)
    made = Network(body, {"face_attr": FaceAttrHead(body, ("a", "b"), SIDE)})
    made.train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of all batches
    with torch.no_grad():
        for seed in range(4):
            made(pixels(32, seed=100 + seed))
    made.eval()
    return save_bundle(tmp_path / "model", made, describe(made, {}, lineage={"data": [], "weights": None}))


def dark(number: int) -> list[np.ndarray]:
    return [(image // 6 + 8).astype(np.uint8) for image in pictures(number, seed=3)]


def test_images_of_another_domain_are_told(model: Path) -> None:
    bundle = Bundle.open(model)
    alike, unlike = prepare(bundle, pictures(32)), prepare(bundle, dark(32), triaged=False)
    assert alike.shift is not None
    assert alike.shift < 0.5 * FAR
    assert alike.warning() == ""
    assert unlike.shift is not None
    assert unlike.shift > FAR
    assert "calibration images look unlike those that the model learned from" in unlike.warning()


def test_the_command_tells_of_images_and_layers(
    model: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbapps.verbs.export.need", lambda *names: [])
    seen: list[list[str]] = []

    def stand_in(folder: Path, *values: object, int8: Prepared, **settings: object) -> exporting.Exported:
        seen.append(list(int8.keep))
        return exporting.Exported(folder / "model.json", None)

    monkeypatch.setattr(exporting, "export", stand_in)
    for number, image in enumerate(dark(16)):
        write_image(tmp_path / "dark" / f"{number}.png", image)
    words = ("export", f"model={model}", "runtime=litert", "precision=int8", f"source={tmp_path / 'dark'}")
    cli(*words, "quantize.keep=body.blocks.3", "quantize.equalize=true")
    shown = capsys.readouterr().out
    assert "warning: ranges of 12 calibration images may not hold" in shown
    assert "; calibration images look unlike those that the model learned from" in shown
    assert " of the error: " in shown
    assert seen == [["body.blocks.3.depthwise", "body.blocks.3.pointwise"]]


def test_norms_that_remember_nothing_are_helped_by_the_images_compared_on(tmp_path: Path) -> None:
    made = network("face_attr")
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1)
    own, other = pixels(32), (pixels(32, seed=3) // 6 + 8).to(torch.uint8)
    assert domain_shift(made, own) is None
    near, far = (domain_shift(made, images, pixels(32, seed=7)) for images in (own, other))
    assert near is not None
    assert far is not None
    assert near < FAR < far
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # as of weights that came without norms
    with torch.no_grad():
        made.body.stem.conv.weight[0] = 0  # a channel that gives one value whatever it sees
        made.body.stem.conv.weight[1] *= 1e-9
    found = domain_shift(made, own, pixels(32, seed=7))
    assert found is not None
    assert found < FAR


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("precision=int8", "quantize.keep=[3]"),
            r"quantize\.keep must be a list of names of layers, got \[3\]",
        ),
        (("precision=int8", "quantize.keep=['']"), r"quantize\.keep must be a list of names of layers"),
        (("precision=int8", "quantize.keep=null"), r"quantize\.keep must be a list of names .*, got None"),
        (("quantize=null",), r"quantize holds keep, equalize and triage, got null"),
        (("precision=int8", "quantize.equalize=1"), r"quantize\.equalize must be true or false, got 1"),
        (("quantize.keep=[body.stem]",), r"quantize\.keep and quantize\.equalize are for precision=int8"),
    ],
)
def test_settings_are_checked(cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    folder = save(tmp_path / "model", "face_attr")
    with pytest.raises(ValueError, match=message):
        cli("export", f"model={folder}", *words)


def test_microscopes_are_no_photographs(test_data: Path, cli: Cli) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed: pip install 'mbapps[weights]'")
    source = test_data / "weights" / "mobilenet_v1_0.25_224.h5"
    bundle = Bundle.open(cli("convert", f"source={source}") / "model")
    sets = {
        "photos": "detection/coco128/images", "flowers": "fine_grained/flowers12/test",
        "microscopes": "detection/bccd/JPEGImages",
    }  # fmt: skip
    shifts = {}
    for name, place in sets.items():
        files, _ = find_sources(test_data / "datasets" / place)
        views = [central_view(read_image(file), 128, 0.875) for file in files[:: len(files) // 24][:24]]
        shifts[name] = domain_shift(bundle.network, stack_views(views))
    assert shifts["photos"] < shifts["flowers"] < FAR < shifts["microscopes"]  # type: ignore[operator]
