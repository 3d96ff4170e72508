"""`dpmo merge`: the shards of a run become one output folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import warn
from dpmo_cli.cli.convert import report
from dpmo_cli.cli.review import bring_home, require_log
from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.findings import DECISIONS_FILE

if TYPE_CHECKING:
    from dpmo_cli.pipeline.apply import Applied


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Output folders of all shards.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged run.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing.")] = False,
) -> None:
    """Merge the shards of one run; the result is the same as that of a run without shards.

    The decisions of a review of the shards come along, and are applied.
    """
    for part in parts:
        if not part.is_dir():
            raise UsageError(f"{part}: no such folder; name the output folders of all shards")

    from dpmo_cli.pipeline.merge import merge_runs

    for part in parts:
        require_log(part)
    summary = merge_runs(parts, out)
    if any((part / DECISIONS_FILE).exists() for part in parts):
        applied = _with_decisions(parts, out)
        changed = summary.changed or applied.changed
        summary = replace(summary, finished=applied.finished, changed=changed)
    report(summary, out, json=json, quiet=quiet, kind="merge")
    raise typer.Exit(summary.exit_code)


def _with_decisions(parts: Sequence[Path], out: Path) -> Applied:
    """Bring the parts' decisions into the merged log, and apply it."""
    from dpmo_cli.review.decisions import Decisions

    with Decisions(out) as merged:
        for part in parts:
            if (part / DECISIONS_FILE).exists():
                with Decisions(part) as log:
                    for person in merged.take_over(log):
                        warn(f"{part}: {person}: was decided otherwise in {out}, which is kept")
    return bring_home(out)
