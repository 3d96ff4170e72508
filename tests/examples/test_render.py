"""The command line of the renderer, and the Makefile that puts dpmo behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.crowd import NoRoomError
from examples.layouts import WRITERS
from examples.render import RECIPES, main, scenes_of, split_of

REPO = Path(__file__).parents[2]
SMALL = ["--size", "80x60", "--people", "3"]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("scenes", "splits", "expected"),
    [
        pytest.param(1, ("train", "test"), "train", id="one scene"),
        pytest.param(2, ("train", "test"), "train test", id="one for each"),
        pytest.param(4, ("train", "test"), "train train train test", id="most to the first"),
        pytest.param(2, ("train", "val", "test"), "train val", id="fewer than splits"),
        pytest.param(4, ("train", "val", "test"), "train train val test", id="three splits"),
    ],
)
def test_splits(scenes, splits, expected) -> None:
    assert [split_of(i, scenes, splits) for i in range(scenes)] == expected.split()


def test_every_layout_has_a_recipe() -> None:
    assert list(RECIPES) == list(WRITERS)


def test_the_same_arguments_give_the_same_files(tmp_path) -> None:
    for name in ("first", "second"):
        assert main([str(tmp_path / name), "--scenes", "2", "--seed", "5", *SMALL]) == 0
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert {name.split("/")[0] for name in first} == set(WRITERS)


def test_one_dataset_alone_is_the_same_as_among_all(tmp_path) -> None:
    main([str(tmp_path), "--scenes", "1", "--dataset", "jhu", *SMALL])
    assert [p.name for p in tmp_path.iterdir()] == ["jhu"]
    alone = next(scenes_of("jhu", 1, 0, (64, 96), 5))
    others = next(scenes_of("nwpu", 1, 0, (64, 96), 5))
    assert alone[0] == "train"
    assert (alone[1].image != others[1].image).any()


def test_sets_with_an_empty_image() -> None:
    counts = [len(scene) for _, scene in scenes_of("nwpu", 3, 0, (48, 64), 4)]
    assert counts == [4, 0, 4]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--size", "640"], id="size without height"),
        pytest.param(["--size", "10x10"], id="size too small"),
        pytest.param(["--scenes", "0"], id="no scenes"),
        pytest.param(["--people", "-3"], id="fewer than no people"),
        pytest.param(["--seed", "-1"], id="negative seed"),
        pytest.param(["--dataset", "mall"], id="unknown dataset"),
    ],
)
def test_wrong_usage(arguments, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "out"), *arguments])
    assert end.value.code == 2
    assert "error" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_told_in_one_line(tmp_path, capsys) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "out"), "--scenes", "1", "--dataset", "csv", *SMALL])
    assert end.value.code == 1
    assert "can't be written" in capsys.readouterr().err.splitlines()[-1]


def test_too_many_people_are_told_in_one_line(tmp_path, capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise NoRoomError("no room for 9 people in this scene")

    monkeypatch.setattr("examples.render.render_scene", full)
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "out"), "--scenes", "1", "--dataset", "csv"])
    assert end.value.code == 2
    assert "csv: no room for 9 people" in capsys.readouterr().err


FAKE_DPMO = """#!/bin/sh
echo "$@" >> "$DPMO_LOG"
while [ $# -gt 0 ]; do
  case "$1" in
    --out) mkdir -p "$2"; echo {} > "$2/run.json" ;;
    -o) echo > "$2" ;;
  esac
  shift
done
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile_runs_every_step_once(tmp_path) -> None:
    fake, log = tmp_path / "dpmo", tmp_path / "log"
    fake.write_text(FAKE_DPMO)
    fake.chmod(0o755)
    command = ["make", "-C", str(REPO / "examples"), "-j2", f"WORK={tmp_path / 'work'}"]
    command += [f"PYTHON={sys.executable}", f"DPMO={fake}", "SHARDS=3", "SCENES=2"]
    command += ["SIZE=64x48", "PEOPLE=3"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    environment["DPMO_LOG"] = str(log)

    def make() -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)

    make()
    steps = [line.split()[0] for line in log.read_text().splitlines()]
    assert sorted(steps[:3]) == ["convert"] * 3
    assert steps[3] == "merge"
    assert sorted(steps[4:]) == ["validate", "visualize"]
    shards = {line.split("--shard ")[1].split()[0] for line in log.read_text().splitlines()[:3]}
    assert shards == {"1/3", "2/3", "3/3"}

    log.unlink()
    make()
    assert not log.exists()

    rendered = next((tmp_path / "work").glob("*/rendered"))
    os.utime(rendered)
    make()
    assert len(log.read_text().splitlines()) == 6
