"""The page of a report is well-formed, readable, and shows names as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.geometry.extents import EXTENT_MEANINGS, EXTENTS
from dpmo_cli.masks.reasons import REASONS
from dpmo_cli.outputs.finished import RunImage
from dpmo_cli.outputs.gallery import WorstMask
from dpmo_cli.outputs.page import printable, render_page
from dpmo_cli.outputs.plates import Plate, Plates
from dpmo_cli.outputs.run_file import Run
from dpmo_cli.outputs.schema import STATUS_MEANINGS, STATUSES
from dpmo_cli.outputs.statistics import read_statistics
from tests.outputs.samples import sample_records, write_run

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>alert(1)</script>\"'&\udc80\u202e\0ä.jpg"
"""A name that a folder may hold, or an annotation file."""
PIXEL = "data:image/jpeg;base64,AAAA"


class Checker(HTMLParser):
    """Fails on tags that are not closed in order, and keeps what the page holds."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> outside of SVG"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " * (tag in ("td", "th"))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in tags]


def check(page: str) -> Checker:
    """Parse a page and check all that holds for any."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert page.startswith("<!DOCTYPE html>")
    page.encode("utf-8")
    assert checker.named("script", "link", "iframe", "object", "base", "form") == []
    for attributes in (attributes for _, attributes in checker.tags):
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in page
    assert "@import" not in page
    assert all(attributes.get("alt") for attributes in checker.named("img"))
    charts = [one for one in checker.named("svg") if one.get("role") == "img"]
    assert all(one.get("aria-label") for one in charts)
    assert len(checker.named("table")) == len(checker.named("caption"))
    levels = [int(tag[1]) for tag, _ in checker.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in checker.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    return checker


def page_of(
    out: Path,
    changes: Mapping[str, Any] | None = None,
    plates: Plates | None = None,
    asked_plates: bool = True,
) -> str:
    run = Run.read(out / "run.json")
    document = {**run.document, **(changes or {})}
    run = Run(str(document["dataset"]), run.extent, run.counts, run.split_counts, document)
    return render_page(
        run,
        read_statistics(out, run),
        plates or Plates(),
        reasons=REASONS,
        asked_plates=asked_plates,
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), sample_records())


def test_the_page_of_a_run(out: Path) -> None:
    found = check(page_of(out))
    text = " ".join(found.text.split())
    assert "Masks of shanghaitech-a" in text
    assert "(extent nnec)" in text
    for status in ("ok", "shared", "outside", "empty", "invalid", "failed", "occluded"):
        assert STATUS_MEANINGS[status] in text
    assert REASONS["tiny"] in text
    assert "clipped" in text  # a reason that this version does not know
    assert len([one for one in found.named("svg") if one.get("class") == "chart"]) == 4
    assert "whole run 5 1 16 9 56.2 % 9 56.2 %" in text


def test_equal_runs_give_equal_pages(out: Path) -> None:
    assert page_of(out) == page_of(out)


def hostile_plates() -> Plates:
    image = RunImage(HOSTILE, 1, HOSTILE, (4, 4))
    worst = WorstMask(image, 3, (1.0, 1.0), None, (0, 0, 1, 1), None, (HOSTILE,))
    return Plates(
        [Plate(PIXEL, 4, 4, image, worst=worst)],
        [Plate(PIXEL, 4, 4, image, counts=HOSTILE)],
        [HOSTILE],
    )


def test_names_are_shown_as_text_whatever_they_hold(out: Path) -> None:
    changes = {
        "dataset": HOSTILE,
        "dpmo_version": HOSTILE,
        "failures": [HOSTILE],
        "warnings": [HOSTILE, 3],
        "config": {HOSTILE: HOSTILE, "merged_from": [HOSTILE, None]},
        "settings": {"sam": HOSTILE, "points": HOSTILE},
        "versions": {"a": [HOSTILE, {"b": HOSTILE}]},
        "validation": {"results": [{HOSTILE: HOSTILE}, {}, 3]},
    }
    found = check(page_of(out, changes, hostile_plates()))
    shown = "<script>alert(1)</script>\"'&\\udc80\\u202e\\x00ä.jpg"
    assert found.text.count(shown) >= 14
    assert [one["alt"] for one in found.named("img")] == [
        f"Crop of {shown} round the mask of point 3",
        f"Overlay of {shown}: {shown}",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        ("ä 木", "ä 木"),
        ("\ud800", "\\ud800"),
        ("a\nb", "a\\nb"),
        ("\u202egpj", "\\u202egpj"),
        (3, "3"),
    ],
)
def test_printable(value: object, text: str) -> None:
    assert printable(value) == text


@pytest.mark.parametrize(
    ("plates", "asked", "text"),
    [
        pytest.param(Plates(), False, "No image was chosen", id="nothing asked for"),
        pytest.param(
            Plates(problems=["gone", "too"]),
            True,
            "written without overlays: gone (and 1 more)",
            id="no photos",
        ),
        pytest.param(hostile_plates(), True, "Some overlays are missing", id="some photos"),
    ],
)
def test_overlays_that_are_missing(out: Path, plates: Plates, asked: bool, text: str) -> None:
    page = check(page_of(out, plates=plates, asked_plates=asked)).text
    assert text in " ".join(page.split())


def test_a_run_without_images(tmp_path: Path) -> None:
    out = write_run(tmp_path, [])
    text = check(page_of(out, asked_plates=False)).text
    for words in ("The run has no points", "The run has no masks", "No point has a reason"):
        assert words in text


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        pytest.param([], "Warnings: none.", id="none"),
        pytest.param(None, "Warnings: not recorded", id="an old run"),
        pytest.param(["w"] * 201, "Warnings: 201, of which the first 200", id="many"),
    ],
)
def test_warnings(out: Path, lines: list[str] | None, text: str) -> None:
    assert text in check(page_of(out, {"warnings": lines})).text


def test_how_the_run_was_made(out: Path) -> None:
    changes = {
        "config": {"merged_from": ["a", "b"], "split": ["x", "y"], "limit": None, "strict": True},
        "settings": {"sam": "nano", "points": "locator 12ab"},
        "seconds": {"read": 0.25},
    }
    text = " ".join(check(page_of(out, changes)).text.split())
    assert "Made by dpmo 0.1.0 with nano. Merged from 2 shards." in text
    assert "they come from: locator 12ab." in text
    for pair in ("split x, y", "limit -", "strict yes", "seconds.read 0.25"):
        assert pair in text


def test_all_statuses_and_extents_have_words() -> None:
    assert tuple(STATUS_MEANINGS) == STATUSES
    assert tuple(EXTENT_MEANINGS) == EXTENTS


def colours(css: str) -> Iterator[dict[str, str]]:
    for block in re.findall(r":root \{([^}]*)\}", css):
        yield dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_stands_out_in_light_and_dark() -> None:
    css = (resources.files("dpmo_cli.outputs") / "templates" / "report.css").read_text("utf-8")
    schemes = list(colours(css))
    assert len(schemes) == 2
    for scheme in schemes:
        for ink, paper in (
            ("ink", "paper"),
            ("ink", "panel"),
            ("ink", "note"),
            ("faint", "paper"),
            ("faint", "panel"),
            ("mark", "paper"),
        ):
            assert contrast(scheme[ink], scheme[paper]) >= 4.5, (ink, paper)
        assert contrast(scheme["bar"], scheme["paper"]) >= 3
