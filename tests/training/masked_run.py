"""A finished run with masks to train on, drawn without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dpmo_cli.outputs.coco import write_coco
from dpmo_cli.outputs.records import ImageRecord, read_record
from tests.review.runs import draw_run


def draw_masked_run(folder: Path, images: int = 6) -> Path:
    """The folder of a run of some images of 21 people each in `train`, every seventh bare."""
    out, _ = draw_run(folder, images=images, splits=1)

    def records() -> Iterator[ImageRecord]:
        for path in sorted((out / ".dpmo/records/train").glob("*.parquet")):
            yield read_record(path)

    write_coco(out / "annotations/train.json", records, dataset="csv", split="train", extent="nnec")
    return out
