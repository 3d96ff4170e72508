"""`dpmo visualize`: draw the masks of a run over its photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.errors import UsageError

_SHEET_SIDE = 1400
"""Longest side of a picture on a sheet, px: there they are seen at about this size."""


def visualize(
    out: Annotated[Path, typer.Argument(help="The folder that a run has written.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")],
    *,
    root: Annotated[
        Path | None,
        typer.Option(help="The dataset's root; by default the one that the run was made from."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="An image: its file_name, or the last part of it. Several make a contact sheet."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Take so many images at random instead.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
    split: Annotated[str | None, typer.Option(help="Look for images in this split only.")] = None,
    discs: Annotated[bool, typer.Option(help="Draw the discs.")] = True,
    points: Annotated[bool, typer.Option(help="Draw the points.")] = True,
    crop: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Draw this part of one image, px.")
    ] = None,
    max_side: Annotated[
        int | None, typer.Option(min=16, help="Longest side of a picture, px. Default: 2400.")
    ] = None,
) -> None:
    """Draw masks in distinct colours over the photos, with discs, points and review flags.

    Small pictures are magnified up to four times. The path of the PNG is printed on stdout.
    """
    from PIL import Image

    from dpmo_cli.datasets.images import read_photo
    from dpmo_cli.outputs.atomic import atomic_path
    from dpmo_cli.outputs.gallery import find_image, images_of, read_people, sample_images
    from dpmo_cli.outputs.overlay import MAX_SIDE, draw_overlay
    from dpmo_cli.outputs.run_file import photos_of
    from dpmo_cli.outputs.sheet import add_key, contact_sheet

    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} is no name of a PNG; let it end in .png")
    if bool(image) == (sample is not None):
        raise UsageError("name images with --image NAME, or take some with --sample N")
    images = images_of(out, split)
    names = list(dict.fromkeys(image or []))
    shown = [find_image(images, name) for name in names] or sample_images(images, sample or 0, seed)
    if not shown:
        raise UsageError(f"{out} has no image that could be read")
    if crop is not None and len(shown) > 1:
        raise UsageError("--crop is for one image; name one with --image")
    photos = root or photos_of(out)
    pictures, titles = [], []
    for one in shown:
        people = read_people(out, one)
        pictures.append(
            draw_overlay(
                read_photo(photos, one.file_name, one.size_hw),
                people.persons,
                discs=discs,
                points=points,
                crop_xyxy=_parse_crop(crop, one.size_hw) if crop is not None else None,
                max_side=max_side or (_SHEET_SIDE if len(shown) > 1 else MAX_SIDE),
            )
        )
        titles.append((one.file_name, people.counts))
    if len(pictures) > 1:
        picture = contact_sheet(pictures, titles, discs=discs, points=points)
    else:
        picture = add_key(pictures[0], *titles[0], discs=discs, points=points)
    with atomic_path(output) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    print(output)


def _parse_crop(text: str, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 cut at the image's border."""
    height, width = size_hw
    try:
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--crop {text} is not four whole numbers X0,Y0,X1,Y1") from None
    crop_xyxy = (max(x0, 0), max(y0, 0), min(x1, width), min(y1, height))
    if crop_xyxy[0] >= crop_xyxy[2] or crop_xyxy[1] >= crop_xyxy[3]:
        raise UsageError(f"--crop {text} holds no pixel of an image of {width} x {height} px")
    return crop_xyxy
