from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mbapps.batches import UNKNOWN, ClassificationBatch
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.saving import describe, save_bundle
from mbapps.models.complexity import count
from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
from mbapps.tasks.face_embed import FaceEmbedHead

PEOPLE = ("Ada", "Ben", "Cem")


@pytest.fixture(scope="module")
def body() -> MobileNetV1:
    torch.manual_seed(0)
    return MobileNetV1(alpha=0.25)


def batch(labels: list[int]) -> ClassificationBatch:
    count = len(labels)
    images = torch.randint(
        0, 255, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    rows = torch.arange(count)
    return ClassificationBatch(images, rows, torch.full((count, 2), 64), torch.tensor(labels))


@pytest.mark.parametrize("pool", ["avg", "gdc", "flatten"])
@pytest.mark.parametrize("dim", [16, None])
def test_embeddings_have_length_one(body: MobileNetV1, pool: str, dim: int | None) -> None:
    head = FaceEmbedHead(body, PEOPLE, 64, pool=pool, dim=dim)
    found = head(body(batch([0, 1, 2, 0]).images))["embeddings"]
    assert found.shape == (4, dim or (256 * 4 if pool == "flatten" else 256)) == (4, head.dim)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))


def test_a_global_depthwise_convolution_starts_as_the_average(body: MobileNetV1) -> None:
    body.eval()
    features = body(batch([0, 1]).images)
    average, learned = (
        FaceEmbedHead(body, (), 64, pool=pool, dim=None).eval()(features) for pool in ("avg", "gdc")
    )
    torch.testing.assert_close(average["embeddings"], learned["embeddings"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("alpha", "size", "pool", "params", "macs"),
    [
        (1.0, 128, "flatten", 5.30, 187.5),
        (0.75, 128, "flatten", 3.39, 107.6),
        (0.75, 160, "avg", 1.92, 165.7),
    ],
)
def test_parameters_beside_table_14(alpha: float, size: int, pool: str, params: float, macs: float) -> None:
    """Table 14 prints 5.5 M for 1.0 and 3.8 M for 0.75, both at 128 px; no one layer gives all of its rows."""
    body = MobileNetV1(alpha=alpha)
    found = count(Network(body, {"face_embed": FaceEmbedHead(body, (), size, pool=pool)}), size)
    assert found.params / 1e6 == pytest.approx(params, abs=0.006)
    assert found.macs / 1e6 == pytest.approx(macs, abs=0.5)


def test_losses_are_weighted_and_named(body: MobileNetV1) -> None:
    one = batch([0, 0, 1, 1, 2, UNKNOWN])
    head = FaceEmbedHead(body, PEOPLE, 64, triplet=2.0, cosface=0.5, arcface=1.0)
    outputs = head(body(one.images))
    losses = head.loss(outputs, one)
    total = 2 * losses["triplet"] + 0.5 * losses["cosface"] + losses["arcface"]
    torch.testing.assert_close(losses["loss"].detach(), total)
    assert losses["arcface"] > losses["cosface"] > 0


def test_unknown_people_have_no_part_in_the_labels_loss(body: MobileNetV1) -> None:
    head = FaceEmbedHead(body, PEOPLE, 64, triplet=1.0).eval()
    body.eval()
    all_, some = batch([0, 1, 0, UNKNOWN, UNKNOWN]), batch([0, 1, 0])
    outputs = head(body(all_.images))
    fewer = {"embeddings": outputs["embeddings"][:3]}
    torch.testing.assert_close(head.loss(outputs, all_)["loss"], head.loss(fewer, some)["loss"])
    nobody = head.loss(outputs, batch([UNKNOWN] * 5))["loss"]
    assert nobody.item() == 0
    nobody.backward()


def test_nothing_to_learn_by(body: MobileNetV1) -> None:
    head = FaceEmbedHead(body, PEOPLE, 64, cosface=0.0)
    one = batch([0, 1])
    with pytest.raises(ValueError, match=r"nothing to learn by: give task\.head\.triplet, .* or a teacher"):
        head.loss(head(body(one.images)), one)


def test_a_wider_teacher_is_emulated_on_its_principal_axes(body: MobileNetV1) -> None:
    torch.manual_seed(0)
    head = FaceEmbedHead(body, PEOPLE, 64, dim=16)
    plane = torch.linalg.qr(torch.randn(40, 16)).Q
    theirs = F.normalize(torch.randn(200, 16)) @ plane.T * 0.5 + torch.randn(40)  # 16 axes about a mean
    assert "the teacher's 40 numbers on their 16 principal axes" in head.learn_from(theirs, labels=False)
    assert head.prototypes is None
    ours = head.reduction(theirs)
    away = F.normalize(theirs - theirs.mean(dim=0))
    torch.testing.assert_close(ours @ ours.T, away @ away.T, atol=1e-4, rtol=0)
    assert head.distill_loss({"embeddings": ours}, theirs).item() == pytest.approx(0, abs=1e-6)
    assert head.distill_loss({"embeddings": ours.flip(0)}, theirs).item() > 1


@pytest.mark.parametrize(("count", "width"), [(3, 40), (50, 8)])
def test_a_teacher_of_few_answers_or_fewer_numbers(body: MobileNetV1, count: int, width: int) -> None:
    head = FaceEmbedHead(body, PEOPLE, 64, dim=16)
    head.learn_from(torch.randn(count, width), labels=True)
    assert head.prototypes is not None
    ours = head.reduction(torch.randn(4, width))
    assert ours.shape == (4, 16)
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(4))


