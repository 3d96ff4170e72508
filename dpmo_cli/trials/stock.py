"""The stock path from embedding to run lengths: SamPredictor, full-frame masks, pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import Tensor

from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.sam.engine import Encoded, out_of_memory
from dpmo_cli.trials.networks import finish

CHUNKS = (4, 8, 16, 32, 64)
"""Prompts per call that are tried."""
ROUNDS = 2
"""How often each is tried; the best counts."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of one tile, for either path.

    Attributes:
        window_xyxy: the tile in the image, px, half open.
        encoded: its embedding.
        sites: (n,) int64, whose prompts they are.
        frame_xy: (n, K, 2) float64, px of the network's input.
        labels: (n, K) int64: 1 inside the person, 0 outside, -1 no point.
    """

    window_xyxy: WindowXYXY
    encoded: Encoded
    sites: IntArray
    frame_xy: FloatArray
    labels: IntArray

    def part(self, start: int, stop: int) -> Prompts:
        """Some of them."""
        here = slice(start, stop)
        return Prompts(
            self.window_xyxy,
            self.encoded,
            self.sites[here],
            self.frame_xy[here],
            self.labels[here],
        )


@dataclass
class StockSeconds:
    """Time spent by stage, s."""

    prompt: float = 0.0
    upsample: float = 0.0
    rle: float = 0.0


class _LowResolution:
    """A model whose predictor leaves masks as they are: only the chosen one is upsampled."""

    def __init__(self, model: Sam) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def postprocess_masks(self, masks: Tensor, *_sizes: object) -> Tensor:
        """Masks as the decoder gives them."""
        return masks


class Stock:
    """`SamPredictor.predict_torch` as its users call it, at its best.

    Of the candidate masks it upsamples one alone, where `predict_torch` upsamples three, and each
    mask is laid out for pycocotools before it is encoded.

    Attributes:
        model: segment-anything's own modules.
        output: which candidate is wanted; None for the one with the best predicted IoU.
    """

    def __init__(self, model: Sam, output: int | None = None) -> None:
        self.model = model
        self.output = output
        self._predictor = SamPredictor(_LowResolution(model))

    def encode_seconds(self, crop: NDArray[np.uint8]) -> float:
        """Seconds of `set_image` for a crop, (h, w, 3) uint8 RGB."""
        begin = perf_counter()
        self._predictor.set_image(crop)
        finish(self.model.device)
        return perf_counter() - begin

    def candidates(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (n, 3, cells, cells) and predicted IoUs (n, 3) of one call."""
        self._set(self._predictor, prompts.encoded)
        _, ious, lowres = self._predictor.predict_torch(*self._points(prompts))
        return lowres, ious

    def _set(self, predictor: Any, encoded: Encoded) -> None:
        """What `set_image` leaves behind."""
        predictor.features = encoded.embedding
        predictor.original_size = encoded.frame.size_hw
        predictor.input_size = encoded.frame.valid_hw
        predictor.is_image_set = True

    def _points(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        device = self.model.device
        points = torch.as_tensor(prompts.frame_xy, dtype=torch.float32, device=device)
        return points, torch.as_tensor(prompts.labels, device=device)

    def upsampled(self, lowres: Tensor, encoded: Encoded) -> Tensor:
        """Logits (n, k, h, w) of the whole tile, by `Sam.postprocess_masks`."""
        with torch.no_grad():
            frame = encoded.frame
            full: Tensor = self.model.postprocess_masks(lowres, frame.valid_hw, frame.size_hw)
        return full

    def masks(
        self, prompts: Prompts, size_hw: tuple[int, int], chunk: int, seconds: StockSeconds
    ) -> list[dict[str, Any]]:
        """Run lengths of the image for each prompt of a tile, as `pycocotools` writes them."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(prompts.sites), chunk):
            part = prompts.part(start, start + chunk)
            begin = perf_counter()
            lowres, ious = self.candidates(part)
            finish(self.model.device)
            seconds.prompt += perf_counter() - begin
            begin = perf_counter()
            best = ious.argmax(dim=1) if self.output is None else self.output
            chosen = lowres[torch.arange(len(lowres), device=lowres.device), best][:, None]
            masks = (self.upsampled(chosen, part.encoded)[:, 0] > 0).cpu().numpy()
            seconds.upsample += perf_counter() - begin
            begin = perf_counter()
            found.extend(_encoded(mask, part.window_xyxy, size_hw) for mask in masks)
            seconds.rle += perf_counter() - begin
        return found

    def plain_masks(self, prompts: Prompts, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
        """As `masks`, in one call of `predict_torch` as it is: all candidates are upsampled."""
        plain = SamPredictor(self.model)
        self._set(plain, prompts.encoded)
        masks, ious, _ = plain.predict_torch(*self._points(prompts))
        best = ious.argmax(dim=1) if self.output is None else self.output
        chosen = masks[torch.arange(len(masks), device=masks.device), best].cpu().numpy()
        return [_encoded(mask, prompts.window_xyxy, size_hw) for mask in chosen]

    def best_chunk(
        self, prompts: Prompts, size_hw: tuple[int, int]
    ) -> tuple[int, dict[int, float]]:
        """The prompts per call that are fastest from embedding to run lengths.

        Returns:
            It, and seconds per prompt of all that were tried: those with more prompts than there
            are, and those that memory does not hold, are not.
        """
        tried: dict[int, float] = {}
        count = len(prompts.sites)
        self.masks(prompts.part(0, 1), size_hw, 1, StockSeconds())
        for chunk in sorted({min(chunk, count) for chunk in CHUNKS}):
            part = prompts.part(0, chunk)
            try:
                rounds = [self._seconds(part, size_hw, chunk) for _ in range(ROUNDS)]
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not tried:
                    raise
                break
            tried[chunk] = min(rounds) / chunk
        return min(tried, key=lambda chunk: tried[chunk]), tried

    def _seconds(self, prompts: Prompts, size_hw: tuple[int, int], chunk: int) -> float:
        begin = perf_counter()
        self.masks(prompts, size_hw, chunk, StockSeconds())
        return perf_counter() - begin


def _encoded(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> dict[str, Any]:
    """Run lengths of a tile's (h, w) mask in the image, from Fortran-ordered uint8."""
    x0, y0, x1, y1 = window_xyxy
    if mask.shape == size_hw:
        frame = np.asfortranarray(mask.view(np.uint8))
    else:
        frame = np.zeros(size_hw, dtype=np.uint8, order="F")
        frame[y0:y1, x0:x1] = mask
    encoded: dict[str, Any] = coco_mask.encode(frame)
    return encoded


def count_of(parts: Sequence[Prompts]) -> int:
    """Prompts of some tiles."""
    return sum(len(part.sites) for part in parts)
