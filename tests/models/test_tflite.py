from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbapps.models.weights import read_weights
from mbapps.verbs.convert import build_network

pytest.importorskip("tflite")
from tflite_files import NONE, TFLiteFile, add_body, add_classifier, add_ssd, random_layers, ssd_anchors

CLASSIFIERS = ["0.25_128", "0.5_160", "0.75_192"]
SSDS = ["coco_ssd_mobilenet_v1_0.75_300_quant.tflite", "coco_ssd_mobilenet_v1_0.75_300_plain.safetensors"]
IMAGE = (1, 64, 64, 3)


# --- real files


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_real_classifiers_agree_with_the_original(test_data: Path, name: str) -> None:
    weights = read_weights(test_data / "weights" / f"mobilenet_v1_{name}_quant.tflite")
    alpha, size = name.split("_")
    assert weights.settings == {
        "alpha": float(alpha), "padding": "same", "activation": "relu6", "bn_eps": 0.0,
        "mean": (128.0,) * 3, "std": (128.0,) * 3,
    }  # fmt: skip
    head = weights.heads["fine_grained"]
    assert (head.num_classes, head.image_size) == (1001, int(size))
    assert head.class_names[:2] == ("background", "tench, Tinca tinca")  # packed in the file
    wanted = np.load(test_data / "weights" / "reference" / f"mobilenet_v1_{name}_quant.npz")
    pixels = torch.from_numpy(wanted["pixels"]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        probs = build_network(weights).eval()(pixels)["fine_grained"]["logits"].softmax(dim=1).numpy()
    assert probs.argmax(axis=1).tolist() == wanted["probs"].argmax(axis=1).tolist()
    np.testing.assert_allclose(probs, wanted["probs"], atol=0.06)  # the original rounds every map to 8 bits


@pytest.mark.parametrize("file", SSDS)
def test_real_ssd_agrees_with_the_original(test_data: Path, file: str) -> None:
    weights = read_weights(test_data / "weights" / file)
    head = weights.heads["detection"]
    assert head.settings == {
        "classification": "sigmoid", "nms_thresh": 0.6, "min_scale": 0.2, "max_scale": 0.95,
    }  # fmt: skip
    assert (head.num_classes, head.image_size, weights.settings["alpha"]) == (80, 300, 0.75)
    assert (head.class_names[0], head.class_names[-1]) == ("person", "toothbrush")
    assert (head.category_ids[0], head.category_ids[11], head.category_ids[-1]) == (1, 13, 90)
    wanted = np.load(test_data / "weights" / "reference" / "coco_ssd_mobilenet_v1_0.75_300.npz")
    with torch.inference_mode():
        outputs = build_network(weights).eval()(torch.from_numpy(wanted["pixels"]).permute(0, 3, 1, 2))[
            "detection"
        ]
    scores = outputs["logits"].sigmoid().numpy()
    assert np.abs(scores - wanted["raw_scores"][..., [0, *head.category_ids]]).max() <= 0.04
    boxes = outputs["deltas"].numpy()[..., [1, 0, 3, 2]]
    assert np.corrcoef(boxes.ravel(), wanted["raw_boxes"].ravel())[0, 1] >= 0.999


def test_real_files_cut_short(test_data: Path, tmp_path: Path) -> None:
    content = (test_data / "weights" / SSDS[0]).read_bytes()
    for length in (0, 6, 100, len(content) // 2, len(content) - 40_000):
        (tmp_path / "net.tflite").write_bytes(content[:length])
        with pytest.raises(
            ValueError, match=r"net\.tflite is (no TFLite file|a damaged TFLite file, or cut short)"
        ):
            read_weights(tmp_path / "net.tflite")


def test_real_face_net_gives_its_body(test_data: Path) -> None:
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.weights import load_body

    weights = read_weights(test_data / "weights" / "faceres_mobilenet_v1_1.0_224_plain.safetensors")
    assert weights.heads["face_embed"].settings == {"dim": None, "pool": "avg"}  # no layer of its own
    body = MobileNetV1(**weights.settings)  # type: ignore[arg-type]
    load_body(body, weights)
    wanted = np.load(test_data / "weights" / "reference" / "faceres_mobilenet_v1_1.0_224.npz")
    with torch.inference_mode():
        maps = body.eval()(torch.from_numpy(wanted["pixels"]).permute(0, 3, 1, 2))
    np.testing.assert_allclose(maps["c5"].mean(dim=(2, 3)), wanted["embedding"], atol=1e-4)


# --- classifiers, written here operator by operator


def dense(num_classes: int = 3) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    ramp = np.arange(num_classes * 256, dtype=np.float32).reshape(num_classes, 256)
    return ramp, np.arange(num_classes, dtype=np.float32)


def write_classifier(path: Path, layers: Any = None, last: str = "SOFTMAX", **options: Any) -> Path:
    file = TFLiteFile(IMAGE)
    add_classifier(file, add_body(file, layers or random_layers(), **options)[-1], *dense(), last)
    return file.write(path)


@pytest.mark.parametrize("pad", ["same", "keras"])
def test_float_tensors_land_where_they_belong(tmp_path: Path, pad: str) -> None:
    layers = random_layers()
    weights = read_weights(write_classifier(tmp_path / "net.tflite", layers, pad=pad))
    body, head = weights.body, weights.heads["fine_grained"]
    assert body["stem.conv.weight"][5, 2, 0, 1] == layers[0][0][5, 0, 1, 2]
    assert body["blocks.3.depthwise.conv.weight"][7, 0, 2, 1] == layers[7][0][0, 2, 1, 7]
    assert body["blocks.12.pointwise.conv.weight"][9, 4, 0, 0] == layers[26][0][9, 0, 0, 4]
    np.testing.assert_array_equal(body["blocks.12.pointwise.norm.bias"], layers[26][1])
    assert set(body["blocks.12.pointwise.norm.weight"].tolist()) == {1}
    assert set(body["stem.norm.running_mean"].tolist()) == {0}
    assert set(body["stem.norm.running_var"].tolist()) == {1}
    assert weights.settings == {
        "alpha": 0.25, "padding": "same", "activation": "relu6", "bn_eps": 0.0,
        "mean": (127.5,) * 3, "std": (127.5,) * 3,
    }  # fmt: skip
    assert (head.num_classes, head.class_names, head.image_size) == (3, (), 64)
    assert head.tensors["linear.weight"][1, :2].tolist() == [256, 257]
    assert head.tensors["linear.bias"].tolist() == [0, 1, 2]
    assert build_network(weights).head("fine_grained").class_names == ("class 0", "class 1", "class 2")


def test_eight_bits_per_channel_with_quantised_input(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    file = TFLiteFile(IMAGE, "int8", scale=1 / 64, zero_point=-28)
    row, kernels, scales = file.input, [], []
    for kernel, bias, stride, depthwise in random_layers():
        stored = random.integers(-127, 128, kernel.shape).astype(np.int8)
        scale = random.uniform(0.001, 0.01, len(bias)).astype(np.float32)
        axis = 3 if depthwise else 0
        weights = file.constant(stored, scale=scale, zero_point=np.zeros(len(bias)), axis=axis)
        offsets = file.constant(
            np.full(len(bias), 100, np.int32), scale=scale / 64, zero_point=np.zeros(len(bias))
        )
        row = file.conv(row, weights, offsets, stride, depthwise=depthwise, activation=NONE)
        file.tensors[row] = (file.shape(row), "int8", None, {"scale": 6 / 255, "zero_point": -128})
        kernels.append(stored)
        scales.append(scale)
    file.op("SOFTMAX", [row], file.shape(row))
    weights_read = read_weights(file.write(tmp_path / "net.tflite"))
    body = weights_read.body
    assert body["stem.conv.weight"][5, 2, 0, 1] == kernels[0][5, 0, 1, 2] * scales[0][5]
    assert body["blocks.3.depthwise.conv.weight"][7, 0, 2, 1] == kernels[7][0, 2, 1, 7] * scales[7][7]
    np.testing.assert_allclose(body["blocks.0.pointwise.norm.bias"], 100 * scales[2] / 64, rtol=1e-6)
    assert weights_read.settings["activation"] == "relu6"  # told by the range of the maps
    assert (weights_read.settings["mean"], weights_read.settings["std"]) == ((100.0,) * 3, (64.0,) * 3)
    assert weights_read.heads == {}


def test_half_floats_and_missing_biases(tmp_path: Path) -> None:
    file = TFLiteFile(IMAGE)
    row = file.input
    layers = random_layers()
    for kernel, _, stride, depthwise in layers:
        half = file.op("DEQUANTIZE", [file.constant(kernel.astype(np.float16))], kernel.shape)
        row = file.conv(row, half, None, stride, depthwise=depthwise)
    body = read_weights(file.write(tmp_path / "net.tflite")).body
    np.testing.assert_array_equal(body["stem.conv.weight"][1, 2], layers[0][0][1, :, :, 2].astype(np.float16))
    assert not body["blocks.5.pointwise.norm.bias"].any()


def test_a_classifier_that_is_no_softmax_is_left_out(tmp_path: Path) -> None:
    assert read_weights(write_classifier(tmp_path / "net.tflite", last="LOGISTIC")).heads == {}


def test_labels_packed_in_the_file(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "net.tflite")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "pug\nakita\nbeagle\n")
    assert read_weights(path).heads["fine_grained"].class_names == ("pug", "akita", "beagle")
    (tmp_path / "net.labels.txt").write_text("a\nb\nc")
    assert read_weights(path).heads["fine_grained"].class_names == ("a", "b", "c")


# --- detectors


def write_ssd(path: Path, **options: Any) -> dict[str, Any]:
    file = TFLiteFile(IMAGE)
    made = add_ssd(file, random_layers(), **options)
    file.write(path)
    return made


def test_ssd_tensors_land_where_they_belong(tmp_path: Path) -> None:
    made = write_ssd(tmp_path / "net.tflite", y_scale=20.0)
    weights = read_weights(tmp_path / "net.tflite")
    head = weights.heads["detection"]
    assert head.settings == {
        "classification": "sigmoid", "nms_thresh": 0.5, "min_scale": 0.2, "max_scale": 0.95,
    }  # fmt: skip
    assert (head.num_classes, head.class_names, head.category_ids, head.image_size) == (3, (), (1, 2, 3), 64)
    kernel, bias = made["boxes"][1]  # rows y, x, height, width; y counts double
    for ours, theirs, factor in ((0, 1, 1), (1, 0, 0.5), (2, 3, 1), (3, 2, 1)):
        np.testing.assert_allclose(
            head.tensors["boxes.1.weight"][4 + ours, :, 0, 0], kernel[4 + theirs, 0, 0] * factor
        )
        np.testing.assert_allclose(head.tensors["boxes.1.bias"][4 + ours], bias[4 + theirs] * factor)
    np.testing.assert_array_equal(
        head.tensors["classes.5.weight"][:, :, 0, 0], made["classes"][5][0][:, 0, 0]
    )
    np.testing.assert_array_equal(
        head.tensors["extras.2.1.conv.weight"][3, 4], made["extras"][5][0][3, :, :, 4]
    )
    network = build_network(weights).eval()
    with torch.inference_mode():
        outputs = network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))["detection"]
    assert outputs["logits"].shape == (1, len(ssd_anchors([4, 2, 1, 1, 1, 1])), 4)
    np.testing.assert_allclose(
        network.head("detection").anchors[:, 2:] + network.head("detection").anchors[:, :2],
        ssd_anchors([4, 2, 1, 1, 1, 1])[:, [1, 0]] * 2 * 64, rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "names", "ids"),
    [
        ("cat\ndog\nowl\n", ("cat", "dog", "owl"), (1, 2, 3)),
        ("background\ncat\ndog\nowl\n", ("cat", "dog", "owl"), (1, 2, 3)),
        ("cat\n???\nowl\n", ("cat", "owl"), (1, 3)),
    ],
)
def test_names_of_a_detectors_columns(
    tmp_path: Path, lines: str, names: tuple[str, ...], ids: tuple[int, ...]
) -> None:
    made = write_ssd(tmp_path / "net.tflite")
    (tmp_path / "names.txt").write_text(lines)
    head = read_weights(tmp_path / "net.tflite", tmp_path / "names.txt").heads["detection"]
    assert (head.class_names, head.category_ids, head.num_classes) == (names, ids, len(names))
    bias = head.tensors["classes.1.bias"].view(6, len(names) + 1)
    np.testing.assert_array_equal(bias, made["classes"][1][1].reshape(6, 4)[:, [0, *ids]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("cat\n", r"names\.txt names 1 classes, the weights have 3; a background may come first"),
        ("???\n???\n???\n", r"names\.txt names no class"),
    ],
)
def test_names_that_do_not_fit_a_detector(tmp_path: Path, lines: str, message: str) -> None:
    write_ssd(tmp_path / "net.tflite")
    (tmp_path / "names.txt").write_text(lines)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "net.tflite", tmp_path / "names.txt")
    (tmp_path / "labels.txt").write_text(lines)  # beside the weights they only count if they fit
    assert read_weights(tmp_path / "net.tflite").heads["detection"].class_names == ()


