"""`dpmo merge`: the shards of a run become one output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.convert import report
from dpmo_cli.errors import UsageError


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Output folders of all shards.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged run.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing.")] = False,
) -> None:
    """Merge the shards of one run; the result is the same as that of a run without shards."""
    for part in parts:
        if not part.is_dir():
            raise UsageError(f"{part}: no such folder; name the output folders of all shards")

    from dpmo_cli.pipeline.merge import merge_runs

    summary = merge_runs(parts, out)
    report(summary, out, json=json, quiet=quiet, kind="merge")
    raise typer.Exit(summary.exit_code)
