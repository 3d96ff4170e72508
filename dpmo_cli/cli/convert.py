"""`dpmo convert`: a native crowd dataset to instance masks and a review queue."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import print_json, say, warn
from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.masks.method import NEGATIVES, OWNERSHIPS, RADII, Method

if TYPE_CHECKING:
    from dpmo_cli.pipeline.convert import Summary
    from dpmo_cli.pipeline.estimate import Estimate

HELP_DATASET = (
    "shanghaitech-a (sha), shanghaitech-b (shb), qnrf, jhu, nwpu, ucf-cc-50, csv, or auto."
)


def convert(
    root: Annotated[
        Path, typer.Option(envvar="DPMO_ROOT", help="Folder of the dataset in its native layout.")
    ],
    out: Annotated[Path, typer.Option(envvar="DPMO_OUT", help="Folder for the results.")],
    dataset: Annotated[str, typer.Option(envvar="DPMO_DATASET", help=HELP_DATASET)] = "auto",
    split: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DPMO_SPLIT",
            help="Split to convert; may be given several times. Default: all labelled ones.",
        ),
    ] = None,
    sam: Annotated[
        str,
        typer.Option(
            envvar="DPMO_SAM", help="nano (small, embedded), vit_b, vit_l or vit_h (the paper's)."
        ),
    ] = "nano",
    checkpoint: Annotated[
        Path | None,
        typer.Option(envvar="DPMO_CHECKPOINT", help="Your own weights for --sam."),
    ] = None,
    device: Annotated[
        str, typer.Option(envvar="DPMO_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(envvar="DPMO_DTYPE", help="fp32 (the reference) or bf16.")
    ] = "fp32",
    prompt_batch: Annotated[
        int | None,
        typer.Option(
            envvar="DPMO_PROMPT_BATCH", min=1, help="Prompts at once. Default: what memory holds."
        ),
    ] = None,
    nnec_scale: Annotated[
        float,
        typer.Option(
            envvar="DPMO_NNEC_SCALE", help="Radius of a disc in distances to the neighbour."
        ),
    ] = 1.0,
    tiles: Annotated[
        str,
        typer.Option(envvar="DPMO_TILES", help="auto magnifies dense parts; off does not."),
    ] = "auto",
    extent: Annotated[
        str,
        typer.Option(
            envvar="DPMO_EXTENT",
            help="nnec (the person inside the disc), head, or visible (the whole person).",
        ),
    ] = "nnec",
    negatives: Annotated[
        int | None,
        typer.Option(
            envvar="DPMO_NEGATIVES",
            min=0,
            max=8,
            help="Neighbours that each prompt names as others. Default: 1 for nano, else 0.",
        ),
    ] = None,
    radii: Annotated[
        str,
        typer.Option(
            envvar="DPMO_RADII",
            help="nearest (distance to the neighbour), or robust (held near the local spacing).",
        ),
    ] = "nearest",
    ownership: Annotated[
        str,
        typer.Option(
            envvar="DPMO_OWNERSHIP",
            help="Who gets a pixel that several claim: logit (the network), nearest, or ratio.",
        ),
    ] = "logit",
    limit: Annotated[
        int | None,
        typer.Option(envvar="DPMO_LIMIT", min=1, help="Only the first images of each split."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(envvar="DPMO_SHARD", help="i/n: part i of n, to be merged later."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done and what it costs.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Convert again what is there already.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", envvar="DPMO_STRICT", help="End at the first bad file.")
    ] = False,
    max_failure_rate: Annotated[
        float,
        typer.Option(
            envvar="DPMO_MAX_FAILURE_RATE",
            min=0.0,
            max=1.0,
            help="Part of failed images above which the run has failed (exit code 1).",
        ),
    ] = 1.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout at the end.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="DPMO_QUIET", help="No progress.")
    ] = False,
) -> None:
    """Convert a native crowd dataset to instance masks and a review queue.

    Interrupted runs go on where they stopped; a second run without changes does nothing. Exit
    codes: 0 done, 1 failed, 2 wrong usage, 3 done but some images failed, 130 interrupted.
    """
    if tiles not in ("auto", "off"):
        raise UsageError(f"--tiles {tiles}: unknown; use auto or off")
    if extent not in EXTENTS:
        raise UsageError(f"--extent {extent}: unknown; use one of {', '.join(EXTENTS)}")
    if radii not in RADII:
        raise UsageError(f"--radii {radii}: unknown; use one of {', '.join(RADII)}")
    if ownership not in OWNERSHIPS:
        raise UsageError(f"--ownership {ownership}: unknown; use one of {', '.join(OWNERSHIPS)}")
    if not 0 < nnec_scale < float("inf"):
        raise UsageError(f"--nnec-scale {nnec_scale}: must be a positive number")
    if os.path.isfile(out):  # as Path.is_file, but false for what can't be looked at
        raise UsageError(f"--out {out}: is a file; name a folder")

    from dpmo_cli.datasets.registry import open_dataset
    from dpmo_cli.pipeline.plan import Selection, Shard, choose_splits

    opened = open_dataset(dataset, root)
    wanted = [name for value in split or [] for name in value.split(",")]
    selection = Selection(
        choose_splits(opened, wanted), limit, None if shard is None else Shard.parse(shard)
    )

    from dpmo_cli.pipeline.convert import Job, run_job
    from dpmo_cli.pipeline.settings import Settings
    from dpmo_cli.sam.models import load_engine, resolve_engine

    spec = resolve_engine(
        sam, checkpoint=checkpoint, device=device, dtype=dtype, prompt_batch=prompt_batch
    )
    settings = Settings(
        dataset=opened.name,
        extent=extent,
        sam=spec.name,
        weights_sha256=spec.weights_sha256,
        device=spec.device.split(":")[0],
        dtype=spec.dtype,
        prompt_batch=spec.prompt_batch,
        nnec_scale=nnec_scale,
        tiles=tiles,
        negatives=NEGATIVES.get(spec.name, 0) if negatives is None else negatives,
        radii=radii,
        ownership=ownership,
    )
    job = Job(
        dataset=opened,
        out=out,
        settings=settings,
        method=Method(
            nnec_scale=nnec_scale,
            tiles=tiles == "auto",
            extent=extent,
            negatives=settings.negatives,
            radii=radii,
            ownership=ownership,
        ),
        selection=selection,
        load_engine=lambda: load_engine(spec),
        config={
            "dataset": opened.name,
            "root": str(root),
            "out": str(out),
            "split": list(selection.splits),
            "sam": spec.name,
            "checkpoint": str(spec.weights_path),
            "device": spec.device,
            "dtype": spec.dtype,
            "prompt_batch": prompt_batch,
            "nnec_scale": nnec_scale,
            "tiles": tiles,
            "extent": extent,
            "negatives": settings.negatives,
            "radii": radii,
            "ownership": ownership,
            "limit": limit,
            "shard": shard,
            "strict": strict,
            "max_failure_rate": max_failure_rate,
        },
        force=force,
        strict=strict,
        max_failure_rate=max_failure_rate,
        quiet=quiet,
    )
    if dry_run:
        from dpmo_cli.pipeline.estimate import estimate

        _print_estimate(estimate(job), json=json)
        return
    if spec.name == "nano" and not quiet:
        say("dpmo: using nano, the small embedded network; vit_h is the paper's choice (--sam)")
    summary = run_job(job)
    report(summary, out, json=json, quiet=quiet)
    raise typer.Exit(summary.exit_code)


def report(summary: Summary, out: Path, *, json: bool, quiet: bool, kind: str = "convert") -> None:
    """Say how a run ended: for people on stderr, as one JSON object on stdout."""
    counts = summary.finished.counts
    if counts.failed_images:
        warn(f"{counts.failed_images} of {counts.images} images failed; mend them and run again")
    if not quiet:
        if not summary.changed:
            say(f"dpmo: {out}: up to date, nothing to do")
        say(
            f"dpmo: {out}: {counts.masks} masks for {counts.points} points in {counts.images} "
            f"images, {counts.flagged} to review, {summary.seconds:.1f} s"
        )
    if json:
        print_json(
            kind,
            {
                "out": str(out),
                "changed": summary.changed,
                "converted_images": summary.converted,
                "counts": counts.as_json(),
                "splits": {name: part.as_json() for name, part in summary.finished.splits.items()},
                "failures": summary.finished.failures,
                "warnings": summary.finished.warnings,
                "seconds": round(summary.seconds, 3),
                "exit_code": summary.exit_code,
            },
        )


def _print_estimate(found: Estimate, *, json: bool) -> None:
    if json:
        print_json("plan", found.as_json())
        return
    for line in found.lines():
        print(line)
