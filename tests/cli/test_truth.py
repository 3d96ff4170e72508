"""`dpmo truth`, and what a user does with what it wrote."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Dpmo, tree
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    write_nuclei,
    write_penn_fudan,
)

FILES = {
    "points.csv",
    *(f"{folder}/{name}.png" for folder in ("images", "truth", "truth/heads") for name in "01"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_penn_fudan(root, (*TRAINING_NAMES, *VALIDATION_NAMES))
    # Two are of the validation split.
    for number in range(10):
        write_nuclei(root, f"n{number}")
    return root


def test_a_set_is_written(data: Path, dpmo: Dpmo) -> None:
    done = dpmo("truth", "pennfudan", "--data", data, "--out", "out")
    assert (done.code, done.stdout) == (0, "out\n")
    assert done.lines == [
        "dpmo: reading pennfudan",
        "dpmo: 1 of 2 scenes",
        "dpmo: 2 of 2 scenes",
    ]
    out = data.parent / "out"
    assert set(tree(out)) == FILES
    with (out / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["images/0.png"] * 2 + ["images/1.png"] * 2
    for number, row in enumerate(rows):
        labels = np.asarray(Image.open(out / "truth" / Path(row["image"]).name))
        assert labels[round(float(row["y"])), round(float(row["x"]))] == 1 + number % 2
        heads = np.asarray(Image.open(out / "truth/heads" / Path(row["image"]).name))
        assert (labels[heads > 0] == heads[heads > 0]).all()
    # The same command writes the same, and -q says nothing.
    again = dpmo("truth", "pennfudan", "--data", data, "--out", "again", "-q")
    assert (again.code, again.stdout, again.stderr) == (0, "again\n", "")
    assert tree(data.parent / "again") == tree(out)


@pytest.mark.parametrize(
    ("options", "images"),
    [
        pytest.param(["pennfudan", "--limit", "1"], ["0"], id="limit"),
        pytest.param(["pennfudan", "--limit", "9"], ["0", "1"], id="larger limit"),
        pytest.param(["pennfudan", "--split", "train"], ["2", "3", "4"], id="train"),
        pytest.param(
            ["pennfudan", "--split", "train", "--limit", "2"], ["2", "4"], id="spread over the set"
        ),
        pytest.param(["nuclei"], ["n0", "n9"], id="without heads"),
    ],
)
def test_which_scenes(data: Path, dpmo: Dpmo, options: list[str], images: list[str]) -> None:
    done = dpmo("truth", *options, "--data", data, "--out", "out")
    assert done.code == 0
    assert len(done.lines) == 1 + len(images)
    out = data.parent / "out"
    for folder in ("images", "truth", *(["truth/heads"] if options[0] == "pennfudan" else [])):
        assert sorted(path.stem for path in (out / folder).glob("*.png")) == images
    assert (out / "truth/heads").is_dir() == (options[0] == "pennfudan")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["penn", "--data", "data", "--out", "out"],
            "penn: unknown truth set; use one of pennfudan, coco-persons, coco-things, nuclei, "
            "composed, groups",
            id="set",
        ),
        pytest.param(
            ["nuclei", "--data", "data", "--out", "out", "--split", "test"],
            "--split test: unknown; use one of validation, train",
            id="split",
        ),
        pytest.param(
            ["nuclei", "--data", "nowhere", "--out", "out"],
            "--data nowhere: no such folder; give",
            id="missing data",
        ),
        pytest.param(
            ["nuclei", "--data", "file", "--out", "out"],
            "--data file: no such folder; give",
            id="data is a file",
        ),
        pytest.param(
            ["coco-persons", "--data", "data", "--out", "out"],
            "data: no scenes of coco-persons; give the folder",
            id="data without the set",
        ),
        pytest.param(
            ["composed", "--data", "empty", "--out", "out"],
            "empty/PennFudanPed: no such folder; composed needs",
            id="nobody to compose",
        ),
        pytest.param(
            ["nuclei", "--data", "data", "--out", "data"],
            "--out data: is not an empty folder; name another",
            id="folder in use",
        ),
        pytest.param(
            ["nuclei", "--data", "data", "--out", "file"],
            "--out file: is not an empty folder; name another",
            id="out is a file",
        ),
    ],
)
def test_wrong_use_is_one_line(data: Path, dpmo: Dpmo, arguments: list[str], says: str) -> None:
    (data.parent / "empty").mkdir()
    (data.parent / "file").write_text("mine")
    before = tree(data.parent)
    done = dpmo("truth", *arguments, "--quiet")
    assert (done.code, done.stdout) == (2, "")
    (line,) = done.lines
    assert line.startswith(f"dpmo: error: {says}")
    assert tree(data.parent) == before
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize("option", [["--limit", "0"], ["--limit", "x"]])
def test_limits_that_are_none(data: Path, dpmo: Dpmo, option: list[str]) -> None:
    done = dpmo("truth", "nuclei", "--data", data, "--out", "out", *option)
    assert done.code == 2
    assert "Invalid value for '--limit'" in done.stderr
    assert not (data.parent / "out").exists()


@pytest.mark.usefixtures("nano")
@pytest.mark.parametrize(
    ("extent", "truth", "headline"),
    [("nnec", "truth", "cut"), ("head", "truth/heads", "uncut")],
)
def test_a_set_is_converted_and_scored(
    data: Path, dpmo: Dpmo, extent: str, truth: str, headline: str
) -> None:
    """From true masks to figures, as a user does it."""
    steps = (
        ("truth", "pennfudan", "--data", data, "--out", "set", "-q"),
        ("convert", "--dataset", "csv", "--root", "set", "--out", "out", "--extent", extent,
         "--device", "cpu", "-q"),
    )  # fmt: skip
    for step in steps:
        done = dpmo(*step)
        assert done.code == 0, done.stderr
    done = dpmo("evaluate", "masks", "--pred", "out", "--truth", f"set/{truth}", "--json")
    assert (done.code, done.lines) == (0, [])
    found = done.json
    assert (found["extent"], found["headline"]) == (extent, headline)
    assert (found["images"], found["points"], found["points_with_truth"]) == (2, 4, 4)
    assert (found["images_left_out"], found["truth_images_left_out"]) == (0, 0)
    assert found["instances"] == 4
    assert found["detections"] == 4
    assert found[headline]["figures"]["iou_per_point"]["value"] > 0.05
    # What a run is scored at is what the method is measured at.
    name = {"nnec": "nnec, person in the disc", "head": "head, head"}[extent]
    trial = dpmo("evaluate", "method", "--data", data, "--set", "pennfudan", "--group", "extents",
                 "--device", "cpu", "--samples", 0, "--json", "-q")  # fmt: skip
    (result,) = [one for one in trial.json["results"] if one["variant"] == name]
    for figure in ("iou_per_point", "boundary_f", "pq", "mean_iou_c"):
        expected = result["summary"][headline]["figures"][figure]["value"]
        value = found[headline]["figures"][figure]["value"]
        assert value == pytest.approx(expected), figure
