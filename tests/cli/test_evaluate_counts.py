"""`dpmo evaluate counts` on tables of counts, points and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine

COMMAND = ("evaluate", "counts", "--pred")


@pytest.fixture
def small(crowd: Crowd) -> Crowd:
    """One image with two people, one with nobody, and one of another split."""
    crowd.points = {
        ("train", "a/1.jpg"): [(1, 1), (2, 2)],
        ("train", "a/2.jpg"): [],
        ("test", "b/3.jpg"): [(1, 1)],
    }
    crowd.write()
    return crowd


def test_by_hand(small: Crowd, dpmo: Dpmo) -> None:
    Path("counts.csv").write_text("image,count,masks\n1.jpg,5,5\na/2.jpg,1,0\nb/3.jpg,9,9\n")
    command = (*COMMAND, "counts.csv", "--root", small.root, "--split", "train", "--samples", "0")
    done = dpmo(*command, "--json")
    assert done.lines == [
        "dpmo: left out: predictions of 1 image that the truth does not have (b/3)"
    ]
    found = done.json
    assert (found["version"], found["kind"], found["split"]) == (1, "evaluate-counts", "train")
    assert (found["images"], found["images_without_people"]) == (2, 1)
    assert (found["predicted_people"], found["true_people"]) == (6, 2)
    values = {name: one["value"] for name, one in found["figures"].items()}
    assert values == {"mae": 2, "rmse": 5**0.5, "nae": 1.5, "bias": 2}
    assert [level["images"] for level in found["by_people"]] == [2, 0, 0, 0, 0]
    assert found["by_people"][-1]["high"] is None
    lines = dpmo(*command, "-q").stdout.splitlines()
    assert lines[0] == "2 images, 1 of them without people: 6 counted, 2 true"
    assert lines[2].split() == ["people", "images", "MAE", "RMSE", "NAE", "bias"]
    assert lines[3].split() == ["all", "2", "2.0", "2.2", "1.500", "2.0"]
    assert lines[8].split() == ["1000", "and", "more", "0", "-", "-", "-", "-"]
    assert all(len(line) < 130 for line in lines)


def test_images_without_a_prediction(small: Crowd, dpmo: Dpmo) -> None:
    Path("counts.csv").write_text("image,count\na/2.jpg,0\n")
    done = dpmo(*COMMAND, "counts.csv", "--root", small.root)
    assert done.lines == [
        "dpmo: 2 images without a prediction, counted as nobody found (a/1.jpg, b/3.jpg)"
    ]
    assert done.stdout.splitlines()[-1] == "2 images without a prediction"


def test_a_converted_crowd(crowd: Crowd, dpmo: Dpmo, fake_engine: FakeEngine) -> None:
    assert dpmo("convert", "--root", crowd.root, "--out", "out", "--quiet").code == 0
    found = dpmo(*COMMAND, "out", "--root", crowd.root, "--json").json
    assert found["images"] == 7
    assert found["figures"]["mae"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_points_and_the_truth_of_nwpu(dpmo: Dpmo) -> None:
    Path("loc.txt").write_text("3110 2 5 6 2 3 1 15 16 2 3 1\n3111 0\n")
    Path("pred.txt").write_text("3110 1 5 6\n3111 0\n")
    found = dpmo(*COMMAND, "pred.txt", "--gt-loc", "loc.txt", "--json").json
    assert (found["truth"], found["figures"]["bias"]["value"]) == ("loc.txt", -0.5)


def test_wrong_counts(small: Crowd, dpmo: Dpmo) -> None:
    Path("counts.csv").write_text("image,count\na/2.jpg,-3\n")
    done = dpmo(*COMMAND, "counts.csv", "--root", small.root)
    assert (done.code, done.stdout) == (1, "")
    assert done.lines == [
        "dpmo: error: counts.csv: line 2: the count -3 is below 0; correct the table"
    ]


def test_predicted_images_only(small: Crowd, dpmo: Dpmo) -> None:
    """An image that could not be read has an empty count: nothing is predicted of it."""
    Path("counts.csv").write_text("image,count,masks\na/1.jpg,5,5\nb/3.jpg,,\n")
    command = (*COMMAND, "counts.csv", "--root", small.root, "--predicted-only", "--samples", "0")
    done = dpmo(*command, "--json")
    assert done.lines == ["dpmo: 2 images without a prediction, left out (a/2.jpg, b/3.jpg)"]
    found = done.json
    assert (found["images"], found["true_people"], found["figures"]["mae"]["value"]) == (1, 2, 3)
    assert (found["images_without_prediction"], found["predicted_only"]) == (2, True)
    assert dpmo(*command).stdout.splitlines()[-1] == "2 images without a prediction, left out"
