"""Which images a run is about: order, limit before shards, ids that never move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.errors import UsageError
from dpmo_cli.pipeline.plan import Selection, Shard, Task, choose_splits, tasks_of


@dataclass
class Listed:
    """A dataset of names alone."""

    images: int = 10
    there: tuple[str, ...] = ("train", "test")
    name: str = "listed"
    root: Path = Path("root")

    def splits(self) -> tuple[str, ...]:
        return self.there

    def entries(self, split: str) -> Sequence[ImageEntry]:
        if split not in self.there:
            raise UsageError(f"no split {split!r}")
        names = [f"{split}/{number:04d}.jpg" for number in range(self.images)]
        return [ImageEntry(split, name, self.root / name, None) for name in names]

    def read_heads(self, entry: ImageEntry) -> Heads:
        raise AssertionError("planning reads nothing")


def _ids(tasks: Sequence[Task]) -> list[int]:
    return [task.image_id for task in tasks]


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", Shard(1, 1)), (" 2/3 ", Shard(2, 3)), ("10/10", Shard(10, 10))]
)
def test_shard_is_parsed(text: str, shard: Shard) -> None:
    assert Shard.parse(text) == shard
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/3", "a/b", "1.5/3"])
def test_wrong_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give i/n with i from 1 to n"):
        Shard.parse(text)


def test_limit_counts_before_shards() -> None:
    selection = Selection(("train",), limit=5, shard=Shard(2, 3))
    assert _ids(tasks_of(Listed(), "train", selection)) == [2, 5]


@given(
    images=st.integers(0, 40),
    limit=st.none() | st.integers(1, 50),
    count=st.integers(1, 9),
)
def test_shards_partition_the_undivided_run(images: int, limit: int | None, count: int) -> None:
    dataset = Listed(images)
    whole = tasks_of(dataset, "train", Selection(("train",), limit, None))
    shards = [Shard(index, count) for index in range(1, count + 1)]
    parts = [tasks_of(dataset, "train", Selection(("train",), limit, shard)) for shard in shards]
    ids = sorted(image_id for part in parts for image_id in _ids(part))
    assert ids == _ids(whole) == sorted(_ids(whole))
    assert {t.image_id: t.entry for part in parts for t in part} == {
        t.image_id: t.entry for t in whole
    }
    assert len(whole) == (images if limit is None else min(limit, images))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        pytest.param([], ("train", "test"), id="all that are there"),
        pytest.param(["", " "], ("train", "test"), id="empty names"),
        pytest.param(["TEST"], ("test",), id="lower-case"),
        pytest.param(["test", "train", "Test"], ("test", "train"), id="once each"),
    ],
)
def test_splits_are_chosen(wanted: list[str], chosen: tuple[str, ...]) -> None:
    assert choose_splits(Listed(), wanted) == chosen


def test_unknown_split_is_the_datasets_own_error() -> None:
    with pytest.raises(UsageError, match="no split 'val'"):
        choose_splits(Listed(), ["train", "val"])


def test_no_labelled_split_names_the_root() -> None:
    with pytest.raises(UsageError, match="root: holds no labelled split of listed; check --root"):
        choose_splits(Listed(there=()), [])
