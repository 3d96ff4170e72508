"""Scenes written as a dataset would be: one writer per native layout, and the truth beside it.

Only JHU-CROWD++ annotates heads that can't be seen (o = 3); the other layouts leave them out.
`truth/<image stem>.png` is a 16-bit label map: the person of point i has label i + 1, in the order
of the annotation; `truth/heads/<image stem>.png` is the same for heads alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from examples.scene import Scene

Labelled = Iterable[tuple[str, Scene]]
"""Scenes and the split each goes to, in order."""

JPEG_QUALITY = 95
GRAY_EVERY = 4
JHU_WEATHER = {"fog": 1, "rain": 2, "snow": 3}
NWPU_WITHHELD = "test"
DENSITY_LIMITS = (0, 100, 500, 5000)


def _save_image(scene: Scene, path: Path, gray: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(scene.image)
    (image.convert("L") if gray else image).save(path, "JPEG", quality=JPEG_QUALITY)


def _save_truth(scene: Scene, root: Path, stem: str) -> None:
    (root / "truth" / "heads").mkdir(parents=True, exist_ok=True)
    for folder, labels in (("truth", scene.labels), ("truth/heads", scene.head_labels)):
        Image.fromarray(labels.astype(np.uint16)).save(root / folder / f"{stem}.png")


def _save_mat(path: Path, variables: dict[str, NDArray[np.generic]]) -> None:
    """Write a MAT v5 file whose bytes depend on its variables alone, not on the hour."""
    buffer = io.BytesIO()
    savemat(buffer, variables)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:])


def _save_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _shanghaitech(root: Path, labelled: Labelled, part: str, some_gray: bool) -> None:
    home = root / f"part_{part}_final"
    for number, (split, everyone) in enumerate(labelled, start=1):
        scene, stem, folder = everyone.seen(), f"IMG_{number}", home / f"{split}_data"
        gray = some_gray and number % GRAY_EVERY == 0
        _save_image(scene, folder / "images" / f"{stem}.jpg", gray)
        _save_truth(scene, root, stem)
        heads = np.empty((1, 1), dtype=[("location", object), ("number", object)])
        heads[0, 0] = (scene.points_xy, np.array([[len(scene)]], np.uint16))
        info = np.empty((1, 1), dtype=object)
        info[0, 0] = heads
        _save_mat(folder / "ground-truth" / f"GT_{stem}.mat", {"image_info": info})


def _shanghaitech_a(root: Path, labelled: Labelled) -> None:
    _shanghaitech(root, labelled, "A", some_gray=True)


def _shanghaitech_b(root: Path, labelled: Labelled) -> None:
    _shanghaitech(root, labelled, "B", some_gray=False)


def _qnrf(root: Path, labelled: Labelled) -> None:
    for number, (split, everyone) in enumerate(labelled, start=1):
        scene, stem = everyone.seen(), f"img_{number:04d}"
        folder = root / "UCF-QNRF_ECCV18" / split.capitalize()
        _save_image(scene, folder / f"{stem}.jpg")
        _save_truth(scene, root, stem)
        _save_mat(folder / f"{stem}_ann.mat", {"annPoints": scene.points_xy})


def _jhu(root: Path, labelled: Labelled) -> None:
    labels: dict[str, list[str]] = {}
    for number, (split, scene) in enumerate(labelled, start=1):
        stem = f"{3 * number - 2:04d}"  # ids are not contiguous
        folder = root / "jhu_crowd_v2.0" / split
        _save_image(scene, folder / "images" / f"{stem}.jpg")
        _save_truth(scene, root, stem)
        points = np.rint(scene.points_xy).astype(int)
        sizes = np.ceil(np.diff(scene.head_boxes_xyxy.reshape(-1, 2, 2), axis=1)[:, 0])
        columns = (points, sizes.astype(int), scene.occlusion, scene.blurred)
        rows = np.column_stack(columns).astype(int)
        _save_lines(folder / "gt" / f"{stem}.txt", [" ".join(map(str, row)) for row in rows])
        weather, empty = JHU_WEATHER.get(scene.weather, 0), int(len(scene) == 0)
        line = f"{stem},{len(scene)},{scene.place},{weather},{empty}"
        labels.setdefault(split, []).append(line)
    for split, lines in labels.items():
        _save_lines(root / "jhu_crowd_v2.0" / split / "image_labels.txt", lines)


def _nwpu(root: Path, labelled: Labelled) -> None:
    lists: dict[str, list[str]] = {}
    for number, (split, everyone) in enumerate(labelled, start=1):
        scene, stem = everyone.seen(), f"{number:04d}"
        _save_image(scene, root / "images" / f"{stem}.jpg")
        _save_truth(scene, root, stem)
        lines = lists.setdefault(split, [])
        if split == NWPU_WITHHELD:
            lines.append(stem)
            continue
        brightness = min(3, int(scene.image.mean() / 64))
        density = int(np.searchsorted(DENSITY_LIMITS, len(scene)))
        lines.append(f"{stem} {brightness} {density}")
        boxes = np.rint(scene.head_boxes_xyxy)
        record = {
            "img_id": f"{stem}.jpg",
            "human_num": len(scene),
            "points": scene.points_xy.tolist(),
            "boxes": boxes.tolist(),
        }
        _save_lines(root / "jsons" / f"{stem}.json", [json.dumps(record)])
        annotation = {"annPoints": scene.points_xy, "annBoxes": boxes}
        _save_mat(root / "mats" / f"{stem}.mat", annotation)
    for split, lines in lists.items():
        _save_lines(root / f"{split}.txt", lines)


def _csv(root: Path, labelled: Labelled) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "points.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "x", "y", "id", "split"])
        for number, (split, everyone) in enumerate(labelled, start=1):
            scene, stem = everyone.seen(), f"scene_{number:04d}"
            name = f"images/{stem}.jpg"
            _save_image(scene, root / name)
            _save_truth(scene, root, stem)
            for i, (x, y) in enumerate(scene.points_xy.tolist()):
                table.writerow([name, x, y, f"{stem}-{i}", split])


WRITERS: dict[str, Callable[[Path, Labelled], None]] = {
    "shanghaitech-a": _shanghaitech_a,
    "shanghaitech-b": _shanghaitech_b,
    "qnrf": _qnrf,
    "jhu": _jhu,
    "nwpu": _nwpu,
    "csv": _csv,
}


def write_dataset(dataset: str, root: Path, labelled: Labelled) -> None:
    """Write scenes in a dataset's native layout, one at a time.

    Args:
        dataset: one of WRITERS.
        root: the folder that a reader of this dataset is given; made when missing.
        labelled: split and scene, e.g. ("train", scene). NWPU's "test" is written without labels.
    """
    WRITERS[dataset](root, labelled)
