from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from slow_pairs import Rows, clusters, cosine, every_pair, slow_auc, slow_folds, slow_tar, table

from mbapps.batches import IdentityTable
from mbapps.metrics.verification import VerificationMetric
from mbapps.metrics.verification_report import worst_pairs
from mbapps.predictions import Embedding
from mbapps.sections import Plot
from mbapps.sections import Rows as Table


def measured(vectors: np.ndarray, truth: IdentityTable, **settings: object) -> VerificationMetric:
    metric = VerificationMetric(truth, **settings)  # type: ignore[arg-type]
    metric.update(range(len(vectors)), [Embedding(vector) for vector in vectors])
    return metric


def listed(labels: np.ndarray, count: int = 120, folds: int = 4, seed: int = 0) -> Rows:
    """Pairs of a protocol, half of them genuine."""
    rng = np.random.default_rng(seed)
    every = [(i, j) for i in range(len(labels)) for j in range(i)]
    same = [pair for pair in every if labels[pair[0]] == labels[pair[1]]]
    other = [pair for pair in every if labels[pair[0]] != labels[pair[1]]]
    chosen = [
        (*kind[row], kind is same)
        for kind in (same, other)
        for row in rng.permutation(len(kind))[: count // 2]
    ]
    return [(i, j, yes, place % folds) for place, (i, j, yes) in enumerate(chosen)]


VECTORS, LABELS = clusters(people=15, images=5)
PAIRS = listed(LABELS)


def test_numbers_of_listed_pairs_against_loops() -> None:
    """Of 60 impostor pairs 0.2 is expected to accept 12; 0.1 is too little to tell."""
    metric = measured(VECTORS, table(LABELS.tolist(), PAIRS), far=(0.2, 0.1), resamples=200)
    numbers = {**metric.compute(), **metric.conclude()}
    scores = [cosine(VECTORS[i], VECTORS[j]) for i, j, _, _ in PAIRS]
    same, folds = [yes for _, _, yes, _ in PAIRS], [fold for _, _, _, fold in PAIRS]
    accuracy = slow_folds(scores, same, folds)
    mean = sum(accuracy) / 4
    error = math.sqrt(sum((value - mean) ** 2 for value in accuracy) / 3) / math.sqrt(4)
    assert numbers["accuracy"] == pytest.approx(mean)
    assert numbers["accuracy_se"] == pytest.approx(error)
    genuine = [score for score, yes in zip(scores, same, strict=True) if yes]
    impostor = [score for score, yes in zip(scores, same, strict=True) if not yes]
    assert numbers["auc"] == pytest.approx(slow_auc(genuine, impostor))
    assert numbers["tar_at_far_2e-1"] == slow_tar(genuine, impostor, 0.2)[1]
    assert "tar_at_far_1e-1" not in numbers
    assert (numbers["pairs"], numbers["pairs_left_out"]) == (120, 0)
    for name in ("accuracy", "tar_at_far_2e-1", "all_pairs_tar_at_far_1e-1"):
        assert numbers[f"{name}_low"] <= numbers[name] <= numbers[f"{name}_high"]
        assert numbers[f"{name}_low"] < numbers[f"{name}_high"]


def test_numbers_of_all_pairs_against_loops() -> None:
    metric = measured(VECTORS, table(LABELS.tolist()), far=(1e-2, 1e-3), resamples=20)
    numbers = {**metric.compute(), **metric.conclude()}
    genuine, impostor = every_pair(VECTORS, LABELS)
    assert numbers["all_pairs_auc"] == pytest.approx(slow_auc(genuine, impostor), abs=1e-5)
    assert numbers["all_pairs_tar_at_far_1e-2"] == slow_tar(genuine, impostor, 0.01)[1]
    assert (numbers["genuine_pairs"], numbers["impostor_pairs"]) == (len(genuine), len(impostor))
    assert 0 < numbers["rank1"] < 1
    assert not {"accuracy", "auc", "pairs", "all_pairs_tar_at_far_1e-3"} & set(numbers)


def test_lengths_of_vectors_do_not_matter() -> None:
    truth = table(LABELS.tolist(), PAIRS)
    stretched = VECTORS * np.linspace(0.1, 9, len(VECTORS))[:, None]
    numbers = [measured(of, truth, resamples=5).conclude() for of in (VECTORS, stretched)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_rows_in_any_order_twice_and_pickled() -> None:
    truth = table(LABELS.tolist(), PAIRS)
    metric, other = measured(VECTORS, truth, resamples=5), VerificationMetric(truth, resamples=5)
    order = np.random.default_rng(0).permutation(len(VECTORS))
    other.update(order.tolist(), [Embedding(VECTORS[row]) for row in order])
    other.update([3], [Embedding(VECTORS[3])])
    other.rows = pickle.loads(pickle.dumps(other.rows))
    assert other.compute() == metric.compute()
    assert other.conclude() == metric.conclude()


def test_numbers_follow_what_is_added() -> None:
    metric = VerificationMetric(table([0, 0, 1]))
    assert math.isnan(metric.compute()["all_pairs_auc"])
    metric.update([0, 1], [Embedding(np.array([1.0, 0])), Embedding(np.array([1.0, 0.1]))])
    assert math.isnan(metric.compute()["all_pairs_auc"])
    metric.update([2], [Embedding(np.array([0, 1.0]))])
    assert metric.compute()["all_pairs_auc"] == 1


def test_without_folds_there_is_no_accuracy() -> None:
    pairs = [(i, j, yes, 0) for i, j, yes, _ in PAIRS]
    numbers = measured(VECTORS, table(LABELS.tolist(), pairs), resamples=5).conclude()
    assert "auc" in numbers
    assert "accuracy" not in numbers


def test_rates_at_a_threshold() -> None:
    genuine, impostor = every_pair(VECTORS, LABELS)
    numbers = measured(VECTORS, table(LABELS.tolist()), resamples=5).conclude(0.5)
    assert numbers["far_at_threshold"] == sum(score >= 0.5 for score in impostor) / len(impostor)
    assert numbers["tar_at_threshold"] == sum(score >= 0.5 for score in genuine) / len(genuine)


def test_best_accuracy_threshold() -> None:
    flat = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1]], dtype=float)
    truth = table([0, 0, 1, 1], [(0, 1, True, 0), (0, 2, False, 0)])
    assert measured(flat, truth).best_accuracy_threshold() == pytest.approx(0.5, abs=1e-3)
    assert measured(flat, table([0, 0, 1, 1])).best_accuracy_threshold() == pytest.approx(0.51, abs=1e-3)


