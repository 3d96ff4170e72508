"""`--cache`: what a second run saves, and that it changes no file but the run record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine, tree


def usage(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "run.json").read_text())["cache"]
    return found


def convert(dpmo: Dpmo, crowd: Crowd, out: str, *options: str) -> None:
    outcome = dpmo("convert", "--root", crowd.root, "--out", out, "--quiet", *options)
    assert (outcome.code, outcome.stderr) == (0, "")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--nnec-scale", "0.5"], id="a smaller scale"),
        pytest.param(["--nnec-scale", "1"], id="the same scale"),
        pytest.param(["--nnec-scale", "2", "--tiles", "off"], id="a larger scale, tiles off"),
        pytest.param(["--extent", "visible"], id="extent"),
        pytest.param(["--ownership", "nearest"], id="ownership"),
        pytest.param(["--negatives", "0"], id="negatives"),
        pytest.param(["--radii", "robust", "--tiles", "off"], id="radii, tiles off"),
    ],
)
def test_second_run_with_other_options_calls_no_encoder(
    options: list[str], dpmo: Dpmo, fake_engine: FakeEngine, empty_crowd: Crowd, tmp_path: Path
) -> None:
    crowd = empty_crowd
    for name in ("a.png", "b.png"):
        crowd.add(name, count=12, size_hw=(90, 120))
    tiles = options[-2:] if "--tiles" in options else []
    convert(dpmo, crowd, "first", "--cache", "cache", *tiles)
    first, encoded = usage(tmp_path / "first"), fake_engine.encoded
    assert (first["hits"], first["misses"]) == (0, encoded)
    assert first["bytes_written"] > 0
    convert(dpmo, crowd, "second", "--cache", "cache", *options)
    assert fake_engine.encoded == encoded
    second = usage(tmp_path / "second")
    assert (second["hits"], second["misses"]) == (encoded, 0)
    assert second["bytes_read"] == first["bytes_written"]
    convert(dpmo, crowd, "plain", *options)
    assert tree(tmp_path / "plain") == tree(tmp_path / "second")
    assert json.loads((tmp_path / "plain/run.json").read_text())["cache"] is None


def test_real_network_answers_the_same_from_disk(
    dpmo: Dpmo, nano: None, one_thread: None, empty_crowd: Crowd, tmp_path: Path
) -> None:
    empty_crowd.add("a.png", count=9, size_hw=(150, 170))
    convert(dpmo, empty_crowd, "first", "--cache", "cache")
    convert(dpmo, empty_crowd, "again", "--cache", "cache")
    convert(dpmo, empty_crowd, "plain")
    assert tree(tmp_path / "first") == tree(tmp_path / "again") == tree(tmp_path / "plain")
    assert usage(tmp_path / "again")["misses"] == 0
    assert usage(tmp_path / "again")["hits"] > 1


def test_the_cache_is_no_setting(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", "out", "--json", "-q")
    assert dpmo(*command).json["changed"] is True
    assert dpmo(*command, "--cache", "cache").json["changed"] is False
    assert (tmp_path / "cache").is_dir()


def test_photos_are_kept_too(
    dpmo: Dpmo, nano: None, one_thread: None, album: Path, locator_file: Path, tmp_path: Path
) -> None:
    command = ("predict", album, "--locator", locator_file, "--cache", "cache", "--quiet")
    command += ("--selector", "head", "--limit", "1")
    assert dpmo(*command, "--out", "first").code == 0
    first = usage(tmp_path / "first")
    assert first["misses"] > 0
    assert dpmo(*command, "--out", "again").code == 0
    assert usage(tmp_path / "again")["misses"] == 0
    assert tree(tmp_path / "first") == tree(tmp_path / "again")


def test_a_plan_makes_no_folder(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    options = ("--cache", "cache", "--dry-run")
    assert dpmo("convert", "--root", crowd.root, "--out", "out", *options).code == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cache", "data/points.csv"], "--cache data/points.csv: is a file; name a folder"),
        (["--cache", "c", "--cache-size", "0"], "--cache-size 0.0: must be a positive number"),
        (["--cache", "c", "--cache-size", "nan"], "--cache-size nan: must be a positive number"),
    ],
    ids=["no folder", "no size", "no number"],
)
def test_wrong_ones_are_one_line_before_the_run(
    options: list[str],
    says: str,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
) -> None:
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    (line,) = outcome.lines
    assert line.startswith(f"dpmo: error: {says}")
    assert not (tmp_path / "out").exists()
    assert fake_engine.loads == 0
