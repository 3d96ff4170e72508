"""Parquet as Hugging Face's `datasets` reads it: a row per image, with the photo inside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.atomic import atomic_path, write_text
from dpmo_cli.outputs.exports.plan import COPY, NONE, Photo, Plan
from dpmo_cli.outputs.finished import FinishedImage
from dpmo_cli.outputs.schema import NOBODY

ROW_GROUP_BYTES = 16 * 2**20
"""So much of photos and masks is gathered before it is written."""

_CARD = "README.md"
_NO_WORD = re.compile(r"\W")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_CATEGORY = {"names": ["person"], "_type": "ClassLabel"}
_OBJECTS = pa.struct(
    [
        ("id", pa.list_(pa.int64())),
        ("category", pa.list_(pa.int64())),
        # x, y, width, height of the mask's pixels, px.
        ("bbox", pa.list_(pa.list_(pa.float64()))),
        ("area", pa.list_(pa.int64())),
        # Compressed COCO RLE; its size is that of the image.
        ("rle_counts", pa.list_(pa.string())),
        ("score", pa.list_(pa.float64())),
        ("point_id", pa.list_(pa.int64())),
        ("point", pa.list_(pa.list_(pa.float64()))),
    ]
)
_POINTS = pa.struct(
    [
        ("point_id", pa.list_(pa.int64())),
        ("x", pa.list_(pa.float64())),
        ("y", pa.list_(pa.float64())),
        ("status", pa.list_(pa.string())),
    ]
)
_COLUMNS = (
    pa.field("image_id", pa.int64()),
    pa.field("file_name", pa.string()),
    pa.field("width", pa.int64()),
    pa.field("height", pa.int64()),
    pa.field("count", pa.int64()),
    pa.field("objects", _OBJECTS),
    pa.field("points", _POINTS),
)


@dataclass(frozen=True)
class ParquetWriter:
    """Writes `data/<split>.parquet`, and a card that tells `datasets` which split is which.

    A photo is in the file (copy), is named by its path (link), or is left out (none). `objects`
    are the masks, `points` all points of the image, `count` how many people it holds.
    """

    plan: Plan

    def files(self) -> Iterator[str]:
        """One per split, and the card."""
        yield from map(_file, self.plan.images)
        yield _CARD

    def write_split(self, split: str, images: Iterator[FinishedImage]) -> None:
        """Write the rows of a split."""
        schema = self._schema()
        with (
            atomic_path(self.plan.to / _file(split)) as temporary,
            temporary.open("wb") as file,
            pq.ParquetWriter(
                file,
                schema,
                compression="zstd",
                use_dictionary=False,
                # `datasets` heeds what we say of a column only where its type is the same, down
                # to the name of a list's element, which Parquet would change.
                use_compliant_nested_type=False,
            ) as writer,
        ):
            rows: list[dict[str, Any]] = []
            waiting_bytes = 0
            for found in images:
                rows.append(self._row(found))
                photo = rows[-1].get("image", {}).get("bytes") or b""
                waiting_bytes += len(photo) + sum(map(len, rows[-1]["objects"]["rle_counts"]))
                if waiting_bytes >= ROW_GROUP_BYTES:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows, waiting_bytes = [], 0
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema))

    def write_rest(self) -> None:
        """Write the card."""
        write_text(self.plan.to / _CARD, card(list(self.plan.images), self.plan))

    def warnings(self) -> Iterator[str]:
        """None: everything can be written."""
        yield from ()

    def _schema(self) -> pa.Schema:
        with_photo = self.plan.options.images != NONE
        schema = pa.schema([pa.field("image", _IMAGE)] * with_photo + list(_COLUMNS))
        features = {field.name: _feature(field.type) for field in schema}
        features["objects"]["category"] = {"feature": _CATEGORY, "_type": "Sequence"}
        text = json.dumps({"info": {"features": features}})
        return schema.with_metadata({"huggingface": text})

    def _row(self, found: FinishedImage) -> dict[str, Any]:
        image = found.image
        points = found.rows.select(["point_id", "x", "y", "status"]).to_pydict()
        row: dict[str, Any] = {
            "image_id": image.image_id,
            "file_name": image.file_name,
            "width": image.size_hw[1],
            "height": image.size_hw[0],
            "count": sum(status not in NOBODY for status in points["status"]),
            "objects": _objects(found),
            "points": points,
        }
        if self.plan.options.images != NONE:
            photo = self.plan.photos[image]
            if self.plan.options.images == COPY or photo.redraw is not None:
                row["image"] = {"bytes": _read(photo), "path": image.file_name}
            else:
                row["image"] = {"bytes": None, "path": str(photo.path.absolute())}
        return row


def card(splits: list[str], plan: Plan) -> str:
    """Return the dataset card: what `datasets` needs to know of the files, and what they hold."""
    files = "".join(
        f"  - split: {_NO_WORD.sub('_', split)}\n    path: {json.dumps(_file(split))}\n"
        for split in splits
    )
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\n"
        f"People of {plan.dataset}, exported by dpmo: masks of the extent `{plan.extent}`.\n\n"
        "`objects` holds a list per field, one element per mask: `bbox` is x, y, width, height in "
        "px, `rle_counts` the counts of a COCO RLE of size [`height`, `width`]. `points` holds "
        "all points of the image, `count` is the number of its people.\n"
    )


def _objects(found: FinishedImage) -> dict[str, list[Any]]:
    objects: dict[str, list[Any]] = {field.name: [] for field in _OBJECTS}
    for one in found.instances():
        x0, y0, x1, y1 = one.window_xyxy
        values = {
            "id": one.fields["id"],
            "category": 0,
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
            "area": int(one.mask.sum()),
            "rle_counts": one.fields["segmentation"]["counts"],
            "score": one.fields.get("score"),
            "point_id": one.point_id,
            "point": one.fields["attributes"].get("point"),
        }
        for name, value in values.items():
            objects[name].append(value)
    return objects


def _read(photo: Photo) -> bytes:
    try:
        return photo.read()
    except OSError as error:
        mend = "see that you may read it"
        raise InputError(photo.path, f"can't be read ({error.strerror})", mend) from error


def _file(split: str) -> str:
    return f"data/{split}.parquet"


def _feature(kind: pa.DataType) -> Any:
    """Say of an Arrow type what `datasets` calls it."""
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    return {"dtype": "float64" if kind == pa.float64() else str(kind), "_type": "Value"}
