"""Whether our masks are the stock path's, pixel by pixel inside the discs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from dpmo_cli.geometry.nnec import disc_mask
from dpmo_cli.geometry.rle import WindowXYXY, rle_window
from dpmo_cli.geometry.tiles import Tile
from dpmo_cli.masks.claims import Claims
from dpmo_cli.masks.prompting import claim_tiles
from dpmo_cli.masks.settle import SegmentedImage
from dpmo_cli.trials.crowd import Crowd
from dpmo_cli.trials.networks import Remembering
from dpmo_cli.trials.stock import Prompts, Stock

LIMIT = 1e-5
"""The largest logit that rounding may turn."""
AT_ONCE = 8


@dataclass(frozen=True)
class Agreement:
    """How masks compare with the stock path's, before pixels are shared out.

    Attributes:
        masks: how many were compared.
        pixels: inside their discs.
        flips: pixels that belong to one path's mask only.
        largest_logit: the stock path's largest at a flip, without its sign; 0 without flips.
    """

    masks: int
    pixels: int
    flips: int
    largest_logit: float

    @property
    def equal(self) -> bool:
        """Whether nothing but rounding differs."""
        return self.largest_logit < LIMIT

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        return {**asdict(self), "limit": LIMIT, "equal": self.equal}


def our_claims(crowd: Crowd, tiles: Sequence[Tile], engine: Remembering) -> Claims:
    """What the sites of some tiles claim: all pixels of their masks that their discs hold."""
    method = replace(crowd.method, connected=False, ownership=None)
    claims = crowd.claims(method)
    claim_tiles(crowd.image, list(tiles), crowd.sites, engine, method, claims)
    return claims


def compare(crowd: Crowd, claims: Claims, parts: Sequence[Prompts], stock: Stock) -> Agreement:
    """Compare claims with the stock path's full-tile masks for the same prompts.

    Our choice among the candidates is not SAM's, so a claim is held against the candidate that it
    fits best: had it come from another one, its pixels would say so.
    """
    windows = crowd.claims(crowd.method).windows.tolist()
    masks = pixels = flips = 0
    largest = 0.0
    for part in parts:
        for start in range(0, len(part.sites), AT_ONCE):
            chunk = part.part(start, start + AT_ONCE)
            lowres, _ = stock.candidates(chunk)
            if stock.output is not None:
                lowres = lowres[:, stock.output : stock.output + 1]
            logits = stock.upsampled(lowres, chunk.encoded).float().cpu().numpy()
            for site, of_site in zip(chunk.sites.tolist(), logits, strict=True):
                window = windows[site]
                disc = disc_mask(crowd.sites.xy[site], float(claims.radii[site]), window)
                x, y = crowd.sites.pixel_xy[site].tolist()
                disc[y - window[1], x - window[0]] = True
                there = _part_of(of_site, window, chunk.window_xyxy)
                differing = (there > 0) & disc ^ _claimed(claims, site, window)
                best = int(differing.sum(axis=(1, 2)).argmin())
                at_flips = np.abs(there[best][differing[best]])
                masks += 1
                pixels += int(disc.sum())
                flips += len(at_flips)
                largest = max(largest, float(at_flips.max(initial=0)))
    return Agreement(masks, pixels, flips, largest)


def _part_of(
    logits: NDArray[np.float32], window_xyxy: WindowXYXY, tile_xyxy: WindowXYXY
) -> NDArray[np.float32]:
    """The window (k, h, w) of a tile's logits (k, H, W)."""
    x0, y0, x1, y1 = window_xyxy
    left, top = tile_xyxy[:2]
    return logits[:, y0 - top : y1 - top, x0 - left : x1 - left]


def _claimed(claims: Claims, site: int, window_xyxy: WindowXYXY) -> NDArray[np.bool_]:
    """What a site claims, in the window of its disc: (h, w) bool."""
    x0, y0, x1, y1 = window_xyxy
    found = np.zeros((y1 - y0, x1 - x0), dtype=np.bool_)
    claim = claims.masks[site]
    if claim is not None:
        pixels, (left, top, right, bottom) = rle_window(claim.rle)
        found[top - y0 : bottom - y0, left - x0 : right - x0] = pixels
    return found


@dataclass(frozen=True)
class Likeness:
    """How the masks of two runs of the method compare, site by site.

    Attributes:
        sites: those with a mask in either.
        mean_iou: their mean; without a mask in one of them, 0.
        median_iou: their median.
        below_half: how many are below 0.5.
    """

    sites: int
    mean_iou: float
    median_iou: float
    below_half: int


def likeness(one: SegmentedImage, other: SegmentedImage) -> Likeness:
    """Compare what the method made of the same points."""
    ious: list[float] = []
    for mask, mask_2 in zip(one.masks, other.masks, strict=True):
        if mask is None and mask_2 is None:
            continue
        if mask is None or mask_2 is None:
            ious.append(0.0)
        else:
            ious.append(float(coco_mask.iou([mask.rle], [mask_2.rle], [0])[0, 0]))
    if not ious:
        return Likeness(0, 1.0, 1.0, 0)
    values = np.array(ious)
    return Likeness(
        len(values), float(values.mean()), float(np.median(values)), int((values < 0.5).sum())
    )
