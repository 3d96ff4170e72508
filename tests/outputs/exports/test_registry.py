from __future__ import annotations

import pytest

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.exports.plan import Options
from dpmo_cli.outputs.exports.registry import FORMATS, find_format

NAMES = ["coco", "coco-polygons", "yolo-seg", "boxes", "label-maps", "density", "parquet"]


def test_the_formats() -> None:
    assert list(FORMATS) == NAMES
    assert [find_format(name).name for name in NAMES] == NAMES


def test_an_unknown_format_is_named_with_a_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean yolo-seg") as caught:
        find_format("yoloseg")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("coco", "none"), ("yolo-seg", "link"), ("boxes", "link"), ("parquet", "copy")],
)
def test_defaults(name: str, expected: str) -> None:
    assert FORMATS[name].options(None, per_image=False, png=False) == Options(expected)


@pytest.mark.parametrize(
    ("name", "images", "per_image", "png", "problem"),
    [
        pytest.param("coco", "copy", False, False, "--images copy", id="no photos"),
        pytest.param("density", None, True, False, "--per-image", id="no JSON"),
        pytest.param("yolo-seg", None, False, True, "--png", id="no maps"),
        pytest.param("yolo-seg", "move", False, False, "use link, copy, none", id="unknown word"),
    ],
)
def test_what_a_format_does_not_take(
    name: str, images: str | None, per_image: bool, png: bool, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        FORMATS[name].options(images, per_image=per_image, png=png)
