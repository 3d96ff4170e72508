"""`dpmo train calibration` on small worlds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.geometry.extents import EXTENTS, NNEC, VISIBLE
from dpmo_cli.masks.score import FEATURES
from dpmo_cli.sam.calibration import as_json, load_calibration
from dpmo_cli.sam.models import resolve_engine
from tests.conftest import Dpmo, FakeEngine, Outcome, tree
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    write_nuclei,
    write_penn_fudan,
)

HEADING = [
    "| extent | truth set | points | mean IoU | mean score | IoU below 0.5 | found, raw score "
    "| found, calibrated | times a random order |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_penn_fudan(root, (*TRAINING_NAMES, *VALIDATION_NAMES))
    # Three are of the validation split.
    for number in range(13):
        write_nuclei(root, f"n{number}")
    return root


def rows(done: Outcome) -> list[list[str]]:
    """Extent, truth set and number of points of each line of the table."""
    lines = done.stdout.splitlines()
    assert lines[:2] == HEADING
    return [line[2:-2].split(" | ")[:3] for line in lines[2:]]


@pytest.mark.usefixtures("nano")
def test_a_calibration_is_written(data: Path, dpmo: Dpmo) -> None:
    done = dpmo("train", "calibration", "--data", data, "--out", "new/a.json", "--device", "cpu",
                "--set", "pennfudan", "--set", "nuclei")  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.lines == [
        f"dpmo: {extent}: {count} scenes of {name}"
        for extent in EXTENTS
        for name, count in (("pennfudan", 2), ("nuclei", 3))
    ]
    assert rows(done) == [
        ["nnec", "pennfudan", "4"],
        ["nnec", "nuclei", "6"],
        ["nnec", "all", "10"],
        ["head", "pennfudan", "4"],
        ["head", "all", "4"],
        ["visible", "pennfudan", "4"],
        ["visible", "nuclei", "6"],
        ["visible", "all", "10"],
    ]
    out = data.parent / "new"
    assert list(tree(out)) == ["a.json"]
    sha256 = resolve_engine("nano", device="cpu").weights_sha256
    found = load_calibration(out / "a.json", sha256)
    assert found is not None
    assert (found.features, tuple(found.curves)) == (FEATURES, EXTENTS)
    assert (out / "a.json").read_text() == as_json(found)


def test_any_sam_without_a_word(data: Path, dpmo: Dpmo, fake_engine: FakeEngine) -> None:
    """A network without extents: a curve for the default's alone; -q; fewer scenes."""
    command = ("train", "calibration", "--data", data, "--set", "nuclei", "--device", "cpu", "-q")
    done = dpmo(*command, "--out", "a.json")
    assert (done.code, done.stderr) == (0, "")
    assert rows(done) == [["nnec", "nuclei", "6"], ["nnec", "all", "6"]]
    assert '"nnec"' in (data.parent / "a.json").read_text()
    fewer = dpmo(*command, "--out", "b.json", "--scenes", "2")
    assert rows(fewer) == [["nnec", "nuclei", "4"], ["nnec", "all", "4"]]
    assert fake_engine.loads == 2


@pytest.mark.usefixtures("nano")
def test_a_set_without_heads(data: Path, dpmo: Dpmo) -> None:
    done = dpmo("train", "calibration", "--data", data, "--out", "a.json", "--set", "nuclei",
                "--scenes", "2", "--device", "cpu", "-q")  # fmt: skip
    assert (done.code, done.stderr) == (0, "")
    assert {row[0] for row in rows(done)} == {NNEC, VISIBLE}
    found = load_calibration(
        data.parent / "a.json", resolve_engine("nano", device="cpu").weights_sha256
    )
    assert found is not None
    assert tuple(found.curves) == (NNEC, VISIBLE)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(
            ["--set", "penn"], "--set penn: unknown; use one of pennfudan, coco-persons", id="set"
        ),
        pytest.param(["--data", "nowhere"], "--data nowhere: no such folder; give", id="data"),
        pytest.param(["--data", "file"], "--data file: no such folder; give", id="data is a file"),
        pytest.param(
            ["--set", "coco-persons"], "data: no scenes of coco-persons; give", id="no scenes"
        ),
        pytest.param(["--out", "data"], "--out data: is a folder; name a file", id="out"),
        pytest.param(
            ["--sam", "vit_x"], "unknown weights 'vit_x'; did you mean vit_l?", id="network"
        ),
        pytest.param(
            ["--checkpoint", "nowhere.pth"],
            "nowhere.pth: no such file; name a weights file with",
            id="missing weights",
        ),
        pytest.param(["--device", "tpu"], "--device tpu: unknown", id="device"),
        pytest.param(
            ["--scenes", "1", "--set", "nuclei"],
            "nnec: no two scenes of one set that have masks; give more scenes (--scenes)",
            id="one scene",
        ),
    ],
)
@pytest.mark.usefixtures("fake_engine")
def test_wrong_use_is_one_line(data: Path, dpmo: Dpmo, options: list[str], says: str) -> None:
    (data.parent / "file").write_text("mine")
    before = tree(data.parent)
    done = dpmo("train", "calibration", "--data", "data", "--out", "a.json", "--device", "cpu",
                *options, "-q")  # fmt: skip
    assert (done.code, done.stdout) == (2, "")
    (line,) = done.lines
    assert line.startswith(f"dpmo: error: {says}")
    assert tree(data.parent) == before
