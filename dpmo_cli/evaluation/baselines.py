"""Trivial baselines: masks from points without any learning, which a network has to beat.

Every baseline gives each site inside the image a mask within its disc that holds the site's pixel.
So that the comparison flatters nobody, the constants are the best that were found on images to
train on: mean IoU per point against truth cut by the disc, averaged over PennFudan, nuclei and
composed crowds (93, 323 and 1,723 points). The docstrings name what others gave there. Cutting by
Voronoi cells and not by discs alone is of these choices, too: it gives the last two 0.01.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.nnec import disc_mask, disc_windows
from dpmo_cli.geometry.points import FloatArray, Sites
from dpmo_cli.geometry.rle import WindowXYXY

Mask = NDArray[np.bool_]
WindowMask = tuple[Mask, WindowXYXY]
"""The (h, w) pixels of a window, and the window: x0, y0, x1, y1, px, half open."""
Baseline = Callable[[NDArray[np.uint8], Sites, FloatArray], list[WindowMask]]
"""From (H, W, 3) uint8 RGB, S sites and their (S,) radii in px to a mask of each site, in order.

A site outside the image gets a window without pixels. Masks may overlap but where a baseline says
that they do not.
"""

SLIC_SIDE = 0.8
"""Side of a superpixel in radii: 0.44, as with 1; 0.42 with 2/3."""
SLIC_GRID = 3
"""Superpixels along a side of the square that is segmented: the middle one begins at the site."""
SLIC_COMPACTNESS = 50.0
"""0.44, as with 30; 0.41 with 20, 0.43 with 80."""
SLIC_SMALLEST = 0.1
"""Smaller parts of a superpixel are given away; half of one, scikit-image's choice, costs 0.01."""
GRADIENT_SIGMA_PX = 0.7
"""0.48; 0.47 with 1.5."""
WATERSHED_CORE = 0.25
"""Radius of the seed, in parts of the disc's: 0.48, as with 0.2; 0.34 with a seed of one pixel."""
WATERSHED_COMPACTNESS = 0.0
"""0.48; 0.46 with 0.1, 0.43 with 1."""
GRABCUT_CORE = 0.25
"""Radius of what is surely foreground, in parts of the disc's: 0.53; 0.50 with 0.15.

All the rest of the disc probably is: 0.04 better, on fewer points, than to 0.7 of its radius.
"""
GRABCUT_SIDE_PX = 64
"""Larger windows are shrunk to this side and smaller ones magnified: its time is the area's."""
GRABCUT_MAGNIFICATION = 3.0
"""0.52; 0.47 with 1."""
GRABCUT_ITERATIONS = 1
"""0.52, as with two."""
NOBODY = -1


@dataclass(frozen=True)
class _Disc:
    """The disc of one site.

    Attributes:
        site: its index.
        xy, radius_px: centre and radius, px.
        window_xyxy: of the disc, px, half open.
        mask: (h, w) bool, its pixels of the window.
        own: row and column of the pixel that the site holds, in the window.
    """

    site: int
    xy: FloatArray
    radius_px: float
    window_xyxy: WindowXYXY
    mask: Mask
    own: tuple[int, int]

    def core(self, part: float) -> Mask:
        """The disc of a part of the radius, with the site's pixel: (h, w) bool."""
        core = disc_mask(self.xy, part * self.radius_px, self.window_xyxy)
        core[self.own] = True
        return core


def _discs(sites: Sites, radii_px: FloatArray, size_hw: tuple[int, int]) -> Iterator[_Disc]:
    """Draw the discs of the sites inside the image, one after the other."""
    windows = disc_windows(sites.xy, radii_px, size_hw).tolist()
    for site in np.flatnonzero(sites.inside).tolist():
        x0, y0, x1, y1 = windows[site]
        radius = float(radii_px[site])
        mask = disc_mask(sites.xy[site], radius, (x0, y0, x1, y1))
        x, y = sites.pixel_xy[site].tolist()
        # A disc smaller than a pixel still has the pixel of its site.
        mask[y - y0, x - x0] = True
        yield _Disc(site, sites.xy[site], radius, (x0, y0, x1, y1), mask, (y - y0, x - x0))


