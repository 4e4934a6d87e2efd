"""One class per runtime: a file opened in it, which maps images to arrays. Nothing here knows heads or folders."""

from __future__ import annotations

import importlib
import io
import logging
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mbapps.images import UInt8Image

SHARES = 4  # of a batch for each request: one that is done early takes another


class Session(Protocol):
    """A file opened in its runtime; several threads may run it."""

    def run(self, images: UInt8Image) -> list[NDArray[Any]]:
        """uint8 RGB [B, S, S, 3] -> the file's outputs, in its order."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from telling of their steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def need(runtime: str, *modules: str, key: str = "runtime") -> list[Any]:
    """Import what a runtime, or another value of a key, comes with; the extra is called as that.

    Raises:
        ImportError: a module is missing; the message names the extra.
    """
    try:
        with quiet():
            return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise ImportError(
            f"{key}={runtime} needs a package that is missing ({error}): pip install 'mbapps[{runtime}]'"
        ) from error


class OnnxSession:
    """A .onnx file in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, outputs: Sequence[str], threads: int | None = None):
        (ort,) = need("onnx", "onnxruntime")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = list(outputs)
        self.input = self.session.get_inputs()[0].name

    def run(self, images: UInt8Image) -> list[NDArray[Any]]:
        return list(self.session.run(self.outputs, {self.input: images}))


class OpenVinoSession:
    """A .xml file and its .bin in OpenVINO, on the CPU, in full precision.

    All threads work on one image; several images are shared out among them, which takes less time in all.
    """

    def __init__(self, path: Path, outputs: Sequence[str], threads: int | None = None):
        (self.openvino,) = need("openvino", "openvino")
        self.settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            self.settings["INFERENCE_NUM_THREADS"] = threads
        self.core = self.openvino.Core()
        self.model = self.core.read_model(str(path))
        self.outputs = list(outputs)
        self.alone = self._compiled("LATENCY").create_infer_request()
        self.several: list[Any] = []  # requests that run side by side; made for the first batch of several
        self.lock = threading.Lock()  # a request takes one caller at a time

    def run(self, images: UInt8Image) -> list[NDArray[Any]]:
        with self.lock:
            if len(images) > 1 and self.model.input(0).partial_shape[0].is_dynamic:
                return self._share_out(images)
            return self._infer(self.alone, images)

    def _share_out(self, images: UInt8Image) -> list[NDArray[Any]]:
        if not self.several:
            compiled = self._compiled("THROUGHPUT")
            count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            self.several = [compiled.create_infer_request() for _ in range(count)]
            self.pool = ThreadPoolExecutor(count)
        size = math.ceil(len(images) / (SHARES * len(self.several)))
        starts = iter(range(0, len(images), size))
        found: dict[int, list[NDArray[Any]]] = {}

        def work(request: Any) -> None:
            for start in starts:  # which all share
                found[start] = self._infer(request, images[start : start + size])

        working = [self.pool.submit(work, request) for request in self.several]
        wait(working)  # for all, where one fails too: none is left at work
        for future in working:
            future.result()
        return [
            np.concatenate(parts) for parts in zip(*(found[start] for start in sorted(found)), strict=True)
        ]

    def _infer(self, request: Any, images: UInt8Image) -> list[NDArray[Any]]:
        request.infer({0: images}, share_inputs=True)
        return self._arrays(request)

    def _arrays(self, request: Any) -> list[NDArray[Any]]:
        return [np.array(request.get_tensor(name).data) for name in self.outputs]

    def _compiled(self, hint: str) -> Any:
        return self.core.compile_model(self.model, "CPU", {**self.settings, "PERFORMANCE_HINT": hint})


class LiteRtSession:
    """A .tflite file in LiteRT's interpreter, on the CPU."""

    def __init__(self, path: Path, outputs: Sequence[str], threads: int | None = None):
        (litert,) = need("litert", "ai_edge_litert.interpreter")
        self.interpreter = litert.Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.outputs = [detail["index"] for detail in self.interpreter.get_output_details()]
        self.lock = threading.Lock()  # the interpreter holds the images of one caller

    def run(self, images: UInt8Image) -> list[NDArray[Any]]:
        with self.lock:
            self.interpreter.set_tensor(self.input, images)
            self.interpreter.invoke()
            return [self.interpreter.get_tensor(index) for index in self.outputs]


class ExecuTorchSession:
    """A .pte file in ExecuTorch's runtime, on the CPU."""

    def __init__(self, path: Path, outputs: Sequence[str], threads: int | None = None):
        (runtime,) = need("executorch", "executorch.runtime")
        self.program = runtime.Runtime.get().load_program(path)
        self.method = self.program.load_method("forward")

    def run(self, images: UInt8Image) -> list[NDArray[Any]]:
        import torch

        return [np.array(value) for value in self.method.execute([torch.from_numpy(images)])]


class Runtime(NamedTuple):
    """How a runtime's files are called and opened."""

    file: str  # the main file's name
    package: str  # that runs it
    session: Any  # None: it does not run from Python on every system
    threads: bool = True  # their number can be set

    @property
    def installed(self) -> bool:
        """Whether what runs it is there; nothing is imported."""
        return find_spec(self.package.replace("-", "_")) is not None


RUNTIMES = {
    "onnx": Runtime("model.onnx", "onnxruntime", OnnxSession),
    "openvino": Runtime("model.xml", "openvino", OpenVinoSession),
    "litert": Runtime("model.tflite", "ai-edge-litert", LiteRtSession),
    "executorch": Runtime("model.pte", "executorch", ExecuTorchSession, threads=False),
    "coreml": Runtime("model.mlpackage", "coremltools", None),
}
