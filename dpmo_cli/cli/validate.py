"""`dpmo validate`: check every file of a run against itself and against the others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import print_json, say
from dpmo_cli.errors import EXIT_FAILED


def validate(
    out: Annotated[Path, typer.Argument(help="The folder that a run has written.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the files of a run; each finding is one line with its code on stdout.

    Exit code 0 where all is well, 1 where something is wrong.
    """
    from dpmo_cli.outputs.run_file import no_run
    from dpmo_cli.outputs.validate import holds_run_files, validate_run

    if not holds_run_files(out):
        raise no_run(out)
    findings = validate_run(out)
    if json:
        print_json("validate", {"out": str(out), "findings": [asdict(one) for one in findings]})
    else:
        for finding in findings:
            print(finding)
        say(f"dpmo: {out}: {len(findings) or 'no'} finding{'s' * (len(findings) != 1)}")
    if findings:
        raise typer.Exit(EXIT_FAILED)
