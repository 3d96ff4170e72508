"""A finished run with masks to train on, drawn without a network."""

from __future__ import annotations

from pathlib import Path

from tests.review.runs import draw_run


def draw_masked_run(folder: Path, images: int = 6) -> Path:
    """The folder of a run of some images of 21 people each in `train`, every seventh bare."""
    out, _ = draw_run(folder, images=images, splits=1)
    return out
