"""Scenes with true instance masks and one point per instance, read from public datasets."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.nnec import disc_radii, neighbour_distances
from dpmo_cli.geometry.points import FloatArray, Sites, group_points

HEAD_PART = 0.13
"""Upper part of a standing person's mask that is taken for the head."""
PERSON = 1
LAST_THING = 90
"""COCO numbers things up to here and stuff, as sky and grass, above."""
MIN_PIXELS = 12

Json = list[dict[str, Any]]


@dataclass(frozen=True)
class TruthScene:
    """An image whose instances are known exactly.

    Attributes:
        name: dataset and file name, e.g. "PennFudanPed/FudanPed00001.png".
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) int32, the instance that is visible at a pixel, 0 for none.
        instance_ids: (N,) int32, the instances that have a point.
        points_xy: (N, 2) float64 px, on a visible pixel of the instance.
        heads: (H, W) bool, the visible pixels of `labels` that belong to heads; None where
            instances have none, as nuclei, or where nobody knows.
    """

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    instance_ids: NDArray[np.int32]
    points_xy: NDArray[np.float64]
    heads: NDArray[np.bool_] | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.labels.shape[0], self.labels.shape[1]

    def labels_of_points(self) -> NDArray[np.int32]:
        """(H, W) int32: the index of the instance's point plus one; 0 where there is no point."""
        number = np.zeros(int(self.labels.max(initial=0)) + 1, dtype=np.int32)
        number[self.instance_ids] = np.arange(1, len(self.instance_ids) + 1)
        return number[self.labels]


def discs_at_points(scene: TruthScene) -> tuple[Sites, FloatArray]:
    """The sites of a scene's points, and their (S,) radii at scale 1, px, as in a run."""
    sites = group_points(scene.points_xy, scene.size_hw)
    return sites, disc_radii(neighbour_distances(sites), scene.size_hw, 1.0)


def is_validation(name: str) -> bool:
    """Whether "dataset/file name" belongs to the validation split, for every model we train."""
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % 5 == 0


def held_out(dataset: str, file_name: str) -> bool:
    """Whether an image of a dataset belongs to the validation split; its folders do not matter."""
    return is_validation(f"{dataset}/{PurePosixPath(file_name).name}")


def snap_into(mask: NDArray[np.bool_], point_xy: tuple[float, float]) -> tuple[float, float]:
    """The point, or the nearest pixel of the mask when it lies beside it; frame: the mask's."""
    x, y = point_xy
    # Half a pixel rounds up or down after where the mask lies in its image: both must hold it.
    near_rows = np.clip([math.ceil(y - 0.5), math.floor(y + 0.5)], 0, mask.shape[0] - 1)
    near_columns = np.clip([math.ceil(x - 0.5), math.floor(x + 0.5)], 0, mask.shape[1] - 1)
    if mask[np.ix_(near_rows, near_columns)].all():
        return x, y
    rows, columns = np.nonzero(mask)
    nearest = int(np.argmin((columns - x) ** 2 + (rows - y) ** 2))
    return float(columns[nearest]), float(rows[nearest])


def head_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The top 13 % of a person's rows."""
    rows = np.flatnonzero(mask.any(axis=1))
    end = int(np.ceil(rows[0] + max(1.0, HEAD_PART * (rows[-1] - rows[0] + 1))))
    head = mask.copy()
    head[end:] = False
    return head


