"""What `dpmo evaluate points` and `counts` share: the options of the truth, what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import counted
from dpmo_cli.cli.convert import HELP_DATASET

if TYPE_CHECKING:
    from dpmo_cli.datasets.point_files import FoundPoints
    from dpmo_cli.evaluation.point_plan import Plan

HELP_PRED = (
    "The folder that a run has written, or points: a CSV of image,x,y, lines `id count x y ...` "
    "of NWPU, or a folder of .txt files with one `x y` a line."
)

DatasetName = Annotated[str, typer.Option("--dataset", help=HELP_DATASET)]
Root = Annotated[Path | None, typer.Option(help="Folder of the dataset.")]
GtLoc = Annotated[
    Path | None,
    typer.Option(help="NWPU's val_gt_loc.txt in the place of a dataset.", metavar="FILE"),
]
Split = Annotated[
    str | None, typer.Option(help="Look at this split only. Default: all labelled ones.")
]

PredictedOnly = Annotated[
    bool,
    typer.Option(
        "--predicted-only",
        help="Leave images without a prediction out, instead of counting nobody found in them.",
    ),
]


def about(
    plan: Plan[FoundPoints] | Plan[float], pred: Path, split: str | None, heads_left_out: int
) -> dict[str, object]:
    """What was compared and what was left out, for `--json`."""
    return {
        "pred": str(pred),
        "truth": plan.truth.name,
        "split": split,
        "images_without_prediction": plan.images_without_prediction,
        "predicted_only": plan.predicted_only,
        "predictions_left_out": plan.predictions_left_out,
        "heads_left_out": heads_left_out,
    }


def warnings_of(plan: Plan[FoundPoints] | Plan[float]) -> Iterator[str]:
    """Yield a line for each thing that does not match."""
    if plan.predictions_left_out:
        some = _some(plan.matched.unclaimed)
        count = counted(plan.predictions_left_out, "image")
        yield f"left out: predictions of {count} that the truth does not have ({some})"
    if plan.images_without_prediction:
        some = _some(plan.matched.missing)
        count = counted(plan.images_without_prediction, "image")
        how = "left out" if plan.predicted_only else "counted as nobody found"
        yield f"{count} without a prediction, {how} ({some})"


def notes(plan: Plan[FoundPoints] | Plan[float], heads_left_out: int) -> Iterator[str]:
    """Yield what a reader of the table must know."""
    if plan.images_without_prediction:
        left_out = ", left out" if plan.predicted_only else ""
        yield f"{counted(plan.images_without_prediction, 'image')} without a prediction{left_out}"
    if heads_left_out:
        yield f"left out: {heads_left_out:,} true heads whose place is NaN or infinite"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + ", ..." * (len(names) > 2)
