"""The self-test: the method with a user's weights on rendered scenes that the package carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dpmo_cli.evaluation.truth import TruthScene, labelled_scenes
from dpmo_cli.masks.method import Method
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.trials.run import Result, run_variants
from dpmo_cli.trials.variants import ALTERNATIVES, CUT, HEADS, STEPS, TRIVIAL, UNCUT, variants_of
from dpmo_cli.version import VERSION

SCENES = Path(__file__).parent / "scenes"
"""Made by `python -m examples.render OUT --dataset csv --scenes 4 --seed 11 --size 512x384
--people 80`: a square, a stand and a street by day, and a concert by night."""
BASELINES = ("disc", "voronoi")
COLUMNS = (
    ("IoU per point", "iou_per_point"),
    ("boundary F", "boundary_f"),
    ("PQ", "pq"),
    ("AP 0.5", "ap50"),
)


def load_scenes() -> list[TruthScene]:
    """The scenes that the package carries."""
    return list(labelled_scenes(SCENES))


def run_selftest(
    engine: SamEngine,
    method: Method,
    scenes: Sequence[TruthScene],
    done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """SAM alone, the method, its extents, and the baselines that need no further package."""
    variants = variants_of(engine, method)
    steps = [variant for variant in variants if variant.group == STEPS]
    own = next(variant for variant in variants if variant.group == ALTERNATIVES)
    others = [
        variant
        for variant in variants
        if variant.truth != CUT or (variant.group == TRIVIAL and variant.name in BASELINES)
    ]
    return run_variants({"rendered": scenes}, [own, steps[0], *others], samples=0, done=done)


def selftest_lines(results: Sequence[Result]) -> Iterator[str]:
    """The table for a person, in Markdown; the first line is the method."""
    yield f"| rendered scenes | truth | {' | '.join(title for title, _ in COLUMNS)} | ms a point |"
    yield f"|---|---|{'---:|' * (len(COLUMNS) + 1)}"
    for result in results:
        cells = " | ".join(f"{getattr(result.figures, name).value:.3f}" for _, name in COLUMNS)
        truth = {CUT: "in the disc", UNCUT: "whole", HEADS: "heads"}[result.variant.truth]
        pace = f"{1000 * result.seconds_per_point:.1f}"
        yield f"| {result.variant.name} | {truth} | {cells} | {pace} |"


def as_validation(sam: str, device: str, results: Sequence[Result]) -> Mapping[str, object]:
    """What is kept for the records of later runs."""
    return {
        "dpmo_version": VERSION,
        "sam": sam,
        "device": device,
        "results": [
            {
                "variant": result.variant.name,
                "truth": result.variant.truth,
                "seconds_per_point": result.seconds_per_point,
                **{name: getattr(result.figures, name).value for _, name in COLUMNS},
            }
            for result in results
        ],
    }
