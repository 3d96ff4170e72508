"""`dpmo evaluate points`: how well heads are found, by any localiser."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import counted, print_json, say
from dpmo_cli.cli.figures import Json, Quiet, Samples, Seed, resampled, shown
from dpmo_cli.cli.true_heads import (
    HELP_PRED,
    DatasetName,
    GtLoc,
    PredictedOnly,
    Root,
    Split,
    about,
    notes,
    warnings_of,
)
from dpmo_cli.errors import UsageError

if TYPE_CHECKING:
    from dpmo_cli.evaluation.localisation import PointSummary

_WIDTH = 24


def points_command(
    pred: Annotated[Path, typer.Option(help=HELP_PRED, metavar="PRED")],
    dataset: DatasetName = "auto",
    root: Root = None,
    gt_loc: GtLoc = None,
    split: Split = None,
    predicted_only: PredictedOnly = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="fixed: distances of --radii; qnrf: mean over 1 to 100 px; nwpu: each head with "
            "its own sigma."
        ),
    ] = "fixed",
    radii: Annotated[
        str | None, typer.Option(help="Distances of the protocol fixed, px.", show_default="4,8")
    ] = None,
    json: Json = False,
    samples: Samples = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare predicted points with true heads: precision, recall and F1 of a largest matching.

    Images match by their path without suffix, else by their name where only one bears it. An
    image without a prediction counts as if nobody had been found in it, unless you say so.
    """
    from dpmo_cli.evaluation.localisation import FIXED, PROTOCOLS, RADII_PX

    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {protocol}: unknown; use one of {', '.join(PROTOCOLS)}")
    if radii is not None and protocol != FIXED:
        raise UsageError(f"--radii: the protocol {protocol} has its own distances; leave it out")
    radii_px = RADII_PX if radii is None else parse_radii(radii)

    from dpmo_cli.evaluation.point_plan import locate_all, plan_pairs
    from dpmo_cli.evaluation.predicted import open_points
    from dpmo_cli.evaluation.true_heads import open_truth
    from dpmo_cli.pipeline.progress import RunProgress

    truth = open_truth(dataset, root, gt_loc, split)
    plan = plan_pairs(pred, open_points(pred, split).entries, truth, predicted_only=predicted_only)
    if not quiet:
        for line in warnings_of(plan):
            say(f"dpmo: {line}")
    with RunProgress(len(truth.images), quiet=quiet, verb="evaluating") as progress:
        measured = locate_all(
            plan, protocol, radii_px, lambda heads: progress.advance(heads, reused=False)
        )
    summary = measured.summarise(samples, seed)
    if json:
        body = about(plan, pred, split, measured.heads_left_out)
        print_json("evaluate-points", body | {"protocol": protocol} | summary.as_json())
        return
    for line in (*_lines(summary, protocol), *notes(plan, measured.heads_left_out)):
        print(line)


def parse_radii(text: str) -> tuple[float, ...]:
    """Distances in px out of `4,8`.

    Raises:
        UsageError: they are no numbers above 0, or one is named twice.
    """
    try:
        radii = tuple(float(one) for one in text.split(","))
    except ValueError:
        radii = ()
    if not radii or not all(0 < one < math.inf for one in radii) or len(set(radii)) < len(radii):
        raise UsageError(f"--radii {text}: expected distances in px, such as 4,8")
    return radii


def _lines(found: PointSummary, protocol: str) -> Iterator[str]:
    yield (
        f"{counted(found.images, 'image')}, protocol {protocol}: "
        f"{found.predicted_points:,} points, {found.true_points:,} heads"
    )
    yield f"\n{'':<18}{'matched':>10}{_cells('precision', 'recall', 'F1')}"
    for row in found.rows:
        matched = "" if row.matched is None else f"{row.matched:,}"
        figures = _cells(shown(row.precision), shown(row.recall), shown(row.f1))
        yield f"{row.criterion:<18}{matched:>10}{figures}"
    yield resampled(found)
    if found.levels:
        yield f"\n{'area, px':<18}{'heads':>10}{_cells('recall, sigma_l', 'recall, sigma_s')}"
    for level in found.levels:
        figures = _cells(shown(level.sigma_l), shown(level.sigma_s))
        yield f"{level.area:<18}{level.heads:>10,}{figures}"


def _cells(*texts: str) -> str:
    return "".join(f"{text:>{_WIDTH}}" for text in texts)
