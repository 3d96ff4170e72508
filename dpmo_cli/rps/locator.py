"""The localiser: a small network whose positive cells are people, and where it finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.nnec import spacing_of
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.sam.checkpoint import load_state_dict
from dpmo_cli.sam.trunk import TRUNKS, build_trunk, channels_of

STRIDE = 4
CELL_OFFSET_PX = 1.5
"""Cell (row i, column j) stands at x = 4 j + 1.5, y = 4 i + 1.5: the middle of its pixels."""
FRAME_MULTIPLE = 32
"""Sides of a frame must be multiples of this, the deepest stride of the trunk."""
PADDING_VALUE = 128
"""What a frame holds beyond its image: gray, nearly zero after normalisation."""
WIDTH = 128
FINE_WIDTH = 64
FIRST_BIAS = -4.0
"""Few cells are people: an untrained network should say so."""
TILE_PX = 1024
HALO_PX = 160
APART = 0.15
"""On validation this takes the second peak off large heads, and costs no person of a pair."""
FEWEST_FOR_SPACING = 3
"""Fewer people than that have no spacing to speak of."""


class Locator(nn.Module):
    """Trunk at strides 4 to 32; the deeper levels are summed at 8, joined by the first at 4.

    Args:
        trunk: one of `sam.trunk.TRUNKS`.
    """

    def __init__(self, trunk: str = "lite0") -> None:
        super().__init__()
        self.trunk = build_trunk(trunk, (1, 2, 3, 4))
        fine, *coarse = channels_of(self.trunk)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))
            for channels in coarse
        )
        self.middle = nn.Sequential(
            nn.ReLU(),
            *_layer(WIDTH, WIDTH, 3),
            nn.Conv2d(WIDTH, 4 * FINE_WIDTH, 1, bias=False),
            nn.PixelShuffle(2),
            nn.BatchNorm2d(FINE_WIDTH),
        )
        self.fine = nn.Sequential(
            nn.Conv2d(fine, FINE_WIDTH, 1, bias=False), nn.BatchNorm2d(FINE_WIDTH)
        )
        self.head = nn.Sequential(nn.ReLU(), *_layer(FINE_WIDTH, FINE_WIDTH, 3))
        self.logit = nn.Conv2d(FINE_WIDTH, 1, 1)
        assert self.logit.bias is not None
        nn.init.constant_(self.logit.bias, FIRST_BIAS)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, H, W, 3) uint8 RGB, H and W multiples of 32, to (B, H/4, W/4) float32 logits."""
        # The trunk was trained on values from -1 to 1.
        images = (frames.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        fine, *coarse = self.trunk(images)
        levels = [lateral(features) for lateral, features in zip(self.lateral, coarse, strict=True)]
        total = levels[0]
        for level in levels[1:]:
            total = total + functional.interpolate(
                level, size=total.shape[-2:], mode="bilinear", align_corners=False
            )
        joined = self.middle(total) + self.fine(fine)
        logits: Tensor = self.logit(self.head(joined))[:, 0].float()
        return logits


def _layer(channels: int, out: int, kernel: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def load_locator(path: Path, device: str = "cpu") -> Locator:
    """Load a localiser, ready for use; which trunk it has is seen from its tensors.

    Raises:
        UsageError: the file can't be read, or holds something else.
    """
    state = load_state_dict(path)
    for trunk in TRUNKS:
        model = Locator(trunk)
        own = model.state_dict()
        if own.keys() == state.keys() and all(own[k].shape == state[k].shape for k in own):
            model.load_state_dict(state)
            model = model.float().eval().to(device)
            return model.to(memory_format=torch.channels_last)
    raise UsageError(f"{path}: does not hold a localiser's weights; give the right file")


@dataclass(frozen=True)
class Peaks:
    """People found in an image, by rows from the top.

    Attributes:
        points_xy: (N, 2) float64 px of the image.
        logits: (N,) float64, how sure the network is.
    """

    points_xy: FloatArray
    logits: FloatArray

    def __len__(self) -> int:
        return len(self.points_xy)

    @property
    def scores(self) -> FloatArray:
        """The logits as probabilities, 0 to 1."""
        probabilities: FloatArray = 1 / (1 + np.exp(-self.logits))
        return probabilities


def locate(
    image: NDArray[np.uint8],
    model: Locator,
    *,
    threshold: float = 0.0,
    suppression_cells: int = 0,
    apart: float = APART,
    tile_px: int = TILE_PX,
    bf16: bool = False,
) -> Peaks:
    """Find the people of an image of any size.

    Args:
        image: (H, W, 3) uint8 RGB.
        model: a localiser in evaluation mode.
        threshold: logit above which a cell is a person.
        suppression_cells, apart: see `find_peaks`.
        tile_px: side of the largest frame that the network is given, px.
        bf16: run the network in bfloat16 where it allows.
    """
    logits = logit_map(image, model, tile_px=tile_px, bf16=bf16)
    height, width = image.shape[:2]
    return find_peaks(
        logits,
        (height, width),
        threshold=threshold,
        suppression_cells=suppression_cells,
        apart=apart,
    )


def find_peaks(
    logits: NDArray[np.float32],
    size_hw: tuple[int, int],
    *,
    threshold: float = 0.0,
    suppression_cells: int = 0,
    apart: float = APART,
) -> Peaks:
    """Take the cells above a threshold for people.

    Args:
        logits: (h, w) float32, a cell for every 4 x 4 px from the image's corner on.
        size_hw: height and width of the image, px; nothing is found beyond.
        threshold: a cell counts when its logit is greater.
        suppression_cells: a cell must be the highest of the square of this many cells to each
            side of it; of equal ones the first by rows. 0 takes every cell, as P2R does.
        apart: of peaks nearer to each other than this part of the local spacing only the highest
            stays: they are on one large head. 0 keeps all.
    """
    found = logits > threshold
    if suppression_cells:
        order = np.empty(logits.size, dtype=np.int64)
        order[np.argsort(-logits, axis=None, kind="stable")] = np.arange(logits.size)
        ranks = order.reshape(logits.shape)
        found &= minimum_filter(ranks, size=2 * suppression_cells + 1, mode="nearest") == ranks
    rows, columns = np.nonzero(found)
    cells = np.stack([columns, rows], axis=1).astype(np.float64)
    points_xy = cells * STRIDE + CELL_OFFSET_PX
    # A cell whose middle lies in the padding is none of the image's.
    inside = (points_xy < (size_hw[1], size_hw[0])).all(axis=1)
    points_xy, values = points_xy[inside], logits[rows, columns].astype(np.float64)[inside]
    alone = _highest_nearby(points_xy, values, apart)
    return Peaks(points_xy[alone], values[alone])


def _highest_nearby(points_xy: FloatArray, values: FloatArray, apart: float) -> NDArray[np.bool_]:
    """Points with no higher one, that stays itself, within a part of the local spacing: (N,)."""
    stays = np.ones(len(points_xy), dtype=np.bool_)
    if not apart or len(points_xy) <= FEWEST_FOR_SPACING:
        return stays
    reach = apart * spacing_of(points_xy)
    near = cKDTree(points_xy).query_ball_point(points_xy, reach)
    crowded = np.flatnonzero([len(others) > 1 for others in near])
    for index in crowded[np.argsort(-values[crowded], kind="stable")].tolist():
        if stays[index]:
            lower = [other for other in near[index] if other != index]
            stays[[other for other in lower if values[other] <= values[index]]] = False
    return stays


def logit_map(
    image: NDArray[np.uint8],
    model: nn.Module,
    *,
    stride: int = STRIDE,
    tile_px: int = TILE_PX,
    halo_px: int = HALO_PX,
    bf16: bool = False,
) -> NDArray[np.float32]:
    """Logits of a whole image; of a large one each cell comes from the tile whose core holds it.

    So no person is counted twice where tiles overlap.

    Args:
        image: (H, W, 3) uint8 RGB.
        model: a localiser in evaluation mode, or another network that maps frames to cells.
        stride: px along a side of its cells; a part of 32.
        tile_px: side of the largest frame, a multiple of 32 px.
        halo_px: what a tile sees beyond its core on each side, a multiple of 32 px.
        bf16: run the network in bfloat16 where it allows.

    Returns:
        (ceil(H / stride), ceil(W / stride)) float32.

    Raises:
        ValueError: sides that do not fit.
    """
    if tile_px % FRAME_MULTIPLE or halo_px % FRAME_MULTIPLE or tile_px <= 2 * halo_px:
        raise ValueError(f"a tile of {tile_px} px with a halo of {halo_px} px")
    height, width = image.shape[:2]
    device = next(model.parameters()).device
    total = np.empty((-(-height // stride), -(-width // stride)), dtype=np.float32)
    for top, bottom, above, below in _spans(height, tile_px, halo_px):
        for left, right, before, behind in _spans(width, tile_px, halo_px):
            frame = torch.from_numpy(pad_frame(image[above:below, before:behind]))
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
            ):
                cells = model(frame[None].to(device))[0].cpu().numpy()
            core = total[top // stride : -(-bottom // stride), left // stride : -(-right // stride)]
            row, column = (top - above) // stride, (left - before) // stride
            core[:] = cells[row : row + core.shape[0], column : column + core.shape[1]]
    return total


def pad_frame(image: NDArray[np.uint8], multiple: int = FRAME_MULTIPLE) -> NDArray[np.uint8]:
    """Pad (H, W, 3) at the right and at the bottom until both sides are multiples."""
    height, width = image.shape[:2]
    sides = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    frame = np.full((*sides, 3), PADDING_VALUE, dtype=np.uint8)
    frame[:height, :width] = image
    return frame


def _spans(length: int, tile_px: int, halo_px: int) -> list[tuple[int, int, int, int]]:
    """Cores that part an axis and what their tiles see: start, end, first seen, end of seen."""
    if length <= tile_px:
        return [(0, length, 0, length)]
    step = tile_px - 2 * halo_px
    return [
        (
            start,
            min(length, start + step),
            max(0, start - halo_px),
            min(length, start + step + halo_px),
        )
        for start in range(0, length, step)
    ]
