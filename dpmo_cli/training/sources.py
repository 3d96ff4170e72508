"""Where the states come from: composed and real crowds, their people located and asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Dataset, ImageEntry
from dpmo_cli.datasets.images import read_image
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.compose import ROWS, compose_dense_crowd, ingredients_of
from dpmo_cli.evaluation.truth import TruthScene, coco_persons, held_out, is_validation, penn_fudan
from dpmo_cli.evaluation.truth_sets import COMPOSED, CROWD_SIZE_HW, GROUPED, load_set
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.geometry.rle import rle_window
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.outputs.atomic import atomic_path
from dpmo_cli.rps.locator import Locator, locate
from dpmo_cli.rps.policy import OFFERED_LOGIT
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.training.crowds import TRAIN_SPLIT
from dpmo_cli.training.states import States, states_of

PHOTOS = "photos"
"""The name of the real crowds, whose truth is what the method makes of annotated points."""
FIRST_SEED = 1000
"""Of the training crowds; validation's are numbered from 0."""
FIRST_FITTED = 2000
"""Of the crowds that rejection is fitted on: none that a policy learnt from."""
LARGEST_PHOTO_PX = 1024
"""Photos for training are cut to this side: their middle."""
MOST_TRAINED, MOST_CHECKED = 300, 600
"""Located points of a scene that are asked about, to train on and to validate."""


@dataclass(frozen=True)
class Located:
    """The located points of a scene, and what is known of their candidates.

    Attributes:
        states: of the points, in the order of their sites.
        positions_xy: (n, K, 2) float64 px, the candidates; the first is the point itself.
    """

    states: States
    positions_xy: FloatArray


@dataclass(frozen=True)
class Measured:
    """A validation scene with what was located in it."""

    scene: TruthScene
    located: Located


@dataclass(frozen=True)
class Source:
    """A scene that is made when it is needed; `name` is a file's."""

    name: str
    make: Callable[[], TruthScene]


def composed_sources(data: Path, first: int, count: int) -> Iterator[Source]:
    """Composed crowds of the training split, by the recipe that is trained on.

    Args:
        data: folder that holds PennFudanPed and COCO_panoptic_100.
        first: the seed of the first; the others count on from it.
        count: how many.
    """
    persons = [s for s in (*penn_fudan(data), *coco_persons(data)) if not is_validation(s.name)]
    ingredients = ingredients_of(persons)
    if not ingredients.cutouts:
        raise UsageError(f"{data}: no persons to compose crowds of; give PennFudanPed's folder")
    for number in range(first, first + count):

        def compose(number: int = number) -> TruthScene:
            return compose_dense_crowd(
                f"{COMPOSED}/{number}",
                ingredients,
                CROWD_SIZE_HW,
                np.random.default_rng((number, len(COMPOSED))),
                ROWS,
            )

        yield Source(f"{COMPOSED}_{number}", compose)


Label = Callable[[str, NDArray[np.uint8], FloatArray], TruthScene]
"""From the name, the image and the annotated points of a photo."""


def photo_sources(
    dataset: Dataset, count: int, label: Label, *, validation: bool
) -> Iterator[Source]:
    """Real crowds of one of our splits of a dataset, spread over it."""
    entries = [
        entry
        for entry in dataset.entries(TRAIN_SPLIT)
        if held_out(dataset.name, entry.file_name) == validation
    ]
    for index in np.linspace(0, len(entries) - 1, min(count, len(entries))).astype(int):
        entry = entries[index]
        name = f"{PHOTOS}_{dataset.name}_{Path(entry.file_name).stem}"

        def read(entry: ImageEntry = entry, name: str = name) -> TruthScene:
            heads = dataset.read_heads(entry)
            return label(name, read_image(entry.image_path), heads.points_xy)

        yield Source(name, read)


def labeller(engine: SamEngine, method: Method) -> Label:
    """Takes what the method makes of annotated points for the truth of a real crowd."""

    def label(name: str, image: NDArray[np.uint8], points_xy: FloatArray) -> TruthScene:
        size = np.array(image.shape[1::-1])
        low = np.maximum(0, size - LARGEST_PHOTO_PX) // 2
        high = np.minimum(size, low + LARGEST_PHOTO_PX)
        image = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
        points_xy = points_xy - low
        points_xy = points_xy[((points_xy >= 0) & (points_xy < high - low)).all(axis=1)]
        found = segment_image(image, points_xy, engine, method)
        labels = np.zeros(image.shape[:2], dtype=np.int32)
        masked = [site for site, mask in enumerate(found.masks) if mask is not None]
        for number, site in enumerate(masked, start=1):
            mask = found.masks[site]
            assert mask is not None
            window, (x0, y0, x1, y1) = rle_window(mask.rle)
            labels[y0:y1, x0:x1][window] = number
        ids = np.arange(1, len(masked) + 1, dtype=np.int32)
        return TruthScene(name, image, labels, ids, found.sites.xy[masked])

    return label


