"""timm's mobilenetv1 models: a state-dict file, or a name to download."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .foreign import FORMATS, NORM_KEYS, Weights, named

BLOCKS = [f"blocks.{stage}.{n}" for stage, count in enumerate((1, 2, 2, 6, 2)) for n in range(count)]
LAYERS = [("conv_stem", "bn1")]  # convolution, its norm
for _block in BLOCKS:
    LAYERS += [(f"{_block}.conv_dw", f"{_block}.bn1"), (f"{_block}.conv_pw", f"{_block}.bn2")]
CLASSIFIER = ("classifier.weight", "classifier.bias")


def read_timm(path: Path) -> Weights:
    """Read a `.safetensors`, `.pth` or `.bin` file of a timm mobilenetv1; nothing in it is executed.

    Raises:
        ValueError: the file is damaged, holds more than tensors, or is of another network.
    """
    tensors = read_state(path)
    return _convert(tensors, path.name, str(path), None)


def read_state(path: Path) -> Mapping[str, Any]:
    """Read the state dict in a `.safetensors`, `.pth`, `.pt` or `.bin` file; nothing in it is executed.

    Raises:
        ValueError: the file is damaged, or holds more than tensors.
    """
    try:
        state: Any = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is no file of tensors alone: {_first_line(error)}") from error
    return state.get("state_dict", state) if isinstance(state, dict) else {}


def download_timm(name: str) -> Weights:
    """Have timm download a model by name.

    Raises:
        OSError: the download failed.
        ValueError: timm knows no weights of that name, or they are of another network.
        ImportError: timm is missing.
    """
    import timm

    try:
        model: Any = timm.create_model(name, pretrained=True)
    except OSError as error:
        raise OSError(
            f"timm could not download {name}: {_first_line(error)}. Download its model.safetensors "
            "from huggingface.co/timm where there is a network, and pass that file's path"
        ) from error
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained("mobilenetv1*"))
        raise ValueError(f"timm has no weights {name} ({error}); it has {known}") from error
    return _convert(
        model.state_dict(), f"timm:{name}", f"timm:{name}", model.pretrained_cfg["input_size"][-1]
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _convert(state: Mapping[str, Any], source: str, shown: str, image_size: int | None) -> Weights:
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    groups = [[f"{conv}.weight", *(f"{norm}.{key}" for key in NORM_KEYS)] for conv, norm in LAYERS]
    needed = [key for group in groups for key in group]
    missing = [key for key in needed if key not in state]
    if missing:
        found = ", ".join(list(state)[:3]) or "no named tensors"
        raise ValueError(f"{shown} is no timm mobilenetv1: no {missing[0]}, found {found}; {FORMATS}")
    extra = [key for key in state if key not in needed and key not in CLASSIFIER]
    if extra:
        convolution = max(extra, key=lambda key: state[key].ndim)  # rather than the norm that follows it
        raise ValueError(
            f"{shown} has {convolution}, which MobileNet V1 has not (timm's mobilenetv1_100h adds a "
            "convolution before its classifier); use mobilenetv1_100 or mobilenetv1_125"
        )
    tensors: list[tuple[Tensor, list[Tensor]]] = []
    for conv, *norm in groups:
        tensors.append((state[conv].float(), [state[key].float() for key in norm]))
    classifier = {key.removeprefix("classifier."): state[key].float() for key in CLASSIFIER if key in state}
    settings = {"padding": "symmetric", "activation": "relu6", "bn_eps": 1e-5}
    return named(tensors, settings, classifier, source, image_size)
