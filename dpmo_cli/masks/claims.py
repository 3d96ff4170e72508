"""What each site claims of an image, and what is known of it, until pixels are shared out."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import thread_time

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.nnec import disc_windows, nearest_others
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites
from dpmo_cli.geometry.windows import Windows
from dpmo_cli.masks.choice import RAMP
from dpmo_cli.masks.method import LOGIT, Method
from dpmo_cli.masks.ownership import Owners, costs_of
from dpmo_cli.masks.site_mask import SiteMask, site_masks

LEAST_COUNT = 1e-6
"""What a pixel of a mask counts at least, so that every mask has an area."""


@dataclass
class Seconds:
    """Time spent by stage, s.

    `encode` and `prompt` by the clock, since the network may compute elsewhere, and `choose` where
    it does; the others in their thread's processor time: threads side by side wait for each other.
    """

    encode: float = 0.0
    prompt: float = 0.0
    choose: float = 0.0
    clip: float = 0.0
    own: float = 0.0
    rle: float = 0.0

    def add(self, other: Seconds) -> None:
        """Add the time of another part."""
        for stage, value in vars(other).items():
            setattr(self, stage, getattr(self, stage) + value)


@dataclass(frozen=True)
class Scores:
    """What is known of the chosen candidates: (S,) float32 each, NaN for sites not prompted.

    `score` is that of the choice, until `segment_image` puts the IoU to expect of a mask there.
    """

    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    retained: NDArray[np.float32]
    score: NDArray[np.float32]


@dataclass
class Claims:
    """What the tiles of an image need, and fill in, for each of S sites.

    Attributes:
        size_hw: height and width of the image, px.
        radii: (S,) float64 discs, px.
        neighbours: (S, k) int64, sites that the prompt names as not the person's.
        hints_xy: (S, h, 2) float64 px, further points of the person, NaN for none.
        windows: (S, 4) int64 px, half open: the disc's, and once a site has claimed, the claim's.
        owners: who owns what was claimed; None where masks may overlap.
        masks: of the sites, where masks may overlap; where they may not, those come later.
        claimed_px: (S,) int64, pixels claimed.
        counted_px: (S,) float64, the same as they count in a score.
        scores, holds_point, ambiguous: as of `Choice`.
        sub_resolution: (S,) bool, discs of few cells of the mask grid.
        seconds: where the time is added.
    """

    size_hw: tuple[int, int]
    radii: FloatArray
    neighbours: IntArray
    hints_xy: FloatArray
    windows: IntArray
    owners: Owners | None
    masks: list[SiteMask | None]
    claimed_px: IntArray
    counted_px: FloatArray
    scores: Scores
    holds_point: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]
    sub_resolution: NDArray[np.bool_]
    seconds: Seconds = field(default_factory=Seconds)


def start_claims(
    sites: Sites,
    radii: FloatArray,
    size_hw: tuple[int, int],
    method: Method,
    hints_xy: FloatArray | None,
    seconds: Seconds | None,
) -> Claims:
    """Nothing claimed yet. `hints_xy` are of the (N,) points, of which a site's first counts."""
    count = len(sites)
    owners = None
    if method.ownership is not None:
        holders = np.flatnonzero(sites.inside)
        owners = Owners(size_hw, holders, sites.pixel_xy[holders])
    return Claims(
        size_hw=size_hw,
        radii=radii,
        neighbours=nearest_others(sites.xy, method.negatives),
        hints_xy=np.zeros((count, 0, 2)) if hints_xy is None else hints_xy[sites.point_of_site],
        windows=disc_windows(sites.xy, radii, size_hw),
        owners=owners,
        masks=[None] * count,
        claimed_px=np.zeros(count, dtype=np.int64),
        counted_px=np.zeros(count),
        scores=Scores(*(np.full(count, np.nan, dtype=np.float32) for _ in range(4))),
        holds_point=np.zeros(count, dtype=np.bool_),
        ambiguous=np.zeros(count, dtype=np.bool_),
        sub_resolution=np.zeros(count, dtype=np.bool_),
        seconds=seconds if seconds is not None else Seconds(),
    )


def take(
    claims: Claims,
    members: IntArray,
    masks: NDArray[np.bool_],
    logits: NDArray[np.float32],
    squares: FloatArray,
    windows: Windows,
    method: Method,
) -> None:
    """Note clipped masks (n, h, w) as the claims of sites."""
    begin = thread_time()
    claims.claimed_px[members] = masks.sum(axis=(1, 2))
    claims.counted_px[members] = counting_px(masks, logits if method.ownership == LOGIT else None)
    if claims.owners is not None:
        assert method.ownership is not None
        costs = costs_of(method.ownership, squares, claims.radii[members], logits)
        claims.owners.claim(members, masks, costs, windows)
        claims.seconds.own += thread_time() - begin
    else:
        for member, mask in zip(
            members.tolist(), site_masks(masks, windows, claims.size_hw), strict=True
        ):
            claims.masks[member] = mask
        claims.seconds.rle += thread_time() - begin
    claims.windows[members] = windows.around(masks)


def counting_px(masks: NDArray[np.bool_], logits: NDArray[np.float32] | None) -> FloatArray:
    """Pixels of masks (n, h, w) as they count in scores, (n,); all alike without logits.

    Those whose logit is hardly above zero count for less, so that rounding moves a score by as
    little as it moves the logits.
    """
    if logits is None:
        return np.asarray(masks.sum(axis=(1, 2), dtype=np.float64))
    counts = np.clip(logits / np.float32(RAMP), np.float32(LEAST_COUNT), np.float32(1))
    return np.asarray(np.where(masks, counts, 0).sum(axis=(1, 2), dtype=np.float64))
