"""What a finished run spent beside its network: choice, discs, ownership, run lengths, writing."""

from __future__ import annotations

from pathlib import Path

from dpmo_cli.errors import InputError
from dpmo_cli.outputs.json_values import as_int, as_number, as_object
from dpmo_cli.outputs.run_file import RUN_FILE, Run

STAGES = ("choose", "clip", "own", "rle", "write")


def overhead_ms(out: Path) -> dict[str, float]:
    """Milliseconds per point by stage, and in `total`, of a run that converted all its images.

    Raises:
        UsageError: the folder holds no finished run.
        InputError: its record can't be read, or its seconds are those of some images only.
    """
    run = Run.of(out)
    if "seconds" not in run.document:
        problem = "is of merged shards, and tells no time"
        raise InputError(out / RUN_FILE, problem, "give one of the shards' folders")
    try:
        points = as_int(run.counts.get("points"), "counts.points")
        images = as_int(run.counts.get("images"), "counts.images")
        failed = as_int(run.counts.get("failed_images"), "counts.failed_images")
        if run.document.get("converted_images") != images - failed or not points:
            raise ValueError("it converted only some of the images that are there")
        seconds = as_object(run.document.get("seconds"), "seconds")
        each = {
            name: 1000 * as_number(seconds.get(name), f"seconds.{name}") / points for name in STAGES
        }
    except ValueError as error:
        problem = f"does not say what its points took ({error})"
        raise InputError(out / RUN_FILE, problem, "convert all images with --force") from error
    return {**each, "total": sum(each.values())}
