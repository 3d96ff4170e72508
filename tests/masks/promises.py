"""What the method promises of a segmented image, and how tests make one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.masks.settle import SegmentedImage
from dpmo_cli.masks.site_mask import SiteMask
from dpmo_cli.sam.engine import PromptEngine

Points = Sequence[tuple[float, float]] | NDArray[np.float64]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(height * 10007 + width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def segment(
    size_hw: tuple[int, int],
    points: Points,
    engine: PromptEngine,
    method: Method | None = None,
    hidden: NDArray[np.bool_] | None = None,
) -> SegmentedImage:
    points_xy = np.array(points, dtype=np.float64).reshape(-1, 2)
    return segment_image(noise(*size_hw), points_xy, engine, method or Method(), hidden=hidden)


def decoded(mask: SiteMask) -> NDArray[np.bool_]:
    with warnings.catch_warnings():
        # pycocotools 2.0.11 speaks to NumPy 2 in an old way.
        warnings.simplefilter("ignore", DeprecationWarning)
        full: NDArray[np.bool_] = coco_mask.decode(mask.rle).astype(np.bool_)
    return full


def check(found: SegmentedImage, size_hw: tuple[int, int], *, in_disc: bool = True) -> None:
    """Hold a segmented image to what the method promises."""
    count = len(found.sites)
    assert len(found.masks) == len(found.radii_px) == len(found.reasons) == count
    owners = np.zeros(size_hw, dtype=np.int64)
    pixels = found.sites.pixel_xy
    held = np.zeros(size_hw, dtype=np.int64)
    held[pixels[found.sites.inside, 1], pixels[found.sites.inside, 0]] = 1
    assert held.sum() == found.sites.inside.sum()
    for site, mask in enumerate(found.masks):
        assert np.isfinite(found.scores.score[site]) == found.prompted[site]
        if mask is None:
            continue
        assert found.prompted[site]
        assert found.sites.inside[site]
        full = decoded(mask)
        assert full.shape == size_hw
        ys, xs = np.nonzero(full)
        x, y = found.sites.xy[site]
        beyond = (xs - x) ** 2 + (ys - y) ** 2 > found.radii_px[site] ** 2
        # A tiny disc may miss the centre of its own pixel, which is the site's in any case.
        own = (xs == pixels[site, 0]) & (ys == pixels[site, 1])
        assert not in_disc or not (beyond & ~own).any()
        assert own.any()
        assert held[ys, xs].sum() == 1, "a mask holds the pixel of another site"
        assert ndimage.label(full)[1] == 1, "a mask is in one piece"
        owners[ys, xs] += 1
        left, top = int(xs.min()), int(ys.min())
        box = (left, top, int(xs.max()) - left + 1, int(ys.max()) - top + 1)
        assert (mask.area_px, mask.bbox_xywh) == (len(xs), box)
    assert owners.max(initial=0) <= 1, "two masks share a pixel"


def same_scores(one: SegmentedImage, other: SegmentedImage) -> None:
    """Sums of cells in windows of other sizes are rounded otherwise."""
    for name, values in vars(one.scores).items():
        np.testing.assert_allclose(getattr(other.scores, name), values, rtol=1e-5, err_msg=name)


def by_coordinates(found: SegmentedImage, *, scores: bool = True) -> list[object]:
    """All that is known of each site, under its coordinates."""
    names = list(vars(found.scores)) if scores else []
    known = np.array([getattr(found.scores, name) for name in names]).reshape(
        len(names), len(found.sites)
    )
    return [
        (
            tuple(found.sites.xy[site]),
            found.radii_px[site],
            found.masks[site],
            known[:, site].tobytes(),
            found.reasons[site],
        )
        for site in range(len(found.sites))
    ]
