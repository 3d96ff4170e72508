"""`dpmo review export`: persons of a run as tasks for an annotation tool, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.rle import WindowXYXY, frame_rle
from dpmo_cli.masks.reasons import REASONS
from dpmo_cli.outputs.atomic import atomic_path, new_folder
from dpmo_cli.outputs.corrections import DELETED, OPEN, Person
from dpmo_cli.outputs.findings import DECISIONS_FILE
from dpmo_cli.outputs.schema import AUTO, CORRECTED, OUTSIDE, SHARED
from dpmo_cli.review.decision import Decision
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.exchange import cvat, label_studio, labelme
from dpmo_cli.review.exchange.files import MANIFEST_FILE
from dpmo_cli.review.exchange.manifest import (
    POLYGONS,
    Exported,
    Tile,
    mask_hash,
    write_manifest,
)
from dpmo_cli.review.exchange.outlines import outline, polygon_rle
from dpmo_cli.review.exchange.shapes import Shape, Task
from dpmo_cli.review.exchange.tiling import cut
from dpmo_cli.review.people import People, ShownPerson, load_people
from dpmo_cli.review.photos import Photo, Photos
from dpmo_cli.review.run_index import QueueFilter, RunIndex, open_run

ALL, FLAGGED = "all", "flagged"
IMAGE_FOLDERS = {cvat.NAME: cvat.IMAGES, label_studio.NAME: label_studio.IMAGES,
                 labelme.NAME: labelme.IMAGES}  # fmt: skip
FORMATS = tuple(IMAGE_FOLDERS)
MOST = 200
"""Shapes of a tile; Label Studio and CVAT grow slow soon above that."""
_QUALITY = 95


@dataclass(frozen=True)
class Wanted:
    """What is to be exported.

    Attributes:
        format: one of FORMATS.
        shapes: POLYGONS or MASKS; labelme has polygons alone.
        only: ALL, FLAGGED or a reason; with the latter two those that nobody has decided on.
        split: one split; None for all.
        limit: so many persons, the worst first; None for all.
        most: persons of a tile, 0 for whole images.
        prefix: of the photos' addresses in Label Studio; None for files below its root.
    """

    format: str
    shapes: str = POLYGONS
    only: str = ALL
    split: str | None = None
    limit: int | None = None
    most: int = MOST
    prefix: str | None = None


@dataclass(frozen=True)
class ExportSummary:
    """What was written: images, tiles, shapes, and persons without a mask, who have none."""

    images: int
    tiles: int
    shapes: int
    without_mask: int


def export_tasks(
    out: Path,
    to: Path,
    wanted: Wanted,
    *,
    root: Path | None = None,
    tell: Callable[[int, int], None] = lambda done, images: None,
) -> ExportSummary:
    """Write the tasks, their photos and the manifest into a new folder, whole or not at all.

    Args:
        out: the folder of the run.
        to: the folder to make; an empty one may be there.
        wanted: what to export.
        root: of the photos; None for the one that the run names.
        tell: called with the number of images done, and of all.

    Raises:
        UsageError: `to` is not empty, an unknown split or reason, nobody to export.
        InputError: a photo or a file of the run can't be read.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"--to {to}: is not empty, and may hold a team's work; name a new folder")
    info, index = open_run(out, root)
    decisions = latest_decisions(out)
    persons = _chosen(index, wanted, decisions)
    if not persons:
        raise UsageError(f"{out}: holds nobody to export; see --only and --split")
    photos = Photos(info.root, budget_bytes=0)
    tiles: list[Tile] = []
    with new_folder(to) as folder:
        tasks = _tasks(out, persons, decisions, photos, wanted, folder, tell)
        _writer(wanted, folder, to)(_noted(tasks, tiles))
        write_manifest(folder / MANIFEST_FILE, wanted.format, wanted.shapes, tiles)
    exported = [one for tile in tiles for one in tile.persons]
    shapes = sum(one.counts is not None for one in exported)
    images = len({(tile.split, tile.image_id) for tile in tiles})
    return ExportSummary(images, len(tiles), shapes, len(exported) - shapes)


def latest_decisions(out: Path) -> dict[Person, Decision]:
    """The latest decision about each person; nothing is made where there are none."""
    if not (out / DECISIONS_FILE).exists():
        return {}
    with Decisions(out) as decisions:
        return decisions.latest()


def _chosen(index: RunIndex, wanted: Wanted, decisions: dict[Person, Decision]) -> list[Person]:
    """The persons to export, by image."""
    if wanted.split is not None and wanted.split not in index.splits:
        raise UsageError(f"--split {wanted.split}: unknown; use one of {', '.join(index.splits)}")
    if wanted.only not in (ALL, FLAGGED, *REASONS):
        known = ", ".join((ALL, FLAGGED, *REASONS))
        raise UsageError(f"--only {wanted.only}: unknown; use one of {known}")
    verdicts = np.full(len(index), OPEN, object)
    for person, decision in decisions.items():
        rank = index.rank(person)
        if rank is not None:
            verdicts[rank] = decision.verdict
    asked = QueueFilter(
        splits=() if wanted.split is None else (wanted.split,),
        flagged=wanted.only == FLAGGED,
        reasons=(wanted.only,) if wanted.only in REASONS else (),
        verdicts=() if wanted.only == ALL else (OPEN,),
    )
    ranks = index.choose(asked, verdicts)
    # A shared point has the shape of its site, unless somebody drew its own.
    hidden = np.isin(index.status, (SHARED, OUTSIDE)) & (verdicts != CORRECTED)
    ranks = ranks[~hidden[ranks]]
    persons = [index.person(rank) for rank in ranks.tolist()]
    if wanted.only == ALL:
        persons += [
            person
            for person, decision in decisions.items()
            if person.is_added
            and decision.verdict not in (OPEN, DELETED)
            and wanted.split in (None, person.split)
        ]
    return sorted(persons[: wanted.limit])


