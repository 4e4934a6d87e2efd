"""Several galleries into one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from .gallery import Gallery
from .texts import join


def merge(galleries: Sequence[Gallery], kind: str | None = None, max_mb: float | None = None) -> Gallery:
    """Make one gallery of the rows of several, in their order; the index is built anew.

    Vectors that come out of "ivfpq" stay as approximate as their codes; merge before you compress. The budgets of the
    parts are not the whole's: it has `max_mb`, and None is none.

    Raises:
        ValueError: there are none, their models differ, two have the same id, or the budget is too small.
    """
    if not galleries:
        raise ValueError("merge needs at least one gallery")
    first = galleries[0]
    for gallery in galleries[1:]:
        first.expect(gallery.model)
    merged = Gallery(first.dim, first.model, kind, max_mb)
    full = [gallery for gallery in galleries if len(gallery)]
    if full:
        names = list(full[0].columns)
        if any(set(gallery.columns) != set(names) for gallery in full):
            raise ValueError("galleries with different columns can't be merged")
        columns = {name: join([gallery.columns[name] for gallery in full]) for name in names}
        ids = list(chain.from_iterable(gallery.ids.plain() for gallery in full))
        merged.add(np.concatenate([gallery.vectors() for gallery in full]), ids, columns)
    return merged
