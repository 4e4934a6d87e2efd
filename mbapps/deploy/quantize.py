"""Exported files in 8 bits: post-training quantisation with images of the user's own, by NNCF."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .graph import INPUT
from .runtimes import INT8
from .sessions import need, quiet
from .writers import METADATA, explaining

LEAST_SHARE = 0.9  # of the layers with weights that must be in 8 bits
ARITHMETIC = [
    "Add",
    "Multiply",
    "Subtract",
    "Divide",
    "Mul",
    "Sub",
    "Div",
]  # without weights: that of decoding


class Share(NamedTuple):
    """How many layers with weights run in 8 bits, and how many there are."""

    int8: int
    layers: int


def import_nncf() -> Any:
    """Import NNCF without the report that it sends to its makers.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # read when it is imported
    return need(INT8, "nncf", key="precision")[0]


def quantize(runtime: str, path: Path, views: NDArray[np.uint8], facts: str) -> Share:
    """Replace a float file by one in 8 bits: weights per channel, activations by the ranges seen.

    Arithmetic without weights, such as the decoding of boxes, stays in float.

    Args:
        runtime: one of QUANTIZERS.
        path: of the file.
        views: [N, S, S, 3] to calibrate on.
        facts: JSON that goes into the file.

    Returns:
        How many layers are in 8 bits now.

    Raises:
        ImportError: NNCF is not installed.
        ValueError: the runtime is another one.
    """
    if runtime not in QUANTIZERS:
        raise ValueError(
            f"precision=int8 is for runtime={' and runtime='.join(QUANTIZERS)}, not runtime={runtime}"
        )
    with quiet(), explaining(runtime):
        return QUANTIZERS[runtime](path, views, facts)


def quantize_openvino(path: Path, views: NDArray[np.uint8], facts: str) -> Share:
    """Quantise a .xml file; a layer counts as one in 8 bits if OpenVINO runs it so on this CPU."""
    (openvino,) = need("openvino", "openvino")
    core = openvino.Core()
    model = _quantized(
        core.read_model(path), [views[row : row + 1] for row in range(len(views))], layer_by_layer=True
    )
    model.set_rt_info(facts, [METADATA])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # the float file is still mapped
        openvino.save_model(model, Path(folder) / path.name, compress_to_fp16=False)
        for file in Path(folder).iterdir():
            os.replace(file, path.with_name(file.name))
    compiled = core.compile_model(model, "CPU")
    run = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    kinds = [(_text(facts, "layerType"), _text(facts, "runtimePrecision")) for facts in run]
    layers = [precision for kind, precision in kinds if kind in ("Convolution", "FullyConnected", "MatMul")]
    return Share(sum(precision in ("u8", "i8") for precision in layers), len(layers))


def _text(facts: Any, key: str) -> str:
    return str(facts[key].astype(str)) if key in facts else ""


def quantize_onnx(path: Path, views: NDArray[np.uint8], facts: str) -> Share:
    """Quantise a .onnx file; a layer counts as one in 8 bits if both its inputs come from 8 bits."""
    (onnx,) = need("onnx", "onnx")
    model = onnx.load(path)
    items = [{INPUT: views[row : row + 1]} for row in range(len(views))]
    model = _quantized(model, items, layer_by_layer=False)  # NNCF fails at that in ONNX
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA: facts})
    onnx.save(model, path)
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    low = [node for node in layers if all(made_by.get(name) == "DequantizeLinear" for name in node.input[:2])]
    return Share(len(low), len(layers))


def _quantized(model: Any, items: list[Any], *, layer_by_layer: bool) -> Any:
    nncf = import_nncf()
    return nncf.quantize(
        model, nncf.Dataset(items), preset=nncf.QuantizationPreset.MIXED, subset_size=len(items),
        ignored_scope=nncf.IgnoredScope(types=ARITHMETIC, validate=False),
        fast_bias_correction=not layer_by_layer,  # which is worth a point of top-1 in a network of alpha 0.25
    )  # fmt: skip


QUANTIZERS: dict[str, Callable[[Path, NDArray[np.uint8], str], Share]] = {
    "openvino": quantize_openvino,
    "onnx": quantize_onnx,
}
