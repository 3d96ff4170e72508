"""`dpmo truth`: write a truth set as a csv dataset with label maps, to convert and to score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import say
from dpmo_cli.errors import UsageError

SPLITS = ("validation", "train")


def require_data(data: Path) -> None:
    """Refuse a folder of data sets that is not there, before anything is loaded."""
    if not data.is_dir():
        raise UsageError(f"--data {data}: no such folder; give the folder of the data sets")


def truth(
    name: Annotated[
        str,
        typer.Argument(
            help="pennfudan, coco-persons, coco-things, nuclei, composed or groups (crowds)."
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="Folder with PennFudanPed, COCO_panoptic_100 and DSB2018.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be empty or new.")],
    split: Annotated[
        str, typer.Option(help="validation (names whose SHA-1 is divisible by 5) or train.")
    ] = "validation",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Scenes at most, spread over the set.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write scenes with true masks: points.csv, images/, truth/ and truth/heads/.

    `dpmo convert --dataset csv --root OUT` makes masks of its points, and `dpmo evaluate masks
    --truth OUT/truth` scores them.
    """
    if split not in SPLITS:
        raise UsageError(f"--split {split}: unknown; use one of {', '.join(SPLITS)}")
    require_data(data)

    from dpmo_cli.evaluation.truth_sets import TRUTH_SETS, load_set, require_new, write_set

    if name not in TRUTH_SETS:
        raise UsageError(f"{name}: unknown truth set; use one of {', '.join(TRUTH_SETS)}")
    require_new(out)
    tell = (lambda line: None) if quiet else say
    tell(f"dpmo: reading {name}")
    scenes = load_set(name, data, validation=split == "validation", limit=limit)
    write_set(scenes, out, lambda line: tell(f"dpmo: {line}"))
    print(out)