def test_a_teacher_of_the_same_width_needs_no_map(body: MobileNetV1) -> None:
    head = FaceEmbedHead(body, PEOPLE, 64, dim=16)
    assert head.learn_from(torch.randn(5, 16), labels=True) == "the student emulates the teacher's 16 numbers"
    assert head.reduction is None
    assert head.prototypes is not None
    ours, theirs = torch.eye(16)[:2], torch.eye(16)[[0, 2]]
    assert head.distill_loss({"embeddings": ours}, theirs).item() == pytest.approx(1.0)


def test_a_model_folder_holds_neither_people_nor_maps(body: MobileNetV1, tmp_path) -> None:  # noqa: ANN001
    head = FaceEmbedHead(body, PEOPLE, 64, dim=16)
    head.learn_from(torch.randn(50, 40), labels=True)
    network = Network(body, {"face_embed": head}).eval()
    images = batch([0, 1]).images
    before = network(images)["face_embed"]["embeddings"]
    network.strip()
    save_bundle(tmp_path / "model", network, describe(network, {}, lineage={}))
    text = (tmp_path / "model" / "model.json").read_text()
    assert not any(name in text for name in PEOPLE)
    opened = Bundle.open(tmp_path / "model")
    torch.testing.assert_close(opened.network(images)["face_embed"]["embeddings"], before, atol=1e-5, rtol=0)
    (answer,) = opened.predict(np.zeros((80, 70, 3), np.uint8))
    assert np.linalg.norm(answer.vector) == pytest.approx(1, abs=1e-5)  # type: ignore[attr-defined]


def test_a_mean_of_views_is_brought_to_length_one(body: MobileNetV1) -> None:
    network = Network(body, {"face_embed": FaceEmbedHead(body, (), 64, dim=16)}).eval()
    one = batch([0, 1, 2])
    outputs = network.answer(one.images, "face_embed", flip=True)
    plain, mirrored = (
        network(view)["face_embed"]["embeddings"] for view in (one.images, one.images.flip(-1))
    )
    wanted = F.normalize(plain + mirrored).detach()
    answers = network.head("face_embed").decode(outputs, one.sizes)
    torch.testing.assert_close(torch.from_numpy(np.stack([answer.vector for answer in answers])), wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": "max"}, r"task\.head\.pool must be one of \['avg', 'gdc', 'flatten'\], got 'max'"),
        ({"dim": 0}, r"task\.head\.dim must be >= 1 or null, got 0"),
        ({"triplet": -1.0}, r"task\.head\.triplet is the weight of a loss, >= 0, got -1\.0"),
    ],
)
def test_settings_out_of_range(body: MobileNetV1, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceEmbedHead(body, PEOPLE, 64, **settings)
