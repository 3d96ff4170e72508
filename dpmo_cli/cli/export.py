"""`dpmo export`: a finished run in the formats that people train with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli import options
from dpmo_cli.cli.console import print_json, say, warn

HELP_FORMAT = "coco, coco-polygons, yolo-seg, boxes, label-maps, density or parquet."


def export(
    out: Annotated[Path, typer.Argument(help="The folder that a run has written.")],
    to: Annotated[Path, typer.Option(help="Folder for the export: a new one, or its own.")],
    form: Annotated[str, typer.Option("--format", help=HELP_FORMAT)],
    split: Annotated[
        list[str] | None,
        typer.Option(help="Split to export; may be given several times. Default: all."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="The dataset's root; by default the one that the run was made from."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="link, copy or none. Default: link for yolo-seg and boxes, copy for parquet."
        ),
    ] = None,
    per_image: Annotated[
        bool, typer.Option("--per-image", help="One COCO JSON per image, not per split.")
    ] = False,
    png: Annotated[
        bool, typer.Option("--png", help="Label maps as PNG of 16 bits beside the .npy.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a finished run in another format, corrections included.

    A second export into the same folder rewrites only what has changed.
    """
    from dpmo_cli.outputs.exports.registry import find_format
    from dpmo_cli.pipeline.export import export_run

    chosen = find_format(form)
    wanted = [name for value in split or [] for name in value.split(",")]
    done = export_run(
        out,
        to,
        chosen,
        chosen.options(images, per_image=per_image, png=png),
        splits=wanted,
        root=root,
        quiet=quiet,
    )
    for warning in done.warnings:
        warn(warning)
    if not quiet:
        for name, counts in done.splits.items():
            say(
                f"dpmo: {to}: {name}: {counts.masks} masks and {counts.people} people in "
                f"{counts.images} image{'s' * (counts.images != 1)}"
            )
    if json:
        splits = {name: asdict(counts) for name, counts in done.splits.items()}
        body = {"out": str(out), "to": str(to), "format": chosen.name, "splits": splits}
        print_json("export", {**body, "files": done.files, "warnings": done.warnings})
