from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from slow_pairs import table

from mbapps.metrics.embeddings import read_embeddings, write_embeddings

TRUTH = table([0, 0, 1])  # p0/0000.jpg p0/0001.jpg p1/0002.jpg


def write(path: Path, files: object, vectors: object, **more: object) -> Path:
    np.savez(path, files=np.array(files), embeddings=np.array(vectors), **more)  # type: ignore[arg-type]
    return path


def test_matched_by_name_and_brought_to_length_1(tmp_path: Path) -> None:
    path = write(
        tmp_path / "e.npz", ["x/p1/0002.png", "p0/0000.jpg", "p9/7.jpg"], [[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]]
    )
    found = read_embeddings(path, TRUTH)
    assert found.rows.tolist() == [2, 0]
    assert found.vectors == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))
    assert found.vectors.dtype == np.float32
    assert found.problems == {
        "name in the embeddings that the truth does not list, skipped": ["p9/7.jpg"],
        "image without an embedding, left out": ["p0/0001.jpg"],
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    vectors = np.array([[0.6, 0.8], [1, 0], [0, -1]])
    path = write_embeddings(tmp_path / "new" / "e.npz", TRUTH.files.tolist(), vectors)
    found = read_embeddings(path, TRUTH)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.vectors == pytest.approx(vectors)
    assert not found.problems


@pytest.mark.parametrize(
    ("files", "vectors", "message"),
    [
        (
            ["p0/0000.jpg"],
            [[np.nan, 1.0]],
            r"1 embeddings hold NaN or infinity, the first that of p0/0000.jpg",
        ),
        (["p0/0000.jpg"], [[0.0, 0.0]], r"1 embeddings are all zeros, the first that of p0/0000.jpg"),
        (["p0/0000.jpg"], [1.0], r"1 files go with embeddings \[1, D\], got \[1\]"),
        (["p0/0000.jpg"], [[1.0], [2.0]], r"1 files go with embeddings \[1, D\], got \[2, 1\]"),
        ([], np.zeros((0, 4)), r"is not an .npz of .*files is float64"),
        (["p0/0000.jpg"], [["a"]], r"is not an .npz of .*embeddings is <U1"),
        (
            ["p7/8.jpg"],
            [[1.0]],
            r"no name is one of the truth's: the file has p7/8.jpg …, the truth p0/0000.jpg, .* …",
        ),
        (["p0/0000.jpg", "p0/0000.png"], [[1.0], [1.0]], r"p0/0000.jpg has more than one embedding"),
        (["p0/0000.jpg", ""], [[1.0], [1.0]], r"images can't be matched by name: a name in it is empty"),
    ],
)
def test_bad_files(tmp_path: Path, files: list[str], vectors: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_embeddings(write(tmp_path / "e.npz", files, vectors), TRUTH)


def test_no_such_file_and_no_npz(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file of embeddings at"):
        read_embeddings(tmp_path / "none.npz", TRUTH)
    for content in (b"", b"text", b"\x93NUMPY"):
        path = tmp_path / "e.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="e.npz is not an .npz of"):
            read_embeddings(path, TRUTH)
    np.save(tmp_path / "one.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match="one.npy is not an .npz of"):
        read_embeddings(tmp_path / "one.npy", TRUTH)
    np.savez(tmp_path / "other.npz", names=np.ones(2))
    with pytest.raises(ValueError, match="it has no files and no embeddings"):
        read_embeddings(tmp_path / "other.npz", TRUTH)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    np.savez(path, files=np.array(["p0/0000.jpg"], dtype=object), embeddings=np.ones((1, 2)))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_embeddings(path, TRUTH)