def test_names_that_are_not_there(tmp_path: Path) -> None:
    write_ssd(tmp_path / "net.tflite")
    with pytest.raises(FileNotFoundError, match=r"no class names at .*nowhere\.txt"):
        read_weights(tmp_path / "net.tflite", tmp_path / "nowhere.txt")


# --- refusals


def other_network(file: TFLiteFile) -> None:
    """A residual block after the stem, as MobileNet V2 has them."""
    rows = add_body(file, random_layers()[:3])
    file.op("ADD", [rows[-1], rows[-1]], file.shape(rows[-1]))


def with_layer(index: int, kernel: Any = None, stride: int | None = None) -> list[Any]:
    layers = list(random_layers())
    before, bias, old, depthwise = layers[index]
    kernel = before if kernel is None else kernel
    bias = np.zeros(kernel.shape[3 if depthwise else 0], np.float32)
    layers[index] = (kernel, bias, old if stride is None else stride, depthwise)
    return layers


def body_of(layers: list[Any], **options: Any) -> Any:
    return lambda file: add_body(file, layers, **options)


def ssd_with(**options: Any) -> Any:
    return lambda file: add_ssd(file, random_layers(), **options)


def moved_anchors() -> Any:
    anchors = ssd_anchors([4, 2, 1, 1, 1, 1])
    anchors[5, 3] += 0.02
    return anchors


