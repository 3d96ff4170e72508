"""COCO instances for training: compressed RLE, or polygons along the edges of the pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dpmo_cli.geometry.contours import joined_ring, trace_parts
from dpmo_cli.outputs.coco import write_instances
from dpmo_cli.outputs.exports.plan import Plan
from dpmo_cli.outputs.findings import annotations_file
from dpmo_cli.outputs.finished import FinishedImage, Instance, RunImage


@dataclass(frozen=True)
class CocoWriter:
    """Writes `annotations/<split>.json`, or a JSON for each image.

    Ids, boxes, areas, scores and `attributes` stay as the run has them. A polygon holds one part
    of a mask; holes are reached from its outline over a line and back.
    """

    plan: Plan
    polygons: bool

    def files(self) -> Iterator[str]:
        """One per split or per image."""
        for split, images in self.plan.images.items():
            if self.plan.options.per_image:
                yield from map(self._file, images)
            else:
                yield annotations_file(split)

    def write_split(self, split: str, images: Iterator[FinishedImage]) -> None:
        """Write the JSON of a split, or those of its images."""
        if not self.plan.options.per_image:
            everything = (one for found in images for one in self._annotations(found))
            self._write(annotations_file(split), split, self.plan.images[split], everything)
            return
        for found in images:
            self._write(self._file(found.image), split, [found.image], self._annotations(found))

    def write_rest(self) -> None:
        """Nothing else."""

    def warnings(self) -> Iterator[str]:
        """None: all masks can be written."""
        yield from ()

    def _file(self, image: RunImage) -> str:
        return f"annotations/{image.split}/{self.plan.names[image]}.json"

    def _write(
        self,
        file: str,
        split: str,
        images: Iterable[RunImage],
        annotations: Iterable[Mapping[str, object]],
    ) -> None:
        write_instances(
            self.plan.to / file,
            map(_image, images),
            annotations,
            dataset=self.plan.dataset,
            split=split,
            extent=self.plan.extent,
        )

    def _annotations(self, found: FinishedImage) -> Iterator[Mapping[str, Any]]:
        for one in found.instances():
            yield {**one.fields, "segmentation": _polygons(one)} if self.polygons else one.fields


def _polygons(one: Instance) -> list[list[int]]:
    """The parts of a mask as COCO polygons x0, y0, x1, y1, ... in px of pixels' corners."""
    parts = trace_parts(one.mask, one.window_xyxy[:2])
    return [joined_ring([part]).reshape(-1).tolist() for part in parts]


def _image(image: RunImage) -> dict[str, object]:
    height, width = image.size_hw
    fields: dict[str, object] = {
        "id": image.image_id,
        "width": width,
        "height": height,
        "file_name": image.file_name,
    }
    return fields | ({"attributes": image.labels} if image.labels else {})
