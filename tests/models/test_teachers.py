"""Networks of torchvision and timm as bodies: the same features, strange weights, and folders that reopen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.saving import describe, save_bundle
from mbapps.models import teachers
from mbapps.models.network import Network
from mbapps.models.teachers import TeacherBody, download, find_architecture, load_file, preprocessing
from mbapps.models.weights import read_weights
from mbapps.tasks.fine_grained import FineGrainedHead

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

PIXELS = ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))


def body_of(name: str, size: int = 64) -> TeacherBody:
    return TeacherBody(name, size, *PIXELS)


def images(count: int = 2, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("resnet18", "resnet18"),
        ("timm:resnet18", "timm:resnet18"),
        ("mobilenetv1_100", "timm:mobilenetv1_100"),
    ],
)
def test_a_name_is_torchvisions_or_else_timms(name: str, full: str) -> None:
    assert find_architecture(name) == full


def test_an_unknown_name_suggests_others() -> None:
    with pytest.raises(ValueError, match=r"distill\.teacher=resnet5 is neither a folder nor .* resnet50"):
        find_architecture("resnet5")
    with pytest.raises(ValueError, match="close to it are .*timm:tf_efficientnet_lite4"):
        find_architecture("tf_efficientnet_lite")
    with pytest.raises(ValueError, match=r"of torchvision or timm$"):
        find_architecture("hf-hub:someone/something-else")


def test_preprocessing_is_that_of_the_imagenet_weights() -> None:
    assert preprocessing("inception_v3").image_size == 299
    assert preprocessing("timm:tf_efficientnet_lite0") == (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "timm:tf_efficientnet_lite0", "timm:resnet18"]
)
def test_a_linear_head_on_the_body_is_the_networks_own_classifier(name: str, tmp_path: Path) -> None:
    bare = name.removeprefix("timm:")
    whole = timm.create_model(bare) if bare != name else torchvision.models.get_model(bare, weights=None)
    whole.eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    body = body_of(name).eval()
    loaded = load_file(body, tmp_path / "whole.pth")
    head = FineGrainedHead(body, [str(row) for row in range(1000)], 64).eval()  # type: ignore[arg-type]
    head.load_state_dict({f"linear.{key}": value for key, value in loaded.classifier.items()})
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in PIXELS)
    with torch.no_grad():
        expected = whole((images().float() - mean) / std)
        torch.testing.assert_close(head(body(images()))["logits"], expected, atol=1e-4, rtol=1e-4)
    assert not loaded.by_order
    assert loaded.class_names == ()


def test_a_file_with_other_names_is_taken_by_order(tmp_path: Path) -> None:
    source = torchvision.models.resnet18(weights=None, num_classes=3)
    state = source.state_dict()
    strange = {f"layer_{row}.{key.split('.')[-1]}": value for row, (key, value) in enumerate(state.items())}
    torch.save({"state_dict": strange}, tmp_path / "strange.pth")
    (tmp_path / "labels.txt").write_text("pug\nakita\nbeagle\n")
    body = body_of("resnet18")
    loaded = load_file(body, tmp_path / "strange.pth")
    assert loaded.by_order
    assert loaded.class_names == ("pug", "akita", "beagle")
    assert torch.equal(body.network.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert torch.equal(loaded.classifier["weight"], state["fc.weight"])


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    body = body_of("resnet18")
    before = body.network.state_dict()["conv1.weight"].clone()
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no weights at distill\.weights="):
        load_file(body, path)
    save_file(torchvision.models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"w\.safetensors does not fit resnet18: layer\d\.\d\.conv1\.weight is \("
    ):
        load_file(body, path)
    other = torchvision.models.mobilenet_v2(weights=None).state_dict()
    save_file(other, path)
    with pytest.raises(ValueError, match=r"does not fit resnet18: conv1\.weight is missing in the file"):
        load_file(body, path)
    torch.save(other, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"does not fit resnet18: conv1\.weight is \(32, 3, 3, 3\) in the file"
    ):
        load_file(body, tmp_path / "w.pth")
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is no file of tensors alone"):
        load_file(body, path)
    torch.save(torchvision.models.resnet18(weights=None), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"module\.pth is no file of tensors alone"):
        load_file(body, tmp_path / "module.pth")
    assert torch.equal(body.network.state_dict()["conv1.weight"], before)


def test_no_network_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "/nowhere/hub")
    monkeypatch.setattr("os.makedirs", lambda *args, **kwargs: None)
    assert download(body_of("resnet18")) == "Name or service not known"


def test_what_can_not_be_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="squeezenet1_0 can't be a teacher: it has no linear classifier"):
        body_of("squeezenet1_0")
    with pytest.raises(ValueError, match="timm:vit_tiny_patch16_224 takes no images of 64 px"):
        body_of("timm:vit_tiny_patch16_224")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"needs timm: pip install 'mbapps\[teachers\]'"):
        teachers.find_architecture("resnet18")


def test_a_teachers_folder_reopens_without_pickle(tmp_path: Path) -> None:
    body = body_of("resnet18")
    network = Network(body, {"fine_grained": FineGrainedHead(body, ["b", "a"], 64)}).eval()  # type: ignore[arg-type]
    save_bundle(tmp_path / "teacher", network, describe(network, {}, lineage={}))
    assert sorted(path.name for path in (tmp_path / "teacher").iterdir()) == [
        "CARD.md", "model.json", "model.safetensors"
    ]  # fmt: skip
    assert "A teacher: resnet18" in (tmp_path / "teacher" / "CARD.md").read_text()
    opened = Bundle.open(tmp_path / "teacher")
    with torch.no_grad():
        torch.testing.assert_close(
            opened.network(images())["fine_grained"]["logits"], network(images())["fine_grained"]["logits"]
        )
    (answer,) = opened.predict(images(1)[0].permute(1, 2, 0).numpy())
    assert {row["name"] for row in answer.to_json()} == {"a", "b"}
    with pytest.raises(
        ValueError, match=r"holds resnet18, which is no MobileNet V1; it can be distill\.teacher="
    ):
        read_weights(tmp_path / "teacher")
