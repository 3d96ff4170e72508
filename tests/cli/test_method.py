"""`dpmo evaluate method` on small worlds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.sam.models import resolve_engine
from tests.conftest import Dpmo, FakeEngine, Outcome, tree
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    write_nuclei,
    write_penn_fudan,
)

BASELINES = ["disc", "half disc", "voronoi", "slic", "watershed", "grabcut"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_penn_fudan(root, (*TRAINING_NAMES, *VALIDATION_NAMES))
    for number in range(10):
        write_nuclei(root, f"n{number}")
    return root


def method(dpmo: Dpmo, data: Path, *options: str) -> Outcome:
    return dpmo("evaluate", "method", "--data", data, "--device", "cpu", *options)


def first_cells(lines: list[str], group: str) -> list[str]:
    """What the first table of a group lists."""
    start = lines.index(f"{group}: IoU per point ± half of its 95 % interval")
    names = []
    for line in lines[start + 3 :]:
        if not line.startswith("| "):
            break
        names.append(line.split(" | ")[0][2:])
    return names


@pytest.mark.usefixtures("fake_engine")
def test_the_tables(data: Path, dpmo: Dpmo) -> None:
    done = method(dpmo, data, "--set", "pennfudan", "--set", "nuclei", "--group", "steps",
                  "--group", "baselines", "--samples", "20")  # fmt: skip
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    sha256 = resolve_engine("nano", device="cpu").weights_sha256
    assert lines[0] == f"nano, SHA-256 {sha256}, cpu, validation"
    assert "| steps | pennfudan | nuclei |" in lines
    assert lines.count("| baselines | pennfudan | nuclei |") == 1
    assert first_cells(lines, "baselines") == BASELINES
    steps = first_cells(lines, "steps")
    assert (steps[0], steps[-1]) == ("SAM's argmax, whole image", "+ negatives: the method")
    assert "alternatives" not in done.stdout
    for name in ("pennfudan", "nuclei"):
        assert f"{name}: by the distance to the nearest neighbour, px" in lines
    # Progress: one line for each variant on each set.
    assert len(done.lines) == 2 * (len(steps) + len(BASELINES))
    assert all(line.startswith("dpmo: ") and line.endswith(" ms a point") for line in done.lines)
    assert any(line.startswith("dpmo: nuclei: watershed: ") for line in done.lines)


@pytest.mark.usefixtures("nano")
def test_the_embedded_network_in_json(data: Path, dpmo: Dpmo) -> None:
    done = method(dpmo, data, "--set", "pennfudan", "--set", "nuclei", "--group", "extents",
                  "--scenes", "1", "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    found = done.json
    assert (found["version"], found["kind"], found["sam"]) == (1, "evaluate-method", "nano")
    assert (found["device"], found["split"]) == ("cpu", "validation")
    assert found["weights_sha256"] == resolve_engine("nano", device="cpu").weights_sha256
    results = found["results"]
    names = {(one["truth_set"], one["variant"]) for one in results}
    persons = ["nnec, person in the disc", "nnec, whole person", "visible, whole person"]
    assert names == {
        *(("pennfudan", name) for name in (*persons, "head, head")),
        # Nuclei have no heads.
        *(("nuclei", name) for name in persons),
    }
    assert len(results) == 7
    for one in results:
        assert set(one) == {
            "group",
            "variant",
            "truth_set",
            "seconds_per_point",
            "summary",
            "by_distance",
        }
        assert one["group"] == "extents"
        assert one["summary"]["images"] == 1
        assert one["summary"]["points_with_truth"] == 2
        assert sum(part["points_with_truth"] for part in one["by_distance"] if part) == 2
    # A line of progress has the figure of the table, not always that of the cut truth.
    for one in results:
        version = "cut" if one["variant"] == persons[0] else "uncut"
        value = one["summary"][version]["figures"]["iou_per_point"]["value"]
        start = f"dpmo: {one['truth_set']}: {one['variant']}: {value:.3f}, "
        assert sum(line.startswith(start) for line in done.lines) == 1, start


@pytest.mark.usefixtures("fake_engine")
@pytest.mark.parametrize(
    ("options", "images"),
    [
        pytest.param([], 2, id="all"),
        pytest.param(["--scenes", "1"], 1, id="one scene"),
        pytest.param(["--scenes", "5"], 2, id="more than there are"),
        pytest.param(["--split", "train"], 3, id="train"),
    ],
)
def test_which_scenes(data: Path, dpmo: Dpmo, options: list[str], images: int) -> None:
    done = method(dpmo, data, "--set", "pennfudan", "--group", "extents", "--samples", "0",
                  "--json", "-q", *options)  # fmt: skip
    assert (done.code, done.stderr) == (0, "")
    assert len(done.json["results"]) == 4
    assert {one["summary"]["images"] for one in done.json["results"]} == {images}


def test_an_engine_without_extents(data: Path, dpmo: Dpmo, fake_engine: FakeEngine) -> None:
    done = method(dpmo, data, "--set", "nuclei", "--group", "points", "--samples", "0", "-q")
    assert (done.code, done.stderr) == (0, "")
    assert fake_engine.loads == 1
    lines = done.stdout.splitlines()
    assert first_cells(lines, "points") == [
        "points moved by 0.15 radius",
        "points moved by 0.15 radius, recentred",
        "points moved by 0.3 radius",
        "points moved by 0.3 radius, recentred",
    ]
    assert "±" not in "".join(line for line in lines if line.startswith("| points moved"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(
            ["--set", "penn"],
            "--set penn: unknown; use one of pennfudan, coco-persons, coco-things, nuclei, "
            "composed, groups",
            id="set",
        ),
        pytest.param(
            ["--set", "nuclei", "--group", "step"],
            "--group step: unknown; use one of steps, alternatives, points, baselines, extents",
            id="group",
        ),
        pytest.param(
            ["--split", "test"], "--split test: unknown; use one of validation, train", id="split"
        ),
        pytest.param(["--data", "nowhere"], "--data nowhere: no such folder; give", id="data"),
        pytest.param(["--data", "file"], "--data file: no such folder; give", id="data is a file"),
        pytest.param(
            ["--set", "coco-persons"], "data: no scenes of coco-persons; give", id="no scenes"
        ),
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
            ["--workers", "2", "--device", "auto"],
            "--workers: needs Linux and --device cpu",
            id="workers",
        ),
    ],
)
@pytest.mark.usefixtures("fake_engine")
def test_wrong_use_is_one_line(data: Path, dpmo: Dpmo, options: list[str], says: str) -> None:
    (data.parent / "file").write_text("mine")
    before = tree(data.parent)
    done = dpmo("evaluate", "method", "--data", "data", "--device", "cpu", *options, "-q")
    assert (done.code, done.stdout) == (2, "")
    (line,) = done.lines
    assert line.startswith(f"dpmo: error: {says}")
    assert tree(data.parent) == before
