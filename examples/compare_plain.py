"""Run `dpmo convert` and `examples.plain_loop` on the same images: whole-process times, and masks.

Run it from the root of the repository:

    python -m examples.compare_plain --dataset sha --root ROOT --split train --limit 50

The plain loop gets its best chunk first: of several, that which is fastest on the first image. Then
the two take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from pycocotools import mask as coco_mask

from dpmo_cli.geometry.rle import Rle
from dpmo_cli.outputs.coco import iter_coco

CHUNKS = (4, 16, 64)
FEW_PX = 3
"""Masks that differ by no more pixels than this agree: rounding moves a pixel now and then."""
Masks = dict[tuple[str, int], Rle]
"""By the name of the image and the number of the point."""


@dataclass(frozen=True)
class Comparison:
    """What the two made of the same points.

    Attributes:
        masks: how many points have one from either.
        same: masks that are the same to the pixel.
        agreeing: those that differ by FEW_PX pixels or less, the same ones included.
        one_sided: points with a mask from one of them only.
        least_iou: of those with two masks.
        plain_s, dpmo_s: median seconds of the whole process.
        chunk: prompts per call of the plain loop.
    """

    masks: int
    same: int
    agreeing: int
    one_sided: int
    least_iou: float
    plain_s: float
    dpmo_s: float
    chunk: int

    @property
    def ratio(self) -> float:
        """Seconds of the plain loop in parts of dpmo's."""
        return self.plain_s / self.dpmo_s


def plain_masks(path: Path) -> Masks:
    """The masks that the plain loop wrote."""
    return _by_point(json.loads(path.read_text()), lambda one: one["point_id"])


def dpmo_masks(path: Path) -> Masks:
    """The masks that dpmo wrote for a split."""
    document: dict[str, list[Any]] = {"images": [], "annotations": []}
    for name, item in iter_coco(path):
        if name in document:
            document[name].append(item)
    return _by_point(document, lambda one: one["attributes"]["point_id"])


def _by_point(document: dict[str, Any], point_of: Any) -> Masks:
    names = {image["id"]: image["file_name"] for image in document["images"]}
    return {
        (names[one["image_id"]], point_of(one)): one["segmentation"]
        for one in document["annotations"]
    }


def differing_px(one: Rle, other: Rle) -> tuple[int, float]:
    """Pixels that belong to one of two masks only, and their IoU."""
    areas = [int(coco_mask.area(mask)) for mask in (one, other)]
    both = int(coco_mask.area(coco_mask.merge([one, other], intersect=True)))
    union = sum(areas) - both
    return union - both, both / union


def compare(plain: Masks, ours: Masks) -> tuple[int, int, int, int, float]:
    """All masks, equal ones, agreeing ones, those of one side only, and the least IoU."""
    pairs = [differing_px(plain[key], ours[key]) for key in plain.keys() & ours.keys()]
    same = sum(not px for px, _ in pairs)
    agreeing = sum(px <= FEW_PX for px, _ in pairs)
    every = len(plain.keys() | ours.keys())
    return every, same, agreeing, every - len(pairs), min((iou for _, iou in pairs), default=1.0)


def _seconds(arguments: Sequence[str]) -> float:
    begin = perf_counter()
    subprocess.run([sys.executable, "-m", *arguments], check=True)
    return perf_counter() - begin


def run(options: argparse.Namespace) -> Comparison:
    """Time both, in turn, and compare what they wrote."""
    job = ["--dataset", options.dataset, "--root", options.root, "--split", options.split]
    job += ["--sam", options.sam]
    limit = [] if options.limit is None else ["--limit", str(options.limit)]
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "plain.json", Path(folder) / "dpmo"
        loop = ["examples.plain_loop", *job, "--out", str(file), "--chunk"]
        of_chunk = {n: _seconds([*loop, str(n), "--limit", "1"]) for n in options.chunks}
        chunk = min(of_chunk, key=lambda n: of_chunk[n])
        convert = ["dpmo_cli.cli.app", "convert", *job, *limit, "--out", str(out), "--force", "-q"]
        plain_s, dpmo_s = [], []
        for _ in range(options.rounds):
            plain_s.append(_seconds([*loop, str(chunk), *limit]))
            dpmo_s.append(_seconds(convert))
        found = compare(
            plain_masks(file), dpmo_masks(out / "annotations" / f"{options.split}.json")
        )
    return Comparison(*found, median(plain_s), median(dpmo_s), chunk)


def main(argv: list[str] | None = None) -> int:
    """Compare what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m examples.compare_plain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--sam", default="nano")
    parser.add_argument("--chunks", type=int, nargs="+", default=CHUNKS, help=f"to try {CHUNKS}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        found = run(options)
    except subprocess.CalledProcessError as error:
        # It has said why.
        parser.exit(1, f"{error.cmd[2]} ended with exit code {error.returncode}\n")
    if options.json:
        print(json.dumps({**asdict(found), "ratio": found.ratio}))
        return 0
    print(
        f"plain loop, {found.chunk} prompts a call: {found.plain_s:.1f} s; dpmo convert: "
        f"{found.dpmo_s:.1f} s; ratio {found.ratio:.2f}"
    )
    print(
        f"{found.masks:,} masks: {found.same:,} the same, {found.agreeing:,} within {FEW_PX} px, "
        f"{found.one_sided} of one side only, least IoU {found.least_iou:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
