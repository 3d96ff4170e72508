"""`dpmo convert`: a native crowd dataset to instance masks and a review queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli import options
from dpmo_cli.cli.console import counted, print_json, say, warn

if TYPE_CHECKING:
    from dpmo_cli.pipeline.estimate import Estimate
    from dpmo_cli.pipeline.finish import Summary

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
    sam: options.Sam = "nano",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "fp32",
    prompt_batch: options.PromptBatch = None,
    cache: options.Cache = None,
    cache_size: options.CacheSize = 20.0,
    calibration: options.CalibrationFile = None,
    nnec_scale: options.NnecScale = 1.0,
    tiles: options.Tiles = "auto",
    extent: options.Extent = "nnec",
    negatives: options.Negatives = None,
    radii: options.Radii = "nearest",
    ownership: options.Ownership = "logit",
    limit: Annotated[
        int | None,
        typer.Option(envvar="DPMO_LIMIT", min=1, help="Only the first images of each split."),
    ] = None,
    shard: options.ShardOption = None,
    workers: options.Workers = 1,
    engine: options.HandedOutBy = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done and what it costs.")
    ] = False,
    discard_corrections: options.DiscardCorrections = False,
    force: options.Force = False,
    strict: options.Strict = False,
    max_failure_rate: options.MaxFailureRate = 1.0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a native crowd dataset to instance masks and a review queue.

    Interrupted runs go on where they stopped; a second run without changes does nothing. Exit
    codes: 0 done, 1 failed, 2 wrong usage, 3 done but some images failed, 130 interrupted.
    """
    method = options.method_of(
        sam,
        nnec_scale=nnec_scale,
        tiles=tiles,
        extent=extent,
        negatives=negatives,
        radii=radii,
        ownership=ownership,
    )
    options.check_out(out)

    from dpmo_cli.datasets.registry import open_dataset
    from dpmo_cli.pipeline.plan import Selection, Shard, choose_splits

    opened = open_dataset(dataset, root)
    wanted = [name for value in split or [] for name in value.split(",")]
    selection = Selection(
        choose_splits(opened, wanted), limit, None if shard is None else Shard.parse(shard)
    )
    options.check_engine(engine)

    from dpmo_cli.pipeline.convert import run_job
    from dpmo_cli.sam.models import resolve_engine

    spec = resolve_engine(
        sam, checkpoint=checkpoint, device=device, dtype=dtype, prompt_batch=prompt_batch
    )
    spec = options.with_calibration(spec, calibration, method)
    about = {
        "dataset": opened.name,
        "root": str(root),
        "out": str(out),
        "split": list(selection.splits),
    }
    job = options.job_of(
        opened,
        out,
        selection,
        spec,
        method,
        about,
        prompt_batch=prompt_batch,
        limit=limit,
        shard=shard,
        discard_corrections=discard_corrections,
        force=force,
        strict=strict,
        max_failure_rate=max_failure_rate,
        quiet=quiet,
        workers=workers,
        engine=engine,
        cache=options.open_cache(None if dry_run else cache, cache_size),
    )
    if dry_run:
        from dpmo_cli.pipeline.estimate import estimate

        if not quiet:
            say(f"dpmo: planning, and timing some tiles with {spec.name}; heavy ones take a while")
        found = estimate(job)
        if found.changes:
            changes = ", ".join(found.changes)
            say(f"dpmo: {out}: other settings ({changes}); what is there is converted again")
        _print_estimate(found, json=json)
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
        images = counted(counts.images, "image")
        warn(f"{counts.failed_images:,} of {images} failed; mend what is named and run again")
    if summary.finished.unfit:
        warn(
            f"{counted(len(summary.finished.unfit), 'decision')} of the review left out; "
            f"`dpmo review apply {out}` says why"
        )
    if not quiet:
        if not summary.changed:
            say(f"dpmo: {out}: up to date, nothing to do")
        say(
            f"dpmo: {out}: {counted(counts.masks, 'mask')} for {counted(counts.points, 'point')} "
            f"in {counted(counts.images, 'image')}, {counts.flagged:,} to review, "
            f"{summary.seconds:.1f} s"
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
                "warnings": len(summary.finished.warnings),
                "corrections": summary.finished.corrections_as_json(),
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
