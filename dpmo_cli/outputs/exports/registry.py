"""The formats that a run can be exported to, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.exports.coco import CocoWriter
from dpmo_cli.outputs.exports.density import DensityWriter
from dpmo_cli.outputs.exports.hugging_face import ParquetWriter
from dpmo_cli.outputs.exports.label_maps import LabelMapWriter
from dpmo_cli.outputs.exports.plan import COPY, LINK, NONE, Options, Plan, Writer
from dpmo_cli.outputs.exports.yolo import YoloWriter


@dataclass(frozen=True)
class Format:
    """A format and what it takes.

    Attributes:
        name: as the user gives it.
        writer: makes its writer.
        images: what may be done with the photos, the default first; empty for nothing.
        per_image, png: whether it takes these options.
        flat: the names of its files are without folders.
        by_split: it has a folder for each split.
    """

    name: str
    writer: Callable[[Plan], Writer]
    images: tuple[str, ...] = ()
    per_image: bool = False
    png: bool = False
    flat: bool = False
    by_split: bool = True

    def options(self, images: str | None, *, per_image: bool, png: bool) -> Options:
        """Put the options together, with this format's default for the photos.

        Raises:
            UsageError: the format does not take one of them.
        """
        if images is not None and images not in self.images:
            known = f"use {', '.join(self.images)}" if self.images else "leave it out"
            raise UsageError(f"--images {images}: not with --format {self.name}; {known}")
        for option, wanted, taken in (
            ("--per-image", per_image, self.per_image),
            ("--png", png, self.png),
        ):
            if wanted and not taken:
                raise UsageError(f"{option}: not with --format {self.name}; leave it out")
        return Options(images or next(iter(self.images), NONE), per_image, png)


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format("coco", partial(CocoWriter, polygons=False), per_image=True),
        Format("coco-polygons", partial(CocoWriter, polygons=True), per_image=True),
        Format("yolo-seg", partial(YoloWriter, polygons=True), (LINK, COPY, NONE), flat=True),
        Format("boxes", partial(YoloWriter, polygons=False), (LINK, COPY, NONE), flat=True),
        Format("label-maps", LabelMapWriter, png=True, by_split=False),
        Format("density", DensityWriter, by_split=False),
        Format("parquet", ParquetWriter, (COPY, LINK, NONE)),
    )
}


def find_format(name: str) -> Format:
    """Return a format by its name. UsageError names those that there are."""
    found = FORMATS.get(name)
    if found is None:
        close = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise UsageError(f"--format {name}: unknown{hint} Known: {', '.join(FORMATS)}")
    return found
