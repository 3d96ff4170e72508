"""True heads from readers and from NWPU's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.true_heads import TrueImage, open_truth
from tests.datasets.conftest import Builder


def test_a_dataset_with_boxes(tmp_path: Path) -> None:
    build = Builder(tmp_path)
    build.nwpu()
    truth = open_truth("auto", build.root, None, "train")
    assert truth.name == "nwpu"
    assert [one.file_name for one in truth.images] == [
        "NWPU-Crowd/images/0001.jpg",
        "NWPU-Crowd/images/0003.jpg",
    ]
    heads = truth.heads(0)
    assert heads.points_xy.tolist() == [[10, 5], [20.5, 6]]
    assert heads.sized is not None
    assert heads.sized.sigma_small_px.tolist() == [2, 2]
    assert heads.sized.levels.tolist() == [1, 1]
    assert len(truth.heads(1).points_xy) == 0


def test_all_splits_and_left_out_heads(tmp_path: Path) -> None:
    build = Builder(tmp_path)
    build.text("points.csv", "image,x,y,split\na.jpg,1,2,train\na.jpg,nan,2,train\nb.jpg,,,test\n")
    truth = open_truth("csv", build.root, None, None)
    assert truth.images == [TrueImage("train", "a.jpg"), TrueImage("test", "b.jpg")]
    heads = truth.heads(0)
    assert (heads.points_xy.tolist(), heads.left_out, heads.sized) == ([[1, 2]], 1, None)


def test_the_file_of_nwpu(tmp_path: Path) -> None:
    path = tmp_path / "loc.txt"
    path.write_text("3110 1 5 6 2 3 1\n3111 0\n")
    truth = open_truth("auto", None, path, None)
    assert (truth.name, [one.file_name for one in truth.images]) == (str(path), ["3110", "3111"])
    assert truth.heads(0).sized is not None
    path.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        open_truth("auto", None, path, None)


def test_a_box_that_is_not_finite(tmp_path: Path) -> None:
    build = Builder(tmp_path)
    build.nwpu()
    content = {"points": [[1, 2]], "boxes": [[0, None, 2, 2]]}
    build.json("NWPU-Crowd/jsons/0001.json", content)
    truth = open_truth("nwpu", build.root, None, "train")
    with pytest.raises(InputError, match=r"0001\.json: the box of head 0 is not finite"):
        truth.heads(0)


@pytest.mark.parametrize(
    ("root", "gt_loc", "split", "says"),
    [
        pytest.param(None, None, None, "give the truth: a dataset with --root, or", id="nothing"),
        pytest.param(Path(), Path("x"), None, "give the truth: a dataset", id="both"),
        pytest.param(
            None, Path("x"), "val", "--split: the truth of --gt-loc has no splits", id="split"
        ),
        pytest.param(None, Path("x"), None, "x: no such file", id="no file"),
        pytest.param(Path("x"), None, None, "the root x does not exist", id="no root"),
    ],
)
def test_wrong_use(root: Path | None, gt_loc: Path | None, split: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_truth("nwpu", root, gt_loc, split)
