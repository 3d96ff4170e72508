"""A small run to export: the samples, the photos of their images, and one call that exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dpmo_cli.outputs.exports.plan import NONE, Options, Photo, Plan, Writer, name_images
from dpmo_cli.outputs.exports.registry import FORMATS
from dpmo_cli.outputs.finished import FinishedImage, iter_rows, list_images, read_images
from dpmo_cli.outputs.records import ImageRecord
from tests.outputs.samples import make_info, make_record, make_rows, write_run

EXTENT = "nnec"


def odd_records() -> list[ImageRecord]:
    """Images of a pixel, of a mask of a pixel, of nobody, and of a mask in parts with a hole."""
    dot, tiny = make_info(1, "train", "1.jpg", (1, 1)), make_info(2, "train", "2.jpg", (9, 7))
    none, parts = make_info(3, "train", "3.jpg", (4, 4)), make_info(4, "train", "4.jpg", (40, 56))
    return [
        make_record(dot, make_rows(dot, [(0, 0)])),
        make_record(tiny, make_rows(tiny, [(6, 8), (0.4, 0.4)], radius_px=0.5)),
        make_record(none, make_rows(none, [(9, 9)], statuses={0: "outside"})),
        # Random pixels of a wide disc: many parts, many holes.
        make_record(parts, make_rows(parts, [(20, 20)], radius_px=18)),
    ]


def draw_photos(root: Path, records: Sequence[ImageRecord]) -> None:
    """Save a photo of noise for each image that could be read."""
    for record in records:
        info = record.info
        if info.height is not None:
            rng = np.random.default_rng(info.image_id)
            pixels = rng.integers(0, 256, (info.height, info.width, 3), dtype=np.uint8)
            path = root / info.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def export(
    folder: Path,
    records: Sequence[ImageRecord],
    name: str,
    *,
    images: str = NONE,
    per_image: bool = False,
    png: bool = False,
) -> tuple[Path, Writer]:
    """Write a run into `folder` and export all of it; its photos lie in `folder/data`."""
    out, to = write_run(folder / "out", records, EXTENT), folder / "to"
    form = FORMATS[name]
    splits = dict.fromkeys(record.info.split for record in records)
    listed = {split: list_images(out, split) for split in splits}
    everything = [image for images in listed.values() for image in images]

    def largest() -> int:
        rows = [rows for split in splits for _, rows in iter_rows(out, split)]
        ids = [row["point_id"] for table in rows for row in table.to_pylist()]
        return max(ids, default=-1)

    plan = Plan(
        to=to,
        dataset="sha",
        extent=EXTENT,
        images=listed,
        names=name_images(everything, flat=form.flat, by_split=form.by_split),
        photos={image: Photo(folder / "data" / image.file_name) for image in everything},
        largest_point_id=largest,
        options=Options(images, per_image, png),
    )
    writer = form.writer(plan)
    for split in splits:
        writer.write_split(split, read_images(out, split, listed[split]))
    writer.write_rest()
    written = {p.relative_to(to).as_posix() for p in to.rglob("*") if not p.is_dir()}
    may_write = set(writer.files())
    assert written <= may_write
    assert written == may_write or list(writer.warnings())
    return to, writer


def read_back(folder: Path, split: str) -> list[FinishedImage]:
    """What the run in `folder` says of the images of a split."""
    out = folder / "out"
    return list(read_images(out, split, list_images(out, split)))
