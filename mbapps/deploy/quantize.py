"""Exported files in 8 bits: post-training quantisation with images of the user's own, by NNCF or LiteRT's quantiser."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .graph import INPUT
from .layer_names import Weights, find_places
from .quantize_litert import quantize_litert
from .runtimes import INT8
from .sessions import need, quiet
from .writers import METADATA, explaining

BY_NNCF = ("openvino", "onnx")
LEAST_SHARE = 0.8  # of the layers that should be in 8 bits
ORT_INT8 = ("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger")  # as it joins them
ORT_FLOAT = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcFusedConv")
ARITHMETIC = [  # without weights: of decoding, and of lengths that vectors are divided by
    "Add", "Multiply", "Subtract", "Divide", "Mul", "Sub", "Div",
    "Power", "Pow", "Sqrt", "ReduceSum", "ReduceL2", "NormalizeL2",
]  # fmt: skip


class Share(NamedTuple):
    """How many layers with weights run in 8 bits, and how many there are."""

    int8: int
    layers: int


def import_nncf() -> list[Any]:
    """Import NNCF and its finer settings without the report that it sends to its makers.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # read when it is imported
    return need(INT8, "nncf", "nncf.quantization.advanced_parameters", key="precision")


def quantize(
    runtime: str,
    path: Path,
    views: NDArray[np.uint8],
    facts: str,
    keep: Mapping[str, Weights] | None = None,
    batch: int = 1,
    wanted: int = 1,
) -> Share:
    """Replace a float file by one in 8 bits: weights per channel, activations by the ranges seen.

    Arithmetic without weights, such as the decoding of boxes and the lengths of vectors, stays in float.

    Args:
        runtime: one of QUANTIZERS.
        path: of the file.
        views: [N, S, S, 3] to calibrate on.
        facts: JSON that goes into the file.
        keep: weights of layers that stay in float, by name.
        batch: images at a time that the file takes.
        wanted: layers that should be in 8 bits, as `should_be_low` counts them.

    Returns:
        How many layers are in 8 bits now.

    Raises:
        ImportError: what quantises is not installed.
        ValueError: the runtime is another one, the file lacks a layer that is to stay in float, or fewer layers than
            LEAST_SHARE of those wanted are in 8 bits.
    """
    if runtime not in QUANTIZERS:
        raise ValueError(
            f"precision=int8 is for runtime={' and runtime='.join(QUANTIZERS)}, not runtime={runtime}"
        )
    keep = keep or {}
    views = np.resize(
        views, (math.ceil(len(views) / batch) * batch, *views.shape[1:])
    )  # the last batch is full
    items = [views[row : row + batch] for row in range(0, len(views), batch)]
    with quiet(), explaining(f"runtime={runtime} precision={INT8}"):
        share = Share(*QUANTIZERS[runtime](path, items, facts, keep))
    if share.int8 < max(1, LEAST_SHARE * wanted):
        raise ValueError(
            f"runtime={runtime} precision=int8: only {share.int8} of {share.layers} layers are in 8 bits, fewer than "
            f"{LEAST_SHARE:.0%} of the {wanted} that should; the file is not kept"
        )
    return share


def should_be_low(runtime: str, layers: Sequence[str], keep: Collection[str]) -> int:
    """How many layers of the body should be in 8 bits: layers of heads that give answers may stay in float.

    ONNX Runtime leaves the layer before one that is kept in float too.

    >>> should_be_low("onnx", ["body.stem", "body.a", "body.b", "heads.x"], ["body.b"])
    1
    """
    body = [name for name in layers if name.startswith("body.")]
    left = set(keep)
    if runtime == "onnx":
        left |= {first for first, second in zip(body, body[1:], strict=False) if second in keep}
    return len(set(body) - left)


