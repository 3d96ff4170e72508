"""The engine: crops in, embeddings; point prompts in, low-resolution logits of masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything.modeling import Sam
from torch import Tensor

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.geometry.resize import Frame, fitted_size
from dpmo_cli.sam.calibration import Calibration
from dpmo_cli.sam.decoder import CANDIDATES
from dpmo_cli.sam.encoder import Encoder, cpu_encoder
from dpmo_cli.sam.factored import FactoredDecoder
from dpmo_cli.sam.shared_image import SharedImage

CPU_PROMPTS = 8
"""Largest default batch on a CPU: larger ones fall out of its cache (4.9 against 9.6 ms)."""
PROMPT_BUDGET_BYTES = 2**30
CELLS = 4
"""Cells of the mask grid along the side of a token: two transposed convolutions double it."""
TILES, TILE_BUDGET_BYTES, BYTES_PER_PIXEL = 4, 2**28, 300
"""Largest default batch of crops, the memory that it may take, and about what an encoder keeps
alive for each pixel of its frame: 4 crops for nano on any device, 1 for a ViT."""
LIVE_COPIES = 12
"""About how many arrays of the size of the image tokens a prompt keeps alive at once."""


@dataclass(frozen=True)
class Encoded:
    """A crop after the image encoder: (1, C, h, w) embedding, and how the crop lies in it."""

    embedding: Tensor
    frame: Frame


@dataclass(frozen=True)
class Answer:
    """What the network says to a chunk of prompts.

    Attributes:
        chunk: (n,) int64, which of the prompts.
        logits: (n, c, side, side) float32 of c candidates on the engine's device; above zero
            is mask.
        predicted_ious: (n, c) float32, the network's own estimate.
        corners: (n, 2) int64, column and row of the mask grid at which the logits begin.
    """

    chunk: IntArray
    logits: Tensor
    predicted_ious: Tensor
    corners: IntArray


class PromptEngine(Protocol):
    """What the method needs of a network, whatever its size."""

    frame_px: int
    cells: int
    extents: tuple[str, ...]
    calibration: Calibration | None

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        """Encode (h, w, 3) uint8 RGB crops of any size."""

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: FloatArray | None = None,
    ) -> Iterator[Answer]:
        """Answer prompts (N, K, 2) in px of the crop, labels (N, K): 1 inside, 0 not, -1 none."""


class RunEngine(PromptEngine, Protocol):
    """What a run asks an engine beside."""

    @property
    def batch(self) -> int:
        """Prompts per decoder call."""

    @property
    def halvings(self) -> int:
        """How often a batch was halved because memory ran out."""


@dataclass
class SamEngine:
    """Any `segment_anything` model as a prompt engine.

    Attributes:
        model: in evaluation mode, on its device.
        bf16: encode in bfloat16 where torch's autocast holds it safe. The decoder, whose work is
            bound by memory and whose norms are sums of products, stays in float32.
        prompt_batch: prompts per decoder call; None leaves it to the byte budget.
        tile_batch: crops per encoder call; None leaves it to the byte budget.
        extents: what each of the candidate masks is trained to be, where that is fixed.
        calibration: what IoU to expect of its masks, where that was measured.
        halvings: how often a batch was halved because memory ran out.
    """

    model: Sam
    bf16: bool = False
    prompt_batch: int | None = None
    tile_batch: int | None = None
    extents: tuple[str, ...] = ()
    calibration: Calibration | None = None
    halvings: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.frame_px = int(self.model.image_encoder.img_size)
        grid = self.model.prompt_encoder.image_embedding_size
        self.cells = CELLS * int(grid[0])
        with torch.inference_mode():
            self._position: Tensor = self.model.prompt_encoder.get_dense_pe()
            self._decoder = FactoredDecoder(self.model.mask_decoder, self._position)
        self._shared: tuple[Encoded, SharedImage] | None = None
        self._encoder: Encoder = self.model.image_encoder
        if self.device.type == "cpu" and not self.bf16:
            self._encoder = cpu_encoder(self.model.image_encoder)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = self.model.pixel_mean.device
        return device

    @property
    def batch(self) -> int:
        """Prompts per decoder call, as given or as the byte budget allows."""
        if self.prompt_batch is not None:
            return self.prompt_batch
        tokens = (self.cells // CELLS) ** 2
        width = int(self.model.mask_decoder.transformer_dim)
        fitting = PROMPT_BUDGET_BYTES // (LIVE_COPIES * tokens * width * 4)
        limit = CPU_PROMPTS if self.device.type == "cpu" else 256
        return int(max(1, min(limit, fitting)))

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        """Encode (h, w, 3) uint8 RGB crops of any size, several at a time.

        Raises:
            DpmoError: memory does not hold even one crop.
        """
        encoded: list[Encoded] = []
        fitting = TILE_BUDGET_BYTES // (BYTES_PER_PIXEL * self.frame_px**2)
        while len(encoded) < len(crops):
            size = self.tile_batch or max(1, min(TILES, fitting))
            part = crops[len(encoded) : len(encoded) + size]
            try:
                encoded.extend(self._encode(part))
            except (RuntimeError, MemoryError) as error:
                self.tile_batch = self._halved(error, len(part))
        return encoded

    def _encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        with torch.inference_mode(), self._precision():
            embeddings = self._encoder(self._frames(crops)).float()
        if not torch.isfinite(embeddings).all():
            raise DpmoError(
                "the network's answer holds values that are no numbers: its weights are damaged; "
                "fetch them again, or give others with --checkpoint"
            )
        return [
            Encoded(
                embeddings[index : index + 1],
                Frame((crop.shape[0], crop.shape[1]), self.frame_px, self.cells),
            )
            for index, crop in enumerate(crops)
        ]

    def _frames(self, crops: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Resize, normalise and pad as `SamPredictor.set_image` does: (B, 3, S, S).

        Channels lie last in memory: convolutions on a CPU are a third faster so.
        """
        frames = torch.zeros((len(crops), self.frame_px, self.frame_px, 3), device=self.device)
        for frame, crop in zip(frames, crops, strict=True):
            height, width = fitted_size((crop.shape[0], crop.shape[1]), self.frame_px)
            resized = Image.fromarray(crop).resize((width, height), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(resized)).to(self.device).view(height, -1)
            # By rows of pixels: over three channels at a time it takes twice as long.
            mean, std = (
                x.flatten().repeat(width) for x in (self.model.pixel_mean, self.model.pixel_std)
            )
            frame[:height, :width].view(height, -1).copy_((pixels - mean) / std)
        return frames.permute(0, 3, 1, 2)

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: FloatArray | None = None,
    ) -> Iterator[Answer]:
        """Answer prompts in chunks that fit the memory, those of small squares first.

        Args:
            encoded: the crop.
            points_xy: (N, K, 2) float64, px of the crop; pixel centres are integers.
            labels: (N, K) int64: 1 inside the person, 0 outside, -1 no point.
            extent: a network that knows it answers with the one mask made for it; others, and
                without it, with all their candidates.
            squares: (N, 3) float64, where logits are wanted: column and row of the centre and half
                the side of a square, in cells of the mask grid; None for the whole grid. Answers
                hold at least what the grid has of it.

        Raises:
            DpmoError: memory does not hold even one prompt.
        """
        frame_xy = encoded.frame.to_frame(points_xy)
        outputs: Sequence[int] = CANDIDATES
        if extent in self.extents:
            outputs = (CANDIDATES[self.extents.index(extent)],)
        corners, sides = self._windows(len(points_xy), squares)
        order = np.argsort(sides, kind="stable")
        start = 0
        while start < len(order):
            chunk = order[start : start + self.batch]
            side = int(sides[chunk[-1]])
            at = np.minimum(corners[chunk], self.cells // CELLS - side)
            try:
                logits, scores = self._decode(
                    encoded, frame_xy[chunk], labels[chunk], at, side, outputs
                )
            except (RuntimeError, MemoryError) as error:
                self.prompt_batch = self._halved(error, len(chunk))
                continue
            yield Answer(chunk, logits, scores, CELLS * at)
            start += len(chunk)

    def _windows(self, count: int, squares: FloatArray | None) -> tuple[IntArray, IntArray]:
        """The first tokens (N, 2), column and row, and sides (N,), of windows round squares."""
        grid = self.cells // CELLS
        if squares is None:
            return np.zeros((count, 2), dtype=np.int64), np.full(count, grid)
        # Centres of cells are integers; what lies off the grid is not there to be wanted.
        low = np.floor((squares[:, :2] - squares[:, 2:]) / CELLS)
        high = np.floor((squares[:, :2] + squares[:, 2:]) / CELLS) + 1
        corners = np.clip(low, 0, grid - 1).astype(np.int64)
        sides = (np.clip(high, 1, grid).astype(np.int64) - corners).max(axis=1)
        return corners, np.maximum(sides, 1)

    def _decode(
        self,
        encoded: Encoded,
        frame_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        corners: IntArray,
        side: int,
        outputs: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        points = torch.as_tensor(frame_xy, dtype=torch.float32, device=self.device)
        kinds = torch.as_tensor(labels, device=self.device)
        with torch.inference_mode():
            sparse, dense = self.model.prompt_encoder(
                points=(points, kinds), boxes=None, masks=None
            )
            # Several threads may ask: what is kept may be another's by the next line.
            kept = self._shared
            if kept is None or kept[0] is not encoded:
                kept = encoded, self._decoder.prepare(encoded.embedding, dense)
                self._shared = kept
            rows_first = torch.as_tensor(corners[:, ::-1].copy(), device=self.device)
            return self._decoder.decode(kept[1], sparse, rows_first, side, outputs)

    def _precision(self) -> AbstractContextManager[object]:
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _halved(self, error: Exception, size: int) -> int:
        """Half of a batch that memory did not hold; any other error is raised again."""
        if not out_of_memory(error):
            raise error
        if size <= 1:
            raise DpmoError(
                f"{self.device}: not enough memory for a single prompt or tile; "
                "use a smaller --sam, or another --device"
            ) from error
        self.halvings += 1
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return size // 2


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
