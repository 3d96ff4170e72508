"""From head points to masks as one writes it with segment-anything alone: the honest baseline.

Run it from the root of the repository:

    python -m examples.plain_loop --dataset D --root ROOT --split train --out masks.json

It does the work of `dpmo convert` with the same tiles, prompts, discs, ownership and, with nano,
the same candidate (SAM's own networks: the one that they rate best). What dpmo knows of datasets
and of the geometry of tiles it takes from there; the rest is `SamPredictor`, NumPy, SciPy and
pycocotools: `set_image` takes one tile at a time, `predict_torch` upsamples every candidate to the
whole tile, and `encode` reads the whole image for each mask. Nothing in it is slow on purpose:
prompts go in chunks, arrays are laid out as pycocotools wants them, and each mask is cut in the
window of its disc. `examples.compare_plain` runs it beside dpmo.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage
from segment_anything import SamPredictor

from dpmo_cli.datasets.base import Dataset, ImageEntry
from dpmo_cli.datasets.images import read_image
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.extents import EXTENTS, NNEC
from dpmo_cli.geometry.nnec import nearest_others
from dpmo_cli.geometry.points import Sites, group_points
from dpmo_cli.masks.method import Method, default_method
from dpmo_cli.masks.ownership import DISTANCE_PRICE
from dpmo_cli.masks.segment import discs_of, plan_tiles, sites_to_prompt
from dpmo_cli.pipeline.plan import Selection, tasks_of
from dpmo_cli.pipeline.rows import hidden_points
from dpmo_cli.sam.checkpoint import load_state_dict
from dpmo_cli.sam.models import build_model
from dpmo_cli.sam.weights import find

CHUNK = 16
NOBODY = -1


@dataclass(frozen=True)
class Network:
    """A predictor, and how it is asked.

    Attributes:
        predictor: of segment-anything.
        frame_px: side of its input.
        method: discs, tiles, and how many neighbours a prompt names.
        output: the candidate that is taken; None for the one with the best predicted IoU.
        chunk: prompts per call.
    """

    predictor: Any
    frame_px: int
    method: Method
    output: int | None
    chunk: int


def load(sam: str, checkpoint: Path | None, chunk: int) -> Network:
    """Load a network on the CPU, or on the GPU where there is one."""
    model = build_model(sam)
    model.load_state_dict(load_state_dict(find(sam, checkpoint)))
    model.float().eval().to("cuda" if torch.cuda.is_available() else "cpu")
    output = EXTENTS.index(NNEC) if sam == "nano" else None
    side = int(model.image_encoder.img_size)
    return Network(SamPredictor(model), side, default_method(sam), output, chunk)


def masks_of(
    image: NDArray[np.uint8],
    points_xy: NDArray[np.float64],
    hidden: NDArray[np.bool_] | None,
    network: Network,
) -> Iterator[dict[str, Any]]:
    """The masks of an image, each with the index of its point, as COCO writes them."""
    size_hw = (image.shape[0], image.shape[1])
    sites = group_points(points_xy, size_hw)
    discs = discs_of(sites, size_hw, network.method)
    prompted = np.flatnonzero(sites_to_prompt(sites, hidden))
    tiles = plan_tiles(sites, discs, prompted, size_hw, network.frame_px, network.method)
    neighbours = nearest_others(sites.xy, network.method.negatives)

    owner = np.full(size_hw, NOBODY, dtype=np.int32)
    cost = np.full(size_hw, np.inf, dtype=np.float32)
    windows: dict[int, tuple[slice, slice]] = {}
    scores: dict[int, float] = {}
    for tile in tiles:
        x0, y0, x1, y1 = tile.window_xyxy
        network.predictor.set_image(np.ascontiguousarray(image[y0:y1, x0:x1]))
        for start in range(0, len(tile.sites), network.chunk):
            members = tile.sites[start : start + network.chunk]
            prompts = np.concatenate(
                [sites.xy[members][:, None], sites.xy[neighbours[members]]], axis=1
            )
            logits, ious = _predict(network, prompts - (x0, y0))
            for site, mask_logits, iou in zip(members.tolist(), logits, ious.tolist(), strict=True):
                centre, radius = sites.xy[site], float(discs.radii_px[site])
                rows, columns = windows[site] = _window(sites, site, radius, size_hw)
                there = mask_logits[
                    rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0
                ]
                away = _distances(centre, rows, columns)
                inside = away <= radius
                at = _own_pixel(sites, site, rows, columns)
                inside[at] = True
                claim = _part_at((there > 0) & inside, at)
                price = DISTANCE_PRICE * away / radius - there
                wins = claim & (price < cost[rows, columns])
                cost[rows, columns][wins] = price[wins]
                owner[rows, columns][wins] = site
                scores[site] = iou
    held = sites.pixel_xy[sites.inside]
    owner[held[:, 1], held[:, 0]] = np.flatnonzero(sites.inside)

    frame = np.zeros(size_hw, dtype=np.uint8, order="F")
    for site, (rows, columns) in sorted(windows.items()):
        owned = _part_at(owner[rows, columns] == site, _own_pixel(sites, site, rows, columns))
        frame[rows, columns] = owned
        rle = coco_mask.encode(frame)
        frame[rows, columns] = 0
        area = int(coco_mask.area(rle))
        if area:
            yield {
                "point_id": int(sites.point_of_site[site]),
                "segmentation": {"size": list(size_hw), "counts": rle["counts"].decode("ascii")},
                "area": area,
                "bbox": coco_mask.toBbox(rle).tolist(),
                "score": scores[site],
            }


def _predict(
    network: Network, points_xy: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (n, h, w) of the tile and predicted IoUs (n,) for prompts (n, K, 2), px of the tile.

    The first point of a prompt is the person's, the others are its neighbours'.
    """
    predictor = network.predictor
    old_hw, new_hw = np.array(predictor.original_size), np.array(predictor.input_size)
    near = (np.abs(points_xy) <= 2 * max(predictor.original_size)).all(axis=2)
    labels = np.where(near, np.arange(points_xy.shape[1]) < 1, -1)
    # Pixel centres are integers in both; segment-anything's own transform has corners there.
    frame_xy = (np.where(near[..., None], points_xy, 0) + 0.5) * (new_hw / old_hw)[::-1] - 0.5
    logits, ious, _ = predictor.predict_torch(
        torch.as_tensor(frame_xy, dtype=torch.float32, device=predictor.device),
        torch.as_tensor(labels, device=predictor.device),
        return_logits=True,
    )
    best = ious.argmax(dim=1) if network.output is None else network.output
    every = torch.arange(len(ious), device=ious.device)
    return logits[every, best].cpu().numpy(), ious[every, best].cpu().numpy()


