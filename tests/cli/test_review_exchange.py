"""`dpmo review export` and `import`: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Dpmo
from tests.review.exchange.conftest import MakeWorld, World, back, snapshot, world
from tests.review.exchange.test_round_trips import square

__all__ = ["back", "world"]


@pytest.fixture
def run(world: MakeWorld) -> World:
    """A run that nobody has exported."""
    return world("labelme")


def test_there_and_back(run: World, back: Path, dpmo: Dpmo) -> None:
    done = dpmo("review", "export", run.out, "--to", run.to, "--format", "labelme", "--tile", "5")
    assert (done.code, done.stdout) == (0, f"{run.to}\n")
    assert done.lines == [
        "dpmo: 18 shapes of 2 images in 6 tiles; 1 without a mask to draw",
    ]
    done = dpmo("review", "import", run.out, run.to, "--reviewer", "ada")
    assert (done.code, done.stdout) == (0, "")
    assert done.lines == [
        "dpmo: 0 decisions written, 18 shapes unchanged, 0 decided so before, 0 not taken, 0 gone"
    ]
    tool = run.tool
    tile, shape = tool.find("train-1-0")
    tool.redraw(shape, square(20, 20, 5))
    tool.find("train-1-2")[1]["points"] = [[1, 1]]
    path = tool.save(back)
    asked = ("review", "import", run.out, path, "--reviewer", "ada", "--json", "--quiet")
    found = dpmo(*asked, "--manifest", run.to / "dpmo-export.json", "--dry-run")
    assert (found.code, found.lines) == (3, [])
    assert found.json["kind"] == "review-import"
    assert found.json["counts"] == {"broken": 1, "corrected": 1}
    assert (found.json["dry_run"], found.json["unchanged"]) == (True, 16)
    assert found.json["lines"][1]["person"] == "train-1-0"
    assert run.latest() == {}
    done = dpmo(*asked[:-2], "--manifest", run.to / "dpmo-export.json")
    assert done.code == 3
    broken, corrected = done.stdout.splitlines()
    assert broken.startswith(f"broken {path}")
    assert corrected == f"corrected {path / tile}".replace(".jpg", ".json") + (
        f", shape {corrected.split()[3][:-1]}: point 0 of images/a b.jpg"
    )
    assert [one.verdict for one in run.latest().values()] == ["corrected"]


def test_json_of_an_export(run: World, dpmo: Dpmo) -> None:
    done = dpmo("review", "export", run.out, "--to", run.to, "--format", "cvat", "--json", "-q",
                "--split", "train", "--limit", "4")  # fmt: skip
    assert (done.code, done.lines) == (0, [])
    assert done.json | {"out": "", "to": ""} == {
        "version": 1, "kind": "review-export", "out": "", "to": "", "images": 1, "tiles": 1,
        "shapes": 3, "without_mask": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param(["--format", "vgg"], "--format vgg: unknown", id="format"),
        pytest.param(["--shapes", "boxes"], "--shapes boxes: unknown", id="shapes"),
        pytest.param(["--shapes", "masks"], "can't edit them", id="masks for labelme"),
        pytest.param(["--split", "val"], "--split val: unknown; use one of test", id="split"),
        pytest.param(["--only", "ugly"], "--only ugly: unknown", id="reason"),
        pytest.param(["--only", "close_pair"], "holds nobody to export", id="nobody"),
        pytest.param(["--root", "gone"], "gone: no such folder", id="root"),
        pytest.param(["--tile", "-1"], "Invalid value for '--tile'", id="tile"),
        pytest.param(["--to", "."], "is not empty", id="to"),
    ],
)
def test_wrong_use_of_export(run: World, dpmo: Dpmo, options: list[str], problem: str) -> None:
    before = snapshot(run.out.parent)
    usual = ["--format", "labelme", "--to", str(run.to)]
    done = dpmo("review", "export", run.out, *usual, *options)
    assert (done.code, done.stdout, len(done.lines)) == (2, "", 1)
    assert problem in done.lines[0]
    assert snapshot(run.out.parent) == before


def test_a_teams_work_is_not_overwritten(run: World, dpmo: Dpmo) -> None:
    run.export()
    before = snapshot(run.to)
    done = dpmo("review", "export", run.out, "--to", run.to, "--format", "labelme")
    assert done.code == 2
    assert "may hold a team's work" in done.lines[0]
    assert snapshot(run.to) == before


def test_a_missing_photo_leaves_no_half_export(run: World, dpmo: Dpmo) -> None:
    (run.root / "images" / "b.png").unlink()
    done = dpmo("review", "export", run.out, "--to", run.to, "--format", "cvat", "-q")
    assert (done.code, len(done.errors)) == (1, 1)
    assert done.errors[0].endswith("b.png: is missing; give the folder of the photos with --root")
    assert not run.to.exists()
    assert not list(run.to.parent.glob(".*"))


def test_a_file_that_does_not_exist_is_said_so(run: World, dpmo: Dpmo) -> None:
    """And not its manifest, which can't be there either."""
    done = dpmo("review", "import", run.out, "nothere.json", "--reviewer", "ada")
    assert (done.code, done.lines) == (
        2,
        ["dpmo: error: nothere.json: does not exist; give what the tool has exported"],
    )


def test_gone_shapes_are_counted_and_found(run: World, back: Path, dpmo: Dpmo) -> None:
    run.export()
    tool = run.tool
    tool.delete("train-1-3")
    path = tool.save(back)
    done = dpmo("review", "import", run.out, path, "--reviewer", "ada",
                "--manifest", run.to / "dpmo-export.json")  # fmt: skip
    assert done.code == 0
    (line,) = done.stdout.splitlines()
    place = line.removeprefix("gone ").partition(": the shape of point 3 is gone")[0]
    assert Path(place).is_file(), "the line names a file that can be opened"
    assert done.lines[-1].endswith(", 0 not taken, 1 gone")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param(["--reviewer", " "], "--reviewer is empty", id="nobody"),
        pytest.param(["--format", "vgg"], "--format vgg: unknown", id="format"),
        pytest.param(["--deleted", "gone"], "use deleted or rejected", id="deleted"),
        pytest.param(["--manifest", "none.json"], "none.json: is missing", id="manifest"),
    ],
)
def test_wrong_use_of_import(run: World, dpmo: Dpmo, options: list[str], problem: str) -> None:
    run.export()
    done = dpmo("review", "import", run.out, run.to, "--reviewer", "ada", *options)
    assert done.code in (1, 2)
    assert (done.stdout, len(done.lines)) == ("", 1)
    assert problem in done.lines[0]


def test_import_needs_a_run(run: World, dpmo: Dpmo) -> None:
    run.export()
    done = dpmo("review", "import", run.root, run.to, "--reviewer", "ada")
    assert (done.code, len(done.lines)) == (2, 1)
    assert "holds no finished run" in done.lines[0]


def test_equal_exports_are_equal_bytes(run: World, tmp_path: Path, dpmo: Dpmo) -> None:
    for name in ("one", "two"):
        dpmo("review", "export", run.out, "--to", tmp_path / name, "--format", "cvat", "-q")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    manifest = json.loads((tmp_path / "one" / "dpmo-export.json").read_text())
    assert manifest["format"] == "cvat"