def _each(
    image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray, mask_of: Callable[[_Disc], Mask]
) -> list[WindowMask]:
    """Collect what a function makes of each disc, and nothing for sites outside the image."""
    empty = np.zeros((0, 0), dtype=np.bool_)
    masks: list[WindowMask] = [(empty, (0, 0, 0, 0))] * len(sites)
    for disc in _discs(sites, radii_px, (image.shape[0], image.shape[1])):
        masks[disc.site] = (mask_of(disc), disc.window_xyxy)
    return masks


def require_trials() -> None:
    """Check that the extra `trials` is there, before anything long begins.

    Raises:
        UsageError: it is not installed.
    """
    for name in ("skimage.segmentation", "cv2"):
        _trials_module(name)


def _trials_module(name: str) -> Any:
    """Import a module of the extra `trials`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"the baselines need {name.partition('.')[0]}, which is missing: pip install "
            "'dpmo-cli[trials]' (it brings scikit-image and opencv-python-headless)"
        ) from error


def _nearest_sites(
    sites: Sites, radii_px: FloatArray, size_hw: tuple[int, int]
) -> NDArray[np.int32]:
    """The nearest site inside the image of every pixel of a disc: (H, W) int32, -1 elsewhere.

    A pixel that a site holds is its own.
    """
    owner = np.full(size_hw, NOBODY, dtype=np.int32)
    holders = np.flatnonzero(sites.inside)
    if not len(holders):
        return owner
    tree = cKDTree(sites.xy[holders])
    for disc in _discs(sites, radii_px, size_hw):
        x0, y0, x1, y1 = disc.window_xyxy
        part = owner[y0:y1, x0:x1]
        rows, columns = np.nonzero(disc.mask & (part == NOBODY))
        _, nearest = tree.query(np.stack([columns + x0, rows + y0], axis=1))
        part[rows, columns] = holders[nearest]
    held = sites.pixel_xy[holders]
    owner[held[:, 1], held[:, 0]] = holders
    return owner


def scaled_disc(factor: float) -> Baseline:
    """All pixels of the disc whose radius is `factor` times the site's; discs overlap."""

    def baseline(image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray) -> list[WindowMask]:
        return _each(image, sites, factor * radii_px, lambda disc: disc.mask)

    return baseline


def voronoi_cell(image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray) -> list[WindowMask]:
    """The pixels of the disc that are nearer to the site than to any other; masks are disjoint."""
    owner = _nearest_sites(sites, radii_px, (image.shape[0], image.shape[1]))

    def cell(disc: _Disc) -> Mask:
        x0, y0, x1, y1 = disc.window_xyxy
        mine: Mask = owner[y0:y1, x0:x1] == disc.site
        return mine & disc.mask

    return _each(image, sites, radii_px, cell)


def _regions(
    image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray, region_of: Callable[[_Disc], Mask]
) -> list[WindowMask]:
    """Cut regions by the Voronoi cells in the discs, and keep what hangs together with the site."""
    cells = voronoi_cell(image, sites, radii_px)

    def region(disc: _Disc) -> Mask:
        mask = region_of(disc) & cells[disc.site][0]
        mask[disc.own] = True
        parts, _ = ndimage.label(mask)
        connected: Mask = parts == parts[disc.own]
        return connected

    return _each(image, sites, radii_px, region)


def slic_superpixel(
    image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray
) -> list[WindowMask]:
    """The SLIC superpixel that holds the site; pixels of a shared one go to the nearest site.

    Superpixels are sized after the local crowd: round every site a square of SLIC_GRID x SLIC_GRID
    of them is segmented, each SLIC_SIDE radii wide, so that one begins at the site. Beyond the
    image the square repeats its border.

    Source: Achanta et al., TPAMI 2012; scikit-image's `slic`.
    """
    slic = _trials_module("skimage.segmentation").slic
    height, width = image.shape[:2]

    def superpixel(disc: _Disc) -> Mask:
        x0, y0, x1, y1 = disc.window_xyxy
        # At least the window of the disc, which the border of the image may have cut.
        reach = max(SLIC_GRID, math.ceil(max(1.0, SLIC_GRID / 2 * SLIC_SIDE) * disc.radius_px))
        rows = np.arange(-reach, reach + 1) + y0 + disc.own[0]
        columns = np.arange(-reach, reach + 1) + x0 + disc.own[1]
        crop = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        labels = slic(
            crop,
            n_segments=SLIC_GRID**2,
            compactness=SLIC_COMPACTNESS,
            min_size_factor=SLIC_SMALLEST,
        )
        top, left = y0 - rows[0], x0 - columns[0]
        window = labels[top : top + y1 - y0, left : left + x1 - x0]
        mask: Mask = window == labels[reach, reach]
        return mask

    return _regions(image, sites, radii_px, superpixel)


