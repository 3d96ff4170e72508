"""What the outputs must hold after a review, worked out from what was clicked alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

from dpmo_cli.outputs.corrections import Person
from tests.e2e.conftest import annotations_of, run_dpmo

Pixels = NDArray[np.bool_]
"""(H, W) of the photo."""
PlaceXY = tuple[int, int]
"""A pixel of the photo."""
SPLITS = ("train", "val")
OF_AN_IMAGE = 1_000_000
"""Annotation ids that an image has."""


class Expected:
    """The masks of a run by person, as its reviewer means to leave them.

    Args:
        out: folder of a run that nobody has decided about.
    """

    def __init__(self, out: Path) -> None:
        self._drawn: dict[Person, Pixels] = {}
        self._automatic: dict[Person, Pixels] = {}
        self._point: dict[Person, PlaceXY] = {}
        self._sizes: dict[tuple[str, int], tuple[int, int]] = {}
        for split in SPLITS:
            self._sizes |= _sizes_of(out / "annotations" / f"{split}.json", split)
            for one in annotations_of(out, split).values():
                person = _person(split, one)
                x, y = one["attributes"]["point"]
                self._automatic[person] = coco.decode(one["segmentation"]).astype(bool)
                self._point[person] = (round(x), round(y))

    def gone(self, *persons: Person) -> None:
        """These have no mask."""
        for person in persons:
            self._automatic.pop(person, None)
            self._drawn.pop(person, None)

    def drawn(self, person: Person, mask: Pixels) -> None:
        """A person drew this mask, or told the network to."""
        self._drawn[person] = mask

    def undrawn(self, person: Person) -> None:
        """What a person drew was taken back."""
        del self._drawn[person]

    def drawn_by_others(self, person: Person) -> Pixels:
        """The pixels of the photo that are drawn for others than this person."""
        taken = self.blank(person)
        for other, theirs in self._drawn.items():
            if _image(other) == _image(person) and other != person:
                taken |= theirs
        return taken

    def standing(self, person: Person) -> Pixels:
        """The mask of a person before it is drawn anew."""
        before = self.masks().get(person)
        return np.zeros(self._sizes[_image(person)], bool) if before is None else before

    def blank(self, person: Person) -> Pixels:
        """A mask of nothing, in the person's photo."""
        return np.zeros(self._sizes[_image(person)], bool)

    def masks(self) -> dict[Person, Pixels]:
        """The masks as they are to stand: automatic ones yield to drawn ones."""
        found = dict(self._drawn)
        for person, mask in self._automatic.items():
            if person in self._drawn:
                continue
            left = mask.copy()
            for other, theirs in self._drawn.items():
                if _image(other) == _image(person):
                    left &= ~theirs
            if (left != mask).any():
                left = _part_at(left, self._point[person]) if mask[self._at(person)] else left
            if left.any():
                found[person] = left
        return found

    def label_maps(self) -> dict[tuple[str, int], NDArray[np.int64]]:
        """Whose each pixel is: point id + 1 or 0, by split and image."""
        maps = {image: np.zeros(size, np.int64) for image, size in self._sizes.items()}
        for person, mask in self.masks().items():
            maps[_image(person)][mask] = person.point_id + 1
        return maps

    def _at(self, person: Person) -> tuple[int, int]:
        x, y = self._point[person]
        return y, x


def compare(out: Path, to: Path, expected: Expected, sources: dict[Person, str]) -> None:
    """Apply, validate and export a review, and compare with what was clicked.

    Args:
        out: the folder of the run.
        to: a new folder for the exports.
        expected: the masks of all people of the run.
        sources: where the masks that Ann decided about come from; all others are automatic.
    """
    run_dpmo("review", "apply", out)
    run_dpmo("validate", out)
    for form in ("coco", "label-maps"):
        run_dpmo("export", out, "--to", to / form, "--format", form, "--quiet")
    masks = expected.masks()
    exported = {
        _person(split, one): one
        for split in SPLITS
        for one in annotations_of(to / "coco", split).values()
    }
    assert exported.keys() == masks.keys()
    differ = [p for p in masks if (coco.decode(exported[p]["segmentation"]) != masks[p]).any()]
    assert differ == []
    assert {
        person: one["attributes"]["source"]
        for person, one in exported.items()
        if one["attributes"].get("reviewer") == "Ann"
    } == sources
    for (split, image_id), labels in expected.label_maps().items():
        name = _names_of(to / "coco" / "annotations" / f"{split}.json")[image_id]
        assert (np.load(to / "label-maps" / "masks" / f"{name}.npy") == labels).all()


def line(places: Iterable[PlaceXY], mask: Pixels, *, on: bool = True) -> Pixels:
    """A mask with some pixels set, or cleared."""
    mask = mask.copy()
    for x, y in places:
        mask[y, x] = on
    return mask


def pixels_of(shown: dict[str, Any] | None, blank: Pixels) -> Pixels:
    """A mask as the page has it: runs by columns in a window."""
    mask = blank.copy()
    if shown is not None:
        x, y, w, h = (shown[name] for name in "xywh")
        runs = np.repeat(np.arange(len(shown["runs"])) % 2 == 1, shown["runs"])
        mask[y : y + h, x : x + w] = runs.reshape(w, h).T
    return mask


def _part_at(mask: Pixels, place: PlaceXY) -> Pixels:
    """The part of a mask that is connected, by edges, to a pixel."""
    parts, _ = ndimage.label(mask)
    part: Pixels = mask & (parts == parts[place[1], place[0]])
    return part


def _person(split: str, annotation: dict[str, Any]) -> Person:
    assert annotation["id"] // OF_AN_IMAGE == annotation["image_id"]
    return Person(split, annotation["image_id"], annotation["id"] % OF_AN_IMAGE)


def _image(person: Person) -> tuple[str, int]:
    return person.split, person.image_id


def _images_of(path: Path) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["images"]
    return images


def _sizes_of(path: Path, split: str) -> dict[tuple[str, int], tuple[int, int]]:
    return {(split, one["id"]): (one["height"], one["width"]) for one in _images_of(path)}


def _names_of(path: Path) -> dict[int, str]:
    return {
        one["id"]: Path(one["file_name"]).with_suffix("").as_posix() for one in _images_of(path)
    }
