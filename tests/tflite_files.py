"""Writes small TFLite files operator by operator, with the schema's own builder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite
from flatbuffers import flexbuffers

Array = np.ndarray[Any, Any]
DTYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9, "int4": 17}
WIDTHS = (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)  # alpha 0.25
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
RELU6, NONE, SAME, VALID = 3, 0, 0, 1


class TFLiteFile:
    """Tensors and operators in the order they are added; `write` makes the file."""

    def __init__(self, image_shape: Sequence[int], dtype: str = "float32", **quantization: Any):
        self.tensors: list[tuple[Sequence[int], str, Array | None, dict[str, Any]]] = []
        self.ops: list[tuple[str, list[int], list[int], dict[str, Any]]] = []
        self.input = self.tensor(image_shape, dtype, **quantization)
        self.outputs: list[int] = []

    def tensor(
        self, shape: Sequence[int], dtype: str = "float32", data: Array | None = None, **quantization: Any
    ) -> int:
        self.tensors.append((shape, dtype, data, quantization))
        return len(self.tensors) - 1

    def constant(self, data: Array, **quantization: Any) -> int:
        return self.tensor(data.shape, str(data.dtype), data, **quantization)

    def op(self, kind: str, inputs: list[int], shape: Sequence[int], **options: Any) -> int:
        row = self.tensor(shape, self.tensors[inputs[0]][1])
        self.ops.append((kind, inputs, [row], options))
        return row

    def shape(self, row: int) -> Sequence[int]:
        return self.tensors[row][0]

    def conv(
        self, row: int, kernel: Array | int, bias: Array | int | None, stride: int = 1, *,
        activation: int = RELU6, depthwise: bool = False, pad: str = "same", **options: Any,
    ) -> int:  # fmt: skip
        """A convolution; `kernel` and `bias` are arrays or rows. pad "keras" pads below and right first."""
        side = self.shape(row)[1]
        kernel = kernel if isinstance(kernel, int) else self.constant(kernel)
        rows = [row, kernel]
        if bias is not None:
            rows.append(bias if isinstance(bias, int) else self.constant(bias))
        if pad == "keras" and stride == 2:
            amounts = self.constant(np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32))
            rows[0] = self.op("PAD", [row, amounts], (1, side + 1, side + 1, self.shape(row)[3]))
        padding = VALID if pad == "none" or (pad == "keras" and stride == 2) else SAME
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        channels = self.shape(kernel)[3 if depthwise else 0]
        extra = {"DepthMultiplier": 1} if depthwise else {}
        return self.op(
            kind, rows, (1, -(-side // stride), -(-side // stride), channels),
            **{"Padding": padding, "StrideH": stride, "StrideW": stride, "DilationHFactor": 1, "DilationWFactor": 1,
            "FusedActivationFunction": activation, **extra, **options},
        )  # fmt: skip

    def write(self, path: Path) -> Path:
        builder = flatbuffers.Builder(1 << 20)
        kinds = list(dict.fromkeys(kind for kind, *_ in self.ops))
        buffers, tensors = [_buffer(builder, None)], []
        for shape, dtype, data, quantization in self.tensors:
            number = 0
            if data is not None:
                buffers.append(_buffer(builder, data))
                number = len(buffers) - 1
            tensors.append(_tensor(builder, shape, dtype, number, quantization))
        ops = [_operator(builder, kinds.index(kind), kind, *rest) for kind, *rest in self.ops]
        codes = [_code(builder, kind) for kind in kinds]
        inputs = builder.CreateNumpyVector(np.array([self.input], np.int32))
        outputs = builder.CreateNumpyVector(np.array(self.outputs or [self.ops[-1][2][-1]], np.int32))
        tensors_vector, ops_vector = _offsets(builder, tensors), _offsets(builder, ops)
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, tensors_vector)
        tflite.SubGraphAddInputs(builder, inputs)
        tflite.SubGraphAddOutputs(builder, outputs)
        tflite.SubGraphAddOperators(builder, ops_vector)
        graphs = _offsets(builder, [tflite.SubGraphEnd(builder)])
        codes_vector, buffers_vector = _offsets(builder, codes), _offsets(builder, buffers)
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, 3)
        tflite.ModelAddOperatorCodes(builder, codes_vector)
        tflite.ModelAddSubgraphs(builder, graphs)
        tflite.ModelAddBuffers(builder, buffers_vector)
        builder.Finish(tflite.ModelEnd(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def _offsets(builder: Any, rows: Sequence[int]) -> int:
    builder.StartVector(4, len(rows), 4)
    for row in reversed(rows):
        builder.PrependUOffsetTRelative(row)
    return builder.EndVector()


def _buffer(builder: Any, data: Array | None) -> int:
    content = None if data is None else builder.CreateByteVector(data.tobytes())
    tflite.BufferStart(builder)
    if content is not None:
        tflite.BufferAddData(builder, content)
    return tflite.BufferEnd(builder)


def _tensor(builder: Any, shape: Sequence[int], dtype: str, buffer: int, quantization: dict[str, Any]) -> int:
    sides = builder.CreateNumpyVector(np.array(shape, np.int32))
    numbers = None
    if quantization:
        scale = builder.CreateNumpyVector(np.atleast_1d(np.asarray(quantization["scale"], np.float32)))
        zero = builder.CreateNumpyVector(
            np.atleast_1d(np.asarray(quantization.get("zero_point", 0), np.int64))
        )
        tflite.QuantizationParametersStart(builder)
        tflite.QuantizationParametersAddScale(builder, scale)
        tflite.QuantizationParametersAddZeroPoint(builder, zero)
        tflite.QuantizationParametersAddQuantizedDimension(builder, quantization.get("axis", 0))
        numbers = tflite.QuantizationParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, sides)
    tflite.TensorAddType(builder, DTYPES[dtype])
    tflite.TensorAddBuffer(builder, buffer)
    if numbers is not None:
        tflite.TensorAddQuantization(builder, numbers)
    return tflite.TensorEnd(builder)


def _operator(
    builder: Any, code: int, kind: str, inputs: list[int], outputs: list[int], options: dict[str, Any]
) -> int:
    rows = [builder.CreateNumpyVector(np.array(rows, np.int32)) for rows in (inputs, outputs)]
    name = {
        "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "FULLY_CONNECTED": "FullyConnectedOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
    }.get(kind)  # fmt: skip
    table = custom = None
    if name:
        getattr(tflite, f"{name}Start")(builder)
        for field, value in options.items():
            getattr(tflite, f"{name}Add{field}")(builder, value)
        table = getattr(tflite, f"{name}End")(builder)
    elif options:
        custom = builder.CreateByteVector(bytes(flexbuffers.Dumps(options)))
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, code)
    tflite.OperatorAddInputs(builder, rows[0])
    tflite.OperatorAddOutputs(builder, rows[1])
    if table is not None:
        tflite.OperatorAddBuiltinOptionsType(builder, getattr(tflite.BuiltinOptions, name))
        tflite.OperatorAddBuiltinOptions(builder, table)
    if custom is not None:
        tflite.OperatorAddCustomOptions(builder, custom)
    return tflite.OperatorEnd(builder)


def _code(builder: Any, kind: str) -> int:
    number = getattr(tflite.BuiltinOperator, kind, None)
    custom = builder.CreateString(kind) if number is None else None
    number = tflite.BuiltinOperator.CUSTOM if number is None else number
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(builder, number)
    if custom is not None:
        tflite.OperatorCodeAddCustomCode(builder, custom)
    return tflite.OperatorCodeEnd(builder)


# --- whole networks of alpha 0.25


def random_layers(seed: int = 7) -> list[tuple[Array, Array, int, bool]]:
    """Kernel as TFLite has it, bias, stride, depthwise: of the stem and the thirteen blocks."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return random.normal(0, 0.3, shape).astype(np.float32)

    layers = [(draw(8, 3, 3, 3), draw(8), 2, False)]
    for before, after, stride in zip(WIDTHS[:-1], WIDTHS[1:], STRIDES, strict=True):
        layers.append((draw(1, 3, 3, before), draw(before), stride, True))
        layers.append((draw(after, 1, 1, before), draw(after), 1, False))
    return layers


