"""Round trips through each tool's own format: nothing changed, and exactly what was changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.review.exchange.report import GONE, UNMATCHED, Report
from tests.outputs.samples import pixels_of
from tests.review.exchange.conftest import MakeWorld, World, snapshot
from tests.review.exchange.tools import Corners, Json, filled

KINDS = [
    pytest.param("cvat", "polygons", id="cvat-polygons"),
    pytest.param("cvat", "masks", id="cvat-masks"),
    pytest.param("label-studio", "polygons", id="label-studio-polygons"),
    pytest.param("label-studio", "masks", id="label-studio-brush"),
    pytest.param("labelme", "polygons", id="labelme"),
]
SHAPES = 12 + 6


def square(x: float, y: float, half: float) -> Corners:
    return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]


def person(point_id: int) -> Person:
    return Person("train", 1, point_id)


def kinds(report: Report) -> dict[str, list[int]]:
    """Points by kind of line."""
    found: dict[str, list[int]] = {}
    for line in report.lines:
        found.setdefault(line.kind, []).append(line.person.point_id if line.person else -1)
    return {kind: sorted(points) for kind, points in found.items()}


def in_image(world: World, key: str, corners: Corners) -> Json:
    """The RLE in the image of corners that were drawn in a shape's tile."""
    tile = world.manifest.tiles[world.tool.find(key)[0]]
    x0, y0 = tile.origin_xy
    return filled([(x + x0, y + y0) for x, y in corners], list(tile.image_hw))


@pytest.mark.parametrize("most", [0, 200, 5])
@pytest.mark.parametrize(("format_", "shapes"), KINDS)
def test_unchanged_is_no_change(
    world: MakeWorld, back: Path, format_: str, shapes: str, most: int
) -> None:
    run = world(format_, shapes).export(most=most)
    before = snapshot(run.out)
    assert len(run.manifest.tiles) == (6 if most == 5 else 2)
    for path in (run.tool.save(back), run.to):
        report = run.take(path)
        assert (report.lines, report.unchanged) == ([], SHAPES)
    assert snapshot(run.out) == before


@pytest.mark.parametrize(("format_", "shapes"), KINDS)
def test_unchanged_without_our_ids(world: MakeWorld, back: Path, format_: str, shapes: str) -> None:
    run = world(format_, shapes).export(most=5)
    tool = run.tool
    for tile in tool.tiles():
        for shape in tool.shapes(tile):
            tool.forget(shape)
    report = run.take(tool.save(back))
    assert (report.lines, report.unchanged) == ([], SHAPES)


@pytest.mark.parametrize("most", [200, 5])
@pytest.mark.parametrize(("format_", "shapes"), KINDS)
@pytest.mark.parametrize("ids", ["kept", "lost"])
def test_edits_are_exactly_those_changes(
    world: MakeWorld, back: Path, format_: str, shapes: str, most: int, ids: str
) -> None:
    run = world(format_, shapes).export(most=most)
    tool = run.tool
    tile = run.manifest.tiles[tool.find("train-1-5")[0]]
    x, y = (p - o for p, o in zip(run.people().seen_xy(5), tile.origin_xy, strict=True))
    drawn = square(x + 0.5, y + 1.25, 6.5)
    corrected = in_image(run, "train-1-5", drawn)
    tool.redraw(tool.find("train-1-5")[1], drawn)
    # Between four heads of the tile of point 0.
    new = run.manifest.tiles[tool.find("train-1-0")[0]]
    corners = square(37.5 - new.origin_xy[0], 39.0 - new.origin_xy[1], 5.0)
    added = in_image(run, "train-1-0", corners)
    tool.draw(new.name, corners)
    tool.delete("train-1-7")
    if ids == "lost":
        for name in tool.tiles():
            for shape in tool.shapes(name):
                tool.forget(shape)

    report = run.take(tool.save(back))

    assert kinds(report) == {"corrected": [5], "added": [ADDED_FROM], GONE: [7]}
    assert report.unchanged == SHAPES - 2
    latest = run.latest()
    assert set(latest) == {person(5), person(ADDED_FROM)}
    one, other = latest[person(5)], latest[person(ADDED_FROM)]
    assert (one.verdict, one.reviewer, one.point_xy) == ("corrected", "ada", None)
    assert (one.image, one.seen_xy) == ("images/a b.jpg", run.people().seen_xy(5))
    assert one.source == f"import:{format_}"
    assert (one.rle, other.rle, other.verdict) == (corrected, added, "added")
    assert other.point_xy is not None
    column, row = map(int, other.point_xy)
    assert pixels_of({"rle": other.rle})[row, column]


@pytest.mark.parametrize("absent", ["deleted", "rejected"])
@pytest.mark.parametrize(("format_", "shapes"), KINDS)
def test_a_gone_shape_means_what_the_user_says(
    world: MakeWorld, back: Path, format_: str, shapes: str, absent: str
) -> None:
    run = world(format_, shapes).export()
    tool = run.tool
    tool.delete("train-1-3")
    path = tool.save(back)
    assert kinds(run.take(path)) == {GONE: [3]}
    assert kinds(run.take(path, deleted=absent)) == {absent: [3]}
    assert run.latest()[person(3)].verdict == absent
    again = run.take(path, deleted=absent)
    assert (again.lines, again.already) == ([], 1)


