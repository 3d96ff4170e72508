"""Small runs to test on: records with true masks, and an OUT folder made of them."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from dpmo_cli.outputs.coco import write_coco
from dpmo_cli.outputs.parquet import write_points, write_queue
from dpmo_cli.outputs.records import ImageInfo, ImageRecord
from dpmo_cli.outputs.schema import RECORD_SCHEMA, SCHEMA_VERSION

DATASET = "shanghaitech-a"
Row = dict[str, Any]


def rle_of(mask: NDArray[np.bool_]) -> Row:
    """Encode an (H, W) mask by pycocotools."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def mask_columns(mask: NDArray[np.bool_]) -> Row:
    """The columns bbox, area and rle of an (H, W) mask, by pycocotools."""
    rle = rle_of(mask)
    return {
        "bbox": [float(side) for side in coco_mask.toBbox(rle)],
        "area": int(coco_mask.area(rle)),
        "rle": rle,
    }


def pixels_of(row: Row) -> NDArray[np.bool_]:
    """Decode a row's mask, (H, W), by pycocotools."""
    with warnings.catch_warnings():
        # pycocotools 2.0.11 does not know the `copy` of NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        pixels: NDArray[np.bool_] = coco_mask.decode(row["rle"]).astype(bool)
    return pixels


def counts_of_runs(runs: Sequence[int]) -> str:
    """Compress run lengths, possible or not, as pycocotools does."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text += chr(48 + bits + (0 if done else 32))
            if done:
                break
    return text


def make_info(
    image_id: int = 7,
    split: str = "train",
    name: str = "train_data/images/IMG_7.jpg",
    size_hw: tuple[int, int] | None = (40, 56),
    labels: Mapping[str, str] | None = None,
) -> ImageInfo:
    height, width = size_hw or (None, None)
    return ImageInfo(image_id, split, name, width, height, labels or {})


def make_rows(
    info: ImageInfo,
    points_xy: Sequence[tuple[float, float]],
    radius_px: float = 6.0,
    statuses: Mapping[int, str] | None = None,
    shares: Mapping[int, int] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Rows of one image: random pixels of each disc, each pixel the nearest point's.

    Args:
        info: the image.
        points_xy: the points; each has status ok unless said otherwise.
        radius_px: radius of all discs.
        statuses: point -> a status without a mask.
        shares: point -> the point whose mask it shares.
        seed: of the pixels and scores.
    """
    rng = np.random.default_rng(seed)
    statuses, shares = dict(statuses or {}), dict(shares or {})
    points = np.array(points_xy, np.float64).reshape(-1, 2)
    alone = [i for i in range(len(points)) if i not in statuses and i not in shares]
    masks: dict[int, Row] = {}
    if info.width is not None and info.height is not None and alone:
        x, y = np.meshgrid(np.arange(info.width), np.arange(info.height))
        distances = np.stack([np.hypot(x - points[i, 0], y - points[i, 1]) for i in alone])
        owner = np.where(distances.min(axis=0) <= radius_px, distances.argmin(axis=0), -1)
        owner[rng.random(owner.shape) < 0.2] = -1
        for index, point in enumerate(alone):
            column, row = np.clip(np.rint(points[point]), 0, [info.width - 1, info.height - 1])
            owner[int(row), int(column)] = index
        masks = {point: mask_columns(owner == index) for index, point in enumerate(alone)}
    rows = []
    for point, (x_px, y_px) in enumerate(points.tolist()):
        site = shares.get(point, point)
        status = statuses.get(point, "shared" if point in shares else "ok")
        has_mask = status in ("ok", "shared")
        scores = rng.random(4).astype(np.float32).tolist() if has_mask else [None] * 4
        named = zip(("predicted_iou", "stability", "retained", "score"), scores, strict=True)
        rows.append(
            {
                "image": info.file_name,
                "image_id": info.image_id,
                "point_id": point,
                "x": x_px,
                "y": y_px,
                "radius_px": radius_px if has_mask else None,
                "status": status,
                "reasons": ["tiny", "clipped"][: point % 3],
                **dict(named),
                "annotation_id": info.image_id * 100_000 + site if has_mask else None,
                "head_box_xyxy": None,
                "occlusion": None,
                "blurred": None,
                "external_id": None,
                **(masks[site] if has_mask else dict.fromkeys(("bbox", "area", "rle"))),
                "flagged": point % 2 == 0,
                "source": "auto" if has_mask else None,
                "reviewer": None,
            }
        )
    return rows


