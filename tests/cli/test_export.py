from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Crowd, Dpmo, tree

FORMATS = ["coco", "coco-polygons", "yolo-seg", "boxes", "label-maps", "density", "parquet"]


@pytest.fixture
def out(crowd: Crowd, dpmo: Dpmo, fake_engine: object) -> Path:
    assert dpmo("convert", "--root", crowd.root, "--out", "out", "--quiet").code == 0
    return Path("out")


@pytest.mark.parametrize("form", FORMATS)
def test_a_converted_crowd_is_exported(out: Path, crowd: Crowd, dpmo: Dpmo, form: str) -> None:
    done = dpmo("export", out, "--to", "to", "--format", form, "--json")
    assert done.code == 0
    document = json.loads(done.stdout)
    assert (document["version"], document["kind"]) == (1, "export")
    assert (document["format"], document["to"]) == (form, "to")
    # Only Ultralytics' layout lets the test split stand in for another.
    assert len(document["warnings"]) == (form in ("yolo-seg", "boxes"))
    assert all("val is the test split" in one for one in document["warnings"])
    assert {split: one["images"] for split, one in document["splits"].items()} == {
        "train": 5,
        "test": 2,
    }
    assert sum(one["people"] for one in document["splits"].values()) == crowd.total
    assert done.lines[len(document["warnings"])].startswith("dpmo: to: ")
    before = tree(Path("to"), without=())
    again = dpmo("export", out, "--to", "to", "--format", form, "--json", "--quiet")
    assert json.loads(again.stdout) == document
    assert again.lines == [f"dpmo: warning: {one}" for one in document["warnings"]]
    assert tree(Path("to"), without=()) == before


@pytest.mark.parametrize("form", ["coco", "coco-polygons", "label-maps"])
def test_the_export_is_a_truth_that_the_run_meets(out: Path, dpmo: Dpmo, form: str) -> None:
    assert dpmo("export", out, "--to", "to", "--format", form, "--split", "train").code == 0
    truth = Path("to/masks") if form == "label-maps" else Path("to/annotations/train.json")
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth, "--split", "train", "--json")
    assert done.code == 0
    document = json.loads(done.stdout)
    assert document["uncut"]["figures"]["pq"]["value"] == 1


def test_counts_of_people_are_the_sums(out: Path, crowd: Crowd, dpmo: Dpmo) -> None:
    assert dpmo("export", out, "--to", "to", "--format", "density", "-q").code == 0
    for (_, name), points in crowd.points.items():
        density = np.load(Path("to/density") / Path(name).with_suffix(".npy"))
        assert density.sum(dtype=np.float64) == pytest.approx(len(points), abs=1e-3)


def test_options_reach_the_formats(out: Path, dpmo: Dpmo) -> None:
    assert dpmo("export", out, "--to", "a", "--format", "coco", "--per-image", "-q").code == 0
    assert Path("a/annotations/test/test/1.json").is_file()
    assert dpmo("export", out, "--to", "b", "--format", "label-maps", "--png", "-q").code == 0
    assert Path("b/masks_png/test/1.png").is_file()
    assert dpmo("export", out, "--to", "c", "--format", "boxes", "--images", "copy", "-q").code == 0
    assert not Path("c/images/test/test__1.png").is_symlink()
    assert dpmo("export", out, "--to", "d", "--format", "coco", "--split", "test", "-q").code == 0
    assert not Path("d/annotations/train.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        pytest.param(
            ["none", "--format", "coco"], 2, "none: holds no finished run", id="no folder"
        ),
        pytest.param(["data", "--format", "coco"], 2, "no finished run", id="no run"),
        pytest.param(["out", "--format", "voc"], 2, "--format voc: unknown", id="format"),
        pytest.param(["out", "--format", "coco", "--png"], 2, "--png: not with", id="option"),
        pytest.param(["out", "--format", "coco", "--split", "x"], 2, "test, train", id="split"),
        pytest.param(["out", "--format", "boxes", "--root", "x"], 1, "is missing", id="root"),
        pytest.param(["out"], 2, "--format", id="no format"),
    ],
)
def test_wrong_calls(out: Path, dpmo: Dpmo, arguments: list[str], code: int, problem: str) -> None:
    done = dpmo("export", *arguments, "--to", "to")
    assert done.code == code
    (error,) = done.errors
    assert problem in error
    assert not Path("to").exists()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("dpmo_cli.cli.export", ["numpy", "pyarrow", "PIL", "scipy", "rich", "torch"]),
        ("dpmo_cli.pipeline.export", ["torch", "torchvision", "timm", "segment_anything"]),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str, heavy: list[str]) -> None:
    script = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert process.stdout.decode().strip() == "[]"
