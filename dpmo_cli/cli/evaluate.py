"""`dpmo evaluate`: its commands, and `masks`: the masks of a run against true ones, or boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import counted, print_json, say
from dpmo_cli.cli.evaluate_counts import counts_command
from dpmo_cli.cli.evaluate_points import points_command
from dpmo_cli.cli.figures import (
    Json,
    Quiet,
    Samples,
    Seed,
    number,
    range_of,
    resampled,
    shown,
)
from dpmo_cli.cli.losses import losses_command
from dpmo_cli.cli.method import method_command
from dpmo_cli.errors import UsageError

if TYPE_CHECKING:
    from dpmo_cli.evaluation.boxes import BoxSummary
    from dpmo_cli.evaluation.plan import Measured, Plan
    from dpmo_cli.evaluation.summary import Bin, Summary

app = typer.Typer(help="Compare what a run predicts with what is true.", no_args_is_help=True)

_SLOW = 3 * 10**7
"""Points times samples from which on resampling takes more than a moment."""

_ROWS = (
    ("IoU per point", "iou_per_point"),
    ("boundary F, 1 px", "boundary_f"),
    ("area bias", "area_bias"),
    ("Mean IoU C", "mean_iou_c"),
    ("PQ", "pq"),
    ("SQ", "sq"),
    ("RQ", "rq"),
    ("precision at 0.5", "precision"),
    ("recall at 0.5", "recall"),
    ("AP 0.5", "ap50"),
    ("AP 0.5:0.95", "ap"),
)
_BOX_ROWS = ("containment", "fit", "cover")


@app.callback()
def _group() -> None:
    """Compare what a run predicts with what is true."""


app.command("method")(method_command)
app.command("points")(points_command)
app.command("counts")(counts_command)
app.command("losses")(losses_command)


@app.command("masks")
def masks_command(
    pred: Annotated[Path, typer.Option(help="The folder that a run has written.", metavar="OUT")],
    truth: Annotated[
        str,
        typer.Option(
            help="COCO JSON, folder of label maps (<image>.png, .npy), folder of one folder of "
            "PNGs per image, or the word boxes: the head boxes of the dataset.",
            metavar="TRUTH",
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Look at this split only.")] = None,
    json: Json = False,
    samples: Samples = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare the masks of a run with true instances, or with head boxes.

    Truth is used twice: cut by the discs of the points, what the extent nnec means, and whole.
    Images match by their path without suffix, else by their name where only one bears it.
    """
    if not truth.strip():
        raise UsageError("--truth is empty; give a COCO JSON, a folder of masks, or the word boxes")

    from dpmo_cli.evaluation.plan import plan_masks
    from dpmo_cli.evaluation.summary import Summary
    from dpmo_cli.pipeline.progress import RunProgress

    plan = plan_masks(pred, truth, split)
    if not quiet:
        for line in _left_out(plan):
            say(f"dpmo: {line}")
    with RunProgress(len(plan.names), quiet=quiet, verb="evaluating") as progress:
        measured = plan.measure(lambda points: progress.advance(points, reused=False))
    if not quiet and measured.points * samples > _SLOW:
        say(f"dpmo: resampling {len(plan.names)} images {samples} times for the intervals")
    summary = measured.summarise(samples, seed)
    if json:
        about = _about(plan, measured, pred, truth, split)
        print_json("evaluate-masks", about | summary.as_json())
        return
    lines = _mask_lines(plan, summary) if isinstance(summary, Summary) else _box_lines(summary)
    for line in (*lines, *_notes(measured)):
        print(line)


def _about(
    plan: Plan, measured: Measured, pred: Path, truth: str, split: str | None
) -> dict[str, object]:
    return {
        "pred": str(pred),
        "truth": truth,
        "split": split,
        "extent": plan.run.extent,
        "against": "boxes" if plan.with_boxes else "masks",
        "headline": None if plan.with_boxes else plan.headline,
        "images_left_out": plan.images_left_out,
        "truth_images_left_out": plan.truth_images_left_out,
        "annotations_left_out": measured.annotations_left_out,
        "points_occluded": measured.points_occluded,
    }


def _left_out(plan: Plan) -> Iterator[str]:
    if plan.images_left_out:
        why = "that failed" if plan.truth is None else "that the truth does not have"
        yield f"left out: {counted(plan.images_left_out, 'image')} of the run {why}"
    if plan.truth_images_left_out:
        why = "beyond the run's limit or shard" if plan.run.limited else "in other splits"
        yield f"left out: {counted(plan.truth_images_left_out, 'image')} of the truth {why}"


def _mask_lines(plan: Plan, found: Summary) -> Iterator[str]:
    yield (
        f"{counted(found.images, 'image')}, extent {plan.run.extent}: {found.points:,} points, "
        f"{found.points_with_truth:,} on true instances ({found.points_without_mask:,} of them "
        f"without a mask), {found.points_off_truth:,} on none, {found.points_outside:,} outside"
    )
    yield (
        f"{found.detections:,} masks, {found.instances:,} true instances "
        f"({found.instances_without_point:,} without a point); the discs hold "
        f"{shown(found.inside_disc)} of them"
    )
    heads = [f"truth {name}{' *' * (name == plan.headline)}" for name in ("cut", "uncut")]
    yield f"\n{'':<18}{heads[0]:>24}{heads[1]:>24}"
    for title, name in _ROWS:
        figures = [getattr(part.figures, name) for part in (found.cut, found.uncut)]
        yield f"{title:<18}{shown(figures[0]):>24}{shown(figures[1]):>24}"
    yield f"* the headline for the extent {plan.run.extent}; {resampled(found)}"
    for title, parts in (
        ("distance, px", (found.cut.by_distance, found.uncut.by_distance)),
        ("true area, px", (found.cut.by_area, found.uncut.by_area)),
    ):
        yield f"\n{title:<18}{'IoU cut (points)':>24}{'IoU uncut (points)':>24}"
        for cut, uncut in zip(*parts, strict=True):
            yield f"{range_of(cut.low_px, cut.high_px):<18}{_bin(cut):>24}{_bin(uncut):>24}"


def _box_lines(found: BoxSummary) -> Iterator[str]:
    yield (
        f"{counted(found.images, 'image')}: {found.points:,} points, "
        f"{found.points_with_box:,} with a box ({found.points_without_mask:,} of them without "
        f"a mask), {found.points_without_box:,} without one"
    )
    yield f"\n{'':<18}{'mean':>24}"
    for name in _BOX_ROWS:
        yield f"{name:<18}{shown(getattr(found.figures, name)):>24}"
    yield resampled(found)
    yield f"\n{'box, px':<18}{'points':>12}" + "".join(f"{name:>14}" for name in _BOX_ROWS)
    for one in found.by_area:
        values = "".join(f"{number(getattr(one, name)):>14}" for name in _BOX_ROWS)
        yield f"{range_of(one.low_px, one.high_px):<18}{one.points:>12,}{values}"


def _notes(measured: Measured) -> Sequence[str]:
    notes = [
        f"{count:,} annotation{'s' * (count != 1)} {why}"
        for why, count in measured.annotations_left_out.items()
    ]
    if measured.points_occluded:
        count = measured.points_occluded
        notes.append(f"{count:,} occluded point{'s' * (count != 1)}")
    return [f"\nleft out: {', '.join(notes)}"] if notes else []


def _bin(one: Bin) -> str:
    return f"{number(one.iou)} ({one.points:,})"
