from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mbapps.models.mobilenet import MobileNetV1
from mbapps.tasks.fine_grained import FineGrainedHead

NAMES = ["pug", "beagle", "akita"]


@pytest.fixture
def body() -> MobileNetV1:
    return MobileNetV1(0.25)


def test_logits_do_not_depend_on_the_image_size(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES)
    small = {"c5": torch.full((2, 256, 2, 2), 0.5)}
    large = {"c5": torch.full((2, 256, 7, 7), 0.5)}
    assert head(small)["logits"].shape == (2, 3)
    torch.testing.assert_close(head(small), head(large))


def test_loss_is_log_k_when_it_knows_nothing_and_0_when_it_is_sure(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES)
    batch = SimpleNamespace(labels=torch.tensor([2, 0]))
    assert head.loss({"logits": torch.zeros(2, 3)}, batch)["loss"].item() == pytest.approx(1.0986, abs=1e-4)
    sure = torch.tensor([[0.0, 0, 99], [99, 0, 0]])
    assert head.loss({"logits": sure}, batch)["loss"].item() == pytest.approx(0, abs=1e-6)


def test_every_parameter_learns(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES, dropout=0.2)
    outputs = head(body(torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)))
    head.loss(outputs, SimpleNamespace(labels=torch.tensor([0, 1, 2, 0])))["loss"].backward()
    for module in (body, head):
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_decode_gives_the_best_classes_first(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES, top_k=2)
    logits = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]).log()
    first, second = head.decode({"logits": logits}, torch.tensor([[10, 10], [20, 30]]))
    assert first.to_json() == [
        {"label": 2, "name": "akita", "score": 0.7},
        {"label": 1, "name": "beagle", "score": 0.2},
    ]
    assert [row["name"] for row in second.to_json()] == ["pug", "beagle"]


def test_decode_gives_all_classes_where_there_are_fewer_than_top_k(body: MobileNetV1) -> None:
    (answer,) = FineGrainedHead(body, NAMES).decode({"logits": torch.zeros(1, 3)}, torch.tensor([[8, 8]]))
    assert len(answer.labels) == 3
    assert answer.scores.sum() == pytest.approx(1)


def test_the_glow_is_where_the_best_class_was_seen(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES)
    channels = head.linear.in_features
    maps = torch.zeros(1, channels, 4, 4)
    maps[0, 0, 1, 2] = 3.0
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.weight[1, 0] = 1.0
    outputs = head.eval()({"c5": maps})
    (answer,) = head.decode(outputs, torch.tensor([[60, 60]]))
    assert answer.labels[0] == 1
    assert answer.heat is not None
    assert answer.heat.argmax() == 1 * 4 + 2
    mirrored = head.decode(head.mirror(outputs), torch.tensor([[60, 60]]))[0]
    assert mirrored.heat is not None
    assert mirrored.heat.argmax() == 1 * 4 + 1
    assert "map" not in head.train()({"c5": maps})


def test_temperature_divides_the_logits_and_multiplies_with_itself(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES, temperature=2.0)
    logits = torch.tensor([[2.0, 0.0, -2.0]])
    (answer,) = head.decode({"logits": logits}, torch.tensor([[8, 8]]))
    assert answer.scores[0] == pytest.approx(float(torch.tensor([1.0, 0, -1]).softmax(0)[0]))
    head.calibrate(SimpleNamespace(best_temperature=lambda: 1.5))
    assert head.settings["temperature"] == 3.0


def test_smoothed_labels_cost_more_when_it_is_sure(body: MobileNetV1) -> None:
    batch = SimpleNamespace(labels=torch.tensor([2]))
    sure = {"logits": torch.tensor([[0.0, 0, 20]])}
    plain, smooth = (FineGrainedHead(body, NAMES, label_smoothing=share) for share in (0.0, 0.1))
    assert plain.loss(sure, batch)["loss"] < 1e-3 < smooth.loss(sure, batch)["loss"]


def test_settings_rebuild_the_head(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES, 96, dropout=0.1, top_k=1)
    twin = FineGrainedHead(body, head.class_names, head.image_size, **head.settings)
    twin.load_state_dict(head.state_dict())
    assert (twin.settings, twin.class_names, twin.dropout.p) == (head.settings, tuple(NAMES), 0.1)
    assert all(key.startswith(FineGrainedHead.CLASS_LAYERS) for key in head.state_dict())


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ([], {}, "needs at least one class, got none"),
        (NAMES, {"dropout": 1.0}, r"task\.head\.dropout must be in \[0, 1\), got 1\.0"),
        (NAMES, {"label_smoothing": 1.0}, r"task\.head\.label_smoothing must be in \[0, 1\), got 1\.0"),
        (NAMES, {"central_crop": 0}, r"task\.head\.central_crop must be in \(0, 1\], got 0"),
        (NAMES, {"temperature": 0}, r"task\.head\.temperature must be > 0, got 0"),
        (NAMES, {"top_k": 0}, r"task\.head\.top_k must be >= 1, got 0"),
    ],
)
def test_refusals(body: MobileNetV1, names: list[str], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FineGrainedHead(body, names, **settings)  # type: ignore[arg-type]
