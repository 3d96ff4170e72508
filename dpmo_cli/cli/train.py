"""`dpmo train`: train the networks that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import say
from dpmo_cli.cli.train_counters import compare_command, density_command, locator_command
from dpmo_cli.cli.train_nano import nano_command
from dpmo_cli.cli.train_rps import rejection_command, rps_command
from dpmo_cli.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Train the networks that the package ships.")


@app.callback()
def _group() -> None:
    """Train the networks that the package ships."""


app.command("nano")(nano_command)
app.command("locator")(locator_command)
app.command("density")(density_command)
app.command("compare")(compare_command)
app.command("rps")(rps_command)
app.command("rejection")(rejection_command)


@app.command()
def calibration(
    data: Annotated[
        Path, typer.Option(help="Folder with PennFudanPed, COCO_panoptic_100 and DSB2018.")
    ],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    sam: Annotated[str, typer.Option(help="nano, vit_b, vit_l or vit_h.")] = "nano",
    checkpoint: Annotated[Path | None, typer.Option(help="Your own weights for --sam.")] = None,
    truth_set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Truth set; may be repeated; all but coco-things if none."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(min=1, help="Scenes of each set, spread over it. Default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fit the review score to the IoU on validation scenes; prints what a review would find.

    The table tests every scene with curves that were fitted on others; the file holds the curves
    that were fitted on all.
    """
    from dpmo_cli.cli.method import SETS
    from dpmo_cli.cli.truth import require_data
    from dpmo_cli.evaluation.truth_sets import TRUTH_SETS, load_set

    names = truth_set or list(SETS)
    for name in names:
        if name not in TRUTH_SETS:
            raise UsageError(f"--set {name}: unknown; use one of {', '.join(TRUTH_SETS)}")
    require_data(data)
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file")

    from dpmo_cli.masks.method import default_method
    from dpmo_cli.outputs.atomic import write_text
    from dpmo_cli.sam.calibration import as_json
    from dpmo_cli.sam.models import load_engine, resolve_engine
    from dpmo_cli.trials.calibration import calibrate
    from dpmo_cli.trials.table import calibration_lines

    spec = resolve_engine(sam, checkpoint=checkpoint, device=device)
    sets = {name: load_set(name, data, limit=scenes) for name in names}
    found, checks = calibrate(
        load_engine(spec),
        default_method(spec.name),
        spec.weights_sha256,
        sets,
        (lambda line: None) if quiet else (lambda line: say(f"dpmo: {line}")),
    )
    for line in calibration_lines(checks):
        print(line)
    write_text(out, as_json(found))
