"""Render sets of crowd scenes with exact masks in the native layouts of the datasets.

Run it from the root of the repository:

    python -m examples.render OUT [--scenes N] [--seed S] [--dataset D] [--size WxH] [--people N]

writes OUT/<dataset>/ as that dataset is released, and the truth to OUT/<dataset>/truth/. The same
arguments give the same files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.crowd import NoRoomError
from examples.layouts import WRITERS, write_dataset
from examples.scene import Scene, render_scene


@dataclass(frozen=True)
class Recipe:
    """What the scenes of a dataset are like; places and weathers take turns.

    Attributes:
        size_hw: height and width, px.
        splits: the first gets all scenes but one for each of the others.
        places, weathers: of the 1st, 2nd, ... scene.
        people: fewest and most.
        empty: index of a scene without people, in sets that have more scenes than that.
    """

    size_hw: tuple[int, int]
    splits: tuple[str, ...]
    places: tuple[str, ...]
    weathers: tuple[str | None, ...]
    people: tuple[int, int]
    empty: int | None = None


RECIPES = {
    "shanghaitech-a": Recipe(
        (600, 800),
        ("train", "test"),
        ("stand", "plaza", "concert"),
        ("sun", None, None),
        (260, 420),
    ),
    "shanghaitech-b": Recipe(
        (768, 1024), ("train", "test"), ("street", "plaza"), ("overcast", "sun", None), (90, 200)
    ),
    "qnrf": Recipe(
        (1080, 1440),
        ("train", "test"),
        ("plaza", "stand", "street", "concert"),
        (None,),
        (500, 800),
    ),
    "jhu": Recipe(
        (720, 1080),
        ("train", "val", "test"),
        ("street", "plaza", "stand"),
        ("fog", "sun", "rain", "snow"),
        (120, 300),
        empty=1,
    ),
    "nwpu": Recipe(
        (810, 1200),
        ("train", "val"),
        ("plaza", "street", "concert", "stand"),
        ("sun", "night", None, "overcast"),
        (150, 420),
        empty=1,
    ),
    "csv": Recipe(
        (480, 640), ("train", "val"), ("plaza", "stand", "street", "concert"), (None,), (40, 220)
    ),
}


def split_of(index: int, scenes: int, splits: tuple[str, ...]) -> str:
    """Which split a scene goes to: the last ones one each to the further splits."""
    return splits[max(0, index - max(0, scenes - len(splits)))]


def scenes_of(
    dataset: str,
    scenes: int,
    seed: int,
    size_hw: tuple[int, int] | None = None,
    people: int | None = None,
) -> Iterator[tuple[str, Scene]]:
    """Render the scenes of a dataset one after the other, each with its split."""
    recipe = RECIPES[dataset]
    for index in range(scenes):
        own_seed = int(
            np.random.default_rng([seed, list(RECIPES).index(dataset), index]).integers(2**31)
        )
        count = people
        if count is None:
            count = int(
                np.random.default_rng([own_seed, 7]).integers(*recipe.people, endpoint=True)
            )
        if index == recipe.empty:
            count = 0
        scene = render_scene(
            own_seed,
            size_hw or recipe.size_hw,
            count,
            recipe.places[index % len(recipe.places)],
            recipe.weathers[index % len(recipe.weathers)],
        )
        yield split_of(index, scenes, recipe.splits), scene


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise argparse.ArgumentTypeError(f"{text} is not WxH, e.g. 1024x768, 32 px at least")
    return int(height), int(width)


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 up")
    return int(text)


def _told(dataset: str, labelled: Iterator[tuple[str, Scene]]) -> Iterator[tuple[str, Scene]]:
    for split, scene in labelled:
        h, w = scene.labels.shape
        what = f"{len(scene.seen())} heads, {scene.place}, {scene.weather}, {w} x {h}"
        print(f"{dataset} {split}: {what}", file=sys.stderr)
        yield split, scene


def main(argv: list[str] | None = None) -> int:
    """Render what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m examples.render", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--scenes", type=_positive, default=4, help="per dataset [4]")
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument(
        "--dataset", action="append", choices=[*RECIPES], help="may be repeated [all of them]"
    )
    parser.add_argument("--size", type=_size, help="WxH in px instead of the dataset's own")
    parser.add_argument("--people", type=_positive, help="per scene instead of the dataset's own")
    options = parser.parse_args(argv)
    for dataset in dict.fromkeys(options.dataset or WRITERS):
        labelled = scenes_of(dataset, options.scenes, options.seed, options.size, options.people)
        try:
            write_dataset(dataset, options.out / dataset, _told(dataset, labelled))
        except OSError as error:
            parser.exit(1, f"{options.out / dataset}: can't be written: {error.strerror}\n")
        except NoRoomError as error:
            parser.exit(2, f"{dataset}: {error}; give fewer --people or a larger --size\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
