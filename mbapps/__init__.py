"""mbapps: one MobileNet body, five heads, for vision on small devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .deploy.bundle import Bundle

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

_HERE = Path(__file__).parent
if not (_HERE / "tasks" / "__init__.py").exists():  # a checkout: tasks/, data/ and conf/ lie beside mbapps/
    __path__.append(str(_HERE.parent))


def load(
    folder: str | Path,
    *,
    device: str = "cpu",
    trust: str | None = None,
    runtime: str = "torch",
    runtime_file: str | Path | None = None,
    precision: str = "float32",
    faces: str | Path | None = None,
) -> Bundle:
    """Open a model folder: `load(folder).predict(images)`.

    Args:
        folder: what `train` or `convert` left in `model/`.
        device: where to run, as in torch: "cpu", "cuda", "cuda:1", "mps".
        trust: a package of your own whose head classes may be loaded; ours always may.
        runtime: what answers: "torch", or "onnx", "openvino", "litert" or "executorch", which run the file that
            `mbapps export` left in the folder. The heads decode the answers of all alike.
        runtime_file: an exported file of the same model that lies elsewhere.
        precision: of the exported file in the folder: "float32" or "int8".
        faces: a model folder that detects faces, or persons, for the face_attr and face_embed heads; None: where the
            folder has a detection head of its own that does, that one.

    Raises:
        FileNotFoundError: there is no model folder at `folder`, or it was not exported to that runtime.
        ValueError: it is damaged, of a newer format, or asks for a class that is not trusted; or the exported file
            was altered or comes from another model.
        ImportError: the runtime is not installed.
    """
    from .deploy.bundle import Bundle
    from .deploy.face_pass import with_faces

    bundle = Bundle.open(
        folder, device=device, trust=trust, runtime=runtime, runtime_file=runtime_file, precision=precision
    )
    return with_faces(bundle, Bundle.open(faces, device=device, trust=trust) if faces else None)
