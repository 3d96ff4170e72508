"""`dpmo evaluate losses`: what the mask losses changed in the runs of `dpmo train compare`."""

from __future__ import annotations

from dataclasses import asdict, astuple
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import counted, print_json
from dpmo_cli.cli.figures import Json

if TYPE_CHECKING:
    from dpmo_cli.evaluation.loss_trials import Change, LossRow

_COLUMNS = (
    ("MAE", "mae", 1),
    ("RMSE", "rmse", 1),
    ("bias", "bias", 1),
    ("MAE, fitted", "mae_fitted", 1),
    ("RMSE, fitted", "rmse_fitted", 1),
    ("F1, 4 px", "f1@4", 3),
    ("F1, 8 px", "f1@8", 3),
)

HASH_LETTERS = 8


def losses_command(
    out: Annotated[Path, typer.Argument(help="Folder of `dpmo train compare`.", metavar="OUT")],
    json: Json = False,
) -> None:
    """Compare trainings with mask losses and without, on validation images.

    Figures are means over the seeds. The lines below tell the change against the training without
    masks, and with another shape that against masks, on the same seeds, with a 95 % interval by
    resampling the images, paired: one that holds zero shows nothing. Intervals are over images and
    hold for these trainings alone; "seeds" tells the smallest and the largest change of one seed.
    "Fitted" counts at the level, threshold or factor, that is best for the images' other half.
    """
    print_losses(out, as_json=json)


def print_losses(out: Path, *, as_json: bool = False) -> None:
    """Print the table of the finished runs of a folder."""
    from dpmo_cli.evaluation.loss_trials import compare_trials
    from dpmo_cli.evaluation.summary import without_nan
    from dpmo_cli.evaluation.trial_files import read_trials

    rows = list(compare_trials(read_trials(out)))
    if as_json:
        print_json("evaluate-losses", {"rows": [without_nan(asdict(row)) for row in rows]})
        return
    for row in rows:
        for line in _lines(row):
            print(line)


def _lines(row: LossRow) -> list[str]:
    names = [column for column in _COLUMNS if column[1] in row.figures]
    about = [row.dataset, row.model, f"{row.loss} with {row.shape}"]
    about += [f"{name} {_short(value)}" for name, value in row.settings.items()]
    head = ", ".join([*about, counted(row.seeds, "seed")]) + ": "
    lines = [head + ", ".join(f"{t} {row.figures[n].value:.{d}f}" for t, n, d in names)]
    for words, changes in (("none", row.gains), ("the masks themselves", row.over_masks)):
        if changes is not None:
            told = (f"{t} {_told(changes[n], d)}" for t, n, d in names)
            lines.append(f"  against {words}: " + "; ".join(told))
    return lines


def _told(change: Change, digits: int) -> str:
    """A change, with what it has of an interval and of a range over the seeds."""
    value, low, high, least, most = (f"{one:+.{digits}f}" for one in astuple(change))
    interval = "" if isnan(change.low) else f" [{low}, {high}]"
    seeds = "" if change.least == change.most else f", seeds {least} to {most}"
    return value + interval + seeds


def _short(value: object) -> str:
    """A setting, a hash by its first letters."""
    if isinstance(value, list):
        return "+".join(_short(one) for one in value)
    return value[:HASH_LETTERS] if isinstance(value, str) else str(value)
