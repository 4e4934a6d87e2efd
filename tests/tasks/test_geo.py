from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mbapps.batches import UNKNOWN, GeoBatch
from mbapps.geo.cells import cell_ids, parents, tokens
from mbapps.geo.counts import rows_of
from mbapps.geo.distance import great_circle_km
from mbapps.geo.shapes import centres
from mbapps.models.mobilenet import MobileNetV1
from mbapps.tasks.geo import GeoHead, smoothed

BODY = MobileNetV1(alpha=0.25)
PLACES = [(48.9, 2.3), (51.5, -0.1), (40.4, -3.7), (-33.9, 151.2), (35.7, 139.7)]
LAT, LON = np.array(PLACES).T


def cells(level: int) -> np.ndarray:
    return np.unique(cell_ids(LAT, LON, level))


def head(*partitions: np.ndarray, **settings: object) -> GeoHead:
    """A head over partitions, coarsest first, whose cells lie in their middles."""
    parts = partitions or (cells(5),)
    names = [
        f"{number}/{token}" if len(parts) > 1 else str(token)
        for number, part in enumerate(parts)
        for token in tokens(part).tolist()
    ]
    made = GeoHead(BODY, names, 64, **settings)
    made.place_cells(np.concatenate([centres(part) for part in parts]))
    return made.eval()


def batch(labels: list[list[int]], places: list[tuple[float, float]] | None = None) -> GeoBatch:
    count = len(labels)
    where = torch.tensor(places or [(0.0, 0.0)] * count, dtype=torch.float32)
    return GeoBatch(
        torch.zeros(count, 3, 64, 64, dtype=torch.uint8), torch.arange(count), torch.full((count, 2), 64),
        torch.tensor(labels), places=where,
    )  # fmt: skip


