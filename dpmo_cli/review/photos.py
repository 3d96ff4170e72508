"""Photos of a run cut into JPEG tiles and crops, with a bounded store of decoded ones."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.images import read_photo
from dpmo_cli.geometry.rle import WindowXYXY

TILE_PX = 512
"""Side of a tile as it is shown."""
PHOTO_BYTES = 384 * 2**20
"""Decoded photos that are held, unless a single one is larger."""
QUALITY = 88

Photo = NDArray[np.uint8]
"""(H, W, 3) RGB."""
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values used last, up to a budget; safe from several threads.

    Args:
        budget: what all values together may weigh; one value is always kept.
        weigh: weight of a value.
    """

    def __init__(self, budget: int, weigh: Callable[[V], int]) -> None:
        self._budget, self._weigh = budget, weigh
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The value of a key, None where it is not held."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Hold a value and let go of the oldest ones."""
        with self._lock:
            self._drop(key)
            self._values[key] = value
            self._weight += self._weigh(value)
            while self._weight > self._budget and len(self._values) > 1:
                self._drop(next(iter(self._values)))

    def _drop(self, key: K) -> None:
        if key in self._values:
            self._weight -= self._weigh(self._values.pop(key))


class Photos:
    """The photos under a root, decoded when they are asked for.

    Args:
        root: of the dataset; nothing outside it is ever opened.
        budget_bytes: decoded photos that are held.
    """

    def __init__(self, root: Path, budget_bytes: int = PHOTO_BYTES) -> None:
        self.root = root
        self._held: Recent[str, Photo] = Recent(budget_bytes, lambda photo: photo.nbytes)
        # Two threads that want one photo decode it once.
        self._decoding = Lock()

    def read(self, file_name: str, size_hw: tuple[int, int]) -> Photo:
        """Decode a photo, or find it.

        Args:
            file_name: relative to the root.
            size_hw: of its masks, px.

        Raises:
            InputError: the name leaves the root, there is no such image, or it has another size.
        """
        photo = self._held.get(file_name)
        if photo is not None:
            return photo
        with self._decoding:
            photo = self._held.get(file_name)
            if photo is None:
                photo = read_photo(self.root, file_name, size_hw)
                photo.setflags(write=False)
                self._held.put(file_name, photo)
        return photo


def tile(photo: Photo, level: int, column: int, row: int) -> bytes | None:
    """A tile of a photo that is shrunk by two to the power of `level`: JPEG, None outside it."""
    side = TILE_PX << level
    height, width = photo.shape[:2]
    x0, y0 = column * side, row * side
    if not (0 <= x0 < width and 0 <= y0 < height):
        return None
    window = (x0, y0, min(x0 + side, width), min(y0 + side, height))
    shrink = 1 << level
    size = (-(-(window[2] - x0) // shrink), -(-(window[3] - y0) // shrink))
    return crop(photo, window, size)


def crop(photo: Photo, window_xyxy: WindowXYXY, size_wh: tuple[int, int]) -> bytes:
    """A part of a photo at another size, as JPEG; what lies outside the photo is black."""
    from PIL import Image

    x0, y0, x1, y1 = window_xyxy
    height, width = photo.shape[:2]
    inside = photo[max(y0, 0) : max(0, min(y1, height)), max(x0, 0) : max(0, min(x1, width))]
    if inside.shape[:2] != (y1 - y0, x1 - x0):
        framed = np.zeros((y1 - y0, x1 - x0, 3), dtype=np.uint8)
        top, left = max(-y0, 0), max(-x0, 0)
        framed[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        inside = framed
    picture = Image.fromarray(inside)
    if picture.size != size_wh:
        shrinks = picture.width > size_wh[0]
        filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        picture = picture.resize(size_wh, filter_)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=QUALITY)
    return file.getvalue()
