"""TFLite MobileNets and SSDs with a MobileNet body, float or quantised, known by their operators alone."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .foreign import LAYERS, PIXELS, ConvNormTensors, Weights, named
from .mobilenet import BLOCKS, STEM_CHANNELS, scaled
from .ssd import ssd_head
from .tflite_graph import DAMAGE, Graph, Operator
from .tflite_layers import CASTS, Layer, chain, read_bias, read_layer, skip

SHAPES = (*CASTS, "RESHAPE", "SQUEEZE")  # they change no number
POSTPROCESS = "TFLite_Detection_PostProcess"
CLASSIFICATION = {"LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}
PLAN = (
    ("conv", 3, 2),
    *(kind for _, stride in BLOCKS for kind in (("depthwise", 3, stride), ("conv", 1, 1))),
)
WIDTHS = (
    STEM_CHANNELS,
    *(w for a, b in pairwise((STEM_CHANNELS, *(out for out, _ in BLOCKS))) for w in (a, b)),
)
C4_LAYERS = 2 * 11 + 1  # stem and blocks up to the last at stride 16
MAX_LABELS = 10_000_000  # bytes


def read_tflite(path: Path) -> Weights:
    """Read a MobileNet, with or without its classifier, or an SSD with its post-processing.

    Norms are folded into the convolutions of such files: they come as the identity with a bias, at bn_eps 0.
    Classes are not named yet.

    Raises:
        ValueError: the file is damaged, or of another architecture.
        ImportError: tflite, which brings the schema, is missing.
    """
    graph = Graph(path)
    try:
        last = graph.producer(graph.outputs[0])
        if last is not None and last.kind == POSTPROCESS:
            return _detector(graph, last)
        if len(graph.outputs) == 1:
            return _classifier(graph)
    except DAMAGE as error:
        raise ValueError(f"{path} is a damaged TFLite file: {error!r}") from error
    raise ValueError(
        f"{path} has {len(graph.outputs)} outputs: neither a classifier nor an SSD that ends in {POSTPROCESS}"
    )


def _classifier(graph: Graph) -> Weights:
    row = skip(graph, graph.outputs[0], (*SHAPES, *CLASSIFICATION))
    sigmoid = row != skip(graph, graph.outputs[0], (*SHAPES, "SOFTMAX"))
    classifier: dict[str, Tensor] = {}
    last = graph.producer(row)
    if last is not None and last.kind in ("CONV_2D", "FULLY_CONNECTED"):
        before = skip(graph, last.inputs[0], SHAPES)
        if _is_pool(graph, before):
            if last.options["Activation"] == "NONE" and not sigmoid:
                kernel = graph.constant(last.inputs[1])
                weight = torch.from_numpy(kernel.reshape(len(kernel), -1))
                classifier = {"weight": weight, "bias": read_bias(graph, last, len(kernel))}
            row = before
    if _is_pool(graph, row):
        pool = graph.producer(row)
        row = pool.inputs[0] if pool is not None else row
    layers = chain(graph, row, graph.inputs[0])
    tensors, settings = _body(graph, layers)
    return named(tensors, settings, classifier, graph.path.name, _image_size(graph))


def _detector(graph: Graph, last: Operator) -> Weights:
    path, options = graph.path, last.options
    if len(last.inputs) != 3 or "num_classes" not in options:
        raise ValueError(f"{path} has a {POSTPROCESS} without boxes, scores and anchors")
    box_row, score_row = (skip(graph, row, SHAPES) for row in last.inputs[:2])
    scores = graph.producer(score_row)
    if scores is None or scores.kind not in CLASSIFICATION:
        raise ValueError(f"{path} scores boxes by {scores and scores.kind}, not by LOGISTIC or SOFTMAX")
    boxes, classes = (_predictors(graph, row) for row in (box_row, scores.inputs[0]))
    rows = [layer.row for layer in boxes]
    if len(rows) < 2 or rows != [layer.row for layer in classes]:
        raise ValueError(f"{path} does not predict boxes and classes from the same feature maps")
    parts = [chain(graph, end, start) for start, end in zip([graph.inputs[0], *rows], rows, strict=False)]
    if [len(parts[0]), len(parts[1])] != [C4_LAYERS, len(LAYERS) - C4_LAYERS]:
        raise ValueError(
            f"{path} is no SSD on a MobileNet V1: its first maps come after {len(parts[0])} and {len(parts[1])} "
            f"more convolutions, not after {C4_LAYERS} and {len(LAYERS) - C4_LAYERS}"
        )
    body, extras = [*parts[0], *parts[1]], parts[2:]
    for part in extras:
        if [layer.form for layer in part] != [("conv", 1, 1), ("conv", 3, 2)]:
            raise ValueError(
                f"{path} adds maps by {_forms(part)}, not by a 1x1 and a 3x3 convolution at stride 2"
            )
    tensors, settings = _body(graph, body, [layer for part in extras for layer in part])
    image_size = _image_size(graph)
    if image_size is None:
        raise ValueError(f"{path} takes images of shape {graph.tensors[graph.inputs[0]].shape}, not squares")
    head = ssd_head(
        [(first.tensors, second.tensors) for first, second in extras],
        [(layer.tensors[0], layer.tensors[1][1]) for layer in boxes],
        [(layer.tensors[0], layer.tensors[1][1]) for layer in classes],
        graph.constant(last.inputs[2]),
        [graph.tensors[row].shape[1] for row in rows],
        image_size,
        str(path),
        {"classification": CLASSIFICATION[scores.kind], "nms_thresh": round(options["nms_iou_threshold"], 6)},
        [options[f"{name}_scale"] for name in "yxhw"],
    )
    if head.num_classes != options["num_classes"]:
        raise ValueError(
            f"{path} counts {options['num_classes']} classes and has columns for {head.num_classes}"
        )
    return replace(named(tensors, settings, {}, path.name, None), heads={"detection": head})


def _predictors(graph: Graph, row: int) -> list[Layer]:
    """The convolutions whose outputs are laid end to end."""
    joined = graph.producer(row)
    if joined is None or joined.kind != "CONCATENATION":
        raise ValueError(
            f"{graph.path} is no SSD: {joined and joined.kind} where the maps' predictions are joined"
        )
    return [read_layer(graph, skip(graph, part, SHAPES)) for part in joined.inputs]


def _body(
    graph: Graph, layers: Sequence[Layer], extras: Sequence[Layer] = ()
) -> tuple[list[ConvNormTensors], dict[str, object]]:
    """Check each layer against the paper's table; give the tensors, and settings that extras share."""
    wrong = f"{graph.path} is no MobileNet V1"
    if len(layers) != len(LAYERS):
        raise ValueError(f"{wrong}: it has {len(layers)} convolutions up to its last map, not {len(LAYERS)}")
    last = len(layers[-1].tensors[0])
    for name, layer, form, full in zip(LAYERS, layers, PLAN, WIDTHS, strict=True):
        width = scaled(full, last / WIDTHS[-1])
        if (layer.form, len(layer.tensors[0])) != (form, width):
            raise ValueError(
                f"{wrong}: {name} is {_forms([layer])} of {len(layer.tensors[0])} channels, not "
                f"{_forms([layer._replace(form=form)])} of {width}"
            )
    if layers[0].tensors[0].shape[1] != 3:
        raise ValueError(f"{wrong}: it takes images of {layers[0].tensors[0].shape[1]} channels, not RGB")
    every = [*layers, *extras]
    paddings = frozenset.intersection(*(layer.paddings for layer in every))
    activations = {layer.activation for layer in every}
    if not paddings or len(activations) != 1 or None in activations:
        raise ValueError(
            f"{wrong}: its layers share no padding (TF's SAME, or one pixel all round) or no activation, "
            f"found {', '.join(sorted(map(str, activations)))}"
        )
    mean, std = _pixels(graph)
    return [layer.tensors for layer in layers], {
        "padding": "same" if "same" in paddings else "symmetric",
        "activation": activations.pop(), "bn_eps": 0.0, "mean": mean, "std": std,
    }  # fmt: skip


