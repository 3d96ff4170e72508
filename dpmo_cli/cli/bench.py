"""`dpmo bench`: speed and size of networks side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from dpmo_cli.cli.console import print_json, say


def bench(
    sam: Annotated[
        list[str] | None,
        typer.Option(help="nano, vit_b, vit_l or vit_h; may be repeated; nano and vit_b if none."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Time networks with random weights on one tile: nothing has to be fetched for it."""
    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.sam.weights import lookup
    from dpmo_cli.trials.speed import Speed, measure_speed, speed_lines

    names = [lookup(name).name for name in sam or ["nano", "vit_b"]]
    place = resolve_device(device)
    speeds: list[Speed] = []
    for name in names:
        if not quiet:
            say(f"dpmo: timing {name} on {place}")
        speeds.append(measure_speed(name, place))
    if json:
        print_json("bench", {"device": place, "networks": [speed.as_json() for speed in speeds]})
        return
    for line in speed_lines(speeds):
        print(line)
