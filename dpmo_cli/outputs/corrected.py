"""Corrections laid over the automatic rows of an image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dpmo_cli.geometry.rle import Rle, rle_window
from dpmo_cli.outputs import schema
from dpmo_cli.outputs.corrections import DELETED, REJECTED, Correction, Person, corrections_of
from dpmo_cli.outputs.records import ImageRecord, Records
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, CORRECTED, RECORD_SCHEMA, annotation_id
from dpmo_cli.outputs.yielding import Row, empty_row, mask_columns, settle

MOVED_PX = 1.0
"""A point of the dataset that moved farther since the decision may be another person."""
JUDGED_SCORE = 1.0
"""The score of a mask that a person drew or found right: last in the queue."""

NO_IMAGE = "no such image"
OTHER_IMAGE = "its image is another now"
UNREAD_IMAGE = "its image could not be read"
NO_POINT = "no such point"
MOVED_POINT = "its point moved"
OTHER_SIZE = "its image has another size now"
MASK_APPEARED = "it had no mask when accepted, and has one now"
UNFIT = (
    NO_IMAGE, OTHER_IMAGE, UNREAD_IMAGE, NO_POINT, MOVED_POINT, OTHER_SIZE, MASK_APPEARED
)  # fmt: skip
"""Why a decision does not go with the run as it is now; it is kept, and applied once it does."""

_EVIDENCE = ("predicted_iou", "stability", "retained")
_NO_MASK = dict.fromkeys(("annotation_id", "bbox", "area", "rle", "source", "score"))


@dataclass(frozen=True)
class Unfit:
    """A correction that can't be applied: `why` is one of UNFIT."""

    person: Person
    why: str

    def __str__(self) -> str:
        return f"{self.person}: {self.why}"


def corrected(record: ImageRecord, corrections: Sequence[Correction]) -> ImageRecord:
    """Return the record with what people decided, where it fits; the ids stay.

    Masks that people drew take pixels of all others, those that they accepted take pixels of the
    automatic ones. Of a mask that yields, the part that is connected to its point's pixel stays;
    without such a part the row is `empty`. A point that shares a mask goes on sharing it, unless a
    decision is about that point itself.

    Args:
        record: of an image, automatic.
        corrections: of this image.

    Raises:
        DrawnOverlapError: two masks that people drew overlap; it names both.
    """
    fitting, _ = fit(record, corrections)
    return lay_over(record, fitting)


def lay_over(record: ImageRecord, fitting: Sequence[Correction]) -> ImageRecord:
    """As `corrected`, for corrections that `fit` has found to go with the record."""
    if not fitting:
        return record
    rows: list[Row] = record.rows.to_pylist()
    automatic = {row["point_id"]: row["rle"] for row in rows if row["status"] == schema.OK}
    decided = {one.person.point_id: one for one in fitting}
    for members in _groups(rows):
        if any(row["point_id"] in decided for row in members):
            _decide(members, decided)
    for one in fitting:
        if one.person.is_added:
            rows += _added(record, one)
    assert record.info.height is not None
    assert record.info.width is not None
    size_hw = (record.info.height, record.info.width)
    owners = [row for row in rows if row["status"] == schema.OK]
    settle(owners, automatic, size_hw, f"{record.info.split}, image {record.info.image_id}")
    _share(rows)
    table = pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)
    return ImageRecord(record.info, table, record.warnings, record.error, record.fingerprint)


def fit(
    record: ImageRecord, corrections: Sequence[Correction]
) -> tuple[list[Correction], list[Unfit]]:
    """Return the corrections that go with a record, and why the others do not."""
    info = record.info
    places = {point: at for at, point in enumerate(record.rows["point_id"].to_pylist())}
    x, y = (record.rows[name].to_pylist() for name in ("x", "y"))
    has_mask = record.rows["rle"].is_valid().to_pylist()
    fitting, unfit = [], []
    for one in corrections:
        why = None
        at = places.get(one.person.point_id)
        if one.image != info.file_name:
            why = OTHER_IMAGE
        elif info.width is None:
            why = UNREAD_IMAGE
        elif one.rle is not None and one.rle["size"] != [info.height, info.width]:
            why = OTHER_SIZE
        elif one.seen_xy is not None:
            if at is None:
                why = NO_POINT
            elif _moved(one.seen_xy, (x[at], y[at])):
                why = MOVED_POINT
            elif one.verdict == ACCEPTED and one.rle is None and has_mask[at]:
                why = MASK_APPEARED
        if why is None:
            fitting.append(one)
        else:
            unfit.append(Unfit(one.person, why))
    return fitting, unfit


def join(
    records: Iterable[ImageRecord], corrections: Iterable[tuple[int, list[Correction]]]
) -> Iterator[tuple[ImageRecord | None, list[Correction]]]:
    """Yield the records of a split with their corrections, and corrections without a record.

    Both are ordered by image id.
    """
    waiting = iter(corrections)
    image_id, of_image = next(waiting, (None, []))
    for record in records:
        while image_id is not None and image_id < record.info.image_id:
            yield None, of_image
            image_id, of_image = next(waiting, (None, []))
        if image_id == record.info.image_id:
            yield record, of_image
            image_id, of_image = next(waiting, (None, []))
        else:
            yield record, []
    while image_id is not None:
        yield None, of_image
        image_id, of_image = next(waiting, (None, []))