def _writer(wanted: Wanted, folder: Path, to: Path) -> Callable[[Iterable[Task]], None]:
    if wanted.format == cvat.NAME:
        return partial(cvat.write, folder)
    if wanted.format == labelme.NAME:
        return partial(labelme.write, folder)
    prefix = label_studio.local_files(to) if wanted.prefix is None else wanted.prefix
    return partial(label_studio.write, folder, prefix=prefix)


def _noted(tasks: Iterable[Task], tiles: list[Tile]) -> Iterator[Task]:
    """Pass tasks on and keep their tiles."""
    for task in tasks:
        tiles.append(task.tile)
        yield task


def _tasks(
    out: Path,
    persons: Sequence[Person],
    decisions: dict[Person, Decision],
    photos: Photos,
    wanted: Wanted,
    folder: Path,
    tell: Callable[[int, int], None],
) -> Iterator[Task]:
    """Yield the tasks of image after image, whose photos it writes."""
    of_image: dict[tuple[str, int], list[Decision]] = {}
    for person, decision in decisions.items():
        of_image.setdefault((person.split, person.image_id), []).append(decision)
    groups = [
        (key, list(group)) for key, group in groupby(persons, lambda p: (p.split, p.image_id))
    ]
    for done, (key, group) in enumerate(groups):
        tell(done, len(groups))
        people = load_people(out, *key, of_image.get(key, []))
        found = (people.show(person.point_id) for person in group)
        shown = [one for one in found if one is not None and one.verdict != DELETED]
        if not shown:
            continue
        photo = photos.read(people.info.file_name, people.size_hw)
        yield from _tiles(people, shown, photo, wanted, folder)


def _tiles(
    people: People,
    shown: Sequence[ShownPerson],
    photo: Photo,
    wanted: Wanted,
    folder: Path,
) -> Iterator[Task]:
    stem = f"{people.info.split}_{people.info.image_id:06d}"
    points_xy = np.array([one.xy for one in shown], np.float64)
    around = np.concatenate([points_xy, points_xy + 1], axis=1)
    boxes = np.array(
        [box if one.mask is None else one.mask.window_xyxy
         for one, box in zip(shown, around.tolist(), strict=True)], np.float64,
    )  # fmt: skip
    boxes[:, :2], boxes[:, 2:] = (
        np.minimum(boxes[:, :2], around[:, :2]), np.maximum(boxes[:, 2:], around[:, 2:])
    )  # fmt: skip
    parts = cut(points_xy, boxes, people.size_hw, wanted.most)
    for number, (indices, window) in enumerate(parts):
        name = f"{stem}.jpg" if len(parts) == 1 else f"{stem}_{number:03d}.jpg"
        _write_photo(folder / IMAGE_FOLDERS[wanted.format] / name, photo, window)
        yield _task(name, people, [shown[i] for i in indices.tolist()], window, wanted)


def _write_photo(path: Path, photo: Photo, window: WindowXYXY) -> None:
    from PIL import Image

    x0, y0, x1, y1 = window
    with atomic_path(path) as temporary:
        picture = Image.fromarray(np.ascontiguousarray(photo[y0:y1, x0:x1]))
        picture.save(temporary, format="JPEG", quality=_QUALITY)


def _task(
    name: str, people: People, shown: Sequence[ShownPerson], window: WindowXYXY, wanted: Wanted
) -> Task:
    x0, y0, x1, y1 = window
    size_hw = (y1 - y0, x1 - x0)
    shapes, exported = [], []
    for one in shown:
        shape = _shape(one, window, size_hw, wanted.shapes == POLYGONS)
        counts = sha256 = None
        if shape is not None and one.mask is not None:
            shapes.append(shape)
            counts = _counts(shape, size_hw)
            sha256 = mask_hash(one.mask.rle(people.size_hw))
        decision = None if one.decision is None else one.decision.id
        exported.append(Exported(one.person.point_id, one.xy, decision, sha256, counts))
    tile = Tile(
        name=name,
        split=people.info.split,
        image_id=people.info.image_id,
        file_name=people.info.file_name,
        image_hw=people.size_hw,
        origin_xy=(x0, y0),
        size_hw=size_hw,
        persons=tuple(exported),
    )
    return Task(tile, tuple(shapes))


def _shape(
    one: ShownPerson, window: WindowXYXY, size_hw: tuple[int, int], polygons: bool
) -> Shape | None:
    """The person's shape in a tile; None without a mask, or with that of another point."""
    if one.mask is None or (one.origin == AUTO and one.status == SHARED):
        return None
    x0, y0, x1, y1 = one.mask.window_xyxy
    placed = (x0 - window[0], y0 - window[1], x1 - window[0], y1 - window[1])
    polygon = outline(one.mask.pixels, placed, size_hw) if polygons else None
    return Shape(one.person, one.mask.pixels, placed, polygon)


def _counts(shape: Shape, size_hw: tuple[int, int]) -> str:
    """The shape's pixels as they are read back from what was written."""
    if shape.polygon is not None:
        return polygon_rle([shape.polygon], size_hw)["counts"]
    return frame_rle(shape.mask, shape.window_xyxy, size_hw)["counts"]
