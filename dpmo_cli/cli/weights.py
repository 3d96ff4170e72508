"""`dpmo weights`: list, fetch and verify the weights of the segmentation networks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import print_json, say
from dpmo_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from dpmo_cli.sam.download import Progress

app = typer.Typer(no_args_is_help=True, help="List, fetch and verify the weights.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_weights(json: Json = False) -> None:
    """Show which weights there are, and which of them are here."""
    from dpmo_cli.sam import weights as catalogue

    entries = [
        {
            "name": weights.name,
            "state": catalogue.glance(weights.name),
            "size_bytes": catalogue.file_size(weights.path) or weights.size_bytes,
            "licence": weights.licence,
            "sha256": weights.sha256,
            "url": weights.url,
            "path": str(weights.path),
            "summary": weights.summary,
        }
        for weights in catalogue.CATALOGUE
    ]
    if json:
        print_json("weights", {"weights": entries})
        return
    for entry in entries:
        size_bytes = entry["size_bytes"]
        size = f"{size_bytes / 1e6:,.0f} MB" if isinstance(size_bytes, int) else "?"
        where = entry["path"] if entry["state"] != "missing" else entry["url"] or entry["path"]
        print(
            f"{entry['name']:6} {entry['state']:8} {size:>8}  {entry['licence']:11} "
            f"{entry['summary']:44} {where}"
        )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="What to fetch: vit_b, vit_l or vit_h.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL-OR-FILE",
            help="Take it from here instead of its official address.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch it even if it is here.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Bring weights into the cache folder, checked by SHA-256, and print their path."""
    from dpmo_cli.sam import weights as catalogue

    with _progress(name, quiet) as on_progress:
        fetched = catalogue.fetch(name, source, force=force, on_progress=on_progress)
    if not quiet:
        say(f"{name} is fetched and verified" if fetched.brought else f"{name} is here already")
    print(fetched.path)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all without a name.")] = None,
    json: Json = False,
) -> None:
    """Read weights through and check them.

    Exits with 1 if any is corrupt, or if one that was named is missing.
    """
    from dpmo_cli.sam import weights as catalogue

    states = catalogue.verify(names or catalogue.names())
    if json:
        entries = [{"name": name, "state": state} for name, state in states]
        print_json("weights-verified", {"weights": entries})
    else:
        for name, state in states:
            print(f"{name:6} {state}")
    bad = {"corrupt", "missing"} if names else {"corrupt"}
    if any(state in bad for _, state in states):
        raise typer.Exit(EXIT_FAILED)


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Progress | None]:
    """Show a bar on stderr while bytes come, where there is a terminal to show it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