def head_point(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Centroid of the top 13 % of a person's rows, snapped into the mask: x, y."""
    rows, columns = np.nonzero(head_of(mask))
    return snap_into(mask, (float(columns.mean()), float(rows.mean())))


def deepest_point(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Maximum of the distance transform: x, y."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(column), float(row)


def scene_from_labels(
    name: str, image: NDArray[np.uint8], labels: NDArray[np.int32], *, heads: bool
) -> TruthScene:
    """Give every instance of a label map its point: a head's or the deepest.

    Raises:
        UsageError: image and label map differ in size.
    """
    if labels.shape != image.shape[:2]:
        raise UsageError(
            f"{name}: its true masks are of another size than the image; copy the data again"
        )
    ids: list[int] = []
    points: list[tuple[float, float]] = []
    all_heads = np.zeros(labels.shape, dtype=np.bool_) if heads else None
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mask = labels[box] == index
        if mask.sum() < MIN_PIXELS:
            continue
        x, y = head_point(mask) if heads else deepest_point(mask)
        if all_heads is not None:
            all_heads[box] |= head_of(mask)
        ids.append(index)
        points.append((x + box[1].start, y + box[0].start))
    return TruthScene(
        name,
        image,
        labels,
        np.array(ids, dtype=np.int32),
        np.array(points, dtype=np.float64).reshape(-1, 2),
        all_heads,
    )


def _pixels(path: Path, mode: str | None = None) -> NDArray[np.uint8]:
    """Read a picture in a mode of Pillow's, or as it is."""
    try:
        with Image.open(path) as image:
            return np.asarray(image if mode is None else image.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: missing, or no whole picture; copy the data again") from error


def penn_fudan(data: Path) -> Iterator[TruthScene]:
    """Pedestrians of `DATA/PennFudanPed`."""
    for path in sorted((data / "PennFudanPed/PNGImages").glob("*.png")):
        mask_path = data / "PennFudanPed/PedMasks" / f"{path.stem}_mask.png"
        labels = _pixels(mask_path).astype(np.int32)
        image = _pixels(path, "RGB")
        yield scene_from_labels(f"PennFudanPed/{path.name}", image, labels, heads=True)


def _panoptic_entries(listing: Path) -> Json:
    """The annotations of a panoptic listing, by file name."""
    try:
        entries = json.loads(listing.read_bytes())["annotations"]
        for entry in entries:
            int(entry["image_id"])
            for segment in entry["segments_info"]:
                segment["id"], segment["category_id"], segment["iscrowd"]
        return sorted(entries, key=lambda entry: str(entry["file_name"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = "is no COCO panoptic listing, or damaged"
        raise InputError(listing, problem, "copy it again") from error


def _coco_panoptic(data: Path) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int32], Json]]:
    """File name, image, segment ids and segments of the images in `DATA/COCO_panoptic_100`."""
    folder = data / "COCO_panoptic_100"
    listing = folder / "panoptic/panoptic_train2017.json"
    if not listing.is_file():
        return
    for entry in _panoptic_entries(listing):
        path = folder / "panoptic/panoptic_train2017" / entry["file_name"]
        colours = _pixels(path, "RGB").astype(np.int32)
        codes = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        name = f"{entry['image_id']:012d}.jpg"
        image = _pixels(folder / "images/train2017" / name, "RGB")
        if codes.shape != image.shape[:2]:
            raise UsageError(f"{path}: is of another size than its image; copy the data again")
        yield name, image, codes, [s for s in entry["segments_info"] if not s["iscrowd"]]


def coco_persons(data: Path) -> Iterator[TruthScene]:
    """Persons of the panoptic images in `DATA/COCO_panoptic_100`; also images without any."""
    for name, image, codes, segments in _coco_panoptic(data):
        labels = np.zeros(codes.shape, dtype=np.int32)
        persons = [s for s in segments if s["category_id"] == PERSON]
        for number, segment in enumerate(persons, start=1):
            labels[codes == segment["id"]] = number
        yield scene_from_labels(f"COCO_panoptic_100/{name}", image, labels, heads=True)


def coco_things(data: Path) -> Iterator[TruthScene]:
    """Everything but persons that can be counted in the images of `DATA/COCO_panoptic_100`."""
    for name, image, codes, segments in _coco_panoptic(data):
        labels = np.zeros(codes.shape, dtype=np.int32)
        things = [s for s in segments if PERSON < s["category_id"] <= LAST_THING]
        for number, segment in enumerate(things, start=1):
            labels[codes == segment["id"]] = number
        yield scene_from_labels(f"COCO_panoptic_100/{name}", image, labels, heads=False)


def nuclei(data: Path) -> Iterator[TruthScene]:
    """Nuclei of `DATA/DSB2018/stage1_train`: dense true instances that touch each other."""
    for folder in sorted((data / "DSB2018/stage1_train").glob("*")):
        path = folder / "images" / f"{folder.name}.png"
        image = _pixels(path, "RGB")
        labels = np.zeros(image.shape[:2], dtype=np.int32)
        for number, mask_path in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
            mask = _pixels(mask_path, "L") > 0
            if mask.shape != labels.shape:
                raise UsageError(f"{mask_path}: is of another size than {path}; copy it again")
            labels[mask] = number
        yield scene_from_labels(f"DSB2018/{path.name}", image, labels, heads=False)


def labelled_scenes(root: Path) -> Iterator[TruthScene]:
    """Scenes of a `csv` dataset with label maps: `ROOT/truth/<image stem>.png`.

    The label of an instance is the index of its point plus one, as `examples.render` writes it.
    """
    from dpmo_cli.datasets.registry import open_dataset

    dataset = open_dataset("csv", root)
    for split in dataset.splits():
        for entry in dataset.entries(split):
            points_xy = dataset.read_heads(entry).points_xy
            truth = root / "truth" / f"{Path(entry.file_name).stem}.png"
            if not truth.is_file():
                raise UsageError(f"{truth}: the label map of {entry.file_name} is missing")
            labels = _pixels(truth).astype(np.int32)
            ids = np.arange(1, len(points_xy) + 1, dtype=np.int32)
            image = _pixels(entry.image_path, "RGB")
            head_path = truth.parent / "heads" / truth.name
            heads = _pixels(head_path) > 0 if head_path.is_file() else None
            name = f"{root.name}/{entry.file_name}"
            yield TruthScene(name, image, labels, ids, points_xy, heads)