def without_softmax(file: TFLiteFile) -> None:
    add_body(file, random_layers())
    file.outputs = [2, 3]


def changed_ssd(kind: str, inputs: Any = None, **options: Any) -> Any:
    """An SSD whose last operator of a kind has other inputs or options."""

    def fill(file: TFLiteFile) -> None:
        add_ssd(file, random_layers())
        index = max(index for index, op in enumerate(file.ops) if op[0] == kind)
        _, before, outputs, old = file.ops[index]
        file.ops[index] = (kind, inputs(before) if inputs else before, outputs, {**old, **options})

    return fill


def pad_channels(file: TFLiteFile) -> None:
    amounts = file.constant(np.array([[0, 0], [0, 1], [0, 1], [0, 1]], np.int32))
    row = file.op("PAD", [file.input, amounts], (1, 65, 65, 4))
    file.conv(row, np.zeros((8, 3, 3, 4), np.float32), None, 2)


def convolve_a_line(file: TFLiteFile) -> None:
    file.conv(file.input, np.zeros((8, 3, 3), np.float32), None, 2)


POSTPROCESS = "TFLite_Detection_PostProcess"
REFUSALS = [
    (other_network, r"is no MobileNet V1: operator ADD where a convolution is expected"),
    (body_of(random_layers()[:-2]), r"has 25 convolutions up to its last map, not 27"),
    (
        body_of(with_layer(7, np.zeros((1, 5, 5, 32), np.float32))),
        r"blocks\.3\.depthwise is depthwise 5x5 at stride 2 of 32 channels, not depthwise 3x3 at stride 2 of 32",
    ),
    (
        body_of(with_layer(9, stride=2)),
        r"blocks\.4\.depthwise is depthwise 3x3 at stride 2 of 64 channels, not depthwise 3x3 at stride 1 of 64",
    ),
    (
        body_of(with_layer(4, np.zeros((40, 1, 1, 16), np.float32))),
        r"blocks\.1\.pointwise is conv 1x1 at stride 1 of 40 channels, not conv 1x1 at stride 1 of 32",
    ),
    (body_of(random_layers(), activation=NONE), r"share no padding .* or no activation, found None"),
    (body_of(random_layers(), pad="none"), r"share no padding .* found relu6"),
    (body_of(random_layers(), DilationHFactor=2), r"a 1x1 convolution with .*DilationHFactor 2"),
    (
        without_softmax,
        r"has 2 outputs: neither a classifier nor an SSD that ends in TFLite_Detection_PostProcess",
    ),
    (
        ssd_with(anchors=moved_anchors()),
        r"has other anchors than SSD's .*: anchor 5 is off by 0\.020 of the image",
    ),
    (ssd_with(anchors=ssd_anchors([5, 2, 1, 1, 1, 1])), r"other anchors .*: 123 of them, ours are 96"),
    (ssd_with(anchors=np.zeros((3, 4), np.float32)), r"other anchors .*: an array of shape \[3, 4\]"),
    (ssd_with(anchors=np.ones((84, 4), np.float32)), r"other anchors .*: scales 1\.0 to 1\.0"),
    (ssd_with(kernel=3), r"predicts boxes of map 0 by a kernel of shape \[12, 128, 3, 3\].* 12 rows of 1x1"),
    (ssd_with(c4=20), r"its first maps come after 21 and 6 more convolutions, not after 23 and 4"),
    (ssd_with(convert="TANH"), r"scores boxes by TANH, not by LOGISTIC or SOFTMAX"),
    (
        ssd_with(extra_stride=1),
        r"adds maps by conv 1x1 at stride 1, conv 3x3 at stride 1, not by a 1x1 and a 3x3",
    ),
]


