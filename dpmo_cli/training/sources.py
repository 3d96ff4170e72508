"""Where the states come from: composed and real crowds, their people located and asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.training.crowds import TRAIN_SPLIT
from dpmo_cli.training.states import States, states_of

PHOTOS = "photos"
"""The name of the real crowds, whose truth is what the method makes of annotated points."""
TRAINING_LOGIT = -1.0
"""Training also sees points that the localiser is less sure of."""
FIRST_SEED = 1000
"""Of the training crowds; validation's are numbered from 0."""
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


def training_sources(
    data: Path, datasets: Sequence[Dataset], crowds: int, photos: int, label: Label
) -> Iterator[Source]:
    """Scenes of the training split.

    Args:
        data: folder that holds PennFudanPed and COCO_panoptic_100.
        datasets: of real crowds.
        crowds: composed ones, by the recipe that is trained on.
        photos: of each of the datasets, spread over its train split.
        label: makes a true scene of an annotated photo.
    """
    persons = [s for s in (*penn_fudan(data), *coco_persons(data)) if not is_validation(s.name)]
    ingredients = ingredients_of(persons)
    if not ingredients.cutouts:
        raise UsageError(f"{data}: no persons to compose crowds of; give PennFudanPed's folder")
    for number in range(FIRST_SEED, FIRST_SEED + crowds):

        def compose(number: int = number) -> TruthScene:
            return compose_dense_crowd(
                f"{COMPOSED}/{number}",
                ingredients,
                CROWD_SIZE_HW,
                np.random.default_rng((number, len(COMPOSED))),
                ROWS,
            )

        yield Source(f"{COMPOSED}_{number}", compose)
    yield from photo_sources(datasets, photos, label, validation=False)


Label = Callable[[str, NDArray[np.uint8], FloatArray], TruthScene]
"""From the name, the image and the annotated points of a photo."""


def photo_sources(
    datasets: Sequence[Dataset], count: int, label: Label, *, validation: bool
) -> Iterator[Source]:
    """Real crowds of one of our splits, the same number of each dataset, spread over it."""
    for dataset in datasets:
        entries = [
            entry
            for entry in dataset.entries(TRAIN_SPLIT)
            if held_out(dataset.name, entry.file_name) == validation
        ]
        for index in np.linspace(0, len(entries) - 1, min(count, len(entries))).astype(int):
            entry = entries[index]
            name = f"{PHOTOS}_{dataset.name}_{Path(entry.file_name).stem}"

            def read(
                dataset: Dataset = dataset, entry: ImageEntry = entry, name: str = name
            ) -> TruthScene:
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
    points_xy = locate(scene.image, locator, threshold=threshold).points_xy
    if len(points_xy) > most:
        # A part of the picture that is as dense as the whole: the points nearest its middle.
        middle = np.median(points_xy, axis=0)
        order = np.argsort(np.abs(points_xy - middle).max(axis=1), kind="stable")
        points_xy = points_xy[np.sort(order[:most])]
    states, candidates = states_of(scene, points_xy, engine, method)
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


def gather(
    data: Path,
    root: Path,
    folder: Path,
    locator: Locator,
    engine: SamEngine,
    method: Method,
    *,
    crowds: int,
    photos: int,
    checks: int,
    datasets: Sequence[str] = ("shanghaitech-a", "shanghaitech-b"),
    say: Callable[[str], None] = print,
) -> tuple[list[Located], dict[str, list[Measured]]]:
    """States to train on, and validation scenes by the name of their set; kept in a folder.

    Args:
        data: folder that holds PennFudanPed and COCO_panoptic_100.
        root: folder that holds the datasets of real crowds.
        folder: of states that were made with the same network, localiser and method.
        locator: finds the points.
        engine: answers the prompts.
        method: that masks are made with.
        crowds: composed crowds to train on.
        photos: real crowds to train on, of each dataset.
        checks: scenes of each validation set.
        datasets: of real crowds.
        say: called with lines of progress.
    """
    label = labeller(engine, method)
    opened = [open_dataset(name, root) for name in datasets]

    def located(source: Source, threshold: float, most: int) -> Located:
        found = kept_states(
            folder / f"{source.name}.npz",
            lambda: locate_states(source.make(), locator, engine, method, threshold, most),
        )
        say(f"{source.name}: {len(found.states)} points")
        return found

    sources = training_sources(data, opened, crowds, photos, label)
    training = [located(source, TRAINING_LOGIT, MOST_TRAINED) for source in sources]
    sets: dict[str, list[Measured]] = {}
    for name in (COMPOSED, GROUPED, PHOTOS):
        if name == PHOTOS:
            each = -(-checks // len(opened))
            checked = list(photo_sources(opened, each, label, validation=True))
        else:
            checked = [
                Source(scene.name.replace("/", "_"), partial(_as_it_is, scene))
                for scene in load_set(name, data, limit=checks)
            ]
        sets[name] = []
        for source in checked:
            found, scene = located(source, 0.0, MOST_CHECKED), source.make()
            # What was not asked about is not to be found either.
            sets[name].append(Measured(_asked_part(scene, found), found))
    return training, sets


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
