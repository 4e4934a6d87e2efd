"""Large networks of torchvision and timm as bodies: teachers, which take the same heads as a MobileNet."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .blocks import Normalize
from .foreign import learned
from .mobilenet import FeatureInfo, MobileNetV1
from .timm_weights import read_state
from .weights import label_lists

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std where an architecture names none
TIMM = "timm:"
SHOWN = 3  # tensors that an error lists


class Preprocessing(NamedTuple):
    """What an architecture's ImageNet weights were trained with: side in px, mean and std in 0-1."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class TeacherBody(nn.Module):
    """uint8 RGB images [B, 3, S, S] -> {"c5": [B, C, 1, 1]}, the features that the network's own classifier saw.

    A head made for a MobileNet pools them and has its linear layer on them: just such a classifier.

    Args:
        architecture: a name of torchvision's, or of timm's if it begins with "timm:".
        image_size: side it is meant for, px; some architectures take no other.
        mean, std: what `Normalize` subtracts and divides by, three values each in 0-255.

    Raises:
        ValueError: there is no such architecture, it has no linear classifier, or it takes no such images.
        ImportError: the package that has it is missing.
    """

    def __init__(self, architecture: str, image_size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.settings: dict[str, object] = {
            "architecture": architecture, "image_size": image_size,
            "mean": [float(value) for value in mean], "std": [float(value) for value in std],
        }  # fmt: skip
        self.architecture = architecture
        self.normalize = Normalize(tuple(mean), tuple(std))  # type: ignore[arg-type]
        self.network, self.classifier = _build(architecture, image_size)
        training = self.network.training
        try:
            with torch.no_grad():
                found = self.network.eval()(torch.zeros(1, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(f"{architecture} takes no images of {image_size} px: {error}") from error
        self.network.train(training)
        if not isinstance(found, Tensor) or found.ndim != 2:
            raise ValueError(f"{architecture} can't be a teacher: it has no linear classifier")
        self.features = {"c5": FeatureInfo(found.shape[1], image_size)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c5": self.network(self.normalize(images))[:, :, None, None]}

    def stages(self) -> list[nn.Module]:
        """The whole of it: a teacher is not frozen by blocks."""
        return [self.network]


def find_architecture(name: str) -> str:
    """Give the full name of an architecture: torchvision's as it is, timm's with "timm:" before it.

    Raises:
        ValueError: neither has it; the error suggests names like it.
        ImportError: one of the two packages is missing.
    """
    torchvision, timm = _packages()
    vision = torchvision.models.list_models(module=torchvision.models)
    bare = name.removeprefix(TIMM)
    if bare == name and name in vision:
        return name
    if timm.is_model(bare):  # the bare name of timm's list, never a hub's
        return TIMM + bare
    known = [*vision, *(TIMM + one for one in timm.list_models())]
    close = difflib.get_close_matches(name, known, 4) or difflib.get_close_matches(TIMM + name, known, 4)
    hint = f"; close to it are {', '.join(close)}" if close else ""
    raise ValueError(
        f"distill.teacher={name} is neither a folder nor an architecture of torchvision or timm{hint}"
    )


def preprocessing(architecture: str) -> Preprocessing:
    """Say how an architecture of `find_architecture` wants its images."""
    torchvision, timm = _packages()
    if architecture.startswith(TIMM):
        facts = timm.get_pretrained_cfg(architecture.removeprefix(TIMM))
        if facts is None:
            return Preprocessing(224, *IMAGENET)
        return Preprocessing(facts.input_size[-1], tuple(facts.mean), tuple(facts.std))
    view = torchvision.models.get_model_weights(architecture).DEFAULT.transforms()
    return Preprocessing(view.crop_size[0], tuple(view.mean), tuple(view.std))


def body_of(settings: Mapping[str, Any]) -> Any:
    """Build the body that a model folder describes: a MobileNet, or an architecture of the two packages by name."""
    return TeacherBody(**settings) if "architecture" in settings else MobileNetV1(**settings)


class Loaded(NamedTuple):
    """What came of a file of weights beside the body.

    classifier: "weight" [K, C] and "bias" [K] where it has such, else {}.
    class_names: K names from a list beside the file, else ().
    by_order: its tensors have other names, and were taken in their order.
    """

    classifier: dict[str, Tensor]
    class_names: tuple[str, ...]
    by_order: bool


def load_file(body: TeacherBody, path: Path) -> Loaded:
    """Load a state dict of the body's architecture.

    Where the tensors have other names, but the same shapes and the same endings one after another, they are
    taken in their order: the same network under another author's names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds more than tensors, or is of another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at distill.weights={path}")
    state = {
        key.removeprefix("module."): value.float()
        for key, value in learned(read_state(path)).items()
        if isinstance(value, Tensor)
    }
    ours = learned(body.network.state_dict())
    own = [
        key for key in state if not key.startswith((f"{body.classifier}.", "AuxLogits.", "aux1.", "aux2."))
    ]
    named = {key: state[key] for key in own}
    by_order = path.suffix != ".safetensors" and not set(named) & set(ours)  # that one sorts its tensors
    if by_order:
        keys = list(state)
        named = dict(zip(ours, (state[key] for key in keys), strict=False))
        endings = all(a.split(".")[-1] == b.split(".")[-1] for a, b in zip(ours, keys, strict=False))
        rest = [state[key] for key in keys[len(ours) :]]
        fits = endings and len(keys) >= len(ours) and len(rest) in (0, 2)
    else:
        rest = [
            state[key] for key in (f"{body.classifier}.weight", f"{body.classifier}.bias") if key in state
        ]
        fits = set(named) == set(ours)
    shapes = {key: tuple(value.shape) for key, value in ours.items()}
    theirs = {key: tuple(value.shape) for key, value in named.items()}
    if not fits or shapes != theirs:
        differing = [key for key in {**shapes, **theirs} if shapes.get(key) != theirs.get(key)]
        differing.sort(
            key=lambda key: -len(shapes.get(key) or theirs[key])
        )  # convolutions before their norms
        rows = "; ".join(
            f"{key} is {theirs.get(key, 'missing')} in the file, {shapes.get(key, 'missing')} in the network"
            for key in differing[:SHOWN]
        )
        raise ValueError(
            f"distill.weights={path} does not fit {body.architecture}: {rows or f'it has {len(state)} tensors'}"
        )
    body.network.load_state_dict(named, strict=False)
    classifier = dict(zip(("weight", "bias"), rest, strict=True)) if len(rest) == 2 else {}
    if classifier and classifier["weight"].shape != (len(classifier["bias"]), body.features["c5"].channels):
        classifier = {}
    count = len(classifier["bias"]) if classifier else 0
    names = next((tuple(names) for names in label_lists(path) if count and len(names) == count), ())
    return Loaded(classifier, names, by_order)


def download(body: TeacherBody) -> str | None:
    """Load the ImageNet weights that torchvision or timm publish; give the reason where they can't be had."""
    torchvision, timm = _packages()
    name = body.architecture.removeprefix(TIMM)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells each of its attempts
    try:
        if name != body.architecture:
            state = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
        else:
            weights = torchvision.models.get_model_weights(name).DEFAULT
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    ours = body.network.state_dict()
    body.network.load_state_dict({key: value for key, value in state.items() if key in ours})
    return None


def _build(architecture: str, image_size: int) -> tuple[nn.Module, str]:
    """Build a network without its classifier, and tell the classifier's name."""
    torchvision, timm = _packages()
    full = find_architecture(architecture)
    if full.startswith(TIMM):
        network: Any = timm.create_model(full.removeprefix(TIMM), num_classes=0)
        name = network.pretrained_cfg.get("classifier") or "classifier"
        return network, name if isinstance(name, str) else name[0]
    extras: dict[str, Any] = {}
    if full in ("inception_v3", "googlenet"):
        extras = {"aux_logits": False, "init_weights": True}
    elif full.startswith("vit_"):
        extras = {"image_size": image_size}
    network = torchvision.models.get_model(full, weights=None, **extras)
    name = next(
        (key for key, module in reversed(list(network.named_modules())) if isinstance(module, nn.Linear)), ""
    )
    if not name:
        raise ValueError(f"{architecture} can't be a teacher: it has no linear classifier")
    network.set_submodule(name, nn.Identity())
    return network, name


def _packages() -> tuple[Any, Any]:
    try:
        import timm
        import torchvision
    except ImportError as error:
        raise ImportError(f"a teacher by name needs {error.name}: pip install 'mbapps[teachers]'") from error
    return torchvision, timm
