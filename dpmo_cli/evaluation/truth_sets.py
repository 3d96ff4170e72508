"""The truth sets by name: scenes with true masks, as read or composed, and written as a dataset."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation import truth
from dpmo_cli.evaluation.compose import (
    GROUPS,
    ROWS,
    Ingredients,
    compose_dense_crowd,
    ingredients_of,
)
from dpmo_cli.evaluation.truth import TruthScene, is_validation
from dpmo_cli.outputs.atomic import write_bytes

COMPOSED, GROUPED = "composed", "groups"
RECIPES = {COMPOSED: ROWS, GROUPED: GROUPS}
"""Crowds composed by the recipe that is trained on, and by the one that only measures."""
CROWDS = 12
CROWD_SIZE_HW = (480, 640)
READERS = {
    "pennfudan": truth.penn_fudan,
    "coco-persons": truth.coco_persons,
    "coco-things": truth.coco_things,
    "nuclei": truth.nuclei,
}
TRUTH_SETS = (*READERS, *RECIPES)
INGREDIENT_FOLDERS = ("PennFudanPed", "COCO_panoptic_100")
MOST_INSTANCES = 2**16 - 1
"""What a 16-bit label map can number."""


def dense_crowds(name: str, ingredients: Ingredients, count: int = CROWDS) -> list[TruthScene]:
    """The first of a set's composed crowds; the same for the same ingredients."""
    return [
        compose_dense_crowd(
            f"{name}/{number}",
            ingredients,
            CROWD_SIZE_HW,
            np.random.default_rng((number, len(name))),
            RECIPES[name],
        )
        for number in range(count)
    ]


def load_set(
    name: str, data: Path, *, validation: bool = True, limit: int | None = None
) -> list[TruthScene]:
    """Scenes of a truth set that have points, of the validation or the training split.

    Args:
        name: one of TRUTH_SETS.
        data: folder that holds PennFudanPed, COCO_panoptic_100 and DSB2018.
        validation: which split, by the hash of the names; of crowds, of what they are made of.
        limit: how many scenes at most, spread over the set.

    Raises:
        UsageError: the data hold no such scenes.
    """

    def chosen(scene: TruthScene) -> bool:
        return is_validation(scene.name) == validation

    if name in RECIPES:
        for folder in INGREDIENT_FOLDERS:
            # Half of the data would compose other crowds under the same name.
            if not (data / folder).is_dir():
                raise UsageError(f"{data / folder}: no such folder; {name} needs its persons")
        persons = [s for s in (*truth.penn_fudan(data), *truth.coco_persons(data)) if chosen(s)]
        ingredients = ingredients_of(persons)
        if not ingredients.cutouts:
            raise UsageError(
                f"{data}: no persons to compose crowds of; give the folder that holds "
                "PennFudanPed and COCO_panoptic_100"
            )
        return dense_crowds(name, ingredients, min(limit or CROWDS, CROWDS))
    scenes = [scene for scene in READERS[name](data) if chosen(scene) and len(scene.points_xy)]
    if not scenes:
        raise UsageError(f"{data}: no scenes of {name}; give the folder that holds the data sets")
    if limit is None or limit >= len(scenes):
        return scenes
    return [scenes[index] for index in np.linspace(0, len(scenes) - 1, limit).astype(int)]


def write_set(scenes: Sequence[TruthScene], root: Path, say: Callable[[str], None]) -> None:
    """Write scenes as a `csv` dataset with label maps, which `labelled_scenes` reads back.

    `root/images/*.png`, `root/points.csv`, `root/truth/*.png` with the label k + 1 for the k-th
    point of an image, and `root/truth/heads/*.png` with the same labels where heads are known.
    Instances without a point are left out of the truth: nobody asked for them.

    Raises:
        UsageError: `root` holds something already, or a scene has too many instances.
    """
    require_new(root)
    try:
        _write_set(scenes, root, say)
    except BaseException:
        # Half a set would be in the way of the whole one.
        shutil.rmtree(root, ignore_errors=True)
        raise


def require_new(root: Path) -> None:
    """Check that a folder is not there yet, or empty.

    Raises:
        UsageError: it holds something, is no folder, or can't be looked at.
    """
    try:
        in_use = root.exists() and (not root.is_dir() or any(root.iterdir()))
    except OSError as error:
        raise UsageError(f"--out {root}: {error.strerror}; name another") from error
    if in_use:
        raise UsageError(f"--out {root}: is not an empty folder; name another, or delete it")


def _write_set(scenes: Sequence[TruthScene], root: Path, say: Callable[[str], None]) -> None:
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["image", "x", "y"])
    for number, scene in enumerate(scenes, start=1):
        if len(scene.points_xy) > MOST_INSTANCES:
            raise UsageError(f"{scene.name}: more than {MOST_INSTANCES} instances")
        name = f"{Path(scene.name).name.rsplit('.', 1)[0]}.png"
        labels = scene.labels_of_points().astype(np.uint16)
        _write_png(root / "images" / name, scene.image)
        _write_png(root / "truth" / name, labels)
        if scene.heads is not None:
            _write_png(root / "truth" / "heads" / name, np.where(scene.heads, labels, 0))
        table.writerows([f"images/{name}", x, y] for x, y in scene.points_xy.tolist())
        say(f"{number} of {len(scenes)} scenes")
    # Last, so that a folder without it is no dataset.
    write_bytes(root / "points.csv", rows.getvalue().encode())


def _write_png(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    write_bytes(path, packed.getvalue())
