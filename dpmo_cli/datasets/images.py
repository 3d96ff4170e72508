"""Reads photos of any kind into 8-bit RGB, in the order in which their pixels are stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.paths import resolve_inside
from dpmo_cli.datasets.quiet import LIBRARY_WARNINGS_IGNORED, SharedContext
from dpmo_cli.errors import GIVE_ROOT, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 20_000 * 20_000
"""Default limit of the area of an image, px; read_image refuses larger ones by their header."""

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
"""The only decoders that are tried, as Pillow names them."""

_ORIENTATION_TAG = 0x0112
_COPY_AGAIN = "copy the image again from its source"


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode the first frame of an image to RGB.

    An EXIF (or TIFF) orientation is ignored: annotations count in stored pixels. Transparency
    is dropped, not blended. Grayscale of 16 bits is scaled so that 65,535 becomes 255.

    Args:
        path: a JPEG, PNG, BMP, TIFF, WEBP or PPM file.
        max_pixels: limit of width times height, checked before anything is decoded.

    Returns:
        (H, W, 3) uint8 RGB, a writable array of its own.

    Raises:
        InputError: the file is missing, no image of these formats, truncated or too large.
    """
    with _opened(path, max_pixels) as image:
        return _rgb(path, image)


def find_photo(root: Path, file_name: str, size_hw: tuple[int, int]) -> Path:
    """Find the photo that a run names, which must have the size that its masks were made for.

    Args:
        root: the dataset's root.
        file_name: of the photo, relative to it.
        size_hw: of the masks, px.

    Raises:
        InputError: as `image_size_hw` and `resolve_inside`, or the photo has another size.
    """
    path = resolve_inside(root, file_name)
    if not os.path.exists(path):  # as Path.exists, but false for what can't be looked at
        raise InputError(path, "is missing", GIVE_ROOT)
    height, width = image_size_hw(path)
    if (height, width) != size_hw:
        problem = f"has {width} x {height} px, its masks {size_hw[1]} x {size_hw[0]}"
        raise InputError(path, problem, "give the root that the run was made from with --root")
    return path


def read_photo(root: Path, file_name: str, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Read the photo that a run names: (H, W, 3) uint8 RGB.

    Raises:
        InputError: as `read_image` and `find_photo`.
    """
    return read_image(find_photo(root, file_name, size_hw))


def image_size_hw(path: Path) -> tuple[int, int]:
    """Height and width of an image in stored pixels, from its header alone.

    Raises:
        InputError: the file is missing or no image of the known formats.
    """
    with _opened(path, None) as image:
        return _stored_size_hw(image)


def is_upright(path: Path) -> bool:
    """Whether readers that heed an orientation show the pixels as they are stored.

    Raises:
        InputError: the file is missing or no image of the known formats.
    """
    with _opened(path, None) as image:
        return image.getexif().get(_ORIENTATION_TAG) not in range(2, 9)


@contextmanager
def _opened(path: Path, max_pixels: int | None) -> Iterator[Image]:
    """Open an image; whatever Pillow raises inside the block becomes an InputError."""
    from PIL import Image, UnidentifiedImageError

    try:
        # The type comes first: opening a pipe would wait for ever.
        if not path.exists():
            raise InputError(path, "is missing", f"check its name, or {_COPY_AGAIN}")
        if not path.is_file():
            raise InputError(path, "is not a regular file", _COPY_AGAIN)
        with (
            LIBRARY_WARNINGS_IGNORED,
            _PILLOW_LIMIT_LIFTED,
            # Given the path, Pillow would map a plain TIFF into memory with the sides of the
            # turned image.
            path.open("rb") as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            height, width = _stored_size_hw(image)
            if max_pixels is not None and height * width > max_pixels:
                problem = f"has {width} x {height} pixels, which is above the limit of {max_pixels}"
                raise InputError(path, problem, "make it smaller or raise the limit")
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        mend = f"convert it to one of {', '.join(FORMATS)}, or copy it again"
        raise InputError(path, "is no image of a known format, or cut short", mend) from error
    except Exception as error:  # any exception at all may come out of a damaged file
        problem = f"can't be decoded ({type(error).__name__}: {error})"
        raise InputError(path, problem, _COPY_AGAIN) from error


def _stored_size_hw(image: Image) -> tuple[int, int]:
    from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

    if isinstance(image, TiffImageFile):  # its `size` is the one after turning the image
        return int(image.tag_v2[IMAGELENGTH]), int(image.tag_v2[IMAGEWIDTH])
    return image.height, image.width


def _rgb(path: Path, image: Image) -> NDArray[np.uint8]:
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(image, TiffImageFile):
        # Pillow turns a TIFF while loading it, by the tag that it finds here.
        image.getexif()[_ORIENTATION_TAG] = 1
    if image.mode.startswith("I"):
        image.load()
        # The copy takes its size from the pixels, also where the header of a TIFF says "turned".
        gray16 = np.asarray(image.copy()).clip(0, 65_535)
        eight_bits = ((np.arange(65_536) * 255 + 32_767) // 65_535).astype(np.uint8)
        return np.repeat(eight_bits[gray16][..., None], 3, axis=2)
    if image.mode == "F":
        raise InputError(path, "has floating-point pixels", "save it with 8 or 16 bits")
    return np.array(image.convert("RGB"), dtype=np.uint8)


@contextmanager
def _no_pixel_limit() -> Iterator[None]:
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


# Pillow's own limit is below NWPU-Crowd's larger photos; `max_pixels` takes its place.
_PILLOW_LIMIT_LIFTED = SharedContext(_no_pixel_limit)
