"""Keras MobileNets: `.h5` files of a whole model or of its weights alone, MobileNet at the top or nested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .foreign import BLOCK_IDS, FORMATS, Array, Weights, conv, depthwise, linear, named

Layer = dict[str, Array]
Configs = list[tuple[str, dict[str, Any]]]
NOTHING = np.zeros(0, np.float32)


def read_keras(path: Path) -> Weights:
    """Read a Keras MobileNet; a linear layer right after the pooling becomes the classifier.

    Raises:
        ValueError: the file is not HDF5, or no MobileNet whose layers bear Keras' names.
        ImportError: h5py is missing.
    """
    layers, configs = _read_layers(path)
    names = [f"conv_{part}_{n}{end}" for n in BLOCK_IDS for part in ("dw", "pw") for end in ("", "_bn")]
    missing = [name for name in names if name not in layers]
    if missing:
        found = (
            ", ".join(sorted(layers.keys() - {"vars"})[:5])
            or "no layer names (Keras 3's .weights.h5 has none)"
        )
        raise ValueError(
            f"{path} is no Keras MobileNet: layer {missing[0]} is missing, found {found}; {FORMATS}"
        )
    tensors = []
    for n in BLOCK_IDS:
        filters = layers[f"conv_dw_{n}"]
        kernel = (
            filters["depthwise_kernel"] if "depthwise_kernel" in filters else filters["kernel"]
        )  # Keras 2, 3
        tensors.append((depthwise(kernel), _norm(layers[f"conv_dw_{n}_bn"])))
        tensors.append((conv(layers[f"conv_pw_{n}"]["kernel"]), _norm(layers[f"conv_pw_{n}_bn"])))
    rest = {name: layer for name, layer in layers.items() if name not in names}
    stem = _pop_stem(rest, len(tensors[0][0]), path)
    settings: dict[str, object] = {
        "padding": "same",
        "activation": "relu6",
        "bn_eps": _first(configs, "BatchNormalization").get("epsilon", 1e-3),
    }
    rescaling = _first(configs, "Rescaling")
    if rescaling:  # the file scales its input itself: pixel * scale + offset
        scale, offset = np.broadcast_to(rescaling["scale"], 3), np.broadcast_to(rescaling["offset"], 3)
        settings |= {"mean": tuple((-offset / scale).tolist()), "std": tuple((1 / scale).tolist())}
    config = _first(configs, "InputLayer")
    sides = (config.get("batch_input_shape") or config.get("batch_shape") or [])[1:3]
    image_size = sides[0] if len(sides) == 2 and sides[0] == sides[1] else None
    classifier = _classifier(rest, configs, len(tensors[-1][0]))
    return named([stem, *tensors], settings, classifier, path.name, image_size)


def _read_layers(path: Path) -> tuple[dict[str, Layer], Configs]:
    """{layer name: its arrays}, nested models' layers beside the others; configurations if any."""
    import h5py

    layers: dict[str, Layer] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim:
            *_, layer, tensor = ("", *name.split("/"))
            layers.setdefault(layer, {})[tensor.partition(":")[0]] = np.asarray(item, np.float32)

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file: {error}") from error
    with file:
        file.get("model_weights", file).visititems(take)
        return layers, list(_walk(json.loads(file.attrs.get("model_config", "{}"))))


def _walk(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(class name, configuration) of every layer, a nested model's in its place."""
    inner = config.get("config", {})
    if isinstance(inner, list):  # Sequential in the first versions of Keras
        inner = {"layers": inner}
    if "layers" in inner:
        for layer in inner["layers"]:
            yield from _walk(layer)
    else:
        yield config.get("class_name", ""), inner


def _first(configs: Configs, class_name: str) -> dict[str, Any]:
    return next((config for name, config in configs if name == class_name), {})


def _norm(layer: Layer) -> list[Tensor]:
    mean = layer["moving_mean"]
    scale, shift = layer.get("gamma", np.ones_like(mean)), layer.get("beta", np.zeros_like(mean))
    return [torch.from_numpy(array) for array in (scale, shift, mean, layer["moving_variance"])]


def _pop_stem(rest: dict[str, Layer], width: int, path: Path) -> tuple[Tensor, list[Tensor]]:
    """Take the first convolution and its norm out of `rest`.

    They are "conv1" and "conv1_bn", or bear automatic names ("conv2d_7") and are known by their shapes.
    """
    convs = [name for name, layer in rest.items() if layer.get("kernel", NOTHING).shape == (3, 3, 3, width)]
    norms = [name for name, layer in rest.items() if layer.get("moving_mean", NOTHING).shape == (width,)]
    if len(convs) != 1 or len(norms) != 1:
        raise ValueError(
            f"{path} must have one 3x3x3x{width} convolution with its norm, found {convs} and {norms}"
        )
    return conv(rest.pop(convs[0])["kernel"]), _norm(rest.pop(norms[0]))


def _classifier(rest: dict[str, Layer], configs: Configs, width: int) -> dict[str, Tensor]:
    """The one layer outside the body, if it is linear over average-pooled features; else {}."""
    if len(rest) != 1 or _first(configs, "GlobalMaxPooling2D"):
        return {}
    ((name, layer),) = rest.items()
    kernel = layer.get("kernel", NOTHING)
    activations = [config.get("activation") for _, config in configs if config.get("name") == name]
    if kernel.shape[:-1] not in ((width,), (1, 1, width)) or not {*activations} <= {"linear", "softmax"}:
        return {}
    return linear(kernel, layer.get("bias", np.zeros(kernel.shape[-1], np.float32)))
