"""How fast and how large networks are, side by side: time needs no trained weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

import numpy as np

from dpmo_cli.geometry.extents import NNEC
from dpmo_cli.trials.networks import finish, random_engine

PROMPTS = 32
REPEATS = 5


@dataclass(frozen=True)
class Speed:
    """What one network costs, medians of REPEATS after a warm-up.

    Attributes:
        sam: its name.
        parameters: how many.
        weights_mb: their size in single precision, MB of 10**6 bytes.
        frame_px: side of the tile that it sees.
        encode_s: encoding one tile.
        prompt_ms: one prompt, from the embedding to the logits, in the engine's own batches.
    """

    sam: str
    parameters: int
    weights_mb: float
    frame_px: int
    encode_s: float
    prompt_ms: float

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        return asdict(self)


def measure_speed(name: str, device: str) -> Speed:
    """Time a network with random weights on one tile of noise.

    Args:
        name: `nano`, `vit_b`, `vit_l` or `vit_h`.
        device: as torch names it.
    """
    engine = random_engine(name, device)
    model = engine.model
    rng = np.random.default_rng(0)
    side = engine.frame_px
    crop = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    points_xy = rng.uniform(0, side, (PROMPTS, 1, 2))
    labels = np.ones((PROMPTS, 1), dtype=np.int64)

    def prompt() -> None:
        for _ in engine.prompt(encoded, points_xy, labels, NNEC):
            pass
        finish(engine.device)

    def encode() -> None:
        engine.encode([crop])
        finish(engine.device)

    (encoded,) = engine.encode([crop])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Speed(
        sam=name,
        parameters=parameters,
        weights_mb=parameters * 4 / 1e6,
        frame_px=side,
        encode_s=_median_s(encode),
        prompt_ms=1000 * _median_s(prompt) / PROMPTS,
    )


def _median_s(what: Callable[[], None]) -> float:
    what()
    seconds: list[float] = []
    for _ in range(REPEATS):
        begin = perf_counter()
        what()
        seconds.append(perf_counter() - begin)
    return median(seconds)


def speed_lines(speeds: Sequence[Speed]) -> list[str]:
    """A Markdown table."""
    lines = [
        "| network | parameters, million | MB in fp32 | frame, px | s per tile | ms per prompt |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for speed in speeds:
        lines.append(
            f"| {speed.sam} | {speed.parameters / 1e6:.1f} | {speed.weights_mb:.0f} | "
            f"{speed.frame_px} | {speed.encode_s:.3f} | {speed.prompt_ms:.1f} |"
        )
    return lines