def locate_states(
    scene: TruthScene,
    locator: Locator,
    engine: SamEngine,
    method: Method,
    threshold: float,
    most: int,
) -> Located:
    """Locate the people of a scene, at most so many, and judge all candidates of theirs."""
    peaks = locate(scene.image, locator, threshold=threshold)
    points_xy, logits = peaks.points_xy, peaks.logits
    if len(points_xy) > most:
        # A part of the picture that is as dense as the whole: the points nearest its middle.
        middle = np.median(points_xy, axis=0)
        order = np.argsort(np.abs(points_xy - middle).max(axis=1), kind="stable")
        asked = np.sort(order[:most])
        points_xy, logits = points_xy[asked], logits[asked]
    states, candidates = states_of(scene, points_xy, engine, method, logits)
    return Located(states, candidates.positions_xy)


def kept_states(path: Path, make: Callable[[], Located]) -> Located:
    """States from a file of an earlier run, else made and written there."""
    names = [field.name for field in fields(States)]
    if path.is_file():
        try:
            # Opened here: what is no archive, NumPy would leave open.
            with path.open("rb") as archive, np.load(archive) as saved:
                return Located(States(*(saved[name] for name in names)), saved["positions_xy"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UsageError(f"{path}: is damaged; delete it to make it again") from error
    located = make()
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, positions_xy=located.positions_xy, **vars(located.states))
    return located


@dataclass(frozen=True)
class Gatherer:
    """Locates people and asks about their candidates, scene by scene; what it found it keeps.

    Attributes:
        data: folder that holds PennFudanPed and COCO_panoptic_100.
        root: folder that holds the datasets of real crowds.
        datasets: of real crowds.
        folder: of what was found with the same network, localiser and method.
        locator: finds the points.
        engine: answers the prompts.
        method: that masks are made with.
        say: called with lines of progress.
    """

    data: Path
    root: Path
    datasets: Sequence[str]
    folder: Path
    locator: Locator
    engine: SamEngine
    method: Method
    say: Callable[[str], None] = print

    def to_train(self, crowds: int, photos: int) -> list[Located]:
        """What policies learn from: composed crowds, and so many photos of each dataset."""
        return [
            self._located(source, OFFERED_LOGIT, MOST_TRAINED)
            for source in (
                *composed_sources(self.data, FIRST_SEED, crowds),
                *(source for of_one in self._photos(photos, False).values() for source in of_one),
            )
        ]

    def to_check(self, checks: int) -> dict[str, list[Measured]]:
        """Validation scenes by their set, located as `predict` does; the photos are one set."""
        each = -(-checks // len(self.datasets))
        photos = [one for of_one in self._photos(each, True).values() for one in of_one]
        sources = {**self._checked_crowds(checks), PHOTOS: photos}
        return self._measured(sources, 0.0)

    def to_fit(self, crowds: int, photos: int) -> dict[str, list[Measured]]:
        """Training scenes with all points that rejection decides on, each dataset a set."""
        composed = list(composed_sources(self.data, FIRST_FITTED, crowds))
        return self._measured({COMPOSED: composed, **self._photos(photos, False)}, OFFERED_LOGIT)

    def to_check_fit(self, checks: int, photos: int) -> dict[str, list[Measured]]:
        """The same of validation scenes."""
        sources = {**self._checked_crowds(checks), **self._photos(photos, True)}
        return self._measured(sources, OFFERED_LOGIT)

    def _photos(self, count: int, validation: bool) -> dict[str, list[Source]]:
        label = labeller(self.engine, self.method)
        opened = [open_dataset(name, self.root) for name in self.datasets]
        return {
            one.name: list(photo_sources(one, count, label, validation=validation))
            for one in opened
        }

    def _checked_crowds(self, checks: int) -> dict[str, list[Source]]:
        return {
            name: [
                Source(scene.name.replace("/", "_"), partial(_as_it_is, scene))
                for scene in load_set(name, self.data, limit=checks)
            ]
            for name in (COMPOSED, GROUPED)
        }

    def _measured(
        self, sources: Mapping[str, Sequence[Source]], threshold: float
    ) -> dict[str, list[Measured]]:
        sets: dict[str, list[Measured]] = {}
        for name, checked in sources.items():
            sets[name] = []
            for source in checked:
                found, scene = self._located(source, threshold, MOST_CHECKED), source.make()
                # What was not asked about is not to be found either.
                sets[name].append(Measured(_asked_part(scene, found), found))
        return sets

    def _located(self, source: Source, threshold: float, most: int) -> Located:
        found = kept_states(
            self.folder / f"{source.name}.{most}.{threshold:.2f}.npz",
            lambda: locate_states(
                source.make(), self.locator, self.engine, self.method, threshold, most
            ),
        )
        self.say(f"{source.name}: {len(found.states)} points")
        return found


def _as_it_is(scene: TruthScene) -> TruthScene:
    return scene


def _asked_part(scene: TruthScene, found: Located) -> TruthScene:
    """The scene with the persons alone that stand where points were asked about."""
    if len(found.states) < MOST_CHECKED:
        return scene
    low, high = found.positions_xy[:, 0].min(axis=0), found.positions_xy[:, 0].max(axis=0)
    inside = ((scene.points_xy >= low) & (scene.points_xy <= high)).all(axis=1)
    return replace(
        scene, points_xy=scene.points_xy[inside], instance_ids=scene.instance_ids[inside]
    )