def make_record(info: ImageInfo, rows: Sequence[Row], error: str | None = None) -> ImageRecord:
    table = pa.Table.from_pylist(list(rows), schema=RECORD_SCHEMA)
    return ImageRecord(info, table, ("a warning",) if rows else (), error, "f" * 8)


def sample_records() -> list[ImageRecord]:
    """Two splits, five images: usual, shared and unusual points, an empty one, a failed one."""
    first = make_info(1, "train", "images/a b.jpg", (40, 56), {"weather": "fog"})
    second = make_info(2, "train", "images/c,ä.jpg", (33, 47))
    empty = make_info(3, "train", "images/d.jpg", (5, 4))
    failed = make_info(4, "train", "images/e.jpg", None)
    test = make_info(9, "test", "images/f.jpg", (64, 30))
    return [
        make_record(
            first,
            make_rows(
                first,
                [(9.4, 8.0), (14.2, 9.5), (20, 30), (9.4, 8.0), (-3, 5), (39.9, 20.5), (50, 9)],
                statuses={4: "outside", 6: "empty"},
                shares={3: 0},
            ),
        ),
        make_record(
            second,
            make_rows(
                second,
                [(4.0, 4.0), (46.4, 32.2), (24, 0), (float("nan"), 4)],
                statuses={3: "invalid"},
                seed=1,
            ),
        ),
        make_record(empty, []),
        make_record(
            failed, make_rows(failed, [(1, 2), (3, 4)], statuses={0: "failed", 1: "failed"}), "torn"
        ),
        make_record(
            test, make_rows(test, [(10, 20), (15, 25), (20, 61)], statuses={1: "occluded"}, seed=2)
        ),
    ]


def counts_of(records: Sequence[ImageRecord]) -> Row:
    statuses = Counter(s for record in records for s in record.rows["status"].to_pylist())
    return {
        "images": len(records),
        "failed_images": sum(record.info.width is None for record in records),
        "points": statuses.total(),
        "masks": statuses["ok"],
        "by_status": dict(statuses),
    }


def write_photos(root: Path, records: Sequence[ImageRecord]) -> None:
    """Write a plain photo of its size for each record that has one."""
    for record in records:
        if record.info.height is not None and record.info.width is not None:
            path = root / record.info.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (record.info.width, record.info.height), (90, 120, 60)).save(path)


def write_run(out: Path, records: Sequence[ImageRecord], extent: str = "nnec") -> Path:
    """Write a whole OUT folder as `dpmo convert` does."""
    by_split: dict[str, list[ImageRecord]] = {}
    for record in records:
        by_split.setdefault(record.info.split, []).append(record)
    for split, of_split in by_split.items():

        def again(of_split: list[ImageRecord] = of_split) -> Any:
            return iter(of_split)

        coco = out / "annotations" / f"{split}.json"
        images = (record.info for record in of_split)
        write_coco(coco, again, images, dataset=DATASET, split=split, extent=extent)
        write_points(out / "points" / f"{split}.parquet", again)
    write_queue(out / "review" / "queue.parquet", lambda: iter(records), DATASET)
    run = {
        "version": SCHEMA_VERSION,
        "dpmo_version": "0.1.0",
        "dataset": DATASET,
        "root": "data",
        "extent": extent,
        "counts": counts_of(records),
        "splits": {split: {"counts": counts_of(some)} for split, some in by_split.items()},
    }
    (out / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return out
