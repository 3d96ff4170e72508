"""Finished runs of any size to review, drawn without a network: discs in rows, photos of noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.outputs.coco import write_coco
from dpmo_cli.outputs.parquet import write_queue
from dpmo_cli.outputs.records import ImageInfo, ImageRecord, write_record
from dpmo_cli.outputs.schema import RECORD_SCHEMA, SCHEMA_VERSION

SPACING_PX = 20
RADIUS_PX = 8
NAME = "images/photo {}.jpg"


def draw_record(split: str, image_id: int, people: int, columns: int, seed: int) -> ImageRecord:
    """A record of people in rows, every seventh without a mask, scores at random."""
    rng = np.random.default_rng(seed)
    lines = -(-people // columns)
    size_hw = (SPACING_PX * (lines + 1), SPACING_PX * (columns + 1))
    info = ImageInfo(image_id, split, NAME.format(image_id), size_hw[1], size_hw[0])
    reach = np.arange(-RADIUS_PX, RADIUS_PX + 1)
    disc = reach[:, None] ** 2 + reach[None] ** 2 <= RADIUS_PX**2
    rows: list[dict[str, Any]] = []
    for point_id in range(people):
        x, y = SPACING_PX * (point_id % columns + 1), SPACING_PX * (point_id // columns + 1)
        masked = point_id % 7 != 6
        window = (x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX + 1, y + RADIUS_PX + 1)
        score = float(np.float32(rng.random()))
        rows.append(
            {
                "image": info.file_name,
                "image_id": image_id,
                "point_id": point_id,
                "x": float(x),
                "y": float(y),
                "radius_px": float(SPACING_PX),
                "status": "ok" if masked else "empty",
                "reasons": ["low_score"] if score < 0.5 else [],
                "predicted_iou": score if masked else None,
                "stability": score if masked else None,
                "retained": 1.0 if masked else None,
                "score": score if masked else None,
                "annotation_id": image_id * 10**6 + point_id if masked else None,
                "bbox": [window[0], window[1], 2.0 * RADIUS_PX + 1, 2.0 * RADIUS_PX + 1]
                if masked
                else None,
                "area": int(disc.sum()) if masked else None,
                "rle": dict(frame_rle(disc, window, size_hw)) if masked else None,
                "flagged": score < 0.5 or not masked,
                "source": "auto" if masked else None,
            }
        )
    return ImageRecord(info, pa.Table.from_pylist(rows, schema=RECORD_SCHEMA))


def draw_run(
    folder: Path,
    *,
    images: int = 2,
    people: int = 21,
    columns: int = 7,
    splits: int = 2,
    bare: int = 0,
) -> tuple[Path, Path]:
    """Write a run and its photos.

    Args:
        folder: to write to.
        images, people, columns: how many images, of how many people in rows of how many.
        splits: into which the images are dealt.
        bare: images without people that come after the others.

    Returns:
        The run's folder and the root.
    """
    out, root = folder / "out", folder / "root"
    records = []
    for number in range(images + bare):
        split = ("train", "test")[number % splits]
        there = people if number < images else 0
        record = draw_record(split, number + 1, there, columns, seed=number)
        records.append(record)
        write_record(
            out / ".dpmo" / "records" / split / f"{record.info.image_id:08d}.parquet", record
        )
        path = root / record.info.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        size_hw = (record.info.height or 0, record.info.width or 0)
        small = rng.integers(0, 255, (size_hw[0] // 8, size_hw[1] // 8, 3), dtype=np.uint8)
        photo = Image.fromarray(small).resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC)
        photo.save(path, quality=90)
    for split in {record.info.split for record in records}:
        of_split = [record for record in records if record.info.split == split]
        write_coco(
            out / "annotations" / f"{split}.json",
            lambda of_split=of_split: iter(of_split),
            [record.info for record in of_split],
            dataset="csv",
            split=split,
            extent="nnec",
        )
    (out / ".dpmo" / "lock").touch()
    write_queue(out / "review" / "queue.parquet", lambda: iter(records), "csv")
    run = {
        "version": SCHEMA_VERSION,
        "dataset": "csv",
        "root": str(root),
        "extent": "nnec",
        "settings": {
            "sam": "nano",
            "weights_sha256": "0" * 64,
            "dtype": "fp32",
            "nnec_scale": 1.0,
            "tiles": "auto",
            "extent": "nnec",
            "negatives": 1,
            "radii": "nearest",
            "ownership": "logit",
        },
        "config": {"checkpoint": None},
        "counts": {},
        "splits": {record.info.split: {"counts": {}} for record in records},
    }
    (out / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return out, root
