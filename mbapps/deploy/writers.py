"""One function per runtime: a graph to a file, with its facts inside where the format has a place for them."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .graph import INPUT, Graph
from .nms import Suppression, add_suppression
from .sessions import need, quiet

METADATA = "mbapps"  # the name inside a file under which its facts stand, as JSON
BATCH = "batch"  # name of an open first dimension


def write_onnx(
    graph: Graph, path: Path, facts: str, batch: int | None, nms: Suppression | None = None
) -> None:
    """Write a .onnx file; its facts are a metadata property."""
    need("onnx", "onnx", "onnxscript")
    program = torch.onnx.export(
        graph, (graph.example(batch or 2),), dynamo=True, verbose=False, input_names=[INPUT],
        output_names=[output.name for output in graph.outputs],
        dynamic_shapes=None if batch else {INPUT: {0: BATCH}},
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props[METADATA] = facts
    program.save(path)
    if nms:
        add_suppression(path, nms)


def write_openvino(
    graph: Graph, path: Path, facts: str, batch: int | None, nms: Suppression | None = None
) -> None:
    """Write a .xml file and its .bin in full precision; its facts are runtime information."""
    openvino, frontends, fx, passes = need(
        "openvino", "openvino", "openvino.frontend", "openvino.frontend.pytorch.fx_decoder", "openvino.passes"
    )
    if nms:  # by way of ONNX, which has the operator
        with tempfile.TemporaryDirectory() as folder:
            write_onnx(graph, Path(folder) / "model.onnx", facts, batch, nms)
            model = openvino.Core().read_model(Path(folder) / "model.onnx")
    else:  # what openvino.convert_model does, but for the report that it sends to its makers
        frontend = frontends.FrontEndManager().load_by_framework("pytorch")
        decoder = fx.TorchFXPythonDecoder.from_exported_program(exported(graph, batch))
        model = frontend.convert(frontend.load(decoder))
    manager = passes.Manager()  # weights become constants, as quantisation wants them
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    model.reshape({0: openvino.PartialShape([batch or -1, *graph.example(1).shape[1:]])})
    model.inputs[0].get_tensor().set_names({INPUT})
    for output, found in zip(graph.outputs, model.outputs, strict=True):
        found.get_tensor().set_names({output.name})
    model.set_rt_info(facts, [METADATA])
    openvino.save_model(model, path, compress_to_fp16=False)


def write_litert(graph: Graph, path: Path, facts: str, batch: int | None) -> None:
    """Write a .tflite file; its facts are a file in a zip archive behind it, as TensorFlow Lite keeps them."""
    (litert_torch,) = need("litert", "litert_torch")
    litert_torch.convert(graph, sample_kwargs={INPUT: graph.example(batch or 1)}).export(str(path))
    add_litert_facts(path, facts)


def add_litert_facts(path: Path, facts: str) -> None:
    """Put facts behind a .tflite file that has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{METADATA}.json", facts)


def write_executorch(graph: Graph, path: Path, facts: str, batch: int | None) -> None:
    """Write a .pte file for XNNPACK; its facts are what the method of that name returns."""
    exir, xnnpack = need(
        "executorch", "executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner"
    )
    edge = exir.to_edge_transform_and_lower(
        exported(graph, batch or 1),
        partitioner=[xnnpack.XnnpackPartitioner()],
        constant_methods={METADATA: facts},
    )
    with path.open("wb") as file:
        edge.to_executorch().write_to_file(file)


def write_coreml(graph: Graph, path: Path, facts: str, batch: int | None) -> None:
    """Write a .mlpackage whose input is one RGB picture, as Core ML takes it from a camera."""
    (coremltools,) = need("coreml", "coremltools")
    side = graph.image_size
    planes = Graph(graph.network, taps=graph.taps, planes=True)
    program = torch.export.export(planes, (planes.example(1),)).run_decompositions({})
    model = coremltools.convert(
        program, inputs=[coremltools.ImageType(INPUT, (1, 3, side, side), color_layout="RGB")],
        outputs=[coremltools.TensorType(output.name) for output in graph.outputs],
        compute_precision=coremltools.precision.FLOAT32, minimum_deployment_target=coremltools.target.iOS16,
        skip_model_load=True,
    )  # fmt: skip
    model.user_defined_metadata[METADATA] = facts
    model.save(str(path))
    check_coreml(path, graph, facts)


