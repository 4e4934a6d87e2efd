"""Faces for embeddings: people to train on, other people to be measured on, and the pairs to be judged."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import IdentityTable
from mbapps.images import UInt8Image
from mbapps.predictions import Classification

from .boxes import tell
from .identities import images_each, named_people, read_people, read_people_list, take_people
from .labelled import LabelledData, read_row
from .landmarks import read_landmarks
from .pairs import list_pairs, read_pairs
from .samplers import IdentitySampler, check_batches
from .splits import SPLITS

NUMBER = re.compile(r"_\d+$")  # of LFW's `<person>_0001.jpg`
LEAST_PEOPLE = 2  # with two pictures, of a split that is cut off: fewer make no pairs


class FaceEmbedData(LabelledData):
    """A data set of people; those who are measured are not those who are trained on.

    The test split is the folder `test`; or else, of `root`, the people of the list `test_people`, those that the
    pairs name, or a share of all people. Validation is a share of the people left. A hash of the name decides, so
    that a person stays in their split whoever is added to the set. Where only one split is read, nothing else is
    asked of the folders.

    Args:
        root: folder of the people, `<root>/<person>/…`; None is the synthetic set, rendered on first use.
        test: another folder of people, all of whom are measured.
        pairs: LFW's list of pairs to be judged in the test split; None takes a `pairs.txt` in its folder.
        train_people, test_people: lists of those to train on (validation is cut from them) and to measure.
        val_fraction, test_fraction: share of the people, where nothing else tells.
        face_crop: share of each picture's sides, round its middle, that shows the face, in (0, 1]; None is all of it.
        test_face_crop: the same of the folder `test`, where it is cut otherwise; None is as `face_crop`.
        landmarks: list of five points in each face, by which it is cut out instead; a name alone is also looked for
            in `root` and in `test`. Pictures that it leaves out are not used.
        allow_overlap: whether a person may be both trained on and measured.
        images_per_person: pictures of each person in a batch, >= 2; None draws pictures, not people.
        image_size: side of the square input, px.
        augment: arguments of ClassificationTransform, or None for none.
        class_names: not used: a model has no people.
        split: the only one to be read, as measuring needs it; None reads all three.
        num_classes: not used with data; it serves `info` where there are none.
        batch_size, num_workers, seed, max_broken: as in DataModule.
    """

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        test: str | None = None,
        pairs: str | None = None,
        train_people: str | None = None,
        test_people: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        face_crop: float | None = None,
        test_face_crop: float | None = None,
        landmarks: str | None = None,
        allow_overlap: bool = False,
        images_per_person: int | None = 4,
        augment: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        split: str | None = None,
        num_classes: int | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        max_broken: float = 0.01,
    ):
        super().__init__(
            "face_embed", root=test if test and split == "test" else root,
            fractions={"val": val_fraction, "test": test_fraction}, split=split, image_size=image_size,
            central_crop=1.0, augment=augment, batch_size=batch_size, num_workers=num_workers, seed=seed,
            max_broken=max_broken,
        )  # fmt: skip
        if images_per_person is not None and split is None:
            check_batches(batch_size, images_per_person)
        self.images_per_person = images_per_person
        self.face_crop = face_crop = 1.0 if face_crop is None else face_crop
        if split == "test" and test_face_crop is not None:
            self.face_crop = test_face_crop
        self.landmarks = landmarks
        self.allow_overlap = allow_overlap
        if test_face_crop is not None and not test:
            raise ValueError(
                f"data.test_face_crop={test_face_crop} is of the folder data.test=, and there is none"
            )
        folder = Path(test) if test else self.root
        pairs_file = _pairs_file(folder, pairs)
        measured = _faces(folder, face_crop if test_face_crop is None else test_face_crop, landmarks)
        if test_people:
            tested = _listed(measured, "data.test_people", test_people)
        elif test:
            tested = np.ones(len(measured.class_names), dtype=np.bool_)
        elif pairs_file:
            pictures = [picture for pair in list_pairs(pairs_file) for picture in (pair.first, pair.second)]
            tested = named_people(measured, {name for name, _ in pictures})
        else:
            tested = share_of_people(
                measured, ~np.zeros(len(measured.class_names), np.bool_), test_fraction, "test"
            )
        self.tables = {"test": take_people(measured, tested)}
        if pairs_file:
            self.tables["test"] = read_pairs(pairs_file, self.tables["test"])
        if split != "test":
            people = _faces(self.root, face_crop, landmarks) if test else measured
            trained = ~tested if not test else np.ones(len(people.class_names), dtype=np.bool_)
            if train_people:
                trained = _listed(people, "data.train_people", train_people)
            both = named_people(people, self.tables["test"].class_names) & trained
            self._check_overlap([name for name, hit in zip(people.class_names, both, strict=True) if hit])
            val = share_of_people(people, trained, val_fraction, "val")
            self.tables |= {"train": take_people(people, trained & ~val), "val": take_people(people, val)}
        self.tables = {part: self.tables[part] for part in ([split] if split else SPLITS)}
        self.class_names = next(iter(self.tables.values())).class_names
        for part in self.tables:
            self._check(part)
        self.check_count(num_classes)

    def _check_overlap(self, names: Sequence[str]) -> None:
        if not names:
            return
        if not self.allow_overlap:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            raise ValueError(
                f"{len(names)} people are both to be trained on and to be measured: {', '.join(names[:10])}{more}; "
                "take them out of one of the two, or set data.allow_overlap=true"
            )
        test = self.tables["test"]
        reason = "person who is both trained on and measured: allowed by data.allow_overlap"
        self.tables["test"] = replace(test, problems={**test.problems, reason: list(names)})

    def check_unlabeled(self, files: Sequence[str]) -> None:
        """Raise ValueError where the names of unlabeled pictures, or of their folders, are those of people to measure.

        Pictures that are the same byte for byte were left out before; this finds other pictures of a person, and the
        same ones saved anew, as far as names tell.
        """
        measured = {name for split in ("val", "test") for name in self.tables[split].class_names}
        named = {name for file in files for name in (Path(file).parent.name, NUMBER.sub("", Path(file).stem))}
        self._check_overlap(sorted(measured & named))

    def _check(self, split: str) -> None:
        table = self.tables[split]
        several = int(np.count_nonzero(images_each(table) >= 2))
        if split == "train" and several < LEAST_PEOPLE:
            raise ValueError(
                f"{table.folder} leaves {len(table.class_names)} people to train on, {several} of them with two or "
                f"more pictures; it takes {LEAST_PEOPLE} of those"
            )
        if split == "test" and table.pairs is None and not (several and len(table.class_names) > 1):
            raise ValueError(_unmeasurable(split, table, several))

    def check_measurable(self) -> None:
        table = self.tables["val"]
        several = int(np.count_nonzero(images_each(table) >= 2))
        if not (several and len(table.class_names) > 1):
            raise ValueError(_unmeasurable("val", table, several))

    def training_order(self, table: Any, rank: int, world_size: int) -> IdentitySampler | None:
        if self.images_per_person is None:
            return None
        return IdentitySampler(
            table.labels, batch_size=self.batch_size, images_per_person=self.images_per_person, seed=self.seed,
            rank=rank, world_size=world_size,
        )  # fmt: skip

    def titled(self, image: UInt8Image, label: Any) -> UInt8Image:
        return _titled(self.class_names, image, label)

    def picture(self, split: str, row: int) -> tuple[UInt8Image, UInt8Image]:
        table = self.tables[split]
        image = read_row(table, row)
        return image, _titled(table.class_names, image, table.labels[row])

    def lineage(self) -> dict[str, Any]:
        facts = super().lineage()
        digest = hashlib.sha256(facts["fingerprint"].encode())
        for table in self.tables.values():
            digest.update("\n".join(table.class_names).encode())
            for column in table.pairs or ():
                digest.update(column.tobytes())
        return {**facts, "fingerprint": digest.hexdigest()[:16]}


def share_of_people(
    table: IdentityTable, among: NDArray[np.bool_], fraction: float, salt: str
) -> NDArray[np.bool_]:
    """[K] a share of some of a table's people, bool [K], by a hash of each one's name alone.

    In a small set it is as many as make LEAST_PEOPLE with two or more pictures.
    """
    hashes = [hashlib.sha256(f"{salt}/{name}".encode()).digest()[:8] for name in table.class_names]
    place = (
        np.array([int.from_bytes(one, "big") for one in hashes], dtype=np.float64) / 2**64
    )  # uniform in [0, 1)
    several = np.sort(place[among & (images_each(table) >= 2)])
    least = several[LEAST_PEOPLE - 1] if len(several) >= LEAST_PEOPLE else 0.0
    return among & (place <= max(fraction, least))


def _faces(folder: Path, face_crop: float, landmarks: str | None) -> IdentityTable:
    table = read_people(folder, face_crop)
    if landmarks is None:
        return table
    inside = folder / landmarks
    return read_landmarks(inside if inside.is_file() else Path(landmarks), table)


def _pairs_file(folder: Path, pairs: str | None) -> Path | None:
    if pairs:
        return Path(pairs)
    usual = folder / "pairs.txt"
    return usual if usual.is_file() else None


def _listed(table: IdentityTable, key: str, path: str) -> NDArray[np.bool_]:
    """[K] which people a list names; those without pictures are told."""
    names = read_people_list(Path(path))
    found = named_people(table, set(names))
    if not found.any():
        raise ValueError(f"none of the {len(names)} people of {key}={path} has a folder in {table.folder}")
    missing = sorted(set(names) - set(table.class_names))
    tell(table.problems, f"person of {key} without pictures: left out", missing)
    return found


def _unmeasurable(split: str, table: IdentityTable, several: int) -> str:
    return (
        f"the {split} split of {table.folder} has {len(table.class_names)} people, {several} of them with two or more "
        f"pictures: there must be pairs of one person and of two people; raise data.{split}_fraction"
    )


def _titled(names: Sequence[str], image: UInt8Image, label: Any) -> UInt8Image:
    logits = np.full(len(names), -np.inf, dtype=np.float32)
    logits[int(label)] = 0.0
    return Classification(logits, names, top_k=1).draw(image)