def _forms(layers: Sequence[Layer]) -> str:
    return ", ".join(
        f"{kind} {side}x{side} at stride {stride}" for kind, side, stride in (layer.form for layer in layers)
    )


def _is_pool(graph: Graph, row: int) -> bool:
    """Whether a tensor is the mean over a whole map."""
    op = graph.producer(row)
    if op is None or op.kind not in ("AVERAGE_POOL_2D", "MEAN"):
        return False
    if op.kind == "AVERAGE_POOL_2D":
        filters = (op.options["FilterHeight"], op.options["FilterWidth"])
        return graph.tensors[op.inputs[0]].shape[1:3] == filters
    axes = graph.tensors[op.inputs[1]].stored
    return axes is not None and sorted(axes.ravel().tolist()) == [1, 2]


def _image_size(graph: Graph) -> int | None:
    shape = graph.tensors[graph.inputs[0]].shape
    return shape[1] if len(shape) == 4 and shape[1] == shape[2] > 1 else None


def _pixels(graph: Graph) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std: of a quantised input as its scale says, of a float one those of TensorFlow's MobileNets."""
    tensor = graph.tensors[graph.inputs[0]]
    if not tensor.scale.size or tensor.dtype.kind not in "iu":
        return PIXELS, PIXELS
    mean = float(tensor.zero_point[0]) - float(np.iinfo(tensor.dtype).min)
    return (mean,) * 3, (round(1 / float(tensor.scale[0]), 4),) * 3


def read_labels(path: Path) -> tuple[str, ...]:
    """Lines of the label file that TFLite's metadata packs at the end of a file; () where there is none."""
    if not zipfile.is_zipfile(path):
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".txt") and info.file_size < MAX_LABELS:
                    text = archive.read(info).decode("utf-8")
                    return tuple(line.strip() for line in text.rstrip().splitlines())
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, OSError):
        return ()
    return ()
