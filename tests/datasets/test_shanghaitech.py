from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.datasets.shanghaitech import ShanghaiTechA, ShanghaiTechB
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder

POINTS = np.array([[1.5, 2.0], [-383.0, 4.25]])


@pytest.mark.parametrize("part", ["part_A_final", "part_A", "A", "PART_a_Final", "a"])
@pytest.mark.parametrize("train", ["train_data", "train", "Train_Data"])
@pytest.mark.parametrize("gt", ["ground-truth", "ground_truth", "Ground_Truth"])
def test_every_spelling_of_the_folders(build: Builder, part: str, train: str, gt: str) -> None:
    build.image(f"{part}/{train}/Images/IMG_7.JPG")
    build.gt(f"{part}/{train}/{gt}/GT_IMG_7.mat", POINTS)
    from_above = ShanghaiTechA(build.root)
    from_inside = ShanghaiTechA(build.root / part)
    assert from_above.splits() == from_inside.splits() == ("train",)
    (entry,) = from_above.entries("train")
    assert entry.file_name == f"{part}/{train}/Images/IMG_7.JPG"
    assert entry.image_path.is_file()
    (entry,) = from_inside.entries("train")
    assert entry.file_name == f"{train}/Images/IMG_7.JPG"
    heads = from_inside.read_heads(entry)
    np.testing.assert_array_equal(heads.points_xy, POINTS)
    assert heads.warnings == ()


def test_images_come_in_lexicographic_order(build: Builder) -> None:
    build.shanghaitech()
    dataset = ShanghaiTechA(build.root)
    assert dataset.splits() == ("train", "test")
    names = [entry.file_name for entry in dataset.entries("test")]
    folder = "part_A_final/test_data/images"
    assert names == [f"{folder}/IMG_1.jpg", f"{folder}/IMG_10.jpg", f"{folder}/IMG_2.jpg"]


@pytest.mark.parametrize(
    ("location", "number", "warnings"),
    [
        pytest.param(POINTS, np.uint8(2), (), id="as released"),
        pytest.param(np.array([[3, 5]], np.uint16), np.uint16(1), (), id="uint16"),
        pytest.param(np.empty((0, 2)), np.uint8(0), (), id="nobody"),
        pytest.param(np.empty((0, 0)), np.uint8(0), (), id="nobody, 0 x 0"),
        pytest.param(
            POINTS,
            np.uint16(3),
            ("count mismatch: number says 3, 2 points are listed",),
            id="other number",
        ),
        pytest.param(
            POINTS,
            np.array([[1, 2]]),
            ("count mismatch: number says an array of shape (1, 2), 2 points are listed",),
            id="number is an array",
        ),
        pytest.param(
            np.array([[np.nan, 1], [np.inf, 2], [3, 4]]),
            np.uint8(3),
            ("2 points are NaN or infinite",),
            id="not finite",
        ),
    ],
)
def test_points_and_their_number(
    build: Builder, location: np.ndarray, number: object, warnings: tuple[str, ...]
) -> None:
    build.image("part_A/train/images/IMG_1.jpg")
    build.gt("part_A/train/ground_truth/GT_IMG_1.mat", location, number)
    dataset = ShanghaiTechA(build.root)
    heads = dataset.read_heads(dataset.entries("train")[0])
    assert heads.points_xy.dtype == np.float64
    np.testing.assert_array_equal(heads.points_xy, location.reshape(-1, 2))
    assert heads.boxes_xyxy is heads.occlusion is heads.blurred is heads.external_ids is None
    assert heads.warnings == warnings


def test_a_struct_without_its_cell_or_number_is_fine(build: Builder) -> None:
    build.mat("part_A/train/ground_truth/GT_IMG_1.mat", image_info={"location": POINTS})
    dataset = ShanghaiTechA(build.root)
    heads = dataset.read_heads(dataset.entries("train")[0])
    np.testing.assert_array_equal(heads.points_xy, POINTS)
    assert heads.warnings == ()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({"annPoints": POINTS}, "image_info, found annPoints", id="QNRF's variable"),
        pytest.param({"image_info": POINTS}, "struct with location, found no struct", id="table"),
        pytest.param(
            {"image_info": {"points": POINTS, "number": 2}},
            "found the fields points, number",
            id="other fields",
        ),
        pytest.param(
            {"image_info": {"location": np.zeros((4, 3))}},
            r"image_info\.location .*shape \(4, 3\)",
            id="three columns",
        ),
        pytest.param({"image_info": {"location": "nobody"}}, "array of <U6", id="text"),
    ],
)
def test_a_wrong_annotation_is_named(
    build: Builder, variables: dict[str, object], says: str
) -> None:
    path = build.mat("part_A/train/ground_truth/GT_IMG_1.mat", **variables)
    dataset = ShanghaiTechA(build.root)
    with pytest.raises(InputError, match=says) as caught:
        dataset.read_heads(dataset.entries("train")[0])
    assert caught.value.path == str(path)


def test_a_part_is_not_taken_for_the_other(build: Builder) -> None:
    build.shanghaitech("part_B_final")
    with pytest.raises(UsageError, match="use --dataset shanghaitech-b"):
        ShanghaiTechA(build.root / "part_B_final")
    with pytest.raises(UsageError, match="holds no shanghaitech-a"):
        ShanghaiTechA(build.root)
    assert ShanghaiTechB(build.root).splits() == ("train", "test")


def test_two_releases_side_by_side_are_not_guessed(build: Builder) -> None:
    build.shanghaitech("part_A")
    (build.root / "A").mkdir()  # holds no annotations, so it is no rival
    assert ShanghaiTechA(build.root).home == build.root / "part_A"
    build.shanghaitech("part_A_final")
    with pytest.raises(UsageError, match="part_A and part_A_final; give one of them"):
        ShanghaiTechA(build.root)


@pytest.mark.parametrize(
    ("alias", "images", "points", "duplicates"),
    [
        pytest.param("sha", 300, 162_413, 63, id="part A"),
        pytest.param("shb", 400, 49_151, 38, id="part B"),
    ],
)
def test_the_real_train_splits(
    shared_data: Path, alias: str, images: int, points: int, duplicates: int
) -> None:
    dataset = open_dataset(alias, shared_data / "ShanghaiTech")
    assert dataset.splits() == ("train",)
    entries = dataset.entries("train")
    found_points = found_duplicates = 0
    for entry in entries:
        assert entry.image_path.is_file()
        heads = dataset.read_heads(entry)
        assert heads.warnings == ()
        found_points += len(heads)
        found_duplicates += len(heads) - len({(x, y) for x, y in heads.points_xy.tolist()})
    assert (len(entries), found_points, found_duplicates) == (images, points, duplicates)
