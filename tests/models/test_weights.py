from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.models.foreign import Weights
from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.weights import load_body, read_weights

h5py = pytest.importorskip("h5py")
timm = pytest.importorskip("timm")

REFERENCES = [  # file, its reference, alpha, classes
    ("mobilenet_v1_0.25_224.h5", "mobilenet_v1_0.25_224", 0.25, 1000),
    ("mobilenet_v1_0.5_224_5class.h5", "mobilenet_v1_0.5_224", 0.5, 5),
    ("mobilenet_v1_1.0_224_frozen.pb", "mobilenet_v1_1.0_224", 1.0, 1001),
]


def linear(weights: Weights) -> dict[str, Tensor]:
    """Weight and bias of the classifier."""
    tensors = weights.heads["fine_grained"].tensors
    return {key.removeprefix("linear."): tensor for key, tensor in tensors.items()}


def build(weights: Weights) -> MobileNetV1:
    body = MobileNetV1(**weights.settings)  # type: ignore[arg-type]
    load_body(body, weights)
    return body.eval()


@torch.inference_mode()
def run(weights: Weights, images: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled features and logits."""
    pooled = build(weights)(images)["c5"].mean(dim=(2, 3))
    return pooled, F.linear(pooled, **linear(weights))


def images(side: int = 64) -> Tensor:
    return torch.randint(
        256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


# --- real files


@pytest.mark.parametrize(("file", "reference", "alpha", "num_classes"), REFERENCES)
def test_real_files_give_the_original_outputs(
    test_data: Path, file: str, reference: str, alpha: float, num_classes: int
) -> None:
    weights = read_weights(test_data / "weights" / file)
    assert weights.settings == {
        "alpha": alpha, "padding": "same", "activation": "relu6", "bn_eps": 0.001,
        "mean": (127.5,) * 3, "std": (127.5,) * 3,
    }  # fmt: skip
    head = weights.heads["fine_grained"]
    assert (weights.source, head.image_size, head.class_names, head.num_classes) == (
        file,
        224,
        (),
        num_classes,
    )
    assert head.tensors["linear.weight"].shape == (num_classes, 1024 * alpha)
    wanted = np.load(test_data / "weights" / "reference" / f"{reference}.npz")
    pooled, logits = run(weights, torch.from_numpy(wanted["pixels"]).permute(0, 3, 1, 2))
    np.testing.assert_allclose(pooled, wanted["pooled"], atol=1e-3)
    if "logits" in wanted:
        np.testing.assert_allclose(logits, wanted["logits"], atol=1e-3)


def test_real_labels_beside_the_weights(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "weights" / "mobilenet_v1_1.0_224_frozen.pb"
    (tmp_path / "net.pb").symlink_to(source)
    labels = (test_data / "weights" / "imagenet_labels_1001.txt").read_text()
    (tmp_path / "net.labels.txt").write_text(labels)
    names = read_weights(tmp_path / "net.pb").heads["fine_grained"].class_names
    assert (len(names), names[0], names[1]) == (1001, "background", "tench, Tinca tinca")


# --- Keras files, written here tensor by tensor

Arrays = dict[str, NDArray[np.float32]]


def keras_layers(
    stem: tuple[str, str] = ("conv1", "conv1_bn"), depthwise_name: str = "depthwise_kernel"
) -> dict[str, Arrays]:
    """Random tensors of a Keras MobileNet of alpha 0.25 whose channel 0 can be followed by eye."""
    random = np.random.default_rng(5)

    def norm(channels: int) -> Arrays:
        return {
            "gamma:0": random.uniform(0.5, 1.5, channels).astype(np.float32),
            "beta:0": random.normal(0, 0.1, channels).astype(np.float32),
            "moving_mean:0": random.normal(0, 0.1, channels).astype(np.float32),
            "moving_variance:0": random.uniform(0.5, 2, channels).astype(np.float32),
        }

    def kernel(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.2, shape).astype(np.float32)

    widths = (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
    layers = {stem[0]: {"kernel:0": kernel(3, 3, 3, 8)}, stem[1]: norm(8)}
    for n, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
        layers[f"conv_dw_{n}"] = {f"{depthwise_name}:0": kernel(3, 3, before, 1)}
        layers[f"conv_dw_{n}_bn"] = norm(before)
        layers[f"conv_pw_{n}"] = {"kernel:0": kernel(1, 1, before, after)}
        layers[f"conv_pw_{n}_bn"] = norm(after)
    return layers


def dense(channels: int, num_classes: int) -> Arrays:
    ramp = np.arange(channels * num_classes, dtype=np.float32)
    return {
        "kernel:0": ramp.reshape(channels, num_classes),
        "bias:0": np.arange(num_classes, dtype=np.float32),
    }


def write_h5(
    path: Path, layers: dict[str, Arrays], nested: dict[str, Arrays] | None = None, config: Any = None
) -> Path:
    """A whole-model file; `nested` layers stand inside a sub-model as Keras writes it."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        for name, arrays in layers.items():
            for tensor, array in arrays.items():
                root[f"{name}/{name}/{tensor}"] = array
        for name, arrays in (nested or {}).items():
            for tensor, array in arrays.items():
                root[f"mobilenet_0.25_96/{name}/{tensor}"] = array
        # of no concern, and full of tensors with the names of layers
        file["optimizer_weights/Adam/conv1/kernel/m:0"] = np.ones((3, 3, 3, 8), np.float32)
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


def test_keras_tensors_land_where_they_belong(tmp_path: Path) -> None:
    layers = keras_layers()
    weights = read_weights(write_h5(tmp_path / "net.h5", layers))
    body = weights.body
    state = {key for key in MobileNetV1(0.25).state_dict() if "num_batches" not in key}
    assert set(body) == state
    assert body["stem.conv.weight"][5, 2, 0, 1] == layers["conv1"]["kernel:0"][0, 1, 2, 5]
    assert (
        body["blocks.3.depthwise.conv.weight"][7, 0, 2, 1]
        == layers["conv_dw_4"]["depthwise_kernel:0"][2, 1, 7, 0]
    )
    assert body["blocks.12.pointwise.conv.weight"][9, 4, 0, 0] == layers["conv_pw_13"]["kernel:0"][0, 0, 4, 9]
    keys = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    for ours, theirs in keys.items():
        np.testing.assert_array_equal(body[f"stem.norm.{ours}"], layers["conv1_bn"][f"{theirs}:0"])
        np.testing.assert_array_equal(
            body[f"blocks.0.depthwise.norm.{ours}"], layers["conv_dw_1_bn"][f"{theirs}:0"]
        )
    assert weights.heads == {}


@pytest.mark.parametrize("stem", [("conv1", "conv1_bn"), ("conv2d_7", "batch_normalization_3")])
def test_keras_nested_model_and_plain_weights_file_read_alike(tmp_path: Path, stem: tuple[str, str]) -> None:
    layers = keras_layers(stem)
    whole = read_weights(write_h5(tmp_path / "whole.h5", {**layers, "dense_4": dense(256, 3)}))
    nested = read_weights(write_h5(tmp_path / "nested.h5", {"dense_4": dense(256, 3)}, nested=layers))
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, arrays in {**layers, "dense_4": dense(256, 3)}.items():
            for tensor, array in arrays.items():
                file[f"{name}/{name}/{tensor}"] = array
    plain = read_weights(tmp_path / "plain.h5")
    assert linear(whole)["weight"].shape == (3, 256)
    assert linear(whole)["weight"][1, :3].tolist() == [1, 4, 7]
    assert linear(whole)["bias"].tolist() == [0, 1, 2]
    for other in (nested, plain):
        torch.testing.assert_close(other.body, whole.body, rtol=0, atol=0)
        torch.testing.assert_close(linear(other), linear(whole), rtol=0, atol=0)
        assert other.settings == whole.settings
    assert run(nested, images())[1].isfinite().all()


def test_keras_3_names_the_depthwise_kernel_otherwise(tmp_path: Path) -> None:
    old = read_weights(write_h5(tmp_path / "old.h5", keras_layers()))
    new = read_weights(write_h5(tmp_path / "new.h5", keras_layers(depthwise_name="kernel")))
    torch.testing.assert_close(old.body, new.body)


def layer_config(class_name: str, name: str, **config: object) -> dict[str, object]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def test_keras_configuration_tells_size_scaling_and_epsilon(tmp_path: Path) -> None:
    inner = [layer_config("BatchNormalization", "conv1_bn", epsilon=1e-4)]
    config = {
        "class_name": "Sequential",
        "config": {
            "layers": [
                layer_config("InputLayer", "input_1", batch_input_shape=[None, 96, 96, 3]),
                layer_config("Rescaling", "rescaling", scale=1 / 50, offset=-2.0),
                {"class_name": "Functional", "config": {"layers": inner}},
                layer_config("Dense", "dense", activation="softmax"),
            ]
        },
    }
    weights = read_weights(write_h5(tmp_path / "net.h5", {"dense": dense(256, 3)}, keras_layers(), config))
    assert weights.heads["fine_grained"].image_size == 96
    assert weights.settings["bn_eps"] == 1e-4
    assert weights.settings["mean"] == pytest.approx((100,) * 3)
    assert weights.settings["std"] == pytest.approx((50,) * 3)
    assert linear(weights)["weight"].shape == (3, 256)


@pytest.mark.parametrize(
    ("head", "configs"),
    [
        ({"dense": dense(256, 4), "dense_1": dense(4, 2)}, []),  # not right on the pooled features
        ({"dense": dense(1024, 4)}, []),  # on flattened ones
        ({"dense": dense(256, 4)}, [("Dense", "dense", "relu")]),
        ({"dense": dense(256, 4)}, [("GlobalMaxPooling2D", "pool", None), ("Dense", "dense", "softmax")]),
    ],
)
def test_keras_heads_that_are_no_linear_classifier_are_left_out(
    tmp_path: Path, head: dict[str, Arrays], configs: list[tuple[str, str, str | None]]
) -> None:
    layers = [layer_config(kind, name, activation=activation) for kind, name, activation in configs]
    config = {"class_name": "Functional", "config": {"layers": layers}}
    weights = read_weights(write_h5(tmp_path / "net.h5", {**keras_layers(), **head}, config=config))
    assert weights.heads == {}
    build(weights)


# --- timm


def timm_model(name: str = "mobilenetv1_100", **settings: Any) -> nn.Module:
    """A random timm model whose batch norms have seen something."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **settings).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


@pytest.mark.parametrize(
    ("name", "alpha", "file"),
    [
        ("mobilenetv1_100", 1.0, "net.safetensors"),
        ("mobilenetv1_125", 1.25, "net.pth"),
        ("mobilenetv1_100", 1.0, "x.bin"),
    ],
)
def test_timm_files_give_timms_outputs(tmp_path: Path, name: str, alpha: float, file: str) -> None:
    model = timm_model(name)
    if file.endswith(".safetensors"):
        save_file(model.state_dict(), tmp_path / file)
    else:
        torch.save(model.state_dict(), tmp_path / file)
    weights = read_weights(tmp_path / file)
    assert (weights.settings["alpha"], weights.settings["padding"], weights.source) == (
        alpha,
        "symmetric",
        file,
    )
    pixels = images()
    with torch.inference_mode():
        wanted = model(pixels / 127.5 - 1)
    torch.testing.assert_close(run(weights, pixels)[1], wanted, rtol=1e-4, atol=1e-4)


def test_timm_training_checkpoint_and_half_floats(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": timm_model().half().state_dict()}, tmp_path / "net.pth")
    weights = read_weights(tmp_path / "net.pth")
    assert {tensor.dtype for tensor in (*weights.body.values(), *linear(weights).values())} == {torch.float32}


@pytest.mark.parametrize("source", ["timm:mobilenetv1_100.ra4_e3600_r224_in1k", "mobilenetv1_100"])
def test_timm_names_are_downloaded(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    asked: list[tuple[str, bool]] = []

    def create(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return model

    model = timm_model()
    monkeypatch.setattr(timm, "create_model", create)
    weights = read_weights(source)
    name = source.removeprefix("timm:")
    assert asked == [(name, True)]
    assert (weights.source, weights.heads["fine_grained"].image_size) == (f"timm:{name}", 224)


def test_timm_name_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, pretrained: bool) -> nn.Module:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(OSError, match=r"could not download mobilenetv1_100: Name.*pass that file's path"):
        read_weights("mobilenetv1_100")


def test_timm_name_that_timm_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"no weights mobilenetv1_9 .*it has mobilenetv1_100\.ra4"):
        read_weights("timm:mobilenetv1_9")


def test_timm_with_a_head_convolution_is_refused(tmp_path: Path) -> None:
    save_file(timm_model("mobilenetv1_100h").state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(
        ValueError, match=r"has conv_head\.weight, which MobileNet V1 has not .*mobilenetv1_100h"
    ):
        read_weights(tmp_path / "net.safetensors")


def test_timm_of_another_family_is_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(
        ValueError, match=r"is no timm mobilenetv1: no blocks\.\S+, found blocks\.0\.0\.bn1\.bias"
    ):
        read_weights(tmp_path / "net.safetensors")


# --- model folders


def write_folder(folder: Path, heads: dict[str, dict[str, Any]], tensors: dict[str, Tensor]) -> MobileNetV1:
    body = MobileNetV1(0.25, padding="symmetric")
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(
        json.dumps(
            {
                "format": 1,
                "body": body.settings,
                "heads": {name: {"class": "Head", "settings": {}, **head} for name, head in heads.items()},
            }
        )
    )
    save_file(
        {**{f"body.{key}": value for key, value in body.state_dict().items()}, **tensors},
        folder / "model.safetensors",
    )
    return body.eval()


def test_model_folder(tmp_path: Path) -> None:
    head = {"class_names": ["pug", "akita"], "image_size": 96, "category_ids": [4, 7]}
    layer = {
        "heads.fine_grained.linear.weight": torch.rand(2, 256),
        "heads.fine_grained.linear.bias": torch.rand(2),
    }
    body = write_folder(tmp_path / "run" / "model", {"fine_grained": head}, layer)
    weights = read_weights(tmp_path / "run" / "model")
    theirs = weights.heads["fine_grained"]
    assert (theirs.class_names, theirs.image_size, weights.source) == (("pug", "akita"), 96, "run/model")
    assert (theirs.num_classes, theirs.category_ids) == (2, (4, 7))
    torch.testing.assert_close(linear(weights)["weight"], layer["heads.fine_grained.linear.weight"])
    assert weights.settings == body.settings
    with torch.inference_mode():
        torch.testing.assert_close(build(weights)(images()), body(images()))


def test_model_folder_with_two_heads(tmp_path: Path) -> None:
    tensors = {"heads.a.linear.bias": torch.rand(1), "heads.b.boxes.0.weight": torch.rand(4, 4)}
    head = {"class_names": ["cat"], "image_size": 64}
    write_folder(tmp_path / "model", {"a": head, "b": {**head, "settings": {"min_scale": 0.1}}}, tensors)
    heads = read_weights(tmp_path / "model").heads
    assert list(heads["a"].tensors) == ["linear.bias"]
    assert list(heads["b"].tensors) == ["boxes.0.weight"]
    assert heads["b"].settings == {"min_scale": 0.1}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ('{"format": 2, "body": {}, "heads": {}}', "has format 2, newer than this mbapps reads"),
        ('{"format": 1, "heads": {}}', r"is no model description: KeyError\('body'\)"),
        ('{"format": 1,', "is no model description: JSONDecodeError"),
        (None, r"is no model folder: it has no model\.json"),
    ],
)
def test_model_folders_that_cannot_be_read(tmp_path: Path, facts: str | None, message: str) -> None:
    write_folder(tmp_path / "model", {}, {})
    (tmp_path / "model" / "model.json").unlink()
    if facts is not None:
        (tmp_path / "model" / "model.json").write_text(facts)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "model")


# --- loading


def test_load_body_names_the_tensors_that_differ_and_copies_nothing(tmp_path: Path) -> None:
    weights = read_weights(write_h5(tmp_path / "net.h5", keras_layers()))
    body = MobileNetV1(0.5)
    before = body.stem.conv.weight.clone()
    message = (
        r"net\.h5 does not fit, \d+ tensors differ: stem\.conv\.weight is \(8, 3, 3, 3\) in the file, "
        r"\(16, 3, 3, 3\) in the model; .*; .*; use backbone\.alpha=0\.25"
    )
    with pytest.raises(ValueError, match=message):
        load_body(body, weights)
    assert torch.equal(body.stem.conv.weight, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shallow": True}, r"blocks\.6\.pointwise\.conv\.weight is .*; use backbone\.shallow=false"),
        ({"separable": False}, r"is missing in the file, .*; use backbone\.separable=true"),
    ],
)
def test_load_body_names_the_control_networks(
    tmp_path: Path, settings: dict[str, bool], message: str
) -> None:
    weights = read_weights(write_h5(tmp_path / "net.h5", keras_layers()))
    with pytest.raises(ValueError, match=message):
        load_body(MobileNetV1(0.25, **settings), weights)  # type: ignore[arg-type]


# --- class names


def test_labels_beside_the_weights_count_only_if_they_fit(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "net.h5", {**keras_layers(), "dense": dense(256, 2)})
    (tmp_path / "net.labels.txt").write_text("one\ntwo\nthree\n")
    assert read_weights(path).heads["fine_grained"].class_names == ()
    (tmp_path / "labels.txt").write_text("pug\n akita \n\n")
    assert read_weights(path).heads["fine_grained"].class_names == ("pug", "akita")
    (tmp_path / "net.labels.txt").write_text("cat\ndog")
    assert read_weights(path).heads["fine_grained"].class_names == ("cat", "dog")


def test_class_names_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "net.h5", {**keras_layers(), "dense": dense(256, 3)})
    (tmp_path / "names.txt").write_text("pug\nakita\n")
    with pytest.raises(ValueError, match=r"names\.txt names 2 classes, the weights have 3"):
        read_weights(path, tmp_path / "names.txt")


# --- refusals


@pytest.mark.parametrize(
    "source", ["nowhere/net.h5", "mobilenetv1_100.safetensors", "resnet50", "timm:resnet50"]
)
def test_nothing_there(source: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no weights at {source}; it may be a Keras MobileNet"):
        read_weights(source)


def write_keras_3(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 8), np.float32)


def write_two_stems(path: Path) -> None:
    write_h5(path, {**keras_layers(), "extra": {"kernel:0": np.zeros((3, 3, 3, 8), np.float32)}})


def write_folded_graph(path: Path) -> None:
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.util.tensor_util import make_tensor_proto

    graph = GraphDef()
    node = graph.node.add(name="MobilenetV1/Conv2d_0/weights", op="Const")
    node.attr["value"].tensor.CopyFrom(make_tensor_proto(np.zeros((3, 3, 3, 8), np.float32)))
    path.write_bytes(graph.SerializeToString())


def write_other_graph(path: Path) -> None:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef()
    graph.node.add(name="input", op="Placeholder")
    path.write_bytes(graph.SerializeToString())


def plain_tensors() -> dict[str, Tensor]:
    """A body as plain state dicts name it, its norms folded."""
    names = {"conv": "conv", "norm": "bn", "depthwise": "0", "pointwise": "1"}
    return {
        "backbone." + ".".join(names.get(part, part) for part in key.split(".")): tensor
        for key, tensor in MobileNetV1(0.25).state_dict().items()
    }


def write_plain_with_statistics(path: Path) -> None:
    save_file({**plain_tensors(), "backbone.stem.bn.running_mean": torch.ones(8)}, path)


def write_plain_without_extras(path: Path) -> None:
    save_file({**plain_tensors(), "anchors": torch.zeros(1917, 4)}, path)


def write_pickle(path: Path) -> None:
    torch.save({"model": Path("a")}, path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "net.onnx",
            lambda path: path.write_bytes(b"x"),
            r"net\.onnx has the suffix '\.onnx', .*a Keras MobileNet",
        ),
        ("net.h5", lambda path: path.write_bytes(b"text"), r"net\.h5 is not an HDF5 file"),
        ("net.h5", write_keras_3, r"layer conv_dw_1 is missing, found no layer names \(Keras 3's"),
        ("net.h5", lambda path: write_h5(path, {"fc": dense(2, 2)}), "layer conv_dw_1 is missing, found fc"),
        (
            "net.h5",
            write_two_stems,
            r"must have one 3x3x3x8 convolution with its norm, found \['conv1', 'extra'\]",
        ),
        ("net.pb", lambda path: path.write_bytes(b"text"), r"net\.pb is no TensorFlow graph"),
        (
            "net.pb",
            write_other_graph,
            r"no frozen TF-Slim MobileNet: no Conv2d_0/weights, found no constants",
        ),
        ("net.pb", write_folded_graph, r"has no MobilenetV1/Conv2d_0/BatchNorm/gamma; graphs with folded"),
        (
            "net.safetensors",
            lambda path: path.write_bytes(b"text"),
            r"net\.safetensors is no file of tensors alone",
        ),
        ("net.pth", lambda path: path.write_bytes(b""), r"net\.pth is no file of tensors alone"),
        ("net.pth", write_pickle, r"net\.pth is no file of tensors alone: Weights only load failed"),
        ("net.pth", lambda path: torch.save([1], path), r"no conv_stem\.weight, found no named tensors"),
        (
            "net.safetensors",
            lambda path: save_file({"backbone.stem.conv.weight": torch.zeros(1)}, path),
            r"is no plain MobileNet V1 or SSD of it: no backbone\.stem\.bn\.weight",
        ),
        (
            "net.safetensors",
            write_plain_with_statistics,
            r"has norms with statistics; plain state dicts have them folded",
        ),
        (
            "net.safetensors",
            write_plain_without_extras,
            r"is no plain MobileNet V1 or SSD of it: no extras\.0\.0\.conv\.weight",
        ),
        (
            "net.safetensors",
            lambda path: save_file({"backbone.stem.weight": torch.zeros(1)}, path),
            r"net\.safetensors is no timm mobilenetv1: no conv_stem\.weight, found backbone\.stem\.weight",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, write: Any, message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("package", "source"),
    [("h5py", "net.h5"), ("tensorboard", "net.pb"), ("timm", "timm:mobilenetv1_100")],
)
def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, source: str
) -> None:
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / source).write_bytes(b"")
    where = source if source.startswith("timm:") else tmp_path / source
    with pytest.raises(ImportError, match=rf"needs {package}.*pip install 'mbapps\[weights\]'"):
        read_weights(where)
