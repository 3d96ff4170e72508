"""The row that accounts for one input point, and the Parquet schemas made of it."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

SCHEMA_VERSION = 2

ADDED_FROM = 500_000
"""The first point id of persons that reviewers added; those of the dataset lie below."""
IDS_PER_IMAGE = 10**6

DUPLICATE = "duplicate"
"""The reason of points that share an earlier one's mask."""
YIELDED = "yielded"
"""The reason of points whose pixels went to a mask that a reviewer drew or accepted."""

OK = "ok"
"""The point has a mask of its own."""
SHARED = "shared"
"""The point rounds to the same pixel as an earlier one and shares its mask."""
OUTSIDE = "outside"
"""The point lies outside the image."""
EMPTY = "empty"
"""The network gave no pixels for the point that its neighbours do not own."""
OCCLUDED = "occluded"
"""The dataset says that the head can't be seen."""
INVALID = "invalid"
"""A coordinate is NaN or infinite."""
REJECTED = "rejected"
"""The policy takes the located point for nobody's."""
DELETED = "deleted"
"""A reviewer takes the point for nobody's."""
UNMASKED = "unmasked"
"""A reviewer found the mask wrong and none better: the person stays without one."""
FAILED = "failed"
"""The image could not be read or converted."""

NOBODY = (OUTSIDE, INVALID, REJECTED, DELETED, FAILED)
"""Points of these count as no person that was found."""
STATUSES = (OK, SHARED, OUTSIDE, EMPTY, OCCLUDED, INVALID, REJECTED, DELETED, UNMASKED, FAILED)
STATUS_MEANINGS: Mapping[str, str] = {
    OK: "has a mask of its own",
    SHARED: "rounds to the pixel of another point and shares its mask",
    OUTSIDE: "lies outside the image",
    EMPTY: "got no pixels that its neighbours do not own",
    OCCLUDED: "can't be seen, says the dataset",
    INVALID: "has a coordinate that is NaN or infinite",
    REJECTED: "was located, but is taken for nobody's",
    DELETED: "is nobody's, says a reviewer",
    UNMASKED: "has no mask: a reviewer found it wrong, and none better",
    FAILED: "belongs to an image that could not be read or converted",
}
"""What a point of each status is or has, in words."""

AUTO = "auto"
ACCEPTED = "accepted"
CORRECTED = "corrected"
ADDED = "added"
SOURCES = (AUTO, ACCEPTED, CORRECTED, ADDED)
"""Whose a mask is: the network's; the network's, which a reviewer found right; a reviewer's, for a
point of the dataset or for a person whom nobody had marked."""

POINT_FIELDS: tuple[pa.Field, ...] = (
    pa.field("image", pa.string(), nullable=False),
    pa.field("image_id", pa.int64(), nullable=False),
    pa.field("point_id", pa.int32(), nullable=False),
    pa.field("x", pa.float64(), nullable=False),
    pa.field("y", pa.float64(), nullable=False),
    pa.field("radius_px", pa.float64()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("reasons", pa.list_(pa.string()), nullable=False),
    pa.field("predicted_iou", pa.float32()),
    pa.field("stability", pa.float32()),
    pa.field("retained", pa.float32()),
    pa.field("score", pa.float32()),
    pa.field("annotation_id", pa.int64()),
    # What the dataset itself knows of the head; null where it says nothing.
    pa.field("head_box_xyxy", pa.list_(pa.float64(), 4)),
    pa.field("occlusion", pa.int8()),
    pa.field("blurred", pa.bool_()),
    pa.field("external_id", pa.string()),
    # How sure the localiser is of a point that it found, 0 to 1; null for annotated ones.
    pa.field("locator_score", pa.float32()),
)
"""What the pipeline knows of one input point."""

REVIEW_FIELDS: tuple[pa.Field, ...] = (
    # One of SOURCES, null without a mask; the reviewer, null where nobody decided.
    pa.field("source", pa.string()),
    pa.field("reviewer", pa.string()),
)

MASK_FIELDS: tuple[pa.Field, ...] = (
    # xywh in px, the box of the mask's pixels.
    pa.field("bbox", pa.list_(pa.float64(), 4)),
    pa.field("area", pa.int64()),
    # A COCO RLE: {"size": [H, W], "counts": compressed ASCII}.
    pa.field("rle", pa.struct([("size", pa.list_(pa.int32(), 2)), ("counts", pa.string())])),
)
"""The mask of a row; null without one. A shared point carries the mask of its site."""

STORED_SCHEMA = pa.schema([*POINT_FIELDS, *MASK_FIELDS, pa.field("flagged", pa.bool_())])
"""One image's automatic rows, as the pipeline keeps them between images and final files."""

RECORD_SCHEMA = pa.schema([*STORED_SCHEMA, *REVIEW_FIELDS])
"""One image's rows."""

POINT_SCHEMA = pa.schema([*POINT_FIELDS, *REVIEW_FIELDS])
"""`points/<split>.parquet`: one row per input point, none missing, then the added persons."""

QUEUE_SCHEMA = pa.schema(
    [pa.field("dataset", pa.string()), pa.field("split", pa.string()), *RECORD_SCHEMA]
)
"""`review/queue.parquet`: every point, worst first."""


def annotation_id(image_id: int, point_id: int) -> int:
    """The id of the mask of a point, the same in every run and shard."""
    return image_id * IDS_PER_IMAGE + point_id