def check_coreml(path: Path, graph: Graph, facts: str | None = None) -> None:
    """Read a .mlpackage again, since only an Apple system can run it.

    Args:
        path: of the package.
        graph: that it was written from.
        facts: JSON that must stand in it; None: any.

    Raises:
        ValueError: its input is no RGB picture of the graph's size, or its outputs, shapes or facts are others.
    """
    (coremltools,) = need("coreml", "coremltools")
    about = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec().description
    picture = about.input[0].type.imageType
    shapes = {output.name: list(output.type.multiArrayType.shape) for output in about.output}
    expected = {output.name: [1, *shape] for output, shape in zip(graph.outputs, graph.shapes, strict=True)}
    for name in shapes.keys() & expected.keys():
        if not shapes[name]:  # the format may leave it open
            expected[name] = []
    found = (about.input[0].name, picture.height, picture.width, shapes)
    wanted = (INPUT, graph.image_size, graph.image_size, expected)
    if found != wanted:
        raise ValueError(f"{path} was written with input and outputs {found}, not {wanted}")
    told = about.metadata.userDefined.get(METADATA)
    if told is None or (facts is not None and json.loads(told) != json.loads(facts)):
        state = "without facts" if told is None else "with facts of another file"
        raise ValueError(f"{path} was written {state}; export it again")


WRITERS: dict[str, Callable[..., None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "litert": write_litert,
    "executorch": write_executorch,
    "coreml": write_coreml,
}
MODULES = {  # that write and run
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "litert": ("litert_torch", "ai_edge_litert"),
    "executorch": ("executorch.exir", "executorch.runtime"),
    "coreml": ("coremltools",),
}
HAVE_NMS = ("onnx", "openvino")
ANY_BATCH = ("onnx", "openvino")  # whose files take batches of any size; others are written for one


def check_batch(runtime: str, batch: int | None) -> None:
    """Check that a runtime's files can take batches of a size.

    Raises:
        ValueError: Core ML's input is one picture.
    """
    if runtime == "coreml" and batch not in (None, 1):
        raise ValueError(
            f"batch must be 1 or null for runtime=coreml, whose input is one picture, got {batch}; leave batch= out"
        )


def exported(graph: Graph, batch: int | None) -> torch.export.ExportedProgram:
    """The graph as torch.export sees it, for a batch or for any."""
    shapes = None if batch else {INPUT: {0: torch.export.Dim(BATCH)}}
    return torch.export.export(graph, (graph.example(batch or 2),), dynamic_shapes=shapes)


def write(
    runtime: str, graph: Graph, path: Path, facts: str, batch: int | None, nms: Suppression | None = None
) -> None:
    """Write a graph to a runtime's file.

    Args:
        runtime: one of WRITERS.
        graph: in evaluation mode.
        path: of the file.
        facts: JSON that goes into the file.
        batch: the only size of batches that it will take; None: any where the runtime can, else one image.
        nms: suppress boxes in the file; None leaves that to decoding.

    Raises:
        ImportError: what writes it is not installed.
        ValueError: the runtime has no operator for something in the graph, or takes no such batch.
    """
    check_batch(runtime, batch)
    if nms and runtime not in HAVE_NMS:
        raise ValueError(
            f"nms=true is for runtime={' and runtime='.join(HAVE_NMS)}: {runtime} has no such operator; leave it to "
            "decoding, as runtime= does"
        )
    options = {"nms": nms} if nms else {}
    with quiet(), explaining(f"runtime={runtime}"), torch.no_grad():
        WRITERS[runtime](graph, path, facts, batch, **options)


@contextmanager
def explaining(asked: str) -> Iterator[None]:
    """Turn what a converter says of an operator that it lacks into one message.

    Raises:
        ValueError: the converter failed.
    """
    try:
        yield
    except (ImportError, OSError, MemoryError):  # say what is missing, or that no room is left
        raise
    except Exception as error:  # converters raise plain ones too, and no two alike
        raise ValueError(
            f"{asked} can't hold this model: {_reason(error)}; export it to another runtime"
        ) from error


def _reason(error: BaseException) -> str:
    """The innermost error and the first line of what it says."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
