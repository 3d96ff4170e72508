from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.datasets.images import image_size_hw
from dpmo_cli.datasets.inspect import outside_count
from dpmo_cli.datasets.qnrf import Qnrf, UcfCc50
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder


@pytest.mark.parametrize("home", ["UCF-QNRF_ECCV18", "ucf-qnrf", "UCF_QNRF"])
def test_both_splits_are_read(build: Builder, home: str) -> None:
    build.qnrf(f"{home}/")
    for root, prefix in ((build.root, f"{home}/"), (build.root / home, "")):
        dataset = Qnrf(root)
        assert dataset.splits() == ("train", "test")
        (entry,) = dataset.entries("test")
        assert entry.file_name == f"{prefix}Test/img_0001.jpg"
        heads = dataset.read_heads(entry)
        assert heads.points_xy.tolist() == [[5.0, -0.17]]
        assert heads.warnings == ()


def test_cc50_is_one_flat_split(build: Builder) -> None:
    build.cc50()
    for root, prefix in ((build.root, "UCF_CC_50/"), (build.root / "UCF_CC_50", "")):
        dataset = UcfCc50(root)
        assert dataset.splits() == ("all",)
        names = [entry.file_name for entry in dataset.entries("all")]
        assert names == [f"{prefix}1.jpg", f"{prefix}10.jpg", f"{prefix}2.jpg"]


def test_single_points_integers_and_none(build: Builder) -> None:
    build.mat("1_ann.mat", annPoints=np.array([[7, 8]], np.uint16))
    build.mat("2_ann.mat", annPoints=np.empty((0, 0)))
    build.mat("3_ann.mat", annPoints=np.zeros((2, 3)))
    dataset = UcfCc50(build.root)
    one, none, wrong = dataset.entries("all")
    assert dataset.read_heads(one).points_xy.tolist() == [[7.0, 8.0]]
    assert dataset.read_heads(none).points_xy.shape == (0, 2)
    with pytest.raises(InputError, match=r"3_ann\.mat: expected annPoints .*shape \(2, 3\)"):
        dataset.read_heads(wrong)


def test_a_folder_of_another_kind_is_refused(build: Builder) -> None:
    build.image("photos/1.jpg")
    with pytest.raises(UsageError, match=r"holds no qnrf .*UCF-QNRF_ECCV18"):
        Qnrf(build.root)
    with pytest.raises(UsageError, match=r"holds no ucf-cc-50 .*UCF_CC_50"):
        UcfCc50(build.root / "photos")


def test_the_real_cc50(shared_data: Path) -> None:
    dataset = UcfCc50(shared_data / "UCF_CC_50")
    outside = {
        entry.file_name: outside_count(
            dataset.read_heads(entry).points_xy, image_size_hw(entry.image_path)
        )
        for entry in dataset.entries("all")
    }
    assert len(outside) == 10
    assert {name for name, count in outside.items() if count} == {"1.jpg", "6.jpg"}


def test_the_real_qnrf_annotation_and_its_missing_image(shared_data: Path) -> None:
    dataset = Qnrf(shared_data / "UCF-QNRF_ECCV18")
    assert dataset.splits() == ("test",)
    (entry,) = dataset.entries("test")
    assert entry.file_name == "Test/img_0001.jpg"
    heads = dataset.read_heads(entry)
    assert len(heads) == 977
    assert heads.points_xy[:, 1].min() == pytest.approx(-0.17, abs=0.01)
