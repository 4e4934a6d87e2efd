"""LiteRT files in 8 bits: post-training quantisation by LiteRT's own quantiser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layer_names import Weights, find_places
from .sessions import need
from .writers import add_litert_facts

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
BETWEEN = ("PAD", "TRANSPOSE", "RESHAPE", "MEAN", "AVERAGE_POOL_2D", "RELU", "HARD_SWISH")  # of maps


class TfLiteFile:
    """The operators of a .tflite file that have weights.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        (self.tools,) = need("litert", "ai_edge_quantizer.utils.tfl_flatbuffer_utils")
        self.model = self.tools.read_model(path.read_bytes())
        (graph,) = self.model.subgraphs
        self.tensors = graph.tensors
        codes = [code.builtinCode for code in self.model.operatorCodes]
        names = self.tools.TFL_OP_CODE_TO_NAME
        kinds = [names.get(codes[operator.opcodeIndex]) for operator in graph.operators]
        self.operators = graph.operators
        self.layers = [
            operator for kind, operator in zip(kinds, graph.operators, strict=True) if kind in LAYERS
        ]

    def weights(self) -> Iterator[tuple[int, Weights]]:
        """Each layer's place in `layers`, and its weights."""
        for place, layer in enumerate(self.layers):
            values = self.tools.get_tensor_data(self.tensors[layer.inputs[1]], self.model.buffers)
            if values is not None:
                yield place, values

    def scope(self, operator: Any) -> str:
        """How the quantiser calls an operator, as a regular expression."""
        return f"^{re.escape(self.tools.get_op_scope(operator, self.tensors))}$"

    def answering(self) -> tuple[list[Any], list[Any]]:
        """Layers that no other layer comes after, and the operators without weights that do."""
        last: list[Any] = []
        after: list[Any] = []
        before_a_layer: set[int] = (
            set()
        )  # tensors that a layer is made of, from the end of the file to its start
        for operator in reversed(self.operators):
            feeds = not before_a_layer.isdisjoint(operator.outputs)
            is_layer = any(operator is layer for layer in self.layers)
            if is_layer or feeds:
                before_a_layer |= set(operator.inputs)
            if not feeds:
                (last if is_layer else after).append(operator)
        return last, after

    def in_8_bits(self) -> list[bool]:
        """Of each layer, whether its weights and its input are."""
        byte = next(code for code, kind in self.tools.TENSOR_CODE_TO_TYPE.items() if kind == "INT8")
        return [all(self.tensors[layer.inputs[row]].type == byte for row in (0, 1)) for layer in self.layers]


def quantize_litert(
    path: Path, items: Sequence[NDArray[np.uint8]], facts: str, keep: Mapping[str, Weights]
) -> tuple[int, int]:
    """Quantise a .tflite file; see `mbapps.deploy.quantize.quantize`.

    Layers that give the answers have weights in 8 bits, and take and give floats: 256 levels are few for the scores of
    a thousand classes or boxes.

    Returns:
        How many layers have weights and input in 8 bits, and how many there are.
    """
    quantizers, managers, algorithms = need(
        "litert",
        "ai_edge_quantizer.quantizer",
        "ai_edge_quantizer.recipe_manager",
        "ai_edge_quantizer.algorithm_manager",
    )
    (litert,) = need("litert", "ai_edge_litert.interpreter")
    recipe = managers.RecipeManager()
    for kind in (*LAYERS, *BETWEEN):
        recipe.add_static_config(regex=".*", operation_name=kind, activation_num_bits=8, weight_num_bits=8)
    file = TfLiteFile(path)
    last, after = file.answering()
    for layer in last:
        recipe.add_dynamic_config(regex=file.scope(layer), operation_name="*", num_bits=8)
    for operator in [*after, *(file.layers[place] for place in find_places(file.weights(), keep))]:
        recipe.add_quantization_config(
            regex=file.scope(operator), operation_name="*",
            algorithm_key=algorithms.AlgorithmName.NO_QUANTIZE,
        )  # fmt: skip
    quantizer = quantizers.Quantizer(str(path), recipe.get_quantization_recipe())
    signatures: dict[str, Any] = litert.Interpreter(model_path=str(path)).get_signature_list()
    ((signature, tensors),) = signatures.items()
    named = [{tensors["inputs"][0]: item} for item in items]
    result = quantizer.quantize(quantizer.calibrate({signature: named}))
    path.write_bytes(result.quantized_model)
    add_litert_facts(path, facts)
    low = TfLiteFile(path).in_8_bits()
    return sum(low), len(low)
