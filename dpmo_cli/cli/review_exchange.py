"""`dpmo review export` and `dpmo review import`: round trips with annotation tools."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from dpmo_cli.cli.console import counted, print_json, say
from dpmo_cli.cli.options import Json, Quiet
from dpmo_cli.errors import EXIT_PARTIAL, UsageError

_SAY_EVERY_S = 5.0

Out = Annotated[Path, typer.Argument(help="The folder that a run has written.")]


def export(
    out: Out,
    *,
    to: Annotated[Path, typer.Option(help="The new folder for tasks and photos.")],
    format_: Annotated[
        str, typer.Option("--format", help="cvat, label-studio, or labelme (also X-AnyLabeling).")
    ],
    shapes: Annotated[
        str,
        typer.Option(help="polygons, or masks (CVAT's masks, Label Studio's brush; not labelme)."),
    ] = "polygons",
    tile: Annotated[
        int,
        typer.Option(min=0, help="Cut images into tiles of at most so many people; 0: do not."),
    ] = 200,
    only: Annotated[
        str,
        typer.Option(
            help="all; flagged (where there is a reason to look); or one reason, as the queue "
            "names it: low_score, ambiguous, tiny ... Both leave out whom somebody decided on."
        ),
    ] = "all",
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many people, the worst first.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of this split alone.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the photos; by default the one that the run was made from."),
    ] = None,
    image_url: Annotated[
        str | None,
        typer.Option(help="What stands before a photo's name in its address in Label Studio."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write masks as tasks for a team's annotation tool; `dpmo review import` brings them back.

    Photos are cut into tiles, each person whole in one; dpmo-export.json beside them says what was
    exported. Polygons have few corners and still exactly the masks' pixels.
    """
    from dpmo_cli.review.exchange.exports import FORMATS, Wanted, export_tasks
    from dpmo_cli.review.exchange.manifest import MASKS, POLYGONS

    if format_ not in FORMATS:
        raise UsageError(f"--format {format_}: unknown; use one of {', '.join(FORMATS)}")
    if shapes not in (POLYGONS, MASKS):
        raise UsageError(f"--shapes {shapes}: unknown; use {POLYGONS} or {MASKS}")
    if (format_, shapes) == ("labelme", MASKS):
        raise UsageError("--shapes masks: X-AnyLabeling can't edit them; use polygons for labelme")

    said = monotonic()

    def tell(done: int, images: int) -> None:
        nonlocal said
        if not quiet and monotonic() - said >= _SAY_EVERY_S:
            said = monotonic()
            say(f"dpmo: {done} of {counted(images, 'image')}")

    wanted = Wanted(format_, shapes, only, split, limit, tile, image_url)
    summary = export_tasks(out, to, wanted, root=root, tell=tell)
    if json:
        print_json("review-export", {"out": str(out), "to": str(to), **vars(summary)})
    else:
        print(to)
    if not quiet:
        say(
            f"dpmo: {counted(summary.shapes, 'shape')} of {counted(summary.images, 'image')} in "
            f"{counted(summary.tiles, 'tile')}; {summary.without_mask:,} without a mask to draw"
        )


def import_(
    out: Out,
    path: Annotated[Path, typer.Argument(help="What the tool has exported: file, ZIP or folder.")],
    *,
    reviewer: Annotated[str, typer.Option(envvar="DPMO_REVIEWER", help="Who decided.")],
    format_: Annotated[
        str, typer.Option("--format", help="auto, cvat, label-studio, labelme, or coco.")
    ] = "auto",
    deleted: Annotated[
        str | None,
        typer.Option(help="What a gone shape means: deleted (nobody), or rejected (no mask)."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="The export's dpmo-export.json; by default beside or above the file."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, and touch nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn what a team changed into decisions; `dpmo review apply` brings them into the masks.

    Each change, and each shape that is left, is a line on stdout. Exit code 3 where shapes
    were left: broken, unmatched, overlapping, or decided on since the export.
    """
    from dpmo_cli.review.exchange.imports import ABSENCES, FORMATS, Import, import_tasks
    from dpmo_cli.review.exchange.report import GONE

    if format_ not in FORMATS:
        raise UsageError(f"--format {format_}: unknown; use one of {', '.join(FORMATS)}")
    if deleted not in (None, *ABSENCES):
        raise UsageError(f"--deleted {deleted}: unknown; use {' or '.join(ABSENCES)}")
    wanted = Import(path, reviewer, format_, deleted, manifest, dry_run)
    found, report = import_tasks(out, wanted)
    if json:
        body = {
            "out": str(out),
            "path": str(path),
            "format": found,
            "dry_run": dry_run,
            "unchanged": report.unchanged,
            "already": report.already,
            "counts": dict(sorted(report.counts.items())),
            "lines": [line.as_json() for line in report.lines],
        }
        print_json("review-import", body)
    else:
        for line in report.lines:
            print(line)
    if not quiet:
        will = "to write" if dry_run else "written"
        say(
            f"dpmo: {counted(report.changes, 'decision')} {will}, "
            f"{counted(report.unchanged, 'shape')} unchanged, "
            f"{report.already:,} decided so before, {report.refused:,} not taken, "
            f"{report.counts[GONE]:,} gone"
        )
    if report.refused:
        raise typer.Exit(EXIT_PARTIAL)
