from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mbapps.batches import BoxTable
from mbapps.data.tables import (
    RENUMBERED,
    UNLISTED,
    align,
    choose_classes,
    cut_ids,
    image_paths,
    leave_out,
    merge_problems,
    pool,
    read_ids,
)


def table(
    folder: Path,
    files: Sequence[str],
    ids: Sequence[int],
    boxes: Sequence[tuple[int, int]] = (),
    class_names: Sequence[str] = ("cat", "dog", "owl"),
    problems: dict[str, list[str]] | None = None,
) -> BoxTable:
    """Boxes by (image row, label), the n-th from left edge n, areas 100 n."""
    rows = np.array([row for row, _ in boxes], dtype=np.int64)
    left = np.arange(len(boxes), dtype=np.float64)
    return BoxTable(
        folder=folder,
        files=np.array(files, dtype=np.str_),
        image_ids=np.array(ids, dtype=np.int64),
        sizes=np.full((len(files), 2), 50, dtype=np.int32),
        starts=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(files)))]).astype(np.int64),
        boxes=np.stack([left, left, left + 10, left + 10], axis=1),
        labels=np.array([label for _, label in boxes], dtype=np.int32),
        areas=left * 100,
        crowd=np.zeros(len(boxes), dtype=np.bool_),
        class_names=tuple(class_names),
        category_ids=tuple(10 * number + 3 for number in range(len(class_names))),
        problems=problems or {},
    )


def test_pooled_tables_share_a_folder_and_match_classes_by_name(tmp_path: Path) -> None:
    first = table(tmp_path / "a", ["1.jpg", "2.jpg"], [1, 2], [(0, 0), (1, 2)], problems={"x": ["p", "q"]})
    second = table(
        tmp_path / "b" / "c", ["1.jpg"], [7], [(0, 0), (0, 1)], ("owl", "cat", "dog"), {"x": ["q", "r"]}
    )
    joined = pool([first, second])
    assert joined.folder == tmp_path
    assert joined.files.tolist() == ["a/1.jpg", "a/2.jpg", "b/c/1.jpg"]
    assert joined.image_ids.tolist() == [1, 2, 7]
    assert joined.starts.tolist() == [0, 1, 2, 4]
    assert joined.labels.tolist() == [0, 2, 2, 0]
    assert joined.areas.tolist() == [0, 100, 0, 100]
    assert joined.class_names == first.class_names
    assert joined.category_ids == first.category_ids
    assert joined.problems == {"x": ["p", "q", "r"]}
    assert pool([first]) is first
    with pytest.raises(ValueError, match=r"the classes of .*b are \[cat\], but .* has \[cat, dog, owl\]"):
        pool([first, table(tmp_path / "b", ["1.jpg"], [3], class_names=["cat"])])


