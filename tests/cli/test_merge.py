"""`dpmo merge`: its options and what it prints where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine, tree


@pytest.fixture
def part(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> str:
    """The only shard of a run."""
    assert dpmo("convert", "--root", crowd.root, "--out", "part", "--shard", "1/1").code == 0
    return "part"


def test_merge(part: str, dpmo: Dpmo, tmp_path: Path) -> None:
    outcome = dpmo("merge", part, "--out", "merged")
    assert outcome.code == 0
    assert outcome.stdout == ""
    assert outcome.lines[-1].startswith("dpmo: merged: ")
    assert tree(tmp_path / "merged").keys() == tree(tmp_path / part).keys()


def test_quiet(part: str, dpmo: Dpmo) -> None:
    outcome = dpmo("merge", part, "--out", "merged", "--quiet")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")


def test_json(part: str, dpmo: Dpmo, crowd: Crowd) -> None:
    summary = dpmo("merge", part, "--out", "merged", "--json").json
    assert (summary["version"], summary["kind"], summary["out"]) == (1, "merge", "merged")
    assert (summary["changed"], summary["exit_code"]) == (True, 0)
    assert summary["counts"]["points"] == crowd.total


def test_part_that_is_not_there(dpmo: Dpmo) -> None:
    outcome = dpmo("merge", "nowhere", "--out", "merged")
    assert outcome.code == 2
    assert outcome.lines == [
        "dpmo: error: nowhere: no such folder; name the output folders of all shards"
    ]