def watershed_region(
    image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray
) -> list[WindowMask]:
    """What floods from a core round the site before the flood from beyond its disc arrives.

    The relief is the gradient's magnitude, in the channel where it is largest. Pixels that other
    sites hold in the disc are seeds of the other flood.

    Source: Meyer, Signal Processing 1994; scikit-image's `watershed`.
    """
    watershed = _trials_module("skimage.segmentation").watershed
    relief = np.zeros(image.shape[:2], dtype=np.float32)
    for channel in np.moveaxis(image, 2, 0).astype(np.float32):
        slope = ndimage.gaussian_gradient_magnitude(channel, GRADIENT_SIGMA_PX)
        np.maximum(relief, slope, out=relief)
    held = np.zeros(image.shape[:2], dtype=np.bool_)
    pixels = sites.pixel_xy[sites.inside]
    held[pixels[:, 1], pixels[:, 0]] = True

    def region(disc: _Disc) -> Mask:
        x0, y0, x1, y1 = disc.window_xyxy
        seeds = np.where(disc.core(WATERSHED_CORE), 1, 0)
        seeds[~disc.mask | held[y0:y1, x0:x1]] = 2
        seeds[disc.own] = 1
        flooded = watershed(relief[y0:y1, x0:x1], seeds, compactness=WATERSHED_COMPACTNESS)
        mask: Mask = flooded == 1
        return mask

    return _regions(image, sites, radii_px, region)


def grabcut_region(
    image: NDArray[np.uint8], sites: Sites, radii_px: FloatArray
) -> list[WindowMask]:
    """What GrabCut holds for the site's: the part in the disc that is connected to the site.

    A core is surely foreground, the rest of the disc probably is, and the corners of its window
    are background. Where that fails, as without any background, the core is the mask.
    OpenCV's random state is set anew for each site, so that no site changes another's mask.

    Source: Rother et al., SIGGRAPH 2004; OpenCV's `grabCut`.
    """
    cv2 = _trials_module("cv2")

    def region(disc: _Disc) -> Mask:
        x0, y0, x1, y1 = disc.window_xyxy
        height, width = disc.mask.shape
        zoom = min(GRABCUT_MAGNIFICATION, GRABCUT_SIDE_PX / max(height, width))
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        scale_xy = np.array(size) / (width, height)
        centre = (disc.xy - (x0, y0) + 0.5) * scale_xy - 0.5
        crop = cv2.resize(image[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
        inside, core = (
            disc_mask(centre, part * disc.radius_px * zoom, (0, 0, *size))
            for part in (1.0, GRABCUT_CORE)
        )
        column, row = np.minimum((np.array(disc.own[::-1]) + 0.5) * scale_xy, size).astype(int)
        labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        labels[core] = cv2.GC_FGD
        labels[row, column] = cv2.GC_FGD
        if (labels != cv2.GC_BGD).all():
            return disc.core(GRABCUT_CORE)
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        try:
            cv2.grabCut(crop, labels, None, *models, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_MASK)
        except cv2.error:
            return disc.core(GRABCUT_CORE)
        found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
        mask: Mask = cv2.resize(found, (width, height)) > 0.5
        return mask

    return _regions(image, sites, radii_px, region)


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "disc": scaled_disc(1.0),
        "half disc": scaled_disc(0.5),
        "voronoi": voronoi_cell,
        "slic": slic_superpixel,
        "watershed": watershed_region,
        "grabcut": grabcut_region,
    }
)