def add_body(file: TFLiteFile, layers: Sequence[tuple[Array, Array, int, bool]], **options: Any) -> list[int]:
    """The output of every layer."""
    rows = [file.input]
    for kernel, bias, stride, depthwise in layers:
        rows.append(file.conv(rows[-1], kernel, bias, stride, depthwise=depthwise, **options))
    return rows[1:]


def add_classifier(file: TFLiteFile, row: int, kernel: Array, bias: Array, last: str = "SOFTMAX") -> int:
    """Keras' tail: mean over the map, a dense layer, probabilities."""
    channels = file.shape(row)[3]
    pooled = file.op("MEAN", [row, file.constant(np.array([1, 2], np.int32))], (1, channels))
    rows = [pooled, file.constant(kernel), file.constant(bias)]
    logits = file.op("FULLY_CONNECTED", rows, (1, len(kernel)), FusedActivationFunction=NONE)
    return file.op(last, [logits], (1, len(kernel)))


def ssd_anchors(sides: Sequence[int]) -> Array:
    """TF Object Detection's, written out: centre y, centre x, height, width."""
    rows = []
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    for level, side in enumerate(sides):
        shapes = [(scales[level], ratio) for ratio in (1, 2, 0.5, 3, 0.3333)]
        shapes.append(((scales[level] * scales[level + 1]) ** 0.5, 1))
        if level == 0:
            shapes = [(0.1, 1), (0.2, 2), (0.2, 0.5)]
        for y in range(side):
            for x in range(side):
                rows += [((y + 0.5) / side, (x + 0.5) / side, s / r**0.5, s * r**0.5) for s, r in shapes]
    return np.array(rows, np.float32)


