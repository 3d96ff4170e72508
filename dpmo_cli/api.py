"""Masks from Python: one call for one image, without a dataset or output folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpmo_cli.datasets.base import Heads
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.geometry.rle import Rle, rle_window
from dpmo_cli.masks.method import NEGATIVES, OWNERSHIPS, RADII, Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.pipeline.rows import segmented_rows
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.sam.models import load_engine, resolve_engine


@dataclass(frozen=True)
class PointMask:
    """What became of one point.

    Attributes:
        status: `ok`, `shared`, `outside`, `empty` or `invalid`.
        reasons: why a person should look at it; empty for a mask beyond doubt.
        radius_px: radius of the point's disc, px; None for an invalid point.
        score: from 0 to 1, larger is better; None without a mask.
        bbox_xywh: box of the mask's pixels, px; None without a mask.
        rle: the mask as COCO run lengths of the full image; None without a mask.
    """

    status: str
    reasons: tuple[str, ...]
    radius_px: float | None
    score: float | None
    bbox_xywh: tuple[float, float, float, float] | None
    rle: Rle | None

    def mask(self) -> NDArray[np.bool_]:
        """The mask as an (H, W) bool array.

        Raises:
            ValueError: the point has no mask.
        """
        if self.rle is None:
            raise ValueError(f"the point has no mask: {self.status}")
        full = np.zeros(tuple(self.rle["size"]), dtype=np.bool_)
        window, (x0, y0, x1, y1) = rle_window(self.rle)
        full[y0:y1, x0:x1] = window
        return full


@lru_cache(maxsize=2)
def _engine(
    sam: str, checkpoint: Path | None, device: str, dtype: str, prompt_batch: int | None
) -> SamEngine:
    return load_engine(
        resolve_engine(
            sam, checkpoint=checkpoint, device=device, dtype=dtype, prompt_batch=prompt_batch
        )
    )


def masks_from_points(
    image: NDArray[np.uint8],
    points: ArrayLike | Sequence[tuple[float, float]],
    *,
    sam: str = "nano",
    checkpoint: str | Path | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    prompt_batch: int | None = None,
    nnec_scale: float = 1.0,
    tiles: bool = True,
    extent: str = "nnec",
    negatives: int | None = None,
    radii: str = "nearest",
    ownership: str = "logit",
) -> list[PointMask]:
    """Turn the head points of one image into disjoint masks, one for each point.

    The network is loaded at the first call and kept for the next ones.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) uint8 gray.
        points: (N, 2) x then y, px; pixel centres are integers. Any values are accepted.
        sam: `nano`, `vit_b`, `vit_l` or `vit_h`.
        checkpoint: the user's own weights of that architecture.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `fp32` or `bf16`.
        prompt_batch: prompts per decoder call; None leaves it to the byte budget.
        nnec_scale: factor on the distance to the nearest neighbour, which bounds each mask.
        tiles: magnify dense parts of the image.
        extent: `nnec` for the person inside the disc, `head`, or `visible` for the whole person.
        negatives: neighbours that each prompt names as others; None takes the network's default.
        radii: `nearest`, or `robust` to hold them near the local spacing.
        ownership: who gets a pixel that several claim: `logit`, `nearest` or `ratio`.

    Returns:
        One `PointMask` per point, in the order of the points.

    Raises:
        ValueError: image or points have another shape or type.
        DpmoError: weights or device are missing; the message says how to mend it.

    Example:
        >>> import numpy as np
        >>> from dpmo_cli import masks_from_points
        >>> image = np.full((64, 64, 3), 90, dtype=np.uint8)
        >>> [found.status for found in masks_from_points(image, [(-5, 8)])]
        ['outside']
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    points_xy = np.asarray(points, dtype=np.float64)
    if points_xy.shape == (0,):
        points_xy = points_xy.reshape(0, 2)
    if points_xy.ndim != 2 or points_xy.shape[1] != 2:
        raise ValueError(f"points must be (N, 2), not {points_xy.shape}")
    if not 0 < nnec_scale < math.inf:
        raise ValueError(f"nnec_scale must be positive and finite, not {nnec_scale}")
    if extent not in EXTENTS:
        raise ValueError(f"extent must be one of {', '.join(EXTENTS)}, not {extent}")
    if radii not in RADII:
        raise ValueError(f"radii must be one of {', '.join(RADII)}, not {radii}")
    if ownership not in OWNERSHIPS:
        raise ValueError(f"ownership must be one of {', '.join(OWNERSHIPS)}, not {ownership}")
    if negatives is None:
        negatives = NEGATIVES.get(sam, 0)
    if not isinstance(tiles, bool):
        raise ValueError(f"tiles must be True or False, not {tiles!r}")
    if isinstance(negatives, bool) or not isinstance(negatives, int) or not 0 <= negatives <= 8:
        raise ValueError(f"negatives must be a whole number from 0 to 8, not {negatives!r}")
    if prompt_batch is not None and not isinstance(prompt_batch, int):
        raise ValueError(f"prompt_batch must be a whole number, not {prompt_batch!r}")
    path = None if checkpoint is None else Path(checkpoint)
    engine = _engine(sam, path, device, dtype, prompt_batch)
    method = Method(
        nnec_scale=nnec_scale,
        tiles=tiles,
        extent=extent,
        negatives=negatives,
        radii=radii,
        ownership=ownership,
    )
    segmented = segment_image(image, points_xy, engine, method)
    rows = segmented_rows("", 0, Heads(points_xy), segmented).to_pylist()
    return [
        PointMask(
            status=row["status"],
            reasons=tuple(row["reasons"]),
            radius_px=row["radius_px"],
            score=row["score"],
            bbox_xywh=None if row["bbox"] is None else tuple(row["bbox"]),
            rle=row["rle"],
        )
        for row in rows
    ]
