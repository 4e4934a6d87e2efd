"""TFLite files as plain operators and real numbers: the flatbuffer read once, its constants dequantised."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .foreign import FORMATS, Array

MAGIC = b"TFL3"  # bytes 4 to 8 of every file
MAX_OPERATORS = 10_000  # a damaged length must not be followed through all of memory
DAMAGE = (  # what reading numbers that should be others ends in
    struct.error, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError,
)  # fmt: skip
OPTIONS = {  # operator -> class of its options, the fields that matter here
    "CONV_2D": ("Conv2DOptions", ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor")),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "DepthMultiplier"),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ()),
    "AVERAGE_POOL_2D": ("Pool2DOptions", ("FilterHeight", "FilterWidth")),
}


@dataclass(frozen=True)
class Operator:
    """One operator; inputs and outputs are rows of `Graph.tensors`, -1 for an optional input left out.

    options: the schema's fields by their names there, and "Activation" by name; a custom operator's own map.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class TensorFacts:
    """One tensor. A real number is (stored - zero_point) * scale, per entry of `axis` where there are several.

    stored: the constant as in the file, None for what is computed.
    scale: empty for floats.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: np.ndarray[Any, Any] | None
    scale: Array
    zero_point: np.ndarray[Any, Any]
    axis: int


class Graph:
    """The one graph of a TFLite file, to be walked from its outputs back to its input.

    Raises:
        ValueError: the file is none of TFLite's, damaged, or of several graphs.
        ImportError: tflite, which brings the schema, is missing.
    """

    def __init__(self, path: Path):
        self.path = path
        content = path.read_bytes()
        if content[4:8] != MAGIC:
            raise ValueError(f"{path} is no TFLite file: it does not start with TFL3; {FORMATS}")
        try:
            self._read(content)
        except (*DAMAGE, ValueError) as error:
            raise ValueError(
                f"{path} is a damaged TFLite file, or cut short: {error or type(error).__name__}"
            ) from error
        self._producers = {row: op for op in self.operators for row in op.outputs}

    def _read(self, content: bytes) -> None:
        import tflite

        kinds = {code: name for name, code in vars(tflite.BuiltinOperator).items() if name.isupper()}
        activations = {code: name for name, code in vars(tflite.ActivationFunctionType).items()}
        model = tflite.Model.GetRootAs(content, 0)
        if model.SubgraphsLength() != 1:
            raise ValueError(f"it has {model.SubgraphsLength()} graphs, not one")
        graph = model.Subgraphs(0)
        if not 0 < graph.OperatorsLength() < MAX_OPERATORS:
            raise ValueError(f"it has {graph.OperatorsLength()} operators")
        self.tensors = [_tensor(model, graph.Tensors(row)) for row in range(graph.TensorsLength())]
        self.operators = []
        for index in range(graph.OperatorsLength()):
            op = graph.Operators(index)
            code = model.OperatorCodes(op.OpcodeIndex())
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            kind = kinds.get(number, f"number {number}")
            options: dict[str, Any] = {}
            if kind == "CUSTOM":
                kind, options = code.CustomCode().decode(), _custom_options(op)
            elif kind in OPTIONS:
                class_name, fields = OPTIONS[kind]
                table = getattr(tflite, class_name)()
                table.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
                options = {field: getattr(table, field)() for field in fields}
                options["Activation"] = activations[table.FusedActivationFunction()]
            inputs = tuple(int(op.Inputs(row)) for row in range(op.InputsLength()))
            outputs = tuple(int(op.Outputs(row)) for row in range(op.OutputsLength()))
            self.operators.append(Operator(kind, inputs, outputs, options))
        self.inputs = tuple(int(row) for row in graph.InputsAsNumpy())
        self.outputs = tuple(int(row) for row in graph.OutputsAsNumpy())
        self._check_order()

    def _check_order(self) -> None:
        """Operators must stand in the order they run: then a walk back through them ends."""
        computed = {row for op in self.operators for row in op.outputs}
        ready = set(range(-1, len(self.tensors))) - computed
        for op in self.operators:
            if not ready.issuperset(op.inputs):
                raise ValueError("an operator asks for a tensor that is not there before it")
            ready |= set(op.outputs)
        if (
            not self.inputs
            or not self.outputs
            or max(*computed, *self.inputs, *self.outputs) >= len(self.tensors)
        ):
            raise ValueError("it has no input, no output or a tensor too few")

    def producer(self, row: int) -> Operator | None:
        """The operator that computes a tensor; None for the input and for constants."""
        return self._producers.get(row)

    def constant(self, row: int) -> Array:
        """A constant as real numbers, whatever it is stored as.

        Raises:
            ValueError: it is computed from the input, or stored without the scale it needs.
        """
        tensor, producer = self.tensors[row], self.producer(row)
        if producer is not None and producer.kind == "DEQUANTIZE":  # half floats are stored so
            return self.constant(producer.inputs[0])
        if tensor.dtype.kind == "V":
            raise ValueError(
                f"{self.path} stores a constant as a type that is not read (not 8, 16, 32 or 64 bits)"
            )
        if tensor.stored is None:
            raise ValueError(f"{self.path} computes what must be a constant")
        if tensor.dtype.kind == "f":
            return tensor.stored.astype(np.float32)
        if not tensor.scale.size:
            raise ValueError(f"{self.path} holds a quantised constant without its scale")
        along = [1] * len(tensor.shape)
        if tensor.scale.size > 1:
            along[tensor.axis] = -1
        scale, zero_point = tensor.scale.reshape(along), tensor.zero_point.reshape(along)
        return ((tensor.stored.astype(np.int64) - zero_point) * scale).astype(np.float32)


def _tensor(model: Any, tensor: Any) -> TensorFacts:
    import tflite

    dtypes = {
        tflite.TensorType.FLOAT32: "f4", tflite.TensorType.FLOAT16: "f2", tflite.TensorType.INT64: "i8",
        tflite.TensorType.INT32: "i4", tflite.TensorType.INT16: "i2", tflite.TensorType.INT8: "i1",
        tflite.TensorType.UINT8: "u1",
    }  # fmt: skip
    dtype = (
        np.dtype("V1") if tensor.Type() not in dtypes else np.dtype(dtypes[tensor.Type()]).newbyteorder("<")
    )
    shape = tuple(int(side) for side in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    buffer = model.Buffers(tensor.Buffer())
    stored = None
    if buffer is not None and buffer.DataLength() and dtype.kind != "V":
        stored = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype).reshape(shape)
    quantization = tensor.Quantization()
    scale, zero_point, axis = np.zeros(0, np.float32), np.zeros(1, np.int64), 0
    if quantization is not None and quantization.ScaleLength():
        scale = quantization.ScaleAsNumpy().astype(np.float32)
        zero_point = np.zeros(len(scale), np.int64)
        if quantization.ZeroPointLength():
            zero_point = quantization.ZeroPointAsNumpy().astype(np.int64)
        axis = int(quantization.QuantizedDimension())
    return TensorFacts(shape, dtype, stored, scale, zero_point, axis)


def _custom_options(op: Any) -> dict[str, Any]:
    from flatbuffers import flexbuffers

    if not op.CustomOptionsLength():
        return {}
    options = flexbuffers.Loads(op.CustomOptionsAsNumpy().tobytes())
    return options if isinstance(options, dict) else {}
