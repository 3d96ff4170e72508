"""Merged shards: the bytes of a run without shards, and a clear refusal of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine, Outcome, moments, tree

Shards = Callable[..., list[str]]


@pytest.fixture
def shards(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> Shards:
    """Converts shards of the crowd into folders called after them."""

    def convert(count: int = 3, *options: str) -> list[str]:
        names = [f"{index}of{count}" for index in range(1, count + 1)]
        for index, name in enumerate(names, start=1):
            shard = f"{index}/{count}"
            command = ("convert", "--root", crowd.root, "--out", name, "--shard", shard)
            assert dpmo(*command, *options).code != 2
        return names

    return convert


def _refused(outcome: Outcome, says: str, code: int = 2) -> None:
    assert outcome.code == code
    assert outcome.stdout == ""
    (line,) = outcome.lines
    assert line.startswith("dpmo: error: ")
    assert says in line


@pytest.mark.parametrize(
    ("count", "options"),
    [
        pytest.param(1, [], id="one"),
        pytest.param(3, [], id="three"),
        pytest.param(3, ["--limit", "4"], id="three, limited"),
        pytest.param(3, ["--split", "train"], id="three, of one split"),
        pytest.param(3, ["--split", "train", "--limit", "2"], id="more than images"),
    ],
)
def test_merged_shards_equal_the_undivided_run(
    count: int, options: list[str], shards: Shards, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
) -> None:
    parts = shards(count, *options)
    dpmo("convert", "--root", crowd.root, "--out", "whole", *options)
    merged = dpmo("merge", *reversed(parts), "--out", "merged", "--json")
    assert merged.code == 0
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")
    assert validate_run(tmp_path / "merged") == []
    whole = json.loads((tmp_path / "whole/run.json").read_text())
    record = json.loads((tmp_path / "merged/run.json").read_text())
    same = ("dataset", "root", "extent", "settings", "counts", "splits", "files", "versions")
    assert {name: record[name] for name in same} == {name: whole[name] for name in same}
    assert record["config"]["merged_from"] == parts[::-1]
    assert merged.json["kind"] == "merge"
    assert merged.json["counts"] == whole["counts"]


def test_shards_are_valid_and_add_up(shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
    counts = []
    for part in shards(3):
        assert validate_run(tmp_path / part) == []
        record = json.loads((tmp_path / part / "run.json").read_text())
        counts.append(record["counts"]["images"])
        assert record["splits"]["train"]["shard"] == part.replace("of", "/")
    assert counts == [3, 3, 1]


def test_merging_again_does_nothing(shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
    command = ("merge", *shards(3), "--out", "merged", "--json")
    dpmo(*command)
    before, parts = moments(tmp_path / "merged"), moments(tmp_path / "1of3")
    again = dpmo(*command)
    assert again.json["changed"] is False
    assert "dpmo: merged: up to date, nothing to do" in again.lines
    assert moments(tmp_path / "merged") == before
    assert moments(tmp_path / "1of3") == parts, "the parts are only read"


def test_convert_takes_a_merged_folder_for_its_own(
    shards: Shards, dpmo: Dpmo, crowd: Crowd
) -> None:
    dpmo("merge", *shards(3), "--out", "merged")
    again = dpmo("convert", "--root", crowd.root, "--out", "merged", "--json")
    assert again.json["changed"] is False


def test_changed_shard_is_merged_again(
    shards: Shards, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
) -> None:
    dpmo("merge", *shards(3), "--out", "merged")
    crowd.points["train", "train/1.png"][0] = (3.0, 3.0)
    crowd.write()
    parts = shards(3)
    assert dpmo("merge", *parts, "--out", "merged", "--json").json["changed"] is True
    dpmo("convert", "--root", crowd.root, "--out", "whole")
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")


def test_interrupted_merge_goes_on(
    shards: Shards, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("merge", *shards(3), "--out", "merged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpmo_cli.pipeline.finish.write_outputs", _interrupt)
        assert dpmo(*command).code == 130
    assert not (tmp_path / "merged/run.json").exists()
    assert dpmo(*command).code == 0
    dpmo("convert", "--root", crowd.root, "--out", "whole")
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("broken", "code"),
    [pytest.param(["train/1.png"], 3, id="one"), pytest.param(None, 1, id="all")],
)
def test_failed_images_are_merged_too(
    broken: list[str] | None, code: int, shards: Shards, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
) -> None:
    for _, name in crowd.points:
        if broken is None or name in broken:
            (crowd.root / name).write_bytes(b"torn")
    parts = shards(2)
    assert dpmo("convert", "--root", crowd.root, "--out", "whole").code == code
    assert dpmo("merge", *parts, "--out", "merged").code == code
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")


class TestRefusals:
    """What is no set of all shards of one run."""

    def test_missing_shard(self, shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
        parts = shards(3)
        outcome = dpmo("merge", parts[0], parts[2], "--out", "merged")
        _refused(outcome, "shard 2/3 of split 'test' is missing; name the folders of all shards")
        assert not (tmp_path / "merged").exists()

    def test_folder_named_twice(self, shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
        parts = shards(3)
        again = str(tmp_path / parts[0])
        outcome = dpmo("merge", *parts, again, "--out", "merged")
        _refused(outcome, f"{again}: is named twice; name each folder once")

    def test_shard_given_twice(
        self, shards: Shards, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
    ) -> None:
        parts = shards(3)
        dpmo("convert", "--root", crowd.root, "--out", "copy", "--shard", "2/3")
        _refused(dpmo("merge", *parts, "copy", "--out", "merged"), "are both shard 2/3")

    def test_shards_of_other_counts(self, shards: Shards, dpmo: Dpmo) -> None:
        parts = [shards(3)[0], shards(2)[1]]
        _refused(dpmo("merge", *parts, "--out", "merged"), "different counts: [2, 3]")

    @pytest.mark.parametrize("options", [["--tiles", "off"], ["--limit", "4"]])
    def test_other_settings(
        self, options: list[str], shards: Shards, dpmo: Dpmo, crowd: Crowd
    ) -> None:
        parts = shards(3)
        command = ("convert", "--root", crowd.root, "--out", parts[1], "--shard", "2/3")
        dpmo(*command, *options)
        outcome = dpmo("merge", *parts, "--out", "merged")
        _refused(outcome, f"{parts[1]}: was made with other settings than {parts[0]}")

    def test_other_splits(self, shards: Shards, dpmo: Dpmo, crowd: Crowd) -> None:
        parts = shards(2, "--split", "train")
        dpmo("convert", "--root", crowd.root, "--out", parts[1], "--shard", "2/2")
        _refused(dpmo("merge", *parts, "--out", "merged"), "holds other splits than 1of2")

    def test_unfinished_shard(
        self, shards: Shards, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
    ) -> None:
        parts = shards(3)
        fake_engine.on_encode = _interrupt
        interrupted = ("convert", "--root", crowd.root, "--out", "new", "--shard", "2/3")
        assert dpmo(*interrupted).code == 130
        outcome = dpmo("merge", parts[0], "new", parts[2], "--out", "merged")
        _refused(outcome, "new: holds no finished run; finish its `dpmo convert` first")

    def test_shard_that_is_being_converted_again(
        self, shards: Shards, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
    ) -> None:
        """Its manifest is of the old run, its records are of both."""
        parts = shards(3)
        calls = iter((None,))
        fake_engine.on_encode = lambda: next(calls, KeyboardInterrupt) and _interrupt()
        command = ("convert", "--root", crowd.root, "--out", parts[0], "--shard", "1/3")
        assert dpmo(*command, "--tiles", "off").code == 130
        outcome = dpmo("merge", *parts, "--out", "merged")
        _refused(outcome, f"{parts[0]}: holds no finished run")

    def test_damaged_records(self, shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
        parts = shards(3)
        (tmp_path / parts[1] / ".dpmo/records/train/00000002.parquet").write_bytes(b"torn")
        outcome = dpmo("merge", *parts, "--out", "merged")
        _refused(outcome, f"{parts[1]}: its records can't be read; run its `dpmo convert` again")

    @pytest.mark.parametrize("text", ["{", "{}", '{"root": 3}'], ids=["cut", "empty", "a number"])
    def test_damaged_run_record(
        self, shards: Shards, dpmo: Dpmo, tmp_path: Path, text: str
    ) -> None:
        parts = shards(3)
        (tmp_path / parts[0] / "run.json").write_text(text)
        outcome = dpmo("merge", *parts, "--out", "merged")
        _refused(outcome, f"{parts[0]}/run.json: can't be read; run `dpmo convert` again", code=1)

    def test_shard_in_use(self, shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
        from dpmo_cli.pipeline.store import Store

        parts = shards(3)
        with Store(tmp_path / parts[2]):
            outcome = dpmo("merge", *parts, "--out", "merged")
        _refused(outcome, f"error: {parts[2]}: another run is writing there; wait until it has")

    def test_out_is_one_of_the_parts(self, shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
        parts = shards(3)
        before = tree(tmp_path / parts[0], without=())
        outcome = dpmo("merge", *parts, "--out", tmp_path / parts[0])
        _refused(outcome, "is one of the folders to merge; name another one")
        assert tree(tmp_path / parts[0], without=()) == before

    def test_out_holds_another_split(
        self, shards: Shards, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
    ) -> None:
        parts = shards(3, "--split", "train")
        dpmo("convert", "--root", crowd.root, "--out", "other", "--split", "test")
        before = tree(tmp_path / "other", without=())
        _refused(
            dpmo("merge", *parts, "--out", "other"),
            "--out other: also holds split 'test' of another run; use another folder",
        )
        assert tree(tmp_path / "other", without=()) == before

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            pytest.param("nothing", "nothing: no such folder", id="not there"),
            pytest.param("file", "file: no such folder", id="a file"),
            pytest.param("empty", "empty: holds no finished run", id="an empty folder"),
        ],
    )
    def test_part_is_no_run(
        self, name: str, says: str, shards: Shards, dpmo: Dpmo, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "empty").mkdir()
        _refused(dpmo("merge", *shards(2), name, "--out", "merged"), says)
        assert list((tmp_path / "empty").iterdir()) == []

    def test_out_is_a_file(self, shards: Shards, dpmo: Dpmo, tmp_path: Path) -> None:
        parts = shards(2)
        (tmp_path / "file").write_bytes(b"")
        _refused(dpmo("merge", *parts, "--out", "file"), "--out file: is a file; name a folder")


def test_shards_of_other_images_are_not_merged(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
) -> None:
    """One more image moves the ranks, so the shards would not fit together."""
    assert dpmo("convert", "--root", crowd.root, "--out", "one", "--shard", "1/2").code == 0
    crowd.add("train/another.png", count=2)
    crowd.write()
    assert dpmo("convert", "--root", crowd.root, "--out", "two", "--shard", "2/2").code == 0
    outcome = dpmo("merge", "one", "two", "--out", "merged")
    _refused(outcome, "two: was made from other images than one; merge shards of one dataset")
