"""Networks to time: with their weights where these are given, else with random ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.geometry.resize import Frame
from dpmo_cli.sam.engine import Answer, Encoded, SamEngine
from dpmo_cli.sam.models import build_model, load_engine, resolve_engine

EMBEDDED = "nano"
RANDOM = "random"


def random_engine(name: str, device: str, prompt_batch: int | None = None) -> SamEngine:
    """A network with random weights, always the same: time needs no others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(name).float().eval().to(device)
    model.image_encoder.to(memory_format=torch.channels_last)
    # As it is asked in a run: nano for one mask, the others for three.
    return SamEngine(model, prompt_batch=prompt_batch, extents=EXTENTS if name == EMBEDDED else ())


def engine_of(
    name: str, checkpoint: Path | None, device: str, prompt_batch: int | None
) -> tuple[SamEngine, str]:
    """A network in fp32, and what its weights are: nano's own, the user's, or random.

    Raises:
        UsageError: the weights are not there, or not that network's.
    """
    if checkpoint is None and name != EMBEDDED:
        return random_engine(name, device, prompt_batch), RANDOM
    spec = resolve_engine(name, checkpoint=checkpoint, device=device, prompt_batch=prompt_batch)
    return load_engine(spec), "embedded" if checkpoint is None else str(checkpoint)


def prompting_engine(name: str, device: str, prompt_batch: int | None = None) -> SamEngine:
    """A network to prompt and not to encode with: SAM's three share their decoder's shape."""
    if name == EMBEDDED:
        return engine_of(name, None, device, prompt_batch)[0]
    return random_engine("vit_b", device, prompt_batch)


def copy_of(model: Sam, name: str) -> Sam:
    """The same weights in segment-anything's own modules, whatever an engine made of the first."""
    copy = build_model(name)
    copy.load_state_dict(model.state_dict())
    return copy.float().eval().to(model.pixel_mean.device)


def random_embedding(engine: SamEngine, size_hw: tuple[int, int]) -> Encoded:
    """What an encoder whose last layer is a norm may say of a crop of some size."""
    grid = engine.cells // 4
    width = int(engine.model.mask_decoder.transformer_dim)
    drawn = torch.randn(1, width, grid, grid, generator=torch.Generator().manual_seed(0))
    return Encoded(drawn.to(engine.device), Frame(size_hw, engine.frame_px, engine.cells))


def finish(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Remembering:
    """An engine that encodes a crop once: what follows can be timed by itself, again and again.

    It waits for its device after each answer, so that the time is the stage's that spent it.
    """

    def __init__(self, engine: SamEngine) -> None:
        self.engine = engine
        self.frame_px = engine.frame_px
        self.cells = engine.cells
        self.extents = engine.extents
        self.calibration = engine.calibration
        self._known: dict[bytes, Encoded] = {}

    def know(self, crop: NDArray[np.uint8], encoded: Encoded) -> None:
        """Take an embedding for a crop's."""
        self._known[_digest(crop)] = encoded

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        """The embeddings of crops; those not known yet are computed.

        Each is handed out as a new one, so that an engine prepares it anew, as in a run.
        """
        keys = [_digest(crop) for crop in crops]
        new = {key: crop for key, crop in zip(keys, crops, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, self.engine.encode(list(new.values())), strict=True))
            finish(self.engine.device)
        return [replace(self._known[key]) for key in keys]

    def prompt(self, *args: Any, **options: Any) -> Iterator[Answer]:
        """The engine's own answers."""
        for answer in self.engine.prompt(*args, **options):
            finish(self.engine.device)
            yield answer


def _digest(crop: NDArray[np.uint8]) -> bytes:
    return blake2b(f"{crop.shape}".encode() + crop.tobytes(), digest_size=16).digest()
