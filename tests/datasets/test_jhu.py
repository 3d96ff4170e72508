import numpy as np
import pytest

from dpmo_cli.datasets.base import ImageEntry
from dpmo_cli.datasets.jhu import Jhu
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder


@pytest.mark.parametrize("home", ["jhu_crowd_v2.0", "JHU_Crowd_v2.0", "jhu-crowd++"])
def test_heads_and_labels_are_read(build: Builder, home: str) -> None:
    build.jhu(f"{home}/")
    for root, prefix in ((build.root, f"{home}/"), (build.root / home, "")):
        dataset = Jhu(root)
        assert dataset.splits() == ("train", "val", "test")
        crowd, empty = dataset.entries("val")
        assert crowd.file_name == f"{prefix}val/images/0001.jpg"
        assert crowd.labels == {
            "count": "2",
            "scene": "street, at night",
            "weather": "fog",
            "distractor": "0",
        }
        heads = dataset.read_heads(crowd)
        assert heads.points_xy.tolist() == [[10, 8], [20, 9]]
        # x, y is the centre of the box w x h.
        assert heads.boxes_xyxy is not None
        assert heads.boxes_xyxy.tolist() == [[8, 5, 12, 11], [17.5, 6, 22.5, 12]]
        assert heads.occlusion is not None
        assert heads.occlusion.dtype == np.int8
        assert heads.occlusion.tolist() == [1, 3]
        assert heads.blurred is not None
        assert heads.blurred.tolist() == [False, True]
        assert heads.warnings == ()

        assert empty.labels["distractor"] == "1"
        assert empty.labels["weather"] == "none"
        nobody = dataset.read_heads(empty)
        assert nobody.points_xy.shape == (0, 2)
        assert nobody.boxes_xyxy is not None
        assert nobody.boxes_xyxy.shape == (0, 4)
        assert nobody.warnings == ()


def _one(build: Builder, gt: str, labels: str | None = None) -> tuple[Jhu, ImageEntry]:
    build.image("train/images/0012.jpg")
    build.text("train/gt/0012.txt", gt)
    if labels is not None:
        build.text("train/image_labels.txt", labels)
    dataset = Jhu(build.root)
    return dataset, dataset.entries("train")[0]


@pytest.mark.parametrize(
    ("gt", "points"),
    [
        pytest.param("1 2 3 4 1 0", [[1, 2]], id="one line, no line end"),
        pytest.param("1 2 3 4 1 0\r\n\r\n5 6 7 8 2 1\r\n", [[1, 2], [5, 6]], id="Windows"),
        pytest.param("\ufeff1\t2  3 4 1 0 \n", [[1, 2]], id="mark, tabs, spaces"),
        pytest.param("1.5 -2.25 3 4 1.0 0.0\n", [[1.5, -2.25]], id="floats"),
        pytest.param("\n\n", np.empty((0, 2)), id="blank lines"),
    ],
)
def test_lines_in_all_shapes(build: Builder, gt: str, points: object) -> None:
    dataset, entry = _one(build, gt)
    heads = dataset.read_heads(entry)
    np.testing.assert_array_equal(heads.points_xy, points)
    assert entry.labels == {}
    assert heads.warnings == ()


@pytest.mark.parametrize(
    ("gt", "labels", "warnings"),
    [
        pytest.param(
            "1 2 3 4 1 0\n",
            "0012,3,street,0,0\n",
            ("count mismatch: image_labels.txt says 3, 1 points are listed",),
            id="other count",
        ),
        pytest.param("1 2 3 4 1 0\n", "12,1,street,9,0\n", (), id="id without leading zeros"),
        pytest.param(
            "1 2 3 4 1 0\n",
            "0013,1,street,0,0\n",
            ("image_labels.txt has no usable line for the image",),
            id="not in the labels",
        ),
        pytest.param(
            "1 2 3 4 1 0\n",
            "0012,1\n",
            ("image_labels.txt has no usable line for the image",),
            id="labels cut short",
        ),
        pytest.param(
            "1 2 3 4 7 0\n",
            None,
            ("1 heads have an occlusion other than 1, 2 or 3",),
            id="unknown occlusion",
        ),
        pytest.param("nan 2 3 4 1 0\n", None, ("1 points are NaN or infinite",), id="NaN"),
    ],
)
def test_oddities_are_warnings(
    build: Builder, gt: str, labels: str | None, warnings: tuple[str, ...]
) -> None:
    dataset, entry = _one(build, gt, labels)
    heads = dataset.read_heads(entry)
    assert len(heads) == 1
    assert heads.warnings == warnings


def test_labels_that_can_not_be_read_do_not_stop_the_run(build: Builder) -> None:
    build.path("train/image_labels.txt").write_bytes(b"0012,1,caf\xe9,0,0\n")
    dataset, entry = _one(build, "1 2 3 4 1 0\n")
    assert dataset.read_heads(entry).warnings == (
        "image_labels.txt has no usable line for the image",
    )


@pytest.mark.parametrize(
    ("gt", "says"),
    [
        pytest.param("1 2 3 4 1 0\n5 6 7 8 1\n", "line 2 has 5 numbers", id="cut line"),
        pytest.param("1 2 3 4 1 0 0\n", "line 1 has 7 numbers", id="long line"),
        pytest.param("1 2 3 x 1 0\n", "line 1 holds no numbers", id="a word"),
        pytest.param("1 2 3 4 1.5 0\n", "codes of occlusion and blur", id="half occlusion"),
        pytest.param("1 2 3 4 nan 0\n", "codes of occlusion and blur", id="NaN occlusion"),
        pytest.param("1 2 3 4 1 -1\n", "codes of occlusion and blur", id="negative blur"),
        pytest.param("\udcff", "not UTF-8", id="no text"),
    ],
)
def test_a_wrong_line_is_named(build: Builder, gt: str, says: str) -> None:
    dataset, entry = _one(build, "")
    assert entry.annotation_path is not None
    entry.annotation_path.write_bytes(gt.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=rf"0012\.txt: .*{says}"):
        dataset.read_heads(entry)


def test_a_folder_of_another_kind_is_refused(build: Builder) -> None:
    build.image("train/images/0001.jpg")
    with pytest.raises(UsageError, match=r"holds no jhu .*jhu_crowd_v2.0"):
        Jhu(build.root)
