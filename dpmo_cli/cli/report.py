"""`dpmo report`: one HTML page about a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import print_json, warn
from dpmo_cli.errors import UsageError


def report(
    out: Annotated[Path, typer.Argument(help="The folder that a run has written.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write. Default: OUT/report.html."),
    ] = None,
    *,
    root: Annotated[
        Path | None,
        typer.Option(help="The dataset's root; by default the one that the run was made from."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, max=100, help="So many whole images are drawn, at random.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the statistics as one JSON object.")
    ] = False,
) -> None:
    """Write one HTML page about a run: counts, reasons, distributions, overlays, configuration.

    The page needs no other file and no network. Its path is printed on stdout. Where the photos
    are not at hand it is written without overlays.
    """
    page = output or out / "report.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{page} is no name of a page; let it end in .html")

    from dpmo_cli.datasets.images import read_photo
    from dpmo_cli.masks.reasons import REASONS
    from dpmo_cli.outputs.report import write_report
    from dpmo_cli.outputs.run_file import root_of

    photos = root or root_of(out)
    written = write_report(
        out,
        page,
        None
        if photos is None
        else lambda image: read_photo(Path(photos), image.file_name, image.size_hw),
        reasons=REASONS,
        sample=sample,
        seed=seed,
    )
    if written.problems:
        more = f" (and {len(written.problems) - 1} more)" if len(written.problems) > 1 else ""
        warn(f"{page}: overlays are missing from the page: {written.problems[0]}{more}")
    if json:
        print_json("report", {"out": str(out), "report": str(page), **written.statistics.as_json()})
    else:
        print(page)
