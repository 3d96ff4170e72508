"""`dpmo evaluate points` on files of other methods and on runs of dpmo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine
from tests.datasets.conftest import SHARED_DATA, Builder

COMMAND = ("evaluate", "points", "--pred")
NWPU_HEADS = SHARED_DATA / "NWPU-Crowd" / "val_gt_loc.txt"


def write_points(crowd: Crowd, path: Path, *, shift: float = 0) -> Path:
    """The crowd's own points as a prediction, moved to the right."""
    rows = [f"{name},{x + shift},{y}" for (_, name), xy in crowd.points.items() for x, y in xy]
    path.write_text("\n".join(["image,x,y", *rows]) + "\n")
    return path


def test_a_perfect_prediction(crowd: Crowd, dpmo: Dpmo) -> None:
    pred = write_points(crowd, Path("pred.csv").absolute())
    done = dpmo(*COMMAND, pred, "--root", crowd.root, "--json")
    assert (done.code, done.stderr) == (0, "")
    found = done.json
    assert (found["version"], found["kind"], found["protocol"]) == (1, "evaluate-points", "fixed")
    assert (found["truth"], found["split"], found["pred"]) == ("csv", None, str(pred))
    assert (found["images"], found["true_points"]) == (7, crowd.total)
    assert (found["images_without_prediction"], found["predictions_left_out"]) == (0, 0)
    assert [row["criterion"] for row in found["rows"]] == ["4 px", "8 px"]
    for row in found["rows"]:
        for name in ("precision", "recall", "f1"):
            assert row[name] == {"value": 1.0, "low": 1.0, "high": 1.0}
    done = dpmo(*COMMAND, pred, "--root", crowd.root, "--protocol", "qnrf", "--json")
    assert done.json["rows"][0]["f1"]["value"] == 1


def test_the_table(crowd: Crowd, dpmo: Dpmo) -> None:
    crowd.points = {("train", "a/1.jpg"): [(10, 10), (50, 10)], ("train", "a/2.jpg"): [(5, 5)]}
    crowd.write()
    pred = write_points(crowd, Path("pred.csv").absolute(), shift=5)
    options = ("--dataset", "csv", "--root", crowd.root, "--radii", "8,4.5", "--samples", "50")
    done = dpmo(*COMMAND, pred, *options)
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "2 images, protocol fixed: 3 points, 3 heads"
    assert lines[2].split() == ["matched", "precision", "recall", "F1"]
    assert lines[3].split()[:4] == ["8", "px", "3", "1.000"]
    assert lines[4].split()[:4] == ["4.5", "px", "0", "0.000"]
    assert lines[5] == "95 % intervals from 50 resamples of the images, seed 0"
    assert all(len(line) < 110 for line in lines)


def test_what_does_not_match(crowd: Crowd, dpmo: Dpmo) -> None:
    """An image without a prediction counts as nobody found; other predictions do not count."""
    crowd.points = {("train", "a/1.jpg"): [(10, 10)], ("train", "a/2.jpg"): [(5, 5)]}
    crowd.write()
    Path("pred").mkdir()
    Path("pred/1.txt").write_text("10 10\n")
    Path("pred/7.txt").write_text("10 10\n")
    command = (*COMMAND, "pred", "--root", crowd.root)
    done = dpmo(*command, "--json")
    assert done.lines == [
        "dpmo: left out: predictions of 1 image that the truth does not have (7)",
        "dpmo: 1 image without a prediction, counted as nobody found (a/2.jpg)",
    ]
    found = done.json
    assert (found["images_without_prediction"], found["predictions_left_out"]) == (1, 1)
    assert (found["predicted_points"], found["true_points"]) == (1, 2)
    assert (found["rows"][0]["precision"]["value"], found["rows"][0]["recall"]["value"]) == (1, 0.5)
    done = dpmo(*command, "-q")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "1 image without a prediction"


def test_a_converted_crowd(crowd: Crowd, dpmo: Dpmo, fake_engine: FakeEngine) -> None:
    assert dpmo("convert", "--root", crowd.root, "--out", "out", "--quiet").code == 0
    for options, images in (((), 7), (("--split", "test"), 2)):
        done = dpmo(*COMMAND, "out", "--root", crowd.root, *options, "--json")
        assert (done.json["images"], done.stderr) == (images, "")
        assert done.json["rows"][0]["f1"]["value"] == 1


