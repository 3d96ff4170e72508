"""`dpmo-export.json`: what was exported, from which state of the run, and where its tiles lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.errors import InputError
from dpmo_cli.geometry.rle import Rle, rle_window
from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_int, as_list, as_numbers, as_object, as_text
from dpmo_cli.review.exchange.files import read_json

MANIFEST_VERSION = 1
POLYGONS = "polygons"
MASKS = "masks"
_MEND = "give the file that `dpmo review export` wrote, or export again"


@dataclass(frozen=True)
class Exported:
    """A person as a tile showed it.

    Attributes:
        point_id: which of the image's.
        point_xy: the point in the image, px.
        decision: id of the latest decision then; None for none.
        mask_sha256: of the mask in the run, in the image's frame; None without one.
        counts: COCO counts of the shape in the tile's frame, as it is read back from what was
            written; None for a person without a mask, who has no shape.
    """

    point_id: int
    point_xy: tuple[float, float]
    decision: int | None
    mask_sha256: str | None
    counts: str | None


@dataclass(frozen=True)
class Tile:
    """A part of an image that is one task.

    Attributes:
        name: of its photo, without folder; what ties a tool's answer to the tile.
        split, image_id, file_name: of the image in the run.
        image_hw: (H, W) of the image, px.
        origin_xy: where the tile's first pixel lies in the image, px.
        size_hw: (H, W) of the tile, px.
        persons: who belongs to it; all their masks lie inside.
    """

    name: str
    split: str
    image_id: int
    file_name: str
    image_hw: tuple[int, int]
    origin_xy: tuple[int, int]
    size_hw: tuple[int, int]
    persons: tuple[Exported, ...]

    def person(self, point_id: int) -> Person:
        """A point of the tile's image."""
        return Person(self.split, self.image_id, point_id)

    def rle(self, counts: str) -> Rle:
        """A shape of the tile."""
        return {"size": list(self.size_hw), "counts": counts}


@dataclass(frozen=True)
class Manifest:
    """An export.

    Attributes:
        path: the file, for messages.
        format: of which tool.
        shapes: POLYGONS or MASKS.
        tiles: by name.
    """

    path: Path
    format: str
    shapes: str
    tiles: Mapping[str, Tile]


def person_key(person: Person) -> str:
    """The text by which tools carry a person; letters that an id may have in any of them."""
    return f"{person.split}-{person.image_id}-{person.point_id}"


def parse_key(text: object) -> Person | None:
    """The person of a text, None where it is no such key."""
    if not isinstance(text, str):
        return None
    split, *numbers = text.rsplit("-", 2)
    plain = all(one.isascii() and one.isdigit() and len(one) < 10 for one in numbers)
    return Person(split, *map(int, numbers)) if len(numbers) == 2 and split and plain else None


def mask_hash(rle: Rle) -> str:
    """SHA-256 of a mask."""
    height, width = rle["size"]
    return hashlib.sha256(f"{height} {width} {rle['counts']}".encode()).hexdigest()


def write_manifest(path: Path, format_: str, shapes: str, tiles: Sequence[Tile]) -> None:
    """Write an export's manifest, one tile a line."""
    head = {"version": MANIFEST_VERSION, "kind": "dpmo-export", "format": format_, "shapes": shapes}
    lines = [json.dumps(_tile_json(tile), separators=(",", ":")) for tile in tiles]
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
        file.write(json.dumps(head)[:-1] + ', "tiles": [\n' + ",\n".join(lines) + "\n]}\n")


def read_manifest(path: Path) -> Manifest:
    """Read an export's manifest.

    Raises:
        InputError: it is missing, damaged, or of another version.
    """
    try:
        document = as_object(read_json(path, _MEND), "the manifest")
        if document.get("kind") != "dpmo-export" or document.get("version") != MANIFEST_VERSION:
            raise ValueError(f"it is no export of version {MANIFEST_VERSION}")
        listed = document.get("tiles")
        if not isinstance(listed, list):
            raise ValueError("tiles is no list")
        tiles = {tile.name: tile for tile in map(_parse_tile, listed)}
        if len(tiles) < len(listed):
            raise ValueError("two tiles have one name")
        return Manifest(
            path=path,
            format=as_text(document.get("format"), "format"),
            shapes=as_text(document.get("shapes"), "shapes"),
            tiles=tiles,
        )
    except ValueError as error:
        raise InputError(path, f"is no manifest of an export ({one_line(error)})", _MEND) from error


def _tile_json(tile: Tile) -> dict[str, object]:
    return {
        "name": tile.name,
        "split": tile.split,
        "image_id": tile.image_id,
        "file_name": tile.file_name,
        "image_hw": tile.image_hw,
        "origin_xy": tile.origin_xy,
        "size_hw": tile.size_hw,
        "persons": [
            {
                "point_id": one.point_id,
                "point_xy": one.point_xy,
                "decision": one.decision,
                "mask_sha256": one.mask_sha256,
                "counts": one.counts,
            }
            for one in tile.persons
        ],
    }


def _parse_tile(value: object) -> Tile:
    fields = as_object(value, "a tile")
    persons = fields.get("persons")
    if not isinstance(persons, list):
        raise ValueError("persons is no list")
    tile = Tile(
        name=as_text(fields.get("name"), "name"),
        split=as_text(fields.get("split"), "split"),
        image_id=as_int(fields.get("image_id"), "image_id"),
        file_name=as_text(fields.get("file_name"), "file_name"),
        image_hw=_pair(fields.get("image_hw"), "image_hw"),
        origin_xy=_pair(fields.get("origin_xy"), "origin_xy"),
        size_hw=_pair(fields.get("size_hw"), "size_hw"),
        persons=tuple(map(_parse_person, persons)),
    )
    (height, width), (rows, columns), (x, y) = tile.image_hw, tile.size_hw, tile.origin_xy
    if not (0 <= x < x + columns <= width and 0 <= y < y + rows <= height):
        raise ValueError(f"tile {tile.name} does not lie inside its image")
    for one in tile.persons:
        if one.counts is not None:
            rle_window(tile.rle(one.counts))
    return tile


def _parse_person(value: object) -> Exported:
    fields = as_object(value, "a person")
    decision, sha256, counts = (fields.get(k) for k in ("decision", "mask_sha256", "counts"))
    x, y = as_numbers(fields.get("point_xy"), 2, "point_xy")
    return Exported(
        point_id=as_int(fields.get("point_id"), "point_id"),
        point_xy=(x, y),
        decision=None if decision is None else as_int(decision, "decision"),
        mask_sha256=None if sha256 is None else as_text(sha256, "mask_sha256"),
        counts=None if counts is None else as_text(counts, "counts"),
    )


def _pair(value: object, name: str) -> tuple[int, int]:
    one, other = as_list(value, 2, name)
    return as_int(one, name), as_int(other, name)