def add_ssd(
    file: TFLiteFile, layers: Sequence[tuple[Array, Array, int, bool]], num_classes: int = 3, *,
    anchors: Array | None = None, kernel: int = 1, c4: int = 22, convert: str = "LOGISTIC", extra_stride: int = 2,
    extra_widths: Sequence[int] = (128, 64, 64, 32),
    **options: Any,
) -> dict[str, list[tuple[Array, Array]]]:  # fmt: skip
    """Extras, predictors and post-processing; gives the kernels and biases by name."""
    random = np.random.default_rng(11)

    def draw(*shape: int) -> Array:
        return random.normal(0, 0.3, shape).astype(np.float32)

    made: dict[str, list[tuple[Array, Array]]] = {"extras": [], "boxes": [], "classes": []}
    outputs = add_body(file, layers)
    maps = [outputs[c4], outputs[-1]]
    for out in extra_widths:
        row, before = maps[-1], file.shape(maps[-1])[3]
        for weights, stride in ((draw(out // 2, 1, 1, before), 1), (draw(out, 3, 3, out // 2), extra_stride)):
            made["extras"].append((weights, draw(len(weights))))
            row = file.conv(row, *made["extras"][-1], stride)
        maps.append(row)
    joined: dict[str, int] = {}
    sides = [file.shape(row)[1] for row in maps]
    for name, values in (("boxes", 4), ("classes", num_classes + 1)):
        parts = []
        for level, row in enumerate(maps):
            count = 6 if level else 3
            weights = draw(count * values, kernel, kernel, file.shape(row)[3])
            made[name].append((weights, draw(len(weights))))
            predicted = file.conv(row, *made[name][-1], activation=NONE)
            parts.append(file.op("RESHAPE", [predicted], (1, count * sides[level] ** 2, values)))
        total = sum(file.shape(part)[1] for part in parts)
        joined[name] = file.op("CONCATENATION", parts, (1, total, values))
    scores = file.op(convert, [joined["classes"]], file.shape(joined["classes"]))
    table = file.constant(ssd_anchors(sides) if anchors is None else anchors)
    settings = {
        "num_classes": num_classes, "nms_iou_threshold": 0.5, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0,
        "w_scale": 5.0, **options,
    }  # fmt: skip
    file.op("TFLite_Detection_PostProcess", [joined["boxes"], scores, table], (1, 10, 4), **settings)
    return made
