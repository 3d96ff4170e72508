"""`dpmo review serve`: the page on which a person corrects the masks of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import say, warn
from dpmo_cli.errors import UsageError


def serve(
    out: Annotated[Path, typer.Argument(help="The folder that a run has written.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the photos; by default the one that the run was made from."),
    ] = None,
    port: Annotated[
        int, typer.Option(envvar="DPMO_PORT", min=0, max=65535, help="0 takes a free one.")
    ] = 8765,
    host: Annotated[
        str, typer.Option(help="Address of this machine to serve on; by default no other gets in.")
    ] = "127.0.0.1",
    reviewer: Annotated[
        str | None,
        typer.Option(envvar="DPMO_REVIEWER", help="Who decides; by default your login name."),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
) -> None:
    """Serve a local page to correct masks on; its address is printed on stdout. Ctrl-C ends it.

    Each decision is on disk, in OUT/review/decisions.sqlite, before the page shows it.
    `dpmo review apply OUT` brings them into the annotations.
    """
    from dpmo_cli.review.server import LOCAL, serve

    if reviewer is not None and not reviewer.strip():
        raise UsageError("--reviewer is empty; give a name")
    if host not in LOCAL:
        warn(f"whoever reaches {host} can look at the photos and decide; there is no password")
    serve(
        out,
        root=root,
        host=host,
        port=port,
        reviewer=reviewer,
        open_browser=open_browser,
        ready=lambda address: print(address, flush=True),
        log=say,
        warn=warn,
    )
