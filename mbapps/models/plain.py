"""Plain state dicts of folded TF MobileNets: `backbone.stem`, `backbone.blocks.N.{0, 1}` and a head beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .foreign import FORMATS, NORM_KEYS, ConvNormTensors, HeadWeights, Weights, named
from .mobilenet import BLOCKS
from .ssd import ssd_head
from .timm_weights import read_timm

STEM = "backbone.stem.conv.weight"
BODY = ("backbone.stem", *(f"backbone.blocks.{n}.{part}" for n in range(len(BLOCKS)) for part in (0, 1)))
SSD_PIXELS = (128.0, 128.0, 128.0)  # mean and std alike: such a file is a quantised SSD in real numbers
FACE = "feats.weight"  # of a face net, which takes BGR pixels minus the means of VGGFace's line
FACE_MEAN = (123.68, 116.779, 103.939)  # RGB
FACE_SIZE = 224  # px; its embedding is the pooled c5 itself
IMAGE_SIZE = 300  # of TF Object Detection's SSD; its maps have 19, 10, 5, 3, 2 and 1 cells a side
MAP_SIZES = (19, 10, 5, 3, 2, 1)


def read_safetensors(path: Path) -> Weights:
    """Read a `.safetensors` file: a plain state dict with its norms folded, or one of timm's.

    Raises:
        ValueError: the file is damaged, or of another network.
    """
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no file of tensors alone: {error}") from error
    return _convert(state, path) if STEM in state else read_timm(path)


def _convert(state: Mapping[str, Tensor], path: Path) -> Weights:
    def array(key: str) -> Tensor:
        if key not in state:
            raise ValueError(f"{path} is no plain MobileNet V1 or SSD of it: no {key}; {FORMATS}")
        return state[key].float()

    def layer(name: str) -> ConvNormTensors:
        return array(f"{name}.conv.weight"), [array(f"{name}.bn.{key}") for key in NORM_KEYS]

    layers = [layer(name) for name in BODY]
    if any(mean.any() or (var != 1).any() for _, (_, _, mean, var) in layers):
        raise ValueError(
            f"{path} has norms with statistics; plain state dicts have them folded: mean 0, var 1"
        )
    settings: dict[str, object] = {"padding": "same", "activation": "relu6", "bn_eps": 0.0}
    if "anchors" in state:
        settings |= {"mean": SSD_PIXELS, "std": SSD_PIXELS}
    if FACE in state:
        kernel, norm = layers[0]
        layers[0] = kernel.flip(1), norm  # BGR -> RGB
        settings |= {"mean": FACE_MEAN, "std": (1.0, 1.0, 1.0)}
    weights = named(layers, settings, {}, path.name, None)
    if FACE in state:
        pooled = HeadWeights({}, 0, image_size=FACE_SIZE, settings={"dim": None, "pool": "avg"})
        weights = replace(weights, heads={"face_embed": pooled})
    if "anchors" not in state:
        return weights
    extras = [(layer(f"extras.{n}.0"), layer(f"extras.{n}.1")) for n in range(len(MAP_SIZES) - 2)]
    boxes, classes = (
        [(array(f"{name}.{n}.weight"), array(f"{name}.{n}.bias")) for n in range(len(MAP_SIZES))]
        for name in ("box", "cls")
    )
    head = ssd_head(
        extras, boxes, classes, array("anchors").numpy(), MAP_SIZES, IMAGE_SIZE, str(path),
        {"classification": "sigmoid", "nms_thresh": 0.6},
    )  # fmt: skip
    return replace(weights, heads={"detection": head})
