"""The manifest, and the text by which tools carry a person."""

from __future__ import annotations

import pytest

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.exchange.files import MANIFEST_FILE
from dpmo_cli.review.exchange.manifest import parse_key, person_key, read_manifest, write_manifest
from tests.review.exchange.conftest import MakeWorld


@pytest.mark.parametrize("person", [Person("train", 3, 0), Person("fold-2-1", 12, 500_000)])
def test_keys_come_back(person: Person) -> None:
    assert parse_key(person_key(person)) == person


@pytest.mark.parametrize(
    "text", ["", "train", "train-1", "-1-2", "train-1-x", "train-1-²", "train-1-", None, 7, ["a"]]
)
def test_what_is_no_key(text: object) -> None:
    assert parse_key(text) is None


@pytest.mark.parametrize("text", ["train-1-" + "9" * 5000, "train-" + "9" * 10 + "-1"])
def test_numbers_out_of_reach_are_no_key(text: str) -> None:
    assert parse_key(text) is None


def test_a_manifest_comes_back(world: MakeWorld) -> None:
    run = world("cvat", "masks").export(most=5)
    path = run.to / MANIFEST_FILE
    manifest = read_manifest(path)
    assert (manifest.format, manifest.shapes) == ("cvat", "masks")
    assert sum(len(tile.persons) for tile in manifest.tiles.values()) == 19
    copy = path.with_name("copy.json")
    write_manifest(copy, manifest.format, manifest.shapes, list(manifest.tiles.values()))
    assert copy.read_bytes() == path.read_bytes()