def test_nwpu(native: Builder, dpmo: Dpmo) -> None:
    native.nwpu()
    Path("pred.txt").write_text("0001 2 10 6 20.5 9\n3 0\n")
    options = ("--root", native.root, "--split", "train", "--protocol", "nwpu", "--samples", "0")
    done = dpmo(*COMMAND, "pred.txt", *options, "--json")
    assert done.stderr == ""
    large, small = done.json["rows"]
    assert (large["criterion"], small["criterion"]) == ("sigma_l", "sigma_s")
    # The boxes are 4 x 5: sigma_l 3.2, sigma_s 2.
    assert (large["recall"]["value"], small["recall"]["value"]) == (1, 0.5)
    assert [level["heads"] for level in done.json["levels"]] == [0, 2, 0, 0, 0, 0]
    lines = dpmo(*COMMAND, "pred.txt", *options).stdout.splitlines()
    assert "10 to 100" in lines[-5]
    assert "no intervals" in lines


@pytest.mark.skipif(not NWPU_HEADS.is_file(), reason="needs ../shared/data/NWPU-Crowd")
def test_the_real_heads_of_nwpu(dpmo: Dpmo) -> None:
    """The truth as a submission scores 1 at every level."""
    lines = []
    for line in NWPU_HEADS.read_text().splitlines():
        image, count, *numbers = line.split()
        points = [xy for at in range(0, len(numbers), 5) for xy in numbers[at : at + 2]]
        lines.append(" ".join([image, count, *points]))
    Path("pred.txt").write_text("\n".join(lines))
    options = ("--gt-loc", NWPU_HEADS, "--protocol", "nwpu", "--samples", "100", "--json")
    done = dpmo(*COMMAND, "pred.txt", *options)
    assert (done.json["images"], done.json["true_points"]) == (500, 196_238)
    for row in done.json["rows"]:
        assert row["f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    heads = [level["heads"] for level in done.json["levels"]]
    assert heads == [1251, 25032, 118515, 45050, 5916, 474]
    assert {level["sigma_s"]["value"] for level in done.json["levels"]} == {1}


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        pytest.param([], 2, "give the truth: a dataset with --root, or", id="no truth"),
        pytest.param(["--root", "data", "--gt-loc", "x"], 2, "give the truth", id="two truths"),
        pytest.param(
            ["--root", "data", "--protocol", "x"], 2, "--protocol x: unknown", id="protocol"
        ),
        pytest.param(["--root", "data", "--radii", "4,x"], 2, "--radii 4,x: expected", id="radii"),
        pytest.param(["--root", "data", "--radii", "4,4"], 2, "such as 4,8", id="radii twice"),
        pytest.param(["--root", "data", "--radii", "0"], 2, "--radii 0: expected", id="no radius"),
        pytest.param(["--root", "data", "--radii", "inf"], 2, "--radii inf: expected", id="far"),
        pytest.param(
            ["--root", "data", "--radii", "4", "--protocol", "nwpu"],
            2,
            "--radii: the protocol nwpu has its own distances; leave it out",
            id="radii of nwpu",
        ),
        pytest.param(
            ["--root", "data", "--protocol", "nwpu"],
            2,
            "train/0.png of csv has no head boxes; use --protocol fixed or qnrf",
            id="no boxes",
        ),
        pytest.param(
            ["--root", "data", "--split", "val"], 2, "no labelled split 'val'", id="split"
        ),
        pytest.param(["--root", "data", "--pred", "none"], 2, "none: no such file", id="no points"),
        pytest.param(
            ["--root", "data", "--pred", "bad.csv"], 1, "bad.csv: line 2: expected y", id="bad"
        ),
        pytest.param(
            ["--root", "data", "--pred", "other.csv"],
            2,
            "--pred other.csv: none of its images is in csv, as 'z' here and",
            id="other images",
        ),
        pytest.param(
            ["--root", "data", "--pred", "short.csv"],
            1,
            "short.csv: image train/0 fits 0 of the predictions, and so does 1 other of the images",
            id="ambiguous",
        ),
    ],
)
def test_wrong_input(crowd: Crowd, dpmo: Dpmo, options: list[str], code: int, says: str) -> None:
    write_points(crowd, Path("pred.csv"))
    Path("bad.csv").write_text("image,x,y\na,1,?\n")
    Path("other.csv").write_text("image,x,y\nz.jpg,1,2\n")
    Path("short.csv").write_text("image,x,y\n0.png,1,2\n")
    done = dpmo(*COMMAND, "pred.csv", *options, "-q")
    assert (done.code, done.stdout) == (code, "")
    (line,) = done.errors
    assert done.lines == [line]
    assert says in line


def test_torch_is_not_imported(crowd: Crowd) -> None:
    pred = write_points(crowd, crowd.root / "pred.csv")
    code = (
        "import sys\nfrom dpmo_cli.cli.app import main\n"
        f"sys.argv = ['dpmo', 'evaluate', 'points', '--pred', {str(pred)!r}, '--root',"
        f" {str(crowd.root)!r}, '--json']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
