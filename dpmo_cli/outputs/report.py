"""The report of a finished run: one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpmo_cli.errors import GIVE_ROOT
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.outputs.gallery import images_of, sample_images, worst_masks
from dpmo_cli.outputs.page import render_page
from dpmo_cli.outputs.plates import PhotoReader, Plates, draw_plates
from dpmo_cli.outputs.run_file import RUN_FILE, Run
from dpmo_cli.outputs.statistics import Statistics, read_statistics

WORST = 12
"""Masks from the head of the queue that are shown."""


@dataclass(frozen=True)
class Report:
    """What a report says: the numbers, and why photos are missing from it, one line each."""

    statistics: Statistics
    problems: tuple[str, ...]


def write_report(
    out: Path,
    page: Path,
    photo: PhotoReader | None,
    *,
    reasons: Mapping[str, str],
    sample: int,
    seed: int,
) -> Report:
    """Write the page of a finished run.

    Args:
        out: the run's folder.
        page: the HTML file to write.
        photo: reads the photos; None where nobody knows where they are: a page without overlays.
        reasons: what the reasons of the queue mean.
        sample: so many images are drawn whole, taken at random by `seed`.
        seed: of the choice.

    Raises:
        UsageError: `out` holds no finished run.
        InputError: one of its files can't be read.
        OutputError: the page can't be written.
    """
    run = Run.of(out)
    statistics = read_statistics(out, run)
    worst = worst_masks(out, WORST)
    images = sample_images(images_of(out), sample, seed) if run.split_counts else []
    if photo is None:
        plates = Plates(problems=[f"{RUN_FILE} does not say where the photos are; {GIVE_ROOT}"])
    else:
        plates = draw_plates(out, photo, worst, images)
    asked = bool(worst or images)
    if not asked:
        plates.problems.clear()
    text = render_page(run, statistics, plates, reasons=reasons, asked_plates=asked)
    write_text(page, text)
    return Report(statistics, tuple(plates.problems))
