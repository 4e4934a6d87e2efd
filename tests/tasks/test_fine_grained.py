from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mbapps.models.mobilenet import MobileNetV1
from mbapps.models.network import Network
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


def test_pooling_before_the_layer_is_the_layer_before_pooling(body: MobileNetV1) -> None:
    """The class activation map is the logit, cell by cell."""
    head = FineGrainedHead(body, NAMES).eval()
    features = torch.rand(2, 256, 3, 4)
    outputs = head({"c5": features})
    by_cell = torch.einsum("bchw,kc->bkhw", features, head.linear.weight)
    torch.testing.assert_close(outputs["logits"], by_cell.mean(dim=(2, 3)) + head.linear.bias)
    for row, answer in enumerate(head.decode(outputs, torch.tensor([[8, 8]] * 2))):
        heat = by_cell[row, outputs["logits"][row].argmax()].detach()
        expected = (heat - heat.min()) / (heat.max() - heat.min())
        assert answer.heat is not None
        torch.testing.assert_close(torch.from_numpy(answer.heat), expected)


def test_a_flat_map_is_no_division_by_zero(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES).eval()
    (answer,) = head.decode(head({"c5": torch.ones(1, 256, 2, 2)}), torch.tensor([[8, 8]]))
    assert answer.heat is not None
    assert answer.heat.tolist() == [[0, 0], [0, 0]]


def test_the_map_is_of_evaluation_alone(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES)
    assert set(head({"c5": torch.ones(1, 256, 2, 2)})) == {"logits"}
    assert set(head.eval()({"c5": torch.ones(1, 256, 2, 2)})) == {"logits", "map"}


def test_low_precision_decodes_too(body: MobileNetV1) -> None:
    network = Network(body, {"fine_grained": FineGrainedHead(body, NAMES)}).eval()
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        answers = network.head("fine_grained").decode(
            network(images)["fine_grained"], torch.tensor([[8, 8]] * 2)
        )
    assert [answer.logits.dtype.name for answer in answers] == ["float32"] * 2


def test_a_mirrored_image_is_seen_mirrored(body: MobileNetV1) -> None:
    network = Network(body, {"fine_grained": FineGrainedHead(body, NAMES)}).eval()
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        both = network.answer(images, "fine_grained", flip=True)
        turned = network.answer(images.flip(-1), "fine_grained", flip=True)
    torch.testing.assert_close(both["logits"], turned["logits"])
    torch.testing.assert_close(both["map"], turned["map"].flip(-1))


def test_temperature_changes_probabilities_and_no_order(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES)
    logits = {"logits": torch.tensor([[3.0, 1, 0]])}
    (before,) = head.decode(logits, torch.tensor([[8, 8]]))
    for factor, settings in ((2.0, 2.0), (1.5, 3.0)):  # fitted on answers that have the first one in them
        head.calibrate(SimpleNamespace(best_temperature=lambda factor=factor: factor))
        assert head.settings["temperature"] == settings
    (after,) = head.decode(logits, torch.tensor([[8, 8]]))
    assert after.labels.tolist() == before.labels.tolist()
    assert after.logits == pytest.approx(before.logits / 3)
    assert after.scores[0] < before.scores[0]


def test_label_smoothing_is_torchs(body: MobileNetV1) -> None:
    head = FineGrainedHead(body, NAMES, label_smoothing=0.3)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    target = torch.full((4, 3), 0.1)
    target[torch.arange(4), labels] += 0.7
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    loss = head.loss({"logits": logits}, SimpleNamespace(labels=labels))["loss"]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ([], {}, "needs at least one class, got none"),
        (NAMES, {"dropout": 1.0}, r"task\.head\.dropout must be in \[0, 1\), got 1\.0"),
        (NAMES, {"label_smoothing": 1.0}, r"task\.head\.label_smoothing must be in \[0, 1\), got 1\.0"),
        (NAMES, {"central_crop": 0}, r"task\.head\.central_crop must be in \(0, 1\], got 0"),
        (NAMES, {"temperature": 0}, r"task\.head\.temperature must be > 0, got 0"),
        (NAMES, {"top_k": 0}, r"task\.head\.top_k must be >= 1, got 0"),
        (NAMES, {"label_smoothing": -0.1}, r"task\.head\.label_smoothing must be in \[0, 1\), got -0\.1"),
        (NAMES, {"central_crop": 0.0}, r"task\.head\.central_crop must be in \(0, 1\], got 0\.0"),
        (NAMES, {"temperature": 0.0}, r"task\.head\.temperature must be > 0, got 0\.0"),
    ],
)
def test_refusals(body: MobileNetV1, names: list[str], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FineGrainedHead(body, names, **settings)  # type: ignore[arg-type]
