from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from dpmo_cli.outputs.mask_checks import Annotation, check_masks
from tests.outputs.samples import mask_columns


def annotation(
    index: int, mask: NDArray[np.bool_], point_xy: tuple[float, float], radius_px: float
) -> Annotation:
    columns = mask_columns(mask)
    return Annotation(
        id=index,
        image_id=1,
        category_id=1,
        iscrowd=0,
        size_hw=(mask.shape[0], mask.shape[1]),
        counts=columns["rle"]["counts"],
        area=columns["area"],
        bbox=tuple(columns["bbox"]),
        point_id=index,
        point_xy=point_xy,
        radius_px=radius_px,
        extent="nnec",
    )


@st.composite
def crowds(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[float]]:
    """Masks (N, H, W), points (N, 2) inside the image and radii, fitting each other by chance."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    count = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = rng.random((count, 2)) * [width, height]
    radii = [draw(st.sampled_from([0.2, 1.0, 3.0, 5.0])) for _ in range(count)]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    masks = np.stack([np.hypot(x - px, y - py) <= 3 for px, py in points])
    masks &= rng.random(masks.shape) < draw(st.sampled_from([0.2, 0.7, 1.0]))
    if draw(st.booleans()):
        columns, rows = np.rint(points).astype(int).T
        masks[np.arange(count), rows.clip(0, height - 1), columns.clip(0, width - 1)] = True
    return masks, points, radii


@given(crowds())
def test_findings_are_those_of_the_pixels(
    crowd: tuple[NDArray[np.bool_], NDArray[np.float64], list[float]],
) -> None:
    masks, points, radii = crowd
    height, width = masks.shape[1:]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    expected = set()
    for mask, (px, py), radius in zip(masks, points, radii, strict=True):
        own = np.zeros_like(mask)
        own[min(round(py), height - 1), min(round(px), width - 1)] = True
        if (mask & ~own & (np.hypot(x - px, y - py) > radius + 1e-6)).any():
            expected.add("DPMO-V025")
        if not (mask & own).any():
            expected.add("DPMO-V026")
    if (masks.sum(axis=0) > 1).any():
        expected.add("DPMO-V024")
    annotations = [
        annotation(i, mask, (float(xy[0]), float(xy[1])), radius)
        for i, (mask, xy, radius) in enumerate(zip(masks, points, radii, strict=True))
    ]
    assert {code for code, _ in check_masks(annotations, (height, width))} == expected


def test_the_annotations_that_are_wrong_are_named() -> None:
    masks = np.zeros((4, 8, 8), bool)
    masks[0, 1:4, 1:4] = masks[1, 3:6, 3:6] = masks[2, 3, 3] = masks[3, 7, 7] = True
    points = [(2.0, 2.0), (4.0, 4.0), (3.0, 3.0), (7.0, 7.0)]
    annotations = [annotation(10 + i, masks[i], points[i], 5) for i in range(4)]
    assert dict(check_masks(annotations, (8, 8))) == {
        "DPMO-V024": "annotations 10 and 11, 11 and 12"
    }


@pytest.mark.parametrize("count", [1, 5, 6])
def test_many_annotations_are_named_by_the_first(count: int) -> None:
    annotations = [annotation(i, np.eye(3, dtype=bool), (0.0, 0.0), 9) for i in range(count)]
    text = dict(check_masks(annotations, (4, 4)))["DPMO-V020"]
    assert text.startswith("annotation 0")
    assert ("..." in text) is (count > 5)
    assert text.endswith("(3, 3) (H, W), the image has (4, 4)")