def overlay(records: Records, snapshot: Path, split: str) -> Records:
    """The records of a split with the corrections of a snapshot, as often as wanted."""

    def walk() -> Iterator[ImageRecord]:
        for record, corrections in join(records(), corrections_of(snapshot, split)):
            if record is not None:
                yield corrected(record, corrections)

    return walk


def _moved(seen_xy: tuple[float, float], now_xy: tuple[float, float]) -> bool:
    """Whether a point lies elsewhere; one without a place, NaN or infinite, has to be the same."""
    if all(map(math.isfinite, (*seen_xy, *now_xy))):
        return math.dist(seen_xy, now_xy) > MOVED_PX
    return repr(seen_xy) != repr(now_xy)


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows by the mask that they share, its owner first; those without a mask are alone."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        shared = row["annotation_id"]
        groups.setdefault(-1 - row["point_id"] if shared is None else shared, []).append(row)
    return [sorted(group, key=lambda row: row["status"] != schema.OK) for group in groups.values()]


def _decide(members: Sequence[Row], decided: dict[int, Correction]) -> None:
    """Carry out the decisions about points that share a mask, its owner first; a point without."""
    owner = members[0]
    staying: list[Row] = []
    accepted: list[Correction] = []
    had_mask = owner["rle"] is not None
    for row in members:
        one = decided.get(row["point_id"])
        if one is None or one.verdict == ACCEPTED:
            staying.append(row)
            if one is not None:
                row |= {"flagged": False, "reviewer": one.reviewer}
                accepted += [one] if one.rle is not None else []
        elif one.rle is not None:
            _take(row, one.rle, CORRECTED)
            row |= {"reviewer": one.reviewer, "reasons": [], **dict.fromkeys(_EVIDENCE)}
            if one.point_xy is not None:
                row["x"], row["y"] = one.point_xy
        else:
            _lose(row, one)
    of_owner = decided.get(owner["point_id"])
    if of_owner is not None and of_owner.verdict == REJECTED and had_mask:
        # What was wrong as the owner's is wrong as theirs, unless somebody looked at them.
        for row in [row for row in staying if row["point_id"] not in decided]:
            _lose(row, of_owner)
            staying.remove(row)
    if of_owner is not None and of_owner.verdict == CORRECTED:
        return
    if staying and staying[0] is not owner:
        heir = staying[0]
        heir["annotation_id"] = annotation_id(heir["image_id"], heir["point_id"])
        heir["status"] = schema.OK
        heir["reasons"] = [why for why in heir["reasons"] if why != schema.DUPLICATE]
        heir["flagged"] = bool(heir["reasons"]) and heir["point_id"] not in decided
        for row in staying:
            row["annotation_id"] = heir["annotation_id"]
    if accepted:
        keeper = staying[0]
        assert accepted[0].rle is not None
        _take(keeper, accepted[0].rle, ACCEPTED)
        keeper["reviewer"] = keeper["reviewer"] or accepted[0].reviewer


def _take(row: Row, rle: Rle, source: str) -> None:
    """Give a row a mask that a person drew or found right."""
    row |= {
        "status": schema.OK,
        "annotation_id": annotation_id(row["image_id"], row["point_id"]),
        "source": source,
        "score": JUDGED_SCORE,
        "flagged": False,
    }
    if row["rle"] != rle:
        row |= mask_columns(rle, rle_window(rle))


def _lose(row: Row, one: Correction) -> None:
    """Take a row's mask away, for a person or for nobody."""
    status = schema.DELETED if one.verdict == DELETED else schema.UNMASKED
    row |= {"status": status, "reasons": [], "flagged": False, "reviewer": one.reviewer, **_NO_MASK}
    row |= dict.fromkeys(_EVIDENCE)


def _added(record: ImageRecord, one: Correction) -> list[Row]:
    """The row of a person whom a reviewer added; none where it was taken back."""
    if one.point_xy is None or one.verdict == DELETED:
        return []
    row: Row = dict.fromkeys(RECORD_SCHEMA.names)
    row |= {
        "image": record.info.file_name,
        "image_id": record.info.image_id,
        "point_id": one.person.point_id,
        "x": one.point_xy[0],
        "y": one.point_xy[1],
        "reasons": [],
        "reviewer": one.reviewer,
    }
    if one.rle is None:
        _lose(row, one)
    else:
        _take(row, one.rle, ADDED)
    return [row]


def _share(rows: Sequence[Row]) -> None:
    """Give shared points what their mask has become."""
    owners = {row["annotation_id"]: row for row in rows if row["status"] == schema.OK}
    for row in rows:
        if row["status"] == schema.SHARED:
            owner = owners.get(row["annotation_id"])
            if owner is None:
                empty_row(row)
                continue
            row |= {name: owner[name] for name in ("bbox", "area", "rle", "source", "score")}
            row["reviewer"] = row["reviewer"] or owner["reviewer"]
