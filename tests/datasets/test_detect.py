from collections.abc import Callable
from pathlib import Path

import pytest

from dpmo_cli.datasets.detect import detect
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder
from .test_reader import LAYOUTS


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_dataset_is_found_with_certainty(build: Builder, name: str) -> None:
    LAYOUTS[name](build)
    (found,) = detect(build.root)
    assert (found.name, found.confidence) == (name, 1.0)
    assert str(build.root) in found.why


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            lambda build: build.shanghaitech("."),
            [("shanghaitech-a", 0.4), ("shanghaitech-b", 0.4)],
            id="a part whose name says nothing",
        ),
        pytest.param(
            lambda build: build.mat("Train/x_ann.mat", annPoints=[[1, 2]]),
            [("qnrf", 0.7)],
            id="QNRF with other names",
        ),
        pytest.param(
            lambda build: build.mat("img_0001_ann.mat", annPoints=[[1, 2]]),
            [("ucf-cc-50", 0.4)],
            id="a split of QNRF",
        ),
        pytest.param(
            lambda build: build.text("train/gt/0001.txt", ""), [("jhu", 0.7)], id="JHU, no labels"
        ),
        pytest.param(
            lambda build: build.text("val.txt", "0001 1 1\n"), [("nwpu", 0.7)], id="NWPU's lists"
        ),
        pytest.param(lambda build: build.image("a.jpg"), [], id="photos alone"),
    ],
)
def test_weaker_signs_give_less_confidence(
    build: Builder, make: Callable[[Builder], object], expected: list[tuple[str, float]]
) -> None:
    make(build)
    assert [(one.name, one.confidence) for one in detect(build.root)] == expected


def test_a_broken_table_is_shown_and_not_passed_over(build: Builder) -> None:
    build.text("points.csv", "image,x\n")
    (found,) = detect(build.root)
    assert found.name == "csv"
    assert "y missing" in found.why
    with pytest.raises(InputError, match="y missing"):
        open_dataset("auto", build.root)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        detect(tmp_path / "missing")


def test_the_real_datasets(shared_data: Path) -> None:
    found = {one.name: one.confidence for one in detect(shared_data / "ShanghaiTech")}
    assert found == {"shanghaitech-a": 1.0, "shanghaitech-b": 1.0}
    for folder, name in (
        ("ShanghaiTech/part_B_final", "shanghaitech-b"),
        ("UCF_CC_50", "ucf-cc-50"),
        ("UCF-QNRF_ECCV18", "qnrf"),
        ("NWPU-Crowd", "nwpu"),
    ):
        assert [one.name for one in detect(shared_data / folder)] == [name]
