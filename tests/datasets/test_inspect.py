import numpy as np
import pytest

from dpmo_cli.datasets.inspect import Finding, duplicate_count, inspect, outside_count
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import UsageError

from .conftest import Builder


@pytest.mark.parametrize(
    ("points", "duplicates", "outside"),
    [
        pytest.param(np.empty((0, 2)), 0, 0, id="none"),
        pytest.param([[1, 1], [1, 1], [1, 1], [2, 1], [2, 1]], 3, 0, id="beyond the first"),
        pytest.param([[1, 1], [1, 1 + 1e-12]], 0, 0, id="exact only"),
        pytest.param([[0.0, 1], [-0.0, 1]], 1, 0, id="signed zero"),
        pytest.param([[0, 0], [29.999, 19.999]], 0, 0, id="at the inner border"),
        pytest.param([[30, 0], [0, 20], [-0.01, 0], [0, -0.17]], 0, 4, id="at the outer border"),
        pytest.param([[np.nan, 1], [np.nan, 1], [np.inf, 1]], 0, 0, id="not finite"),
    ],
)
def test_points_are_counted(points: object, duplicates: int, outside: int) -> None:
    points_xy = np.asarray(points, dtype=np.float64)
    assert duplicate_count(points_xy) == duplicates
    assert outside_count(points_xy, (20, 30)) == outside


def test_everything_that_is_odd_or_wrong_is_found(build: Builder) -> None:
    build.shanghaitech()
    gt = "part_A_final/train_data/ground-truth"
    images = "part_A_final/train_data/images"
    build.gt(f"{gt}/GT_IMG_1.mat", np.array([[1, 1], [1, 1], [-3, 1], [np.nan, 1]]), 9)
    (build.root / gt / "GT_IMG_2.mat").write_bytes(b"no mat file")
    photo = build.root / images / "IMG_10.jpg"
    photo.write_bytes(photo.read_bytes()[:-40])

    found = inspect(open_dataset("sha", build.root))
    train, test = found.splits
    assert (train.split, train.images, train.points) == ("train", 3, 6)
    assert (train.duplicates, train.outside, train.invalid) == (1, 1, 1)
    name = f"{images}/IMG_1.jpg"
    mismatch = "count mismatch: number says 9, 4 points are listed"
    assert train.count_mismatches == (Finding(name, mismatch),)
    assert train.warnings == (Finding(name, "1 points are NaN or infinite"),)
    names = [finding.file_name for finding in train.unreadable]
    assert names == [f"{images}/IMG_10.jpg", f"{images}/IMG_2.jpg"]
    assert "IMG_10.jpg: can't be decoded" in train.unreadable[0].what
    assert "GT_IMG_2.mat: can't be read" in train.unreadable[1].what
    assert (test.images, test.points, test.unreadable) == (3, 6, ())

    total = found.total
    assert (total.split, total.images, total.points) == ("total", 6, 12)
    assert total.unreadable == train.unreadable
    assert inspect(open_dataset("sha", build.root), "Test").splits == (test,)


def test_a_name_that_leads_outside_is_told_once(build: Builder) -> None:
    build.text("points.csv", "image,x,y\n../a.png,1,2\n")
    (finding,) = inspect(open_dataset("csv", build.root)).total.unreadable
    assert "'..'" in finding.what


def test_nothing_to_inspect_is_said(build: Builder) -> None:
    build.text("train.txt", "0001 1 1\n")
    dataset = open_dataset("nwpu", build.root)
    with pytest.raises(UsageError, match="no labelled split"):
        inspect(dataset)
    with pytest.raises(UsageError, match="'train'"):
        inspect(dataset, "train")
