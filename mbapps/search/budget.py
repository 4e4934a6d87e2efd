"""How a gallery is kept: as which kind of index, and how small its codes, so that it fits into so many megabytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .indexes import KINDS, LEAST_TO_TRAIN, LINKS, choose_kind, least_code, lists_for, most_code, padded

MEGABYTE = 1_000_000
HEADER = 2048  # bytes of an index file besides what grows with rows and numbers; hundreds in fact
ARRAY_HEADER = 150  # bytes that a column's name, type and place take in its file, besides the name
CHECKSUMS = 1024  # bytes that format, digest, sizes and checksums add to meta.json; 500 in fact


class Form(NamedTuple):
    """How vectors are kept."""

    kind: str  # one of KINDS
    code_bytes: int = 0  # of each vector; only "ivfpq" has codes


def index_bytes(form: Form, count: int, dim: int, lists: int | None = None) -> int:
    """Most that the file of an index of `count` rows takes.

    Args:
        form: of the index.
        count: rows, tombstones among them.
        dim: numbers of a vector.
        lists: of IVF; None is what an index built of as many rows has.
    """
    if not count:
        return 0
    if form.kind == "exact":
        return count * dim * 4 + HEADER
    if form.kind == "hnsw":
        drawn = count / (LINKS - 1)  # rows of the upper levels, one of them for each 16 of the level below
        upper = drawn + 6 * math.sqrt(count * LINKS) / (LINKS - 1)  # six standard deviations
        return count * (dim * 4 + 2 * LINKS * 4 + 12) + math.ceil(upper * LINKS * 4) + HEADER
    lists = lists_for(count) if lists is None else lists
    width = padded(dim, form.code_bytes)
    return count * (form.code_bytes + 8) + lists * (width * 4 + 8) + (256 + dim) * width * 4 + HEADER


def other_bytes(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> int:
    """Most that the files of a gallery besides its index take."""
    columns = sum(array.nbytes + len(name) + ARRAY_HEADER for name, array in arrays.items())
    return columns + HEADER + len(json.dumps(meta, indent=1).encode()) + CHECKSUMS


def choose_form(
    count: int, dim: int, *, wanted: str | None = None, code_bytes: int | None = None,
    max_mb: float | None = None, others: int = 0,
) -> Form:  # fmt: skip
    """Choose how to keep `count` vectors: the kind that is quickest for so many, and another where that is too large.

    Args:
        count: vectors.
        dim: numbers of each.
        wanted: the only kind that may be taken; None leaves the choice.
        code_bytes: most of a code; None is 3/8 byte a number.
        max_mb: megabytes of the whole gallery; None is any.
        others: bytes of its files besides the index.

    Raises:
        ValueError: nothing fits; the message tells the least that would.

    >>> choose_form(1_000_000, 128), choose_form(1_000_000, 128, max_mb=50)
    (Form(kind='hnsw', code_bytes=0), Form(kind='ivfpq', code_bytes=40))
    """
    usual = KINDS.index(choose_kind(count))
    kinds = (wanted,) if wanted else (*KINDS[usual:], *KINDS[:usual])
    most = code_bytes or most_code(dim)
    forms: list[Form] = []
    for kind in kinds:
        if kind != "ivfpq":
            forms.append(Form(kind))
        elif wanted or count >= LEAST_TO_TRAIN:
            forms += [Form(kind, size) for size in range(most, min(most, least_code(dim)) - 1, -1)]
    if max_mb is None:
        return forms[0]
    sizes = [index_bytes(form, count, dim) + others for form in forms]
    for form, size in zip(forms, sizes, strict=True):
        if size <= max_mb * MEGABYTE:
            return form
    least = min(sizes)
    best = forms[sizes.index(least)]
    codes = f" with {best.code_bytes} bytes a vector" if best.code_bytes else ""
    way = "raise max_mb, leave kind= out" if wanted and code_bytes is None else "raise max_mb"
    raise ValueError(
        f"max_mb={max_mb:g} is too little for {count:,} rows: they take at least {_up(least)} MB, as "
        f"{best.kind}{codes}, of which {_up(others)} MB are ids and columns; {way}, or keep fewer rows"
    )


def check_max_mb(max_mb: object) -> None:
    """Check that a budget is None or megabytes.

    Raises:
        ValueError: it is something else.
    """
    if max_mb is not None and not (type(max_mb) in (int, float) and max_mb > 0):  # type: ignore[operator]
        raise ValueError(f"max_mb is megabytes > 0, inf for any number, or null, got {max_mb!r}")


def _up(size: int) -> str:
    """Megabytes, rounded up, so that who asks for them gets enough.

    >>> _up(1_234_001), _up(2_000_000_001)
    ('1.235', '2,000.001')
    """
    return f"{math.ceil(size / 1000) / 1000:,.3f}"
