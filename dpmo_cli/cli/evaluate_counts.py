"""`dpmo evaluate counts`: how well people are counted, by any method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import counted, print_json, say
from dpmo_cli.cli.figures import (
    Json,
    Quiet,
    Samples,
    Seed,
    range_of,
    resampled,
    shown,
)
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

if TYPE_CHECKING:
    from dpmo_cli.evaluation.counting import CountFigures, CountSummary

_COLUMNS = (("MAE", "mae", 1), ("RMSE", "rmse", 1), ("NAE", "nae", 3), ("bias", "bias", 1))
_WIDTH = 25


def counts_command(
    pred: Annotated[
        Path, typer.Option(help=f"A CSV of image,count. Or: {HELP_PRED}", metavar="PRED")
    ],
    dataset: DatasetName = "auto",
    root: Root = None,
    gt_loc: GtLoc = None,
    split: Split = None,
    predicted_only: PredictedOnly = False,
    json: Json = False,
    samples: Samples = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare predicted counts with the number of true heads: MAE, RMSE, NAE and bias.

    Images match by their path without suffix, else by their name where only one bears it. An
    image without a prediction counts as if nobody had been found in it, unless you say so.
    """
    from dpmo_cli.evaluation.point_plan import count_all, plan_pairs
    from dpmo_cli.evaluation.predicted import open_counts
    from dpmo_cli.evaluation.true_heads import open_truth
    from dpmo_cli.pipeline.progress import RunProgress

    truth = open_truth(dataset, root, gt_loc, split)
    plan = plan_pairs(pred, open_counts(pred, split), truth, predicted_only=predicted_only)
    if not quiet:
        for line in warnings_of(plan):
            say(f"dpmo: {line}")
    with RunProgress(len(truth.images), quiet=quiet, verb="evaluating") as progress:
        measured = count_all(plan, lambda heads: progress.advance(heads, reused=False))
    summary = measured.summarise(samples, seed)
    if json:
        body = about(plan, pred, split, measured.heads_left_out)
        print_json("evaluate-counts", body | summary.as_json())
        return
    for line in (*_lines(summary), *notes(plan, measured.heads_left_out)):
        print(line)


def _lines(found: CountSummary) -> Iterator[str]:
    yield (
        f"{counted(found.images, 'image')}, "
        f"{found.images_without_people:,} of them without people: "
        f"{found.predicted_people:,.10g} counted, {found.true_people:,} true"
    )
    yield f"\n{'people':<16}{'images':>8}" + "".join(f"{one:>{_WIDTH}}" for one, *_ in _COLUMNS)
    yield f"{'all':<16}{found.images:>8,}{_figures(found.figures)}"
    for level in found.by_people:
        yield f"{range_of(level.low, level.high):<16}{level.images:>8,}{_figures(level.figures)}"
    yield f"NAE leaves out images without people; {resampled(found)}"


def _figures(found: CountFigures) -> str:
    return "".join(
        f"{shown(getattr(found, name), digits):>{_WIDTH}}" for _, name, digits in _COLUMNS
    )
