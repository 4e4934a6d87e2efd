"""TF-Slim MobileNets: frozen GraphDef files (`.pb`), read without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .foreign import BLOCK_IDS, FORMATS, Array, Weights, conv, depthwise, linear, named

STEM = "Conv2d_0/weights"
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def read_graphdef(path: Path) -> Weights:
    """Read a frozen TF-Slim MobileNet. Its classifier keeps TF-Slim's class 0, the background.

    Raises:
        ValueError: the file is no frozen graph, or not of a MobileNet with its batch norms.
        ImportError: tensorboard, which brings the protobuf classes, is missing.
    """
    constants, image_size = _read_constants(path)
    scope = next((name.removesuffix(STEM) for name in constants if name.endswith(STEM)), None)
    if scope is None:
        found = ", ".join(list(constants)[:3]) or "no constants"
        raise ValueError(f"{path} is no frozen TF-Slim MobileNet: no {STEM}, found {found}; {FORMATS}")

    def array(name: str) -> Array:
        if scope + name not in constants:
            raise ValueError(f"{path} has no {scope}{name}; graphs with folded batch norms are not read")
        return constants[scope + name]

    def norm(layer: str) -> list[Tensor]:
        return [torch.from_numpy(array(f"{layer}/BatchNorm/{part}")) for part in NORM]

    tensors = [(conv(array(STEM)), norm("Conv2d_0"))]
    for n in BLOCK_IDS:
        dw, pw = f"Conv2d_{n}_depthwise", f"Conv2d_{n}_pointwise"
        tensors.append((depthwise(array(f"{dw}/depthwise_weights")), norm(dw)))
        tensors.append((conv(array(f"{pw}/weights")), norm(pw)))
    logits = f"{scope}Logits/Conv2d_1c_1x1"
    classifier = {}
    if f"{logits}/weights" in constants:
        classifier = linear(constants[f"{logits}/weights"], constants[f"{logits}/biases"])
    eps = (value for name, value in constants.items() if name.endswith("Conv2d_0/BatchNorm/batchnorm/add/y"))
    settings = {"padding": "same", "activation": "relu6", "bn_eps": round(float(next(eps, 1e-3)), 7)}
    return named(tensors, settings, classifier, path.name, image_size)


def _read_constants(path: Path) -> tuple[dict[str, Array], int | None]:
    """Floating-point constants by name; the side of the input image, None where the graph takes any."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.util.tensor_util import make_ndarray

    graph = GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path} is no TensorFlow graph: {error}; {FORMATS}") from error
    constants, image_size = {}, None
    for node in graph.node:
        if node.op == "Const":
            value = make_ndarray(node.attr["value"].tensor)
            if value.dtype.kind == "f":
                constants[node.name] = value.astype(np.float32)
        elif node.op == "Placeholder" and image_size is None:
            sides = [dim.size for dim in node.attr["shape"].shape.dim][1:3]
            image_size = int(sides[0]) if len(sides) == 2 and sides[0] == sides[1] > 0 else None
    return constants, image_size