def test_pairs_without_an_embedding_are_left_out_or_refused() -> None:
    many = listed(LABELS, count=220)
    truth = table(LABELS.tolist(), many)
    uses = np.bincount([row for i, j, _, _ in many for row in (i, j)], minlength=len(LABELS))
    fewest = int(np.argmin(uses))
    metric = VerificationMetric(truth, resamples=5)
    rows = [row for row in range(len(LABELS)) if row != fewest]
    metric.update(rows, [Embedding(VECTORS[row]) for row in rows])
    assert 0 < uses[fewest] <= 2
    assert metric.conclude()["pairs_left_out"] == uses[fewest]
    metric.rows = metric.rows[:60]
    with pytest.raises(
        ValueError, match=r"of 220 listed pairs need one of the 15 images without .* more than 1%"
    ):
        metric.conclude()


def test_too_many_images_missing_of_all_pairs() -> None:
    metric = measured(VECTORS, table(LABELS.tolist()))
    metric.rows = metric.rows[1:]
    with pytest.raises(ValueError, match=r"74 of 2,775 pairs need one of the 1 images without an embedding"):
        metric.conclude()


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([math.nan, 1.0], r"embedding of p0/0001.jpg holds NaN or infinity: the model has diverged"),
        ([0.0, 0.0], r"embedding of p0/0001.jpg is all zeros"),
        ([1.0, 0.0, 0.0], r"embedding of p0/0001.jpg is \[3\], those before it are \[2\]"),
        ([[1.0, 0.0]], r"is \[1, 2\]"),
    ],
)
def test_bad_embeddings(vector: list[float], message: str) -> None:
    metric = VerificationMetric(table([0, 0, 1]))
    metric.update([0], [Embedding(np.array([1.0, 0.0]))])
    with pytest.raises(ValueError, match=message):
        metric.update([1], [Embedding(np.array(vector))])


def test_truth_without_a_pair_of_a_kind() -> None:
    for labels in ([0, 0, 0], [0, 1, 2], [0]):
        with pytest.raises(
            ValueError, match=f"the data has {len(labels)} images of {len(set(labels))} people"
        ):
            VerificationMetric(table(labels))
    for same, kind in ((True, "impostor"), (False, "genuine")):
        with pytest.raises(ValueError, match=f"the list of 1 pairs has no {kind} pair"):
            VerificationMetric(table([0, 0, 1], [(0, 1, same, 0)]))


def test_all_pairs_of_a_kind_left_out() -> None:
    labels = [0, 0, *[1, 2] * 60]
    pairs = [(0, 1, True, 0), *[(2 + row, 3 + row, False, row % 2) for row in range(0, 119)]]
    metric = VerificationMetric(table(labels, pairs))
    rows = list(range(1, len(labels)))
    vectors = np.random.default_rng(0).normal(size=(len(rows), 4))
    metric.update(rows, [Embedding(vector) for vector in vectors])
    with pytest.raises(ValueError, match="of the 119 pairs whose images have an embedding none is genuine"):
        metric.conclude()


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="task.metric.far must lie between 0 and 1, got 1.0"):
        VerificationMetric(table([0, 0, 1]), far=(0.1, 1))
    with pytest.raises(ValueError, match="task.metric.resamples must be >= 1, got 0"):
        VerificationMetric(table([0, 0, 1]), resamples=0)


