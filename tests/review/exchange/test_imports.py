"""What an import refuses: conflicts, overlaps, broken shapes and files. Each is one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.records import read_record, record_path, write_record
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.exchange import files
from dpmo_cli.review.exchange.files import MANIFEST_FILE
from dpmo_cli.review.exchange.report import BROKEN, CONFLICT, NOTE, OVERLAP, UNMATCHED
from tests.outputs.samples import pixels_of
from tests.review.exchange.conftest import MakeWorld, World, snapshot
from tests.review.exchange.test_round_trips import kinds, person, square
from tests.review.exchange.tools import Json, filled

Edit = Callable[[Json], Any]


def redraw(run: World, point_id: int, half: float, dx: float = 0.0) -> Any:
    """The tool after a head of the first image became a square."""
    tool = run.tool
    x, y = run.people().seen_xy(point_id)
    tool.redraw(tool.find(f"train-1-{point_id}")[1], square(x + dx, y, half))
    return tool


def test_a_dry_run_touches_nothing(world: MakeWorld, back: Path) -> None:
    run = world().export()
    path = redraw(run, 5, 6.0).save(back)
    before = snapshot(run.out.parent)
    report = run.take(path, dry_run=True)
    assert kinds(report) == {"corrected": [5]}
    assert snapshot(run.out.parent) == before
    run.decide(person(0), "accepted")
    before = snapshot(run.out.parent)
    assert kinds(run.take(path, dry_run=True, deleted="deleted")) == {"corrected": [5]}
    assert snapshot(run.out.parent) == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_who_was_decided_on_since_is_left(world: MakeWorld, back: Path, dry_run: bool) -> None:
    run = world().export()
    tool = redraw(run, 5, 6.0)
    tool.delete("train-1-3")
    x, y = run.people().seen_xy(6)
    tool.redraw(tool.find("train-1-6")[1], square(x, y, 6.0))
    path = tool.save(back)
    run.decide(person(5), "accepted")
    run.decide(person(3), "rejected")
    run.decide(person(0), "accepted")
    report = run.take(path, deleted="deleted", dry_run=dry_run)
    assert kinds(report) == {CONFLICT: [3, 5], "corrected": [6]}
    (line,) = [str(line) for line in report.lines if line.person == person(5)]
    assert "shape" in line
    assert "accepted by eve since the export; look at it" in line
    assert run.latest()[person(5)].verdict == "accepted"
    assert (person(6) in run.latest()) is not dry_run


def test_who_decides_while_the_import_writes_wins(
    world: MakeWorld, back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world().export()
    path = redraw(run, 5, 6.0).save(back)
    really = Decisions.decide_many

    def late(self: Decisions, decisions: Any) -> Any:
        monkeypatch.setattr(Decisions, "decide_many", really)
        run.decide(person(5), "accepted")
        return self.decide_many(decisions)

    monkeypatch.setattr(Decisions, "decide_many", late)
    assert kinds(run.take(path)) == {CONFLICT: [5]}
    assert run.latest()[person(5)].reviewer == "eve"


@pytest.mark.parametrize("dry_run", [False, True])
def test_overlapping_masks_are_both_refused(world: MakeWorld, back: Path, dry_run: bool) -> None:
    run = world().export()
    tool = redraw(run, 0, 6.0)
    # 35 px to the right of the first; 30 px wide, it reaches into the first one's square.
    tool.redraw(tool.find("train-1-1")[1], [(24, 15), (60, 15), (60, 25), (24, 25)])
    tool.redraw(tool.find("train-1-2")[1], square(90, 20, 4))
    report = run.take(tool.save(back), dry_run=dry_run)
    assert kinds(report) == {OVERLAP: [0, 1], "corrected": [2]}
    first, second = (str(line) for line in report.lines[:2])
    assert "the mask of point 0 and the drawn one of point 1 share 20 px" in first
    assert "the mask of point 1 and the drawn one of point 0 share 20 px" in second
    assert set(run.latest()) == (set() if dry_run else {person(2)})


def test_what_stands_is_not_overlapped(world: MakeWorld, back: Path) -> None:
    run = world()
    run.decide(person(1), "corrected", rle=filled(square(55, 20, 6), [120, 160]))
    run.export()
    tool = run.tool
    tool.redraw(tool.find("train-1-0")[1], [(14, 15), (52, 15), (52, 25), (14, 25)])
    report = run.take(tool.save(back))
    assert kinds(report) == {OVERLAP: [0]}
    # Where the other gives the pixels up in the same file, all is well, in whatever order.
    tool.redraw(tool.find("train-1-1")[1], square(58, 20, 4))
    assert kinds(run.take(tool.save(back))) == {"corrected": [0, 1]}


def test_automatic_neighbours_yield(world: MakeWorld, back: Path) -> None:
    run = world().export()
    tool = run.tool
    tool.redraw(tool.find("train-1-0")[1], [(14, 15), (51, 15), (51, 25), (14, 25)])
    assert kinds(run.take(tool.save(back))) == {"corrected": [0]}
    neighbour = run.people().mask(1)
    assert neighbour is not None
    x0, y0 = neighbour.window_xyxy[:2]
    assert not neighbour.pixels[15 - y0 : 25 - y0, : 51 - x0].any()


def test_the_dataset_changed(world: MakeWorld, back: Path) -> None:
    run = world().export()
    tool = redraw(run, 5, 6.0)
    x, y = run.people().seen_xy(6)
    tool.redraw(tool.find("train-1-6")[1], square(x, y, 6.0))
    path = tool.save(back)
    records = record_path(run.out, "train", 1)
    record = read_record(records)
    rows = record.rows.to_pylist()
    rows[5]["x"] += 3.0
    moved = record.rows.from_pylist(rows, schema=record.rows.schema)
    write_record(records, type(record)(**{**vars(record), "rows": moved}))
    report = run.take(path, dry_run=True)
    assert kinds(report) == {CONFLICT: [5], "corrected": [6]}
    assert "point 5 has moved since the export" in str(report.lines[0])
    other = type(record.info)(**{**vars(record.info), "file_name": "images/z.jpg"})
    write_record(records, type(record)(**{**vars(record), "info": other}))
    report = run.take(path, dry_run=True)
    assert kinds(report) == {BROKEN: [-1]}
    assert "image 1 of train is images/z.jpg now, not images/a b.jpg; export again" in str(
        report.lines[0]
    )
    records.unlink()
    assert kinds(run.take(path, dry_run=True)) == {BROKEN: [-1]}


def test_a_mask_of_another_convert_is_replaced_with_a_note(world: MakeWorld, back: Path) -> None:
    run = world().export()
    path = redraw(run, 5, 6.0).save(back)
    records = record_path(run.out, "train", 1)
    record = read_record(records)
    rows = record.rows.to_pylist()
    rows[5]["rle"] = filled(square(55, 58, 3), [120, 160])
    again = record.rows.from_pylist(rows, schema=record.rows.schema)
    write_record(records, type(record)(**{**vars(record), "rows": again}))
    assert kinds(run.take(path)) == {"corrected": [5], NOTE: [-1]}


def test_label_studio_takes_the_latest_annotation(world: MakeWorld, back: Path) -> None:
    run = world("label-studio").export()
    path = redraw(run, 5, 6.0).save(back)
    tasks = json.loads(path.read_text())
    (task,) = (one for one in tasks if one["data"]["dpmo_tile"].startswith("train"))
    newest = task["annotations"][0]
    older = {**newest, "result": [], "updated_at": "2026-11-01T10:00:00Z"}
    skipped = {**older, "was_cancelled": True, "updated_at": "2026-11-09T10:00:00Z"}
    task["annotations"] = [newest, older, skipped]
    (other,) = (one for one in tasks if one is not task)
    other["annotations"][0]["was_cancelled"] = True
    path.write_text(json.dumps(tasks))
    report = run.take(path, deleted="deleted")
    assert kinds(report) == {NOTE: [-1, -1], "corrected": [5]}
    assert report.unchanged == 11


def test_masks_that_cvat_made_polygons_of_are_left(world: MakeWorld, back: Path) -> None:
    run = world("cvat", "masks").export(split="train")
    tool = run.tool
    for shape in tool.shapes("train_000001.jpg"):
        x, y, w, h = shape["bbox"]
        shape["segmentation"] = [[x + 1, y + 1, x + w - 1, y + 1, x + w - 1, y + h - 1]]
    report = run.take(tool.save(back), deleted="deleted")
    assert kinds(report) == {BROKEN: [-1]}
    assert "12 masks came back as polygons" in str(report.lines[0])


def test_shapes_that_nobody_can_be_told_of(world: MakeWorld, back: Path) -> None:
    run = world().export(split="train")
    tool = run.tool
    tool.draw(tool.find("train-1-0")[0], [(10, 10), (70, 10), (70, 30), (10, 30)])
    report = run.take(tool.save(back))
    assert kinds(report) == {UNMATCHED: [-1]}
    assert "it holds the point of 0, 1, who can't be told from it" in str(report.lines[0])


def test_a_shape_of_somebody_who_was_not_exported(world: MakeWorld, back: Path) -> None:
    run = world()
    run.export(split="train", only="flagged")
    exported = {one.point_id for tile in run.manifest.tiles.values() for one in tile.persons}
    assert exported == {0, 2, 4, 6, 8, 10, 12}
    tool = run.tool
    x, y = run.people().seen_xy(1)
    tool.draw("train_000001.jpg", square(x, y, 7.0))
    report = run.take(tool.save(back))
    assert kinds(report) == {UNMATCHED: [1]}
    assert "it is of point 1, whom this tile did not export" in str(report.lines[0])


FILES: dict[str, tuple[str, bytes, type[DpmoError], str]] = {
    "no JSON": ("x.json", b"{", InputError, "x.json: is no JSON"),
    "no UTF-8": ("x.json", b"\xff\xfe{}", InputError, "x.json: is not UTF-8"),
    "deep": ("x.json", b"[" * 100_000, InputError, "x.json: is no JSON"),
    "of nobody": ("x.json", b'{"a": 1}', UsageError, "fits no format"),
    "empty list": ("x.json", b"[]", UsageError, "fits no format"),
    "no archive": ("x.zip", b"PK\x03\x04", InputError, "x.zip: is no"),
    "missing": ("", b"", UsageError, "does not exist"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_none(world: MakeWorld, back: Path, case: str) -> None:
    name, content, error, problem = FILES[case]
    run = world().export()
    if name:
        (back / name).write_bytes(content)
    with pytest.raises(error, match=problem) as caught:
        run.take(back / (name or "none.json"))
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def test_one_bad_file_of_many_is_a_line(world: MakeWorld, back: Path) -> None:
    run = world().export()
    path = redraw(run, 5, 6.0).save(back)
    (back / "a.json").write_text("{")
    (back / "b.json").write_text('{"images": [], "annotations": []}')
    report = run.take(path)
    assert kinds(report) == {BROKEN: [-1, -1], "corrected": [5]}


def test_large_files_are_refused(
    world: MakeWorld, back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world("cvat").export()
    path = run.tool.save(back)
    monkeypatch.setattr(files, "MAX_ANNOTATION_BYTES", 1000)
    with pytest.raises(InputError, match="above the limit"):
        run.take(path)


def test_names_are_never_paths(world: MakeWorld, back: Path) -> None:
    """Traversal, absolute names and odd characters are looked up, not opened."""
    run = world("cvat").export(split="train")
    with zipfile.ZipFile(run.tool.save(back)) as archive:
        document = json.loads(archive.read("annotations/instances_default.json"))
    names = ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "\ud800\x1b[2J", "", "a\0b"]
    document["images"] = [
        {"id": number, "file_name": name, "width": 1, "height": 1}
        for number, name in enumerate(names, 1)
    ]
    with zipfile.ZipFile(back / "x.zip", "w") as archive:
        archive.writestr("../../evil.json", json.dumps(document))
    before = snapshot(back.parent)
    report = run.take(back / "x.zip")
    assert report.counts == {BROKEN: len(names)}
    assert all(str(line).isprintable() for line in report.lines)
    assert snapshot(back.parent) == before


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        pytest.param(lambda m: m.update(version=9), "version", id="version"),
        pytest.param(lambda m: m.update(tiles={}), "no list", id="tiles"),
        pytest.param(lambda m: m["tiles"].append(m["tiles"][0]), "one name", id="twice"),
        pytest.param(lambda m: m["tiles"][0].update(origin_xy=[5, 0]), "inside", id="origin"),
        pytest.param(lambda m: m["tiles"][0].update(size_hw=[0, 0]), "inside", id="size"),
        pytest.param(lambda m: m["tiles"][0]["persons"][0].update(counts="zz"), "run", id="counts"),
        pytest.param(lambda m: m["tiles"][0].pop("split"), "split", id="split"),
    ],
)
def test_damaged_manifests(world: MakeWorld, edit: Callable[[Json], Any], problem: str) -> None:
    run = world().export()
    path = run.to / MANIFEST_FILE
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=problem):
        run.take(run.to)


def test_a_manifest_leads_nowhere_else(world: MakeWorld) -> None:
    run = world().export(split="train")
    path = run.to / MANIFEST_FILE
    text = path.read_text().replace('"split":"train"', '"split":"../../../train"')
    path.write_text(text)
    report = run.take(run.to, dry_run=True)
    assert kinds(report) == {BROKEN: [-1]}
    assert "holds '..'" in str(report.lines[0])


def test_the_manifest_is_found_above_the_file(world: MakeWorld, back: Path) -> None:
    run = world("cvat").export()
    path = run.to / "annotations" / "instances_default.json"
    assert run.take(path, manifest=None).unchanged == 18
    with pytest.raises(UsageError, match="name the export's with --manifest"):
        run.take(run.tool.save(back), manifest=None)


def test_the_new_point_is_inside_and_of_the_image(world: MakeWorld, back: Path) -> None:
    run = world("cvat", "masks").export(most=5, split="train")
    tool = run.tool
    name = tool.tiles()[-1]
    tile = run.manifest.tiles[name]
    x, y = 37.5 - tile.origin_xy[0], 77.0 - tile.origin_xy[1]
    ring = [*square(x, y, 6), (x - 6, y - 6), (x - 3, y - 3), (x - 3, y + 3), (x + 3, y + 3),
            (x + 3, y - 3), (x - 3, y - 3)]  # fmt: skip
    tool.draw(name, ring)
    report = run.take(tool.save(back))
    assert kinds(report) == {"added": [ADDED_FROM]}
    decision = run.latest()[Person("train", 1, ADDED_FROM)]
    assert decision.point_xy is not None
    column, row = (int(value) for value in decision.point_xy)
    pixels = pixels_of({"rle": decision.rle})
    assert pixels[row, column]
    assert not pixels[77, 37]
    assert np.argwhere(pixels).min(axis=0).tolist() == [71, 32]