@pytest.mark.parametrize(("format_", "shapes"), KINDS)
def test_a_tile_that_did_not_come_back_says_nothing(
    world: MakeWorld, back: Path, format_: str, shapes: str
) -> None:
    run = world(format_, shapes).export(most=5, split="train")
    tool = run.tool
    assert len(tool.tiles()) == 4
    if format_ == "labelme":
        tool.paths = tool.paths[:1]
    elif format_ == "cvat":
        first = tool.tiles()[0]
        tool.of_tile = {first: tool.shapes(first)}
    else:
        tool.tasks = tool.tasks[:1]
    report = run.take(tool.save(back), deleted="deleted")
    assert (report.lines, report.unchanged) == ([], 3)


def test_the_same_file_twice_changes_nothing(world: MakeWorld, back: Path) -> None:
    run = world().export()
    tool = run.tool
    tile, shape = tool.find("train-1-5")
    x, y = run.people().seen_xy(5)
    tool.redraw(shape, square(x, y, 6.0))
    tool.draw(tile, square(37.5, 39.0, 5.0))
    path = tool.save(back)
    first = run.take(path)
    assert first.changes == 2
    before = run.latest()
    second = run.take(path)
    assert (second.lines, second.already) == ([], 2)
    assert run.latest() == before


def test_a_person_without_a_mask_gets_the_shape_round_the_point(
    world: MakeWorld, back: Path
) -> None:
    run = world().export()
    tool = run.tool
    tile, _ = tool.find("train-1-0")
    tool.draw(tile, square(150.0, 60.0, 4.0))
    assert kinds(run.take(tool.save(back))) == {"corrected": [12]}


def test_corrected_and_added_persons_are_exported_as_they_stand(
    world: MakeWorld, back: Path
) -> None:
    run = world()
    mask = filled(square(20.0, 20.0, 4.0), [120, 160])
    new = filled(square(37.5, 39.0, 3.0), [120, 160])
    run.decide(person(0), "corrected", rle=mask)
    run.decide(person(ADDED_FROM), "added", rle=new, point_xy=(37.0, 39.0))
    run.decide(person(1), "deleted")
    run.decide(person(2), "rejected")
    run.export()
    tile = next(tile for tile in run.manifest.tiles.values() if tile.image_id == 1)
    counts = {one.point_id: one.counts for one in tile.persons}
    assert (counts[0], counts[ADDED_FROM]) == (mask["counts"], new["counts"])
    assert (1 in counts, counts[2]) == (False, None)
    tool = run.tool
    path = tool.save(back)
    assert run.take(path).lines == []
    tool.redraw(tool.find(f"train-1-{ADDED_FROM}")[1], square(37.0, 39.0, 4.0))
    assert kinds(run.take(tool.save(back))) == {"corrected": [ADDED_FROM]}
    latest = run.latest()[person(ADDED_FROM)]
    assert (latest.point_xy, latest.replaces is not None) == ((37.0, 39.0), True)


def test_a_shared_point_is_exported_once_it_has_a_mask_of_its_own(
    world: MakeWorld, back: Path
) -> None:
    run = world()
    run.export(split="train")
    (tile,) = run.manifest.tiles.values()
    assert 13 not in {one.point_id for one in tile.persons}
    # The shape of the site holds two points: its id is the site's, and without one so is the point.
    tool = run.tool
    _, shape = tool.find("train-1-0")
    tool.redraw(shape, square(20, 20, 6))
    tool.forget(shape)
    assert kinds(run.take(tool.save(back), dry_run=True)) == {"corrected": [0]}
    run.decide(person(13), "corrected", rle=filled(square(33, 20, 3), [120, 160]))
    run.to = run.to.with_name("again")
    run.export(split="train")
    (tile,) = run.manifest.tiles.values()
    assert 13 in {one.point_id for one in tile.persons}


def test_copies(world: MakeWorld, back: Path) -> None:
    """A copied shape keeps the id in labelme: the one that did not move is the person's."""
    run = world().export()
    tool = run.tool
    tile, shape = tool.find("train-1-0")
    away = {**shape, "points": [[x + 17.5, y + 18.6] for x, y in shape["points"]]}
    near = {**shape, "points": [[x + 1, y] for x, y in shape["points"]]}
    tool.shapes(tile).append(away)
    assert kinds(run.take(tool.save(back), dry_run=True)) == {"added": [ADDED_FROM]}
    tool.shapes(tile).remove(away)
    tool.shapes(tile).append(near)
    assert kinds(run.take(tool.save(back), dry_run=True)) == {UNMATCHED: [0]}
    shape["points"] = [[x - 1, y] for x, y in shape["points"]]
    assert kinds(run.take(tool.save(back), dry_run=True)) == {UNMATCHED: [0, 0]}


def test_parts_of_one_group_are_one_person(world: MakeWorld, back: Path) -> None:
    run = world().export()
    tool = run.tool
    tile, shape = tool.find("train-1-0")
    part = tool.draw(tile, square(37.5, 39.0, 3.0))
    part["group_id"] = shape["group_id"]
    assert kinds(run.take(tool.save(back))) == {"corrected": [0]}
    mask = pixels_of({"rle": run.latest()[person(0)].rle})
    assert mask[[20, 39], [20, 37]].all()