@pytest.mark.parametrize("pairs", [PAIRS, None])
def test_worst_pairs(pairs: Rows | None) -> None:
    metric = measured(VECTORS, table(LABELS.tolist(), pairs))
    (accepts, first), (rejects, second) = metric.worst_pairs(5)
    about = "the listed pairs" if pairs else "every two images"
    assert accepts == f"Two persons taken for one: the impostors most alike, of {about}"
    assert rejects == f"One person not known again: the genuine pairs least alike, of {about}"
    every = [(i, j) for i, j, _, _ in pairs] if pairs else [(i, j) for i in range(75) for j in range(i)]
    for shown, same, sign in ((first, False, -1), (second, True, 1)):
        found = [cosine(VECTORS[i], VECTORS[j]) for i, j in every if (LABELS[i] == LABELS[j]) == same]
        wanted = sorted(found, key=lambda score: sign * score)[:5]
        assert [cosine(VECTORS[i], VECTORS[j]) for i, j, _ in shown] == pytest.approx(wanted, abs=1e-5)
    i, j, caption = first[0]
    names = [f"p{LABELS[row]}/{row:04}" for row in (i, j)]
    assert caption == f"{cosine(VECTORS[i], VECTORS[j]):.3f}: {names[0]} and {names[1]}"
    assert worst_pairs(metric, 0) == [(accepts, []), (rejects, [])]


def test_sections() -> None:
    metric = measured(VECTORS, table(LABELS.tolist(), PAIRS), far=(0.2, 0.01), resamples=50)
    numbers = metric.conclude()
    parts = {part.title: part for part in metric.sections(numbers, None, "")}
    assert all(part.html() for part in parts.values())
    rates = parts["True accepts at rates of false ones"]
    assert isinstance(rates, Table)
    assert list(rates.rows) == [
        "the listed pairs, FAR 2e-1", "every two images, FAR 2e-1", "every two images, FAR 1e-2",
    ]  # fmt: skip
    assert rates.rows["the listed pairs, FAR 2e-1"]["TAR"] == numbers["tar_at_far_2e-1"]
    assert rates.rows["every two images, FAR 1e-2"]["low"] == numbers["all_pairs_tar_at_far_1e-2_low"]
    folds = parts["By fold"]
    assert isinstance(folds, Table)
    assert np.mean([row["accuracy"] for row in folds.rows.values()]) == pytest.approx(numbers["accuracy"])
    similarities = parts["Similarities"]
    assert isinstance(similarities, Plot)
    assert similarities.caption.endswith("the similarity of best accuracy on these very pairs.")


def test_sections_of_all_pairs_at_a_threshold() -> None:
    metric = measured(VECTORS, table(LABELS.tolist()), resamples=5)
    numbers = metric.conclude(0.5)
    parts = {part.title: part for part in metric.sections(numbers, 0.5, "the model's own threshold")}
    at = parts["At the threshold"]
    assert isinstance(at, Table)
    assert at.about == "Similarity 0.5000: the model's own threshold."
    assert at.rows["every two images"]["accepted"] == numbers["tar_at_threshold"]
    assert "By fold" not in parts


def test_a_known_face_net(test_data: Path) -> None:
    """Ten people of LFW, four pictures each, by the pooled features of a net that learned other faces."""
    import torch

    from mbapps.images import read_image, resize
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.weights import load_body, read_weights

    root = test_data / "datasets" / "faces" / "lfw_train"
    people = sorted((root / "people_dev.txt").read_text().split())[:10]
    paths = [path for person in people for path in sorted((root / person).glob("*.jpg"))[:4]]
    faces = [resize(read_image(path)[56:194, 56:194], 224, 224) for path in paths]
    weights = read_weights(test_data / "weights" / "faceres_mobilenet_v1_1.0_224_plain.safetensors")
    body = MobileNetV1(**weights.settings)  # type: ignore[arg-type]
    load_body(body, weights)
    with torch.no_grad():
        vectors = (
            body.eval()(torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2))["c5"].mean((2, 3)).numpy()
        )
    metric = measured(vectors, table(np.repeat(np.arange(10), 4).tolist()), far=(0.05,), resamples=200)
    numbers = metric.conclude()
    assert numbers["all_pairs_auc"] > 0.97
    assert numbers["rank1"] > 0.9
    assert 0.8 < numbers["all_pairs_tar_at_far_5e-2_low"] <= numbers["all_pairs_tar_at_far_5e-2"]
