from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from model_files import pictures, save

from mbapps.album.asking import Asker, unit
from mbapps.album.threads import Pool, own_cores
from mbapps.answering import Answerer
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.face_pass import with_faces


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    heads = ("detection", "fine_grained", "face_embed")
    model = save(tmp_path_factory.mktemp("asking") / "model", *heads, names=("person", "dog"))
    return Answerer(with_faces(Bundle.open(model)), None, 16)


@pytest.fixture
def cores() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_say_the_same(answerer: Answerer, cores: None) -> None:
    images = pictures(7)
    alone = Asker(answerer).ask(images)
    assert any(record.faces for record in alone)
    with own_cores(answerer.bundle) as pool:
        assert isinstance(pool, Pool)
        assert pool.threads == 2
        together = Asker(answerer, pool).ask(images)
    assert torch.get_num_threads() == 2
    for one, other in zip(alone, together, strict=True):
        assert [row[0] for row in one.objects] == [row[0] for row in other.objects]
        vectors = [np.frombuffer(record.vector, np.float16).astype(float) for record in (one, other)]
        assert np.abs(vectors[0] - vectors[1]).max() < 2e-3
        assert [face.box for face in one.faces] == [face.box for face in other.faces]


def test_a_network_that_changes_as_it_runs_has_one_thread(answerer: Answerer, cores: None) -> None:
    for change in ({"runtime": "onnx"}, {"device": "cuda"}):
        with own_cores(replace(answerer.bundle, **change)) as pool:
            assert pool is None


def test_the_vector_is_the_pooled_last_map(answerer: Answerer) -> None:
    from mbapps.deploy.bundle import head_views

    (image,) = pictures(1)
    (record,) = Asker(answerer).ask([image])
    network = answerer.bundle.network
    with torch.inference_mode():
        maps = network.body(head_views(answerer.bundle.facts["heads"]["detection"], [image]))
    expected = maps["c5"].mean(dim=(0, 2, 3)).numpy()
    assert (
        np.abs(np.frombuffer(record.vector, np.float16) - np.frombuffer(unit(expected), np.float16)).max()
        < 1e-3
    )


def test_a_record_comes_back_as_it_was_written(answerer: Answerer) -> None:
    for record in Asker(answerer).ask(pictures(2)):
        text = msgspec.msgpack.encode(record)
        assert msgspec.msgpack.decode(text, type=type(record)) == record


def test_a_record_names_no_file_elsewhere(tmp_path: Path) -> None:
    from mbapps.album.records import Record, Shard, read_shards, write_shard

    write_shard(tmp_path / "000000.msgpack", Shard("key", [Record("a.jpg", (1, 2, 3), "../../etc")]))
    assert list(read_shards(tmp_path, "key").values()) == [[]]