@pytest.mark.parametrize(("fill", "message"), REFUSALS)
def test_other_architectures_are_refused(tmp_path: Path, fill: Any, message: str) -> None:
    file = TFLiteFile(IMAGE)
    fill(file)
    with pytest.raises(ValueError, match=rf"net\.tflite .*{message}"):
        read_weights(file.write(tmp_path / "net.tflite"))


def test_grey_images_and_oblong_ones_are_refused(tmp_path: Path) -> None:
    file = TFLiteFile((1, 64, 64, 1))
    add_body(file, with_layer(0, np.zeros((8, 3, 3, 1), np.float32)))
    with pytest.raises(ValueError, match=r"takes images of 1 channels, not RGB"):
        read_weights(file.write(tmp_path / "net.tflite"))
    file = TFLiteFile(IMAGE)
    add_ssd(file, random_layers())
    file.tensors[0] = ((1, 64, 96, 3), "float32", None, {})
    with pytest.raises(ValueError, match=r"takes images of shape \(1, 64, 96, 3\), not squares"):
        read_weights(file.write(tmp_path / "net.tflite"))


def test_numbers_that_cannot_be_read(tmp_path: Path) -> None:
    for kernel, message in (
        (np.zeros((8, 3, 3, 3), np.int8), "holds a quantised constant without its scale"),
        (None, "computes what must be a constant"),
    ):
        file = TFLiteFile(IMAGE)
        row = file.tensor((8, 3, 3, 3)) if kernel is None else file.constant(kernel)
        file.conv(file.input, row, None, 2)
        with pytest.raises(ValueError, match=message):
            read_weights(file.write(tmp_path / "net.tflite"))
    file = TFLiteFile(IMAGE)
    file.conv(file.input, file.tensor((8, 3, 3, 3), "int4", np.zeros(108, np.uint8)), None, 2)
    with pytest.raises(ValueError, match="stores a constant as a type that is not read"):
        read_weights(file.write(tmp_path / "net.tflite"))


def test_damage_is_never_more_than_a_value_error(tmp_path: Path) -> None:
    write_ssd(tmp_path / "whole.tflite")
    content = (tmp_path / "whole.tflite").read_bytes()
    path = tmp_path / "net.tflite"
    random = np.random.default_rng(2)
    for length in random.integers(0, len(content), 15):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"net\.tflite"):
            read_weights(path)
    refused = 0
    for _ in range(40):  # the head of the file says where everything else is
        damaged = bytearray(content)
        damaged[random.integers(8, 3000)] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except ValueError:
            refused += 1
    assert refused


def test_a_circle_is_refused(tmp_path: Path) -> None:
    file = TFLiteFile(IMAGE)
    first = file.op("RESHAPE", [file.input], IMAGE)
    second = file.op("RESHAPE", [first], IMAGE)
    file.ops[0] = ("RESHAPE", [second], [first], {})
    with pytest.raises(ValueError, match="asks for a tensor that is not there before it"):
        read_weights(file.write(tmp_path / "net.tflite"))


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classifier(tmp_path / "net.tflite")
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ImportError, match=r"needs tflite.*pip install 'mbapps\[weights\]'"):
        read_weights(tmp_path / "net.tflite")
