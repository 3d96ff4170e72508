"""Small scenes whose instances are known: in memory, and as folders in the datasets' layouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.evaluation.truth import TruthScene

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

# By the project's hash rule of "PennFudanPed/<name>".
TRAINING_NAMES = ("2.png", "3.png", "4.png")
VALIDATION_NAMES = ("0.png", "1.png")


def shared(folder: str) -> Path:
    """The folder of real data that holds `folder`; skips the test where it is missing."""
    if not (SHARED_DATA / folder).is_dir():
        pytest.skip(f"../shared/data/{folder} is not here")
    return SHARED_DATA


def colour_of(index: int) -> tuple[int, int, int]:
    """A colour for each of a few instances, far from each other and from the ground's 0."""
    return (255 * (index & 1), 255 * (index >> 1 & 1), 255 * (index >> 2 & 1))


def painted(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Paint a label map; after seven instances their colours come again."""
    palette = np.array([colour_of(index) for index in range(8)], dtype=np.uint8)
    image: NDArray[np.uint8] = palette[np.where(labels > 0, (labels - 1) % 7 + 1, 0)]
    return image


def blocks(
    size_hw: tuple[int, int], boxes_xyxy: Sequence[tuple[int, int, int, int]]
) -> NDArray[np.int32]:
    """A label map of boxes, later ones in front."""
    labels = np.zeros(size_hw, dtype=np.int32)
    for index, (x0, y0, x1, y1) in enumerate(boxes_xyxy, start=1):
        labels[y0:y1, x0:x1] = index
    return labels


def block_scene(
    size_hw: tuple[int, int],
    boxes_xyxy: Sequence[tuple[int, int, int, int]],
    *,
    heads: bool = False,
) -> TruthScene:
    """Boxes in colours of their own, with a point in the middle of each.

    With `heads` the upper half of each box is its head.
    """
    labels = blocks(size_hw, boxes_xyxy)
    points = [((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2) for x0, y0, x1, y1 in boxes_xyxy]
    tops = blocks(size_hw, [(x0, y0, x1, (y0 + y1) // 2) for x0, y0, x1, y1 in boxes_xyxy])
    return TruthScene(
        "blocks",
        painted(labels),
        labels,
        np.arange(1, len(points) + 1, dtype=np.int32),
        np.array(points, dtype=np.float64).reshape(-1, 2),
        (tops > 0) & (tops == labels) if heads else None,
    )


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_penn_fudan(root: Path, names: Sequence[str]) -> None:
    """Two upright persons in each picture, a little different in each."""
    for number, name in enumerate(names):
        labels = blocks((110, 130), [(10 + number, 20, 40, 95), (60, 15 + number, 92, 100)])
        image = np.clip(painted(labels) // 2 + 40 + number, 0, 255).astype(np.uint8)
        save(root / "PennFudanPed/PNGImages" / name, image)
        mask = root / "PennFudanPed/PedMasks" / f"{Path(name).stem}_mask.png"
        save(mask, labels.astype(np.uint8))


def write_coco(root: Path) -> None:
    """Two pictures: one with two persons, a crowd and a dog, and one without any person."""
    folder = root / "COCO_panoptic_100"
    sizes = [(70, 50), (40, 60)]
    segments = [
        [
            {"id": 300, "category_id": 1, "iscrowd": 0},
            {"id": 70000, "category_id": 1, "iscrowd": 0},
            {"id": 5, "category_id": 18, "iscrowd": 0},
            {"id": 6, "category_id": 1, "iscrowd": 1},
        ],
        [{"id": 9, "category_id": 20, "iscrowd": 0}],
    ]
    boxes = [
        [(2, 2, 12, 40), (20, 10, 30, 60), (32, 0, 40, 70), (41, 0, 50, 70)],
        [(0, 0, 60, 40)],
    ]
    annotations = []
    for image_id, size, parts, places in zip((7, 12), sizes, segments, boxes, strict=True):
        codes = np.array([0, *(part["id"] for part in parts)])[blocks(size, places)]
        colours = np.stack([codes % 256, codes // 256 % 256, codes // 65536], axis=2)
        name = f"{image_id:012d}"
        save(folder / f"panoptic/panoptic_train2017/{name}.png", colours.astype(np.uint8))
        save(folder / f"images/train2017/{name}.jpg", np.full((*size, 3), 80, dtype=np.uint8))
        annotations.append(
            {"image_id": image_id, "file_name": f"{name}.png", "segments_info": parts}
        )
    listing = {"annotations": annotations[::-1]}
    (folder / "panoptic/panoptic_train2017.json").write_text(json.dumps(listing))


def write_nuclei(root: Path, name: str = "a1") -> None:
    """Two nuclei that touch, gray as in the release."""
    folder = root / "DSB2018/stage1_train" / name
    labels = blocks((40, 40), [(4, 4, 14, 30), (14, 8, 30, 20)])
    save(folder / f"images/{name}.png", (labels * 90).astype(np.uint8))
    for number in (1, 2):
        save(folder / f"masks/m{number}.png", ((labels == number) * 255).astype(np.uint8))


def write_rendered(root: Path) -> NDArray[np.int32]:
    """A csv dataset of one scene with its label map."""
    labels = blocks((50, 60), [(5, 5, 20, 40), (30, 10, 45, 45)])
    save(root / "images/scene.png", painted(labels))
    save(root / "truth/scene.png", labels.astype(np.uint8))
    (root / "points.csv").write_text("image,x,y\nimages/scene.png,12,10\nimages/scene.png,37,15\n")
    return labels