def _window(
    sites: Sites, site: int, radius: float, size_hw: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of the image that a disc and its site's pixel reach."""
    (x, y), (column, row) = sites.xy[site], sites.pixel_xy[site]
    bounds = []
    for centre, own, limit in ((y, row, size_hw[0]), (x, column, size_hw[1])):
        low = max(0, min(int(np.ceil(centre - radius)), int(own)))
        high = min(limit, max(int(np.floor(centre + radius)), int(own)) + 1)
        bounds.append(slice(low, high))
    return bounds[0], bounds[1]


def _distances(centre: NDArray[np.float64], rows: slice, columns: slice) -> NDArray[np.float64]:
    y, x = np.ogrid[rows, columns]
    return np.asarray(np.hypot(x - centre[0], y - centre[1]))


def _own_pixel(sites: Sites, site: int, rows: slice, columns: slice) -> tuple[int, int]:
    x, y = sites.pixel_xy[site].tolist()
    return y - rows.start, x - columns.start


def _part_at(mask: NDArray[np.bool_], pixel: tuple[int, int]) -> NDArray[np.bool_]:
    """What of a mask is connected to a pixel."""
    parts, _ = ndimage.label(mask)
    return np.asarray((parts == parts[pixel]) & mask[pixel])


def convert(dataset: Dataset, selection: Selection, network: Network) -> dict[str, Any]:
    """The images and masks of a dataset, as COCO writes them; bad images are said and left out."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for split in selection.splits:
        for task in tasks_of(dataset, split, selection):
            found = _image(dataset, task.entry, network)
            if found is None:
                continue
            image, masks = found
            images.append({"id": task.image_id, **image})
            annotations += [
                {"id": len(annotations) + 1 + index, "image_id": task.image_id, **mask}
                for index, mask in enumerate(masks)
            ]
    return {"images": images, "annotations": annotations}


def _image(
    dataset: Dataset, entry: ImageEntry, network: Network
) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    try:
        heads = dataset.read_heads(entry)
        pixels = read_image(entry.image_path)
    except DpmoError as error:
        print(error, file=sys.stderr)
        return None
    about = {"file_name": entry.file_name, "width": pixels.shape[1], "height": pixels.shape[0]}
    return about, list(masks_of(pixels, heads.points_xy, hidden_points(heads), network))


def main(argv: list[str] | None = None) -> int:
    """Convert what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m examples.plain_loop", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--sam", default="nano")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--chunk", type=int, default=CHUNK, help=f"prompts per call [{CHUNK}]")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(argv)
    try:
        dataset = open_dataset(options.dataset, options.root)
        network = load(options.sam, options.checkpoint, options.chunk)
        selection = Selection((options.split,), options.limit, None)
        document = convert(dataset, selection, network)
        options.out.write_text(json.dumps(document))
    except DpmoError as error:
        parser.exit(2, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
