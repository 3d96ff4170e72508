"""The scenes that nano learns from and is measured on, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation import truth
from dpmo_cli.evaluation.compose import SOFT_ROWS, Ingredients, compose_crowd, ingredients_of
from dpmo_cli.evaluation.truth_sets import COMPOSED, CROWDS, RECIPES, dense_crowds
from dpmo_cli.sam.nano import FRAME_PX
from dpmo_cli.training.crops import NEGATIVES, Crop, PreparedScene, prepare, sample_crop, usable

CORRECTIONS = "corrections"
"""The name of what people judged."""
UNJUDGED = "unjudged"
"""The name of the other masks of the same images, which nobody found fault with."""
SOURCE_WEIGHTS = {
    COMPOSED: 0.6, "nuclei": 0.17, "photos": 0.11, "things": 0.06, "rendered": 0.06,
    CORRECTIONS: 1.0,
}  # fmt: skip
"""How often crops come from each source; sources that are missing are left out. Beside all others
corrections are every other crop."""
CROPS_OF_A_CROWD = 10
"""Crops cut from one composed crowd: composing costs more than cutting."""
HEIGHTS_PX = (240, 480)
NEGATIVES_GIVEN = (0, 0, 1, 2, NEGATIVES)
"""Numbers of neighbours that batches give with their prompts, equally often."""


@dataclass(frozen=True)
class Material:
    """Scenes by source, and what crowds are composed of on the way."""

    ingredients: Ingredients
    scenes: dict[str, Sequence[PreparedScene]] = field(default_factory=dict)


class Batch(NamedTuple):
    """The crops of one step; (B, P, ...) with P prompts a crop, shares of cells from 0 to 255.

    `known` (B, 3) says which of EXTENTS the crops tell.
    """

    images: Tensor
    valid_hw: Tensor
    points_xy: Tensor
    labels: Tensor
    visible: Tensor
    head: Tensor
    disc: Tensor
    known: Tensor


def load_material(
    data: Path, rendered: Sequence[Path], say: Callable[[str], None]
) -> tuple[Material, Material]:
    """Read all scenes with true masks: for training and for validation, by the project's rule.

    Crowds for training are composed when a batch is drawn; those for validation are fixed, as
    dense as `compose_dense_crowd` makes them, from both recipes.

    Args:
        data: folder that holds PennFudanPed, COCO_panoptic_100 and DSB2018.
        rendered: roots of scene sets written by `examples.render`.
        say: called with a line of progress.

    Raises:
        UsageError: the folder holds no scenes of persons, or all of them are for validation.
    """
    say("reading scenes with true masks")
    persons = [*truth.penn_fudan(data), *truth.coco_persons(data)]
    if not any(len(scene.points_xy) for scene in persons):
        raise UsageError(
            f"{data}: no scenes of persons; give the folder that holds PennFudanPed or "
            "COCO_panoptic_100"
        )
    drawn = [scene for root in rendered for scene in truth.labelled_scenes(root)]
    whole = {
        "nuclei": list(truth.nuclei(data)),
        "photos": persons,
        "things": list(truth.coco_things(data)),
        "rendered": drawn,
    }
    parts: list[Material] = []
    for validation in (False, True):
        part = {
            name: [s for s in scenes if truth.is_validation(s.name) == validation]
            for name, scenes in whole.items()
        }
        material = Material(ingredients_of(part["photos"]))
        material.scenes.update({name: usable(scenes) for name, scenes in part.items()})
        parts.append(material)
    training, held_out = parts
    if not any(training.scenes.values()):
        raise UsageError(f"{data}: all its scenes are for validation; add more to train on")
    if held_out.ingredients.cutouts:
        say(f"composing {len(RECIPES) * CROWDS} crowds for validation")
        for name in RECIPES:
            crowds = dense_crowds(name, held_out.ingredients, CROWDS)
            held_out.scenes[name] = [prepare(crowd) for crowd in crowds]
    return training, held_out


@dataclass(frozen=True)
class CropBatches(Dataset[Batch]):
    """The batch of each step; chance depends on the seed and the step alone.

    Attributes:
        material: for training.
        crops, prompts: crops of a batch, and prompts of a crop.
        seed: of all chance.
    """

    material: Material
    crops: int
    prompts: int
    seed: int

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of a step."""
        rng = np.random.default_rng((self.seed, 2, step))
        names = [name for name in SOURCE_WEIGHTS if self._has(name)]
        weights = np.array([SOURCE_WEIGHTS[name] for name in names])
        picks = rng.choice(len(names), size=self.crops, p=weights / weights.sum())
        # A run gives the same number of neighbours with every prompt, most often none.
        negatives = int(rng.choice(NEGATIVES_GIVEN))
        crops: list[Crop] = []
        crowd: PreparedScene | None = None
        cut = 0
        for pick in picks:
            if names[pick] == COMPOSED:
                if crowd is None or cut == CROPS_OF_A_CROWD:
                    crowd, cut = self._compose(rng), 0
                scene, cut = crowd, cut + 1
            else:
                scenes = self.material.scenes[names[pick]]
                scene = scenes[int(rng.integers(len(scenes)))]
            crops.append(sample_crop(scene, FRAME_PX, self.prompts, rng, negatives=negatives))
        return collate(crops)

    def _has(self, source: str) -> bool:
        if source == COMPOSED:
            return bool(self.material.ingredients.cutouts)
        return bool(self.material.scenes.get(source))

    def _compose(self, rng: np.random.Generator) -> PreparedScene:
        parts = self.material.ingredients
        while True:
            height = int(rng.integers(*HEIGHTS_PX))
            size_hw = (height, height * 4 // 3)
            scene = compose_crowd(COMPOSED, parts, size_hw, rng, SOFT_ROWS)
            if len(scene.points_xy):
                return prepare(scene)


def validation_crops(
    scenes: Sequence[PreparedScene], count: int, prompts: int, seed: int, negatives: int = 0
) -> list[Crop]:
    """Crops of random scenes, as a run would cut them; the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [
        sample_crop(
            scenes[int(rng.integers(len(scenes)))],
            FRAME_PX,
            prompts,
            rng,
            negatives=negatives,
            augment=False,
        )
        for _ in range(count)
    ]


def collate(crops: Sequence[Crop]) -> Batch:
    """Stack crops of equally many prompts."""

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(crop, name) for crop in crops]))

    return Batch(
        images=stack("image"),
        valid_hw=torch.tensor([crop.valid_hw for crop in crops]),
        points_xy=stack("points_xy"),
        labels=stack("labels"),
        visible=stack("visible"),
        head=stack("head"),
        disc=stack("disc"),
        known=torch.tensor([crop.known for crop in crops]),
    )
