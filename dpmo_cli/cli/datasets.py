"""`dpmo datasets detect | inspect | list`: which dataset is it, and what is in it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import print_json, warn
from dpmo_cli.errors import EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from dpmo_cli.datasets.inspect import Inspection, SplitInspection

app = typer.Typer(help="Look at datasets before they are converted.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.command("detect")
def detect_command(
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.", metavar="ROOT")],
    json: Json = False,
) -> None:
    """Say which dataset lies in ROOT, and why."""
    from dpmo_cli.datasets.detect import detect
    from dpmo_cli.datasets.registry import DATASET_NAMES

    found = detect(root)
    if json:
        print_json("detection", {"root": str(root), "found": [asdict(one) for one in found]})
    elif not found:
        raise UsageError(
            f"no known dataset found in {root}; known: {', '.join(DATASET_NAMES)}; "
            "give the folder that holds the dataset as it was published"
        )
    else:
        for one in found:
            typer.echo(f"{one.name}  {one.confidence:.0%}  {one.why}")


@app.command("inspect")
def inspect_command(
    root: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset, or auto.")] = "auto",
    split: Annotated[
        str | None, typer.Option(help="Only this split; all labelled ones without it.")
    ] = None,
    json: Json = False,
) -> None:
    """Count images, points and what is odd or wrong. Exit code 3: some files can't be read."""
    from dpmo_cli.datasets.inspect import inspect
    from dpmo_cli.datasets.registry import open_dataset

    found = inspect(open_dataset(dataset, root), split)
    if json:
        body = {**asdict(found), "total": asdict(found.total)}
        print_json("inspection", body)
    else:
        _print_table(found)
        for finding in (*found.total.count_mismatches, *found.total.warnings):
            warn(f"{finding.file_name}: {finding.what}")
        for finding in found.total.unreadable:
            warn(finding.what)
    if found.total.unreadable:
        raise typer.Exit(EXIT_PARTIAL)


@app.command("list")
def list_command(
    root: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset, or auto.")] = "auto",
    split: Annotated[
        str | None, typer.Option(help="Only this split; all labelled ones without it.")
    ] = None,
    held_out: Annotated[
        bool | None,
        typer.Option(
            "--held-out/--not-held-out",
            help="Only the images that our own training keeps for validation, or only the others: "
            'SHA-1 of "dataset/file name" divisible by five, or not.',
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the paths of the images, one a line: a list for `dpmo predict -` and other tools."""
    from dpmo_cli.datasets.registry import open_dataset
    from dpmo_cli.evaluation.truth import held_out as is_held_out

    opened = open_dataset(dataset, root)
    for name in opened.splits() if split is None else (split,):
        for entry in opened.entries(name):
            if held_out is None or is_held_out(opened.name, entry.file_name) == held_out:
                typer.echo(os.fsencode(entry.image_path))


def _print_table(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table

    parts = (*found.splits, found.total) if len(found.splits) > 1 else found.splits
    table = Table(title=f"{found.dataset} in {found.root}")
    table.add_column("")
    for part in parts:
        table.add_column(part.split, justify="right")
    # One row for each count: all splits side by side fit a narrow terminal.
    for row in zip(*map(_counts, parts), strict=True):
        names, counts = zip(*row, strict=True)
        table.add_row(names[0], *(f"{count:,}" for count in counts))
    Console().print(table)


def _counts(part: SplitInspection) -> tuple[tuple[str, int], ...]:
    return (
        ("images", part.images),
        ("points", part.points),
        ("duplicates", part.duplicates),
        ("points outside", part.outside),
        ("invalid points", part.invalid),
        ("unreadable files", len(part.unreadable)),
        ("count mismatches", len(part.count_mismatches)),
    )
