"""The page of a report: its template filled, all that comes from files escaped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpmo_cli.geometry.extents import EXTENT_MEANINGS
from dpmo_cli.outputs.charts import crowd_chart, histogram_chart, number, percent, share_bar
from dpmo_cli.outputs.plates import Plates
from dpmo_cli.outputs.run_file import Run
from dpmo_cli.outputs.schema import STATUS_MEANINGS
from dpmo_cli.outputs.statistics import Histogram, Statistics
from dpmo_cli.version import VERSION

_TEMPLATE = "report.html.j2"
_SHOWN_LINES = 200
"""Failures and warnings that are listed; run.json has them all."""
_ELSEWHERE = {
    "version", "counts", "splits", "failures", "warnings", "config", "settings", "validation",
    "versions", "files",
}  # fmt: skip
"""Members of run.json that have a place of their own on the page."""


@dataclass(frozen=True)
class Facts:
    """Names and values of one part of run.json, as text."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trouble:
    """What went wrong: failures or warnings, those that are listed and how many there are."""

    title: str
    lines: tuple[str, ...]
    total: int
    recorded: bool


@dataclass(frozen=True)
class Figure:
    """A chart with its title, and the same values as a table."""

    title: str
    chart: Markup
    note: str = ""
    histogram: Histogram | None = None


def render_page(
    run: Run,
    statistics: Statistics,
    plates: Plates,
    *,
    reasons: Mapping[str, str],
    asked_plates: bool,
) -> str:
    """Return the page as HTML; equal arguments give equal text.

    Args:
        run: the run record.
        statistics: of the run.
        plates: the pictures, and why some are missing.
        reasons: what the reasons mean, in words.
        asked_plates: whether there was anything to draw.
    """
    environment = Environment(
        loader=PackageLoader("dpmo_cli.outputs"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "thousands": lambda value: f"{value:,}",
        "percent": percent,
        "number": number,
        "share_bar": lambda share: Markup(share_bar(share)),
    }
    return environment.get_template(_TEMPLATE).render(
        run=run,
        about=_about(run),
        extent=EXTENT_MEANINGS.get(run.extent, ""),
        statistics=statistics,
        figures=_figures(statistics),
        plates=plates,
        asked_plates=asked_plates,
        reasons=reasons,
        statuses=STATUS_MEANINGS,
        troubles=[_trouble(run, name) for name in ("failures", "warnings")],
        facts=_facts(run.document),
        quality=_quality(run.document),
        version=VERSION,
    )


def printable(value: object) -> object:
    """Return what is written for a value: text that any screen shows as it is, markup untouched.

    Lone surrogates, control characters and marks that turn the direction of text, all of which
    file names may hold, are shown as escapes.
    """
    if isinstance(value, Markup):
        return value
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(value)
    )


def _figures(statistics: Statistics) -> list[Figure]:
    histograms = [
        ("Score", "score of the mask", statistics.score, False),
        ("Size of masks", "pixels of the mask (log)", statistics.area_px, True),
        ("Radius of discs", "radius of the mask's disc, px (log)", statistics.radius_px, True),
    ]
    figures = []
    for title, axis, histogram, log in histograms:
        chart = Markup(histogram_chart(histogram, title=title, axis=axis, log=log))
        note = f"{histogram.missing:,} masks have no value." if histogram.missing else ""
        figures.append(Figure(title, chart, note, histogram))
    crowds = statistics.crowds
    nobody = int((crowds.people == 0).sum())
    note = "A dot is an image, a larger one several that lie close."
    note += f" {nobody:,} without people are not shown." * bool(nobody)
    figures.append(Figure("Crowds and their share to review", Markup(crowd_chart(crowds)), note))
    return figures


def _about(run: Run) -> list[str]:
    """Return sentences on how the run came to be."""
    config, settings = (_mapping(run.document.get(name)) for name in ("config", "settings"))
    made = f"dpmo {run.document.get('dpmo_version', '')}".strip()
    if sam := settings.get("sam"):
        made += f" with {sam}"
    sentences = [f"Made by {made}."]
    if isinstance(parts := config.get("merged_from"), list):
        sentences.append(f"Merged from {len(parts)} shards.")
    if points := settings.get("points"):
        sentences.append(f"Nobody had marked the points; they come from: {points}.")
    return sentences


def _trouble(run: Run, name: str) -> Trouble:
    lines = run.document.get(name)
    listed = [str(line) for line in lines] if isinstance(lines, list) else []
    shown = tuple(listed[:_SHOWN_LINES])
    return Trouble(name.capitalize(), shown, len(listed), isinstance(lines, list))


def _facts(document: Mapping[str, object]) -> list[Facts]:
    rest = {name: value for name, value in document.items() if name not in _ELSEWHERE}
    splits = {
        split: {name: value for name, value in _mapping(about).items() if name != "counts"}
        for split, about in _mapping(document.get("splits")).items()
    }
    parts = [
        ("Options", document.get("config")),
        ("Settings that decide the masks", document.get("settings")),
        ("Libraries", document.get("versions")),
        ("The run", rest),
        ("Splits", splits),
        ("SHA-256 of the files", document.get("files")),
    ]
    facts = [Facts(title, tuple(_flat(_mapping(value)))) for title, value in parts]
    return [one for one in facts if one.rows]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values as text, names of nested objects joined by dots."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _text(value)


def _quality(document: Mapping[str, object]) -> list[dict[str, str]]:
    """Return the rows of what a selftest found for these weights, of equal columns."""
    results = _mapping(document.get("validation")).get("results")
    rows = results if isinstance(results, list) else []
    known = [row for row in rows if isinstance(row, dict)]
    columns = list(known[0]) if known else []
    return [{column: _text(row.get(column)) for column in columns} for row in known]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value)) or "-"
    return value if isinstance(value, str) else json.dumps(value)
