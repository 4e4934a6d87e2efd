"""The three kinds of faiss index that a gallery has, and why each is set as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("exact", "hnsw", "ivfpq")
EXACT_BELOW = (
    50_000  # rows: a look at all of them takes a core about 1 ms for 128 numbers, as long as reading a JPEG
)
HNSW_BELOW = (
    5_000_000  # rows: beyond it the graph and the whole vectors, 0.65 KB each at 128 numbers, fill a computer
)
LINKS = 16  # of a row in HNSW's graph, twice as many on its lowest level
BUILD_WIDTH = 64  # candidates while the graph is built
SEARCH_WIDTH = 64  # candidates while it is searched
LISTS_PER_ROOT = (
    2  # lists of IVF for each square root of the rows: with PROBES a search sees 1 row in 60 of a million
)
ROWS_PER_LIST = 39  # least that faiss wants to place a centre; below it warns
SAMPLES_PER_LIST = 64  # that centres are placed by: more take minutes and tell little
LEAST_TO_TRAIN = 256  # a byte of a code chooses among as many centres
PROBES = 32  # lists that are looked through


def load_faiss() -> Any:
    """Import faiss, after torch: the other way round their two OpenMP libraries stop the program on macOS.

    Raises:
        ImportError: it is not installed.
    """
    import logging

    import torch  # noqa: F401

    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which processor it was built for
    try:
        import faiss
    except ImportError as error:
        raise ImportError("a gallery needs faiss: pip install faiss-cpu") from error
    return faiss


def choose_kind(count: int) -> str:
    """Choose by the number of rows.

    >>> choose_kind(1000), choose_kind(1_000_000), choose_kind(10_000_000)
    ('exact', 'hnsw', 'ivfpq')
    """
    if count < EXACT_BELOW:
        return "exact"
    return "hnsw" if count < HNSW_BELOW else "ivfpq"


def most_code(dim: int) -> int:
    """Bytes of a code of IVF-PQ for `dim` numbers: 3/8 of a byte for each."""
    return max(1, dim * 3 // 8)


def least_code(dim: int) -> int:
    """Bytes of the smallest code that still tells vectors of `dim` numbers apart: 1/32 for each."""
    return max(1, dim // 32)


def padded(dim: int, code_bytes: int) -> int:
    """Numbers of a vector that is padded until each byte of its code stands for as many of them."""
    return -(-dim // code_bytes) * code_bytes


def lists_for(count: int) -> int:
    """Lists of IVF for so many rows."""
    return max(1, min(int(LISTS_PER_ROOT * count**0.5), count // ROWS_PER_LIST))


def build_index(kind: str, vectors: NDArray[np.float32], code_bytes: int | None = None) -> Any:
    """Build an index over vectors [N, D] of length 1, numbered from 0; IVF-PQ is trained on them.

    The codes of IVF-PQ take `code_bytes` each, else 3/8 of a byte for each of the D numbers, and each row's number
    takes 8 bytes: at D = 128 together 56 bytes instead of 512. The vectors are turned at random first, so that each
    byte tells of as much as any other; to learn the turn (OPQ) takes many times as long.

    Source: Malkov and Yashunin, Hierarchical Navigable Small World graphs (2016); Jégou et al., Product Quantization
    for Nearest Neighbor Search (2011).

    Raises:
        ValueError: there are too few rows to train IVF-PQ.
    """
    faiss = load_faiss()
    count, dim = vectors.shape
    if kind == "exact":
        index = faiss.IndexFlatIP(dim)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
    else:
        if count < LEAST_TO_TRAIN:
            raise ValueError(
                f"kind=ivfpq needs at least {LEAST_TO_TRAIN} vectors to learn from, got {count}; leave kind= out"
            )
        index = _untrained_codes(faiss, count, dim, code_bytes or most_code(dim))
        index.train(vectors)
    index.add(vectors)
    return index


def _untrained_codes(faiss: Any, count: int, dim: int, codes: int) -> Any:
    width, lists = padded(dim, codes), lists_for(count)
    turn = faiss.RandomRotationMatrix(dim, width)
    turn.init(0)
    centres = faiss.IndexFlatIP(width)
    inner = faiss.IndexIVFPQ(centres, width, lists, codes, 8, faiss.METRIC_INNER_PRODUCT)
    inner.cp.max_points_per_centroid = SAMPLES_PER_LIST
    inner.pq.cp.min_points_per_centroid = 1  # of a small gallery it learns all by heart; no need to warn
    index = faiss.IndexPreTransform(turn, inner)
    for part in (turn, inner, centres):  # they live as long as the index
        part.this.disown()
    index.own_fields = inner.own_fields = True
    return index


def search_index(
    kind: str, index: Any, probes: NDArray[np.float32], top_k: int, labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and numbers [Q, top_k] of the best among `labels`; -1 where an approximate search found none."""
    faiss = load_faiss()
    if kind == "hnsw":
        params = faiss.SearchParametersHNSW(efSearch=max(SEARCH_WIDTH, 2 * top_k))
        if index.ntotal > len(labels):  # tombstones are walked over but not given
            alive = np.zeros(index.ntotal, dtype=np.uint8)
            alive[labels] = 1
            params.sel = faiss.IDSelectorBitmap(np.packbits(alive, bitorder="little"))
        return index.search(probes, top_k, params=params)
    if kind == "ivfpq":
        faiss.extract_index_ivf(index).nprobe = PROBES
    return index.search(probes, top_k)


def vectors_of(kind: str, index: Any, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The vectors [N, D] of some numbers: as they were added, but of IVF-PQ what its codes say, of length 1 again."""
    if kind != "ivfpq":
        return (
            np.asarray(index.reconstruct_batch(labels)) if len(labels) else np.empty((0, index.d), np.float32)
        )
    faiss = load_faiss()
    ivf = faiss.extract_index_ivf(index)
    ivf.set_direct_map_type(faiss.DirectMap.Hashtable)
    vectors = np.asarray(index.reconstruct_batch(labels))
    ivf.set_direct_map_type(faiss.DirectMap.NoMap)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def read_index(kind: str, path: str) -> Any:
    """Read an index; one that can be large is mapped where this faiss can do so, and must not be changed then.

    Raises:
        RuntimeError: faiss can't make sense of the file.
    """
    faiss = load_faiss()
    return faiss.read_index(path, 0 if kind == "ivfpq" else getattr(faiss, "IO_FLAG_MMAP_IFC", 0))


def own_index(index: Any) -> Any:
    """A copy in memory of an index that may be mapped: to change a mapped one stops the program."""
    faiss = load_faiss()
    return faiss.deserialize_index(faiss.serialize_index(index))


def is_kind(kind: str, index: Any) -> bool:
    """Tell whether an index read from a file is what `build_index` makes."""
    faiss = load_faiss()
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        return False
    if kind == "exact":
        return type(index) is faiss.IndexFlatIP
    if kind == "hnsw":
        return type(index) is faiss.IndexHNSWFlat and index.storage.ntotal == index.ntotal
    return (
        type(index) is faiss.IndexPreTransform and type(faiss.downcast_index(index.index)) is faiss.IndexIVFPQ
    )


def codes_of(kind: str, index: Any) -> tuple[int, int]:
    """Bytes of a code and number of lists of an index: 0 and 0 where it has none."""
    if kind != "ivfpq":
        return 0, 0
    inner = load_faiss().downcast_index(index.index)
    return inner.pq.code_size, inner.nlist