def test_an_image_of_two_tables_keeps_the_first_boxes(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    first = table(tmp_path / "real", ["a.jpg", "b.jpg"], [1, 2], [(0, 0), (1, 1)])
    second = table(tmp_path / "link", ["c.jpg", "b.jpg"], [3, 2], [(0, 2), (1, 2)])
    joined = pool([first, second])
    assert joined.files.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert joined.labels.tolist() == [0, 1, 2]
    assert joined.problems == {"image listed twice: boxes of the first list": ["b.jpg"]}


def test_ids_that_clash_are_numbered_anew(tmp_path: Path) -> None:
    joined = pool([table(tmp_path / "a", ["1", "2"], [5, 6]), table(tmp_path / "b", ["1", "2"], [6, 5])])
    assert joined.image_ids.tolist() == [1, 2, 3, 4]
    assert joined.problems == {RENUMBERED: ["2 ids, e.g. 5"]}
    (tmp_path / "ids.txt").write_text("1\n")
    with pytest.raises(ValueError, match=r"data\.test_ids=.* can't tell images apart.*\(2 ids, e\.g\. 5\)"):
        cut_ids(joined, tmp_path / "ids.txt")


def test_what_one_table_lists_another_need_not(tmp_path: Path) -> None:
    first = table(tmp_path / "a", ["1.jpg"], [1], problems={UNLISTED: ["2.jpg", "3.jpg"]})
    second = table(tmp_path / "a", ["2.jpg"], [2], problems={UNLISTED: ["1.jpg", "3.jpg"]})
    assert merge_problems({"train": first, "val": second}) == {UNLISTED: ["3.jpg"]}
    third = table(tmp_path / "b", ["2.jpg"], [3], problems={UNLISTED: ["9.jpg"]})
    assert pool([first, second, third]).problems == {UNLISTED: ["a/3.jpg", "b/9.jpg"]}


def test_classes_chosen_by_name_in_the_order_asked_for(tmp_path: Path) -> None:
    whole = table(tmp_path, ["1", "2", "3"], [1, 2, 3], [(0, 0), (0, 1), (0, 2), (1, 1), (1, 1)])
    chosen = choose_classes(whole, ["owl", "cat"], "a.json")
    assert chosen.class_names == ("owl", "cat")
    assert chosen.category_ids == (23, 3)
    assert chosen.starts.tolist() == [0, 2, 2, 2]  # all images stay
    assert chosen.labels.tolist() == [1, 0]
    assert chosen.areas.tolist() == [0, 200]
    assert chosen.problems == {"class left out by data.classes": ["a.json: 3 boxes of 1 classes"]}
    assert whole.problems == {}
    with pytest.raises(
        ValueError, match=r"no class 'bat', 'cow' in a\.json; its classes are \[cat, dog, owl\]"
    ):
        choose_classes(whole, ["cat", "bat", "cow"], "a.json")


def test_a_table_with_more_classes_than_the_model(tmp_path: Path) -> None:
    whole = table(tmp_path, ["1"], [1], [(0, 2)])
    with pytest.raises(
        ValueError,
        match=r"are \[cat, dog, owl\], but .*\[owl, cat\]: only the data has dog; 'data\.classes=\[owl,cat\]' takes",
    ):
        align(whole, ["owl", "cat"])
    with pytest.raises(
        ValueError, match=r"has \[owl, bat\]: only the data has cat, dog; the data lacks bat; train on"
    ):
        align(whole, ["owl", "bat"])
    turned = align(whole, ["owl", "dog", "cat"])
    assert turned.labels.tolist() == [0]
    assert turned.category_ids == (23, 13, 3)


def test_images_held_out_are_left_out_of_train(tmp_path: Path) -> None:
    train = table(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg"], [1, 2, 3])
    val = table(tmp_path / "a", ["2.jpg", "9.jpg"], [2, 9])
    left = leave_out({"train": train, "val": val})
    assert image_paths(left) == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/1.jpg"]
    assert left.problems == {"image of val or test left out of train": ["a/2.jpg"]}
    assert leave_out({"train": left, "val": val}) is left
    with pytest.raises(ValueError, match="each of the 3 training images is one of val or test too"):
        leave_out({"train": train, "test": train})


def test_images_cut_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("3\n\n 1 \n3\n99\n")
    whole = table(tmp_path, ["1", "2", "3"], [1, 2, 3], [(0, 0), (1, 1), (2, 2)])
    rest, test = cut_ids(whole, path)
    assert (rest.image_ids.tolist(), rest.labels.tolist()) == ([2], [1])
    assert (test.image_ids.tolist(), test.labels.tolist()) == ([1, 3], [0, 2])
    assert test.problems == {"image id of data.test_ids not in the training files": ["99"]}
    path.write_text("98\n99\n")
    with pytest.raises(
        ValueError,
        match=r"none of the 2 image ids of data\.test_ids=.*, e\.g\. 98; name .* with data\.train=",
    ):
        cut_ids(whole, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "1\nCOCO_val2014_000000000042.jpg\n",
            r"ids\.txt:2: an image id must be a whole number of 64 bits, got 'COCO",
        ),
        ("\n", r"data\.test_ids=.*ids\.txt lists no image id"),
        ("99999999999999999999", r"ids\.txt:1: an image id must be a whole number of 64 bits, got '99999"),
    ],
)
def test_bad_ids(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "ids.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_ids(tmp_path / "ids.txt")
    with pytest.raises(FileNotFoundError, match=r"no file at data\.test_ids=.*nowhere"):
        read_ids(tmp_path / "nowhere")