def test_outputs() -> None:
    network = head().train()
    features = BODY(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    outputs = network(features)
    assert outputs["logits"].shape == (2, 5)
    assert outputs["embeddings"].shape == (2, 256)
    assert outputs["embeddings"].norm(dim=1).tolist() == pytest.approx([1, 1])
    narrow = head(dim=12)(features)
    assert narrow["embeddings"].shape == (2, 12)


def test_the_paper_counts_the_body_and_one_linear_layer() -> None:
    body = MobileNetV1(alpha=1.0)
    for count, millions in ((9766, 13.2), (26_263, 30.1)):
        network = GeoHead(body, [f"class {row}" for row in range(count)])
        params = sum(each.numel() for part in (body, network) for each in part.parameters())
        assert round(params / 1e6, 1) == millions


def test_finished_logits_are_of_the_finest_cells_and_say_the_same() -> None:
    network = head(cells(1), cells(6), fitted={"temperature": 3.0})
    logits = torch.randn(4, sum(network.counts))
    finished = network.finish({"logits": logits})
    assert finished["logits"].shape == (4, network.counts[-1])
    assert network.finish(finished) is finished
    coarse, fine = (part.softmax(1) for part in logits.split(network.counts, 1))
    joint = fine * coarse[:, rows_of(cells(1), cells(6))]
    softened = joint ** (1 / network.temperature)
    for told in (logits, finished["logits"]):
        wanted = softened / softened.sum(1, keepdim=True)
        assert network.probabilities(told).numpy() == pytest.approx(wanted.numpy(), abs=1e-6)
    assert list(network.finished_names) == tokens(cells(6)).tolist()
    alone = head()
    raw = {"logits": torch.randn(2, 5)}
    assert alone.finish(raw) is raw


def test_loss_is_the_cross_entropy_of_the_own_cell() -> None:
    network = head()
    logits = torch.randn(3, 5)
    loss = network.loss({"logits": logits}, batch([[0], [UNKNOWN], [3]]))["loss"]
    picked = logits.log_softmax(1)
    assert loss.item() == pytest.approx(-(picked[0, 0] + picked[2, 3]).item() / 2, rel=1e-5)
    assert network.loss({"logits": logits}, batch([[UNKNOWN]] * 3))["loss"].item() == 0


def test_loss_of_nested_partitions_is_their_mean() -> None:
    coarse, fine = cells(1), cells(6)
    network = head(coarse, fine)
    logits = torch.randn(2, len(coarse) + len(fine))
    one = torch.nn.functional.cross_entropy(logits[:, : len(coarse)], torch.tensor([0, 1]))
    two = torch.nn.functional.cross_entropy(logits[:1, len(coarse) :], torch.tensor([4]))
    loss = network.loss({"logits": logits}, batch([[0, 4], [1, UNKNOWN]]))["loss"]
    assert loss.item() == pytest.approx(((one + two) / 2).item(), rel=1e-5)


def test_smoothed_labels_fall_off_by_distance() -> None:
    middles = torch.tensor(centres(cells(5)), dtype=torch.float32)
    at = torch.tensor([PLACES[0], PLACES[3]])
    own = torch.tensor([0, 1])
    target = smoothed(own, at, middles, km=300.0)
    for row in range(2):
        km = great_circle_km(*at[row].tolist(), middles[:, 0].numpy(), middles[:, 1].numpy())
        wanted = np.exp(-np.maximum(km - km[own[row]], 0) / 300)
        np.testing.assert_allclose(target[row], wanted / wanted.sum(), atol=2e-4)
    logits = torch.randn(2, 5)
    network = head(smoothing_km=300.0)
    places = [tuple(place) for place in at.tolist()]
    loss = network.loss({"logits": logits}, batch([[0], [1]], places))["loss"]
    assert loss.item() == pytest.approx(-(target * logits.log_softmax(1)).sum(1).mean().item(), rel=1e-4)


def test_the_product_of_nested_partitions() -> None:
    coarse, fine = cells(2), cells(7)
    network = head(coarse, fine)
    logits = torch.randn(4, len(coarse) + len(fine))
    first, second = logits.split([len(coarse), len(fine)], dim=1)
    rows = np.searchsorted(coarse, parents(fine, 2))
    product = first.softmax(1)[:, rows] * second.softmax(1)
    np.testing.assert_allclose(
        network.probabilities(logits), product / product.sum(1, keepdim=True), rtol=1e-5
    )
    alone = head(coarse, fine, hierarchical=False)
    np.testing.assert_allclose(alone.probabilities(logits), second.softmax(1), rtol=1e-5)


def test_a_place_is_the_middle_of_the_likeliest_cell() -> None:
    network = head(fitted={"temperature": 2.0, "weight": 0.5, "radius": {"cells": 1.5}})
    logits = torch.tensor([[0.0, 0, 4, 0, 0]])
    (place,) = network.decode({"logits": logits}, torch.tensor([[64, 64]]))
    middle = centres(cells(5))[2]
    assert (place.lat, place.lon) == pytest.approx(tuple(middle), abs=1e-4)
    share = math.exp(2) / (4 + math.exp(2))
    assert place.score == pytest.approx(share, rel=1e-5)
    km = great_circle_km(*middle, *centres(cells(5)).T)
    km[2] = network.cells.reach_km[2]
    spread = share * km[2] + (1 - share) / 4 * np.delete(km, 2).sum()
    assert place.spread_km == pytest.approx(spread, rel=1e-3)
    assert place.radius_km == pytest.approx(1.5 * spread, rel=1e-3)
    told = place.to_json()[0]
    assert told["cells"][0]["cell"] == str(tokens(cells(5)[2:3])[0])
    assert sum(each["score"] for each in told["cells"]) == pytest.approx(1, abs=1e-3)


def test_a_coarse_head_gives_no_embeddings() -> None:
    features = BODY(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert set(head(cells(3), coarse_only="country")(features)) == {"logits"}


def test_a_teacher_of_the_same_cells() -> None:
    network = head(cells(1), cells(6))
    logits = torch.randn(3, len(network.class_names), requires_grad=True)
    assert network.distill_loss({"logits": logits}, logits.detach()).item() == pytest.approx(0, abs=1e-6)
    assert network.distill_loss({"logits": logits}, torch.randn_like(logits)).item() > 0


def test_a_head_that_was_never_trained_knows_no_places() -> None:
    with pytest.raises(ValueError, match="never trained"):
        GeoHead(BODY, ["1", "3"]).decode({"logits": torch.zeros(1, 2)}, torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "task.head.dim must be >= 1 or null"),
        ({"dropout": 1.0}, r"task.head.dropout must be in \[0, 1\)"),
        ({"smoothing_km": -1}, "task.head.smoothing_km must be >= 0"),
        ({"central_crop": 0}, "task.head.central_crop must be"),
        ({"coverage": 1}, r"task.head.coverage must be in \(0, 1\)"),
        ({"teacher_temperature": 0}, "task.head.teacher_temperature must be > 0"),
        ({"coarse_only": "city"}, "task.coarse_only must be country or region"),
    ],
)
def test_settings_that_cant_be(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeoHead(BODY, ["1"], **settings)
    with pytest.raises(ValueError, match="at least one cell"):
        GeoHead(BODY, [])


def test_a_coarse_head_has_no_fine_cells() -> None:
    with pytest.raises(
        ValueError, match="coarse_only=country allows no cell finer than level 3, and there are .* 5"
    ):
        head(cells(5), coarse_only="country")
