"""NWPU-Crowd: `images` or `images_part1..5`, `jsons` and / or `mats`, and a list for each split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.datasets.paths import (
    child_folder,
    child_folders,
    image_files,
    listed,
    read_text,
    relative_name,
)
from dpmo_cli.datasets.reader import (
    CERTAIN,
    LIKELY,
    Evidence,
    Reader,
    count_warning,
    sub_folder,
)
from dpmo_cli.datasets.tables import COPY_AGAIN, mat_variable, number_table
from dpmo_cli.errors import InputError, UsageError

_SPLITS = ("train", "val", "test")
_FOLDER_NAMES = ("NWPU-Crowd", "NWPU", "NWPU_Crowd")
_IMAGE_FOLDER = re.compile(r"images(_part\d+)?", re.IGNORECASE)
_LABEL_NAMES = ("illumination", "density")
"""What follows the id in a list; density classes: 0, up to 100, 500, 5,000 heads, more."""


class Nwpu(Reader):
    """NWPU-Crowd, with head boxes. The labels of `test` are withheld by its authors."""

    name = "nwpu"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        homes = [self.root, *child_folders(self.root, _FOLDER_NAMES)]
        found = next(((home, lists) for home in homes if (lists := _split_lists(home))), None)
        if found is None:
            raise UsageError(
                f"{self.root} holds no nwpu; give the folder NWPU-Crowd "
                "(with train.txt and jsons or mats) with --root"
            )
        self.home, self._lists = found

    def splits(self) -> tuple[str, ...]:
        """Names of the listed splits with at least one annotation file."""
        annotated = self._annotations().keys()
        return tuple(
            split
            for split, path in self._lists.items()
            if any(_key(image) in annotated for image, _ in _list_lines(path))
        )

    def evidence(self) -> Evidence:
        """Certain where annotations are there and not only the lists."""
        lists = " and ".join(path.name for path in self._lists.values())
        if self.splits():
            return Evidence(CERTAIN, f"{self.home} holds {lists} and jsons or mats")
        return Evidence(LIKELY, f"{self.home} holds {lists}, but no annotation of an image in them")

    def _why_not(self, split: str) -> str:
        if split == "test" and split in self._lists:
            return (
                f"the labels of nwpu's split 'test' are withheld by its authors and not in "
                f"{self.home}; use --split train or val"
            )
        if split in self._lists:
            return f"no annotation of nwpu's split {split!r} is in {self.home}; add jsons or mats"
        return super()._why_not(split)

    def _annotations(self) -> dict[str, Path]:
        """Annotation files by the key of their image; a json goes before a mat."""
        found: dict[str, Path] = {}
        for folder_name, suffix in (("mats", ".mat"), ("jsons", ".json")):
            folder = child_folder(self.home, (folder_name,))
            for path in listed(folder) if folder is not None else ():
                if path.suffix.lower() == suffix:
                    found[_key(path.stem)] = path
        return found

    def _images(self) -> dict[str, Path]:
        folders = [path for path in listed(self.home) if _IMAGE_FOLDER.fullmatch(path.name)]
        return {_key(path.stem): path for folder in folders for path in image_files(folder)}

    def _list(self, split: str) -> Iterable[ImageEntry]:
        images, annotations = self._images(), self._annotations()
        images_folder = sub_folder(self.home, "images")
        jsons_folder = sub_folder(self.home, "jsons")
        entries: dict[str, ImageEntry] = {}  # an id that is listed twice is one image
        for image, labels in _list_lines(self._lists[split]):
            # Put together as text: joined as paths, an absolute id would take the folder's place.
            path = images.get(_key(image), Path(f"{images_folder}/{image}.jpg"))
            annotation = annotations.get(_key(image), Path(f"{jsons_folder}/{image}.json"))
            file_name = relative_name(self.root, path)
            entries[file_name] = ImageEntry(split, file_name, path, annotation, labels)
        return entries.values()

    def _read(self, entry: ImageEntry) -> Heads:
        path = entry.annotation_path
        if path is None:
            raise ValueError(f"{entry.file_name} was not listed by {self.name}")
        return _read_mat(path) if path.suffix.lower() == ".mat" else _read_json(path)


def _split_lists(home: Path) -> dict[str, Path]:
    """The lists `train.txt`, `val.txt` and `test.txt` that look like NWPU's, by split."""
    files = {path.name.casefold(): path for path in listed(home) if path.is_file()}
    paths = {split: files[f"{split}.txt"] for split in _SPLITS if f"{split}.txt" in files}
    is_nwpu = bool(child_folders(home, ("jsons", "mats")))
    # Many datasets have a train.txt; without annotations its first line must be one of NWPU's.
    return {split: path for split, path in paths.items() if is_nwpu or _starts_like_nwpu(path)}


def _starts_like_nwpu(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return re.fullmatch(rb"\d{4}( \d \d)?\s*", file.readline(64)) is not None
    except OSError:
        return False


def _list_lines(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The images of a split's list, each with what the list says of it."""
    for line in read_text(path, COPY_AGAIN).splitlines():
        image, *labels = line.split() or [""]
        if image:
            yield image, dict(zip(_LABEL_NAMES, labels, strict=False))


def _key(image: str) -> str:
    """Images are compared by number, without leading zeros, which not all copies keep."""
    return image.casefold().lstrip("0")


def _read_json(path: Path) -> Heads:
    text = read_text(path, COPY_AGAIN)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({error})", COPY_AGAIN) from error
    if not isinstance(content, dict) or "points" not in content:
        keys = f"the keys {', '.join(content)}" if isinstance(content, dict) else "no object"
        raise InputError(path, f"expected a JSON object with points, found {keys}", COPY_AGAIN)
    heads = _heads(path, "points", content["points"], "boxes", content.get("boxes"))
    if "human_num" not in content:
        return heads
    warnings = count_warning("human_num", content["human_num"], len(heads))
    return Heads(heads.points_xy, heads.boxes_xyxy, warnings=(*warnings, *heads.warnings))


def _read_mat(path: Path) -> Heads:
    points = mat_variable(path, "annPoints")
    boxes = mat_variable(path, "annBoxes", required=False)
    return _heads(path, "annPoints", points, "annBoxes", boxes)


def _heads(path: Path, points_name: str, points: object, boxes_name: str, boxes: object) -> Heads:
    """Points with their boxes; without boxes where these are missing or of another number."""
    points_xy = number_table(path, points_name, points, 2)
    if boxes is None:
        return Heads(points_xy)
    boxes_xyxy = number_table(path, boxes_name, boxes, 4)
    if len(boxes_xyxy) == len(points_xy):
        return Heads(points_xy, boxes_xyxy)
    warnings = count_warning(f"{boxes_name} (not used)", len(boxes_xyxy), len(points_xy))
    return Heads(points_xy, warnings=warnings)
