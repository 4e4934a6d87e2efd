"""What the photos of an album are filed under: objects, labels, places, people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .records import Record

SURE = 0.5  # of a label: below it a photo is not filed under its likeliest class


@dataclass(frozen=True)
class Group:
    """Values that photos are filed under.

    any: of several chosen values a photo needs one, since it can't have two; else it needs all.
    """

    name: str
    any: bool
    values: Callable[[Record], Sequence[str]]


def country(place: Mapping[str, Any]) -> list[str]:
    """The country of a named place.

    >>> country({"name": "120 km from Arezzo, Italy"}), country({"name": "300 km from Singapore"}), country({})
    (['Italy'], ['Singapore'], [])
    """
    name = str(place.get("name", ""))
    return [name.rpartition(", ")[2].rpartition(" km from ")[2]] if name else []


def label_groups(records: Sequence[Record]) -> list[Group]:
    """A group for each head that classifies."""
    heads = list(dict.fromkeys(head for record in records for head in record.labels))

    def sure(head: str) -> Callable[[Record], list[str]]:
        return lambda record: [name for name, score in record.labels.get(head, [])[:1] if score >= SURE]

    name = "Labels" if len(heads) < 2 else "Labels: {}"
    return [Group(name.format(head), True, sure(head)) for head in heads]


def present(record: Record) -> list[str]:
    """Attributes that a face in a photo has."""
    return [name for face in record.faces for name, _, there in face.attributes if there]


def groups(records: Sequence[Record]) -> list[Group]:
    """All that photos can be filed under, but people."""
    return [
        Group("Objects", False, lambda record: [name for name, _, _ in record.objects]),
        *label_groups(records),
        Group("Attributes", False, present),
        Group("Places", True, lambda record: country(record.truth or record.place)),
        Group("Folders", True, lambda record: [record.id.rpartition("/")[0]] if "/" in record.id else []),
    ]


def file_photos(
    records: Sequence[Record], people: Sequence[Sequence[int]]
) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """File photos under the values of all groups.

    Args:
        records: of the photos.
        people: of each record the number of each face's person; empty lists where no vectors tell.

    Returns:
        The numbers of each photo's values, and the groups: name, any, and each value with its number of photos.
    """
    tags: list[list[int]] = [[] for _ in records]
    described = []
    start = 0
    rows = [
        (group.name, group.any, [group.values(record) for record in records]) for group in groups(records)
    ]
    rows.append(("People", False, [[f"Person {number}" for number in numbers] for numbers in people]))
    for name, one_of, found in rows:
        counts = Counter(value for values in found for value in dict.fromkeys(values))
        order = sorted(counts, key=lambda value: (-counts[value], value))
        if not order or (name == "Folders" and len(order) < 2):
            continue
        place = {value: start + row for row, value in enumerate(order)}
        for own, values in zip(tags, found, strict=True):
            own += [place[value] for value in dict.fromkeys(values)]
        described.append({
            "name": name, "any": one_of, "first": start, "values": [[value, counts[value]] for value in order],
        })  # fmt: skip
        start += len(order)
    return tags, described


def describe_people(records: Sequence[Record], people: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each person: number, count of faces, and the photo and the row of the face that shows them; larger ones first."""
    best: dict[int, tuple[float, int, int]] = {}
    counts: Counter[int] = Counter()
    for row, (record, numbers) in enumerate(zip(records, people, strict=True)):
        for place, (face, number) in enumerate(zip(record.faces, numbers, strict=False)):
            counts[number] += 1
            area = (face.box[2] - face.box[0]) * (face.box[3] - face.box[1])
            best[number] = max(best.get(number, (0.0, row, place)), (face.score * area**0.5, row, place))
    return [[number, count, *best[number][1:]] for number, count in counts.most_common()]