def quantize_openvino(
    path: Path, items: Sequence[NDArray[np.uint8]], facts: str, keep: Mapping[str, Weights]
) -> tuple[int, int]:
    """Quantise a .xml file; a layer counts as one in 8 bits if OpenVINO runs it so on this CPU."""
    (openvino,) = need("openvino", "openvino")
    core = openvino.Core()
    model = core.read_model(path)
    model = _quantized(model, items, list(_openvino_weights(model)), keep, for_onnx=False)
    model.set_rt_info(facts, [METADATA])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # the float file is still mapped
        openvino.save_model(model, Path(folder) / path.name, compress_to_fp16=False)
        for file in Path(folder).iterdir():
            os.replace(file, path.with_name(file.name))
    compiled = core.compile_model(model, "CPU")
    run = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    kinds = [(_text(facts, "layerType"), _text(facts, "runtimePrecision")) for facts in run]
    layers = [precision for kind, precision in kinds if kind in ("Convolution", "FullyConnected", "MatMul")]
    return sum(precision in ("u8", "i8") for precision in layers), len(layers)


def _openvino_weights(model: Any) -> Iterator[tuple[str, Weights]]:
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            source = operation.input_value(1).get_node()
            if source.get_type_name() == "Constant":
                yield operation.get_friendly_name(), source.data


def _text(facts: Any, key: str) -> str:
    return str(facts[key].astype(str)) if key in facts else ""


def quantize_onnx(
    path: Path, items: Sequence[NDArray[np.uint8]], facts: str, keep: Mapping[str, Weights]
) -> tuple[int, int]:
    """Quantise a .onnx file; a layer counts as one in 8 bits if ONNX Runtime runs it so on this CPU."""
    onnx, ort = need("onnx", "onnx", "onnxruntime")
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    there = [
        (node.name, onnx.numpy_helper.to_array(tensors[node.input[1]]))
        for node in layers
        if node.input[1] in tensors
    ]
    named = [{INPUT: item} for item in items]
    model = _quantized(model, named, there, keep, for_onnx=True)
    give_rounded(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA: facts})
    onnx.save(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / path.name)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    low = sum(kind in ORT_INT8 for kind in kinds)
    return low, low + sum(kind in ORT_FLOAT for kind in kinds)


def give_rounded(model: Any) -> None:
    """Let outputs of an ONNX file that are rounded for the next layer too come out rounded, in place.

    Else the layer that gives such an output, as the last map of a classifier, runs in float.
    """
    (onnx,) = need("onnx", "onnx")
    nodes = model.graph.node
    for output in model.graph.output:
        rounding = [
            node for node in nodes if node.op_type == "QuantizeLinear" and node.input[0] == output.name
        ]
        read = {node.input[0]: node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        rounded = [read[node.output[0]] for node in rounding if node.output[0] in read]
        if not rounded:
            continue
        exact = f"{output.name}_exact"
        for node in nodes:
            node.input[:] = [exact if name == output.name else name for name in node.input]
            node.output[:] = [exact if name == output.name else name for name in node.output]
        nodes.append(onnx.helper.make_node("Identity", [rounded[0]], [output.name], f"{output.name}_rounded"))


def _quantized(
    model: Any,
    items: Sequence[Any],
    there: list[tuple[str, Weights]],
    keep: Mapping[str, Weights],
    *,
    for_onnx: bool,
) -> Any:
    nncf, parameters = import_nncf()
    names = find_places(there, keep)
    advanced = nncf.AdvancedQuantizationParameters(
        disable_bias_correction=True
    )  # done already, see `prepare`
    if (
        there[0][0] in names
    ):  # for old processors the first layer has 7 bits, which would cost the next one much more
        advanced.overflow_fix = parameters.OverflowFix.DISABLE
    if for_onnx:  # where each channel has its own range, ONNX Runtime runs a depthwise layer in float
        advanced.activations_quantization_params = parameters.QuantizationParameters(per_channel=False)
    return nncf.quantize(
        model, nncf.Dataset(items), preset=nncf.QuantizationPreset.MIXED, subset_size=len(items),
        ignored_scope=nncf.IgnoredScope(names=names, types=ARITHMETIC, validate=False), advanced_parameters=advanced,
    )  # fmt: skip


QUANTIZERS: dict[str, Callable[..., tuple[int, int]]] = {
    "openvino": quantize_openvino,
    "onnx": quantize_onnx,
    "litert": quantize_litert,
}
