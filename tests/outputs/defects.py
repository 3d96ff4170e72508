"""Defects of a run, and the code by which each is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpmo_cli.outputs.schema import POINT_SCHEMA, QUEUE_SCHEMA
from tests.outputs.samples import (
    Row,
    counts_of_runs,
    make_record,
    mask_columns,
    pixels_of,
    sample_records,
    write_run,
)

COCO = "annotations/train.json"
POINTS = "points/train.parquet"
QUEUE = "review/queue.parquet"
Plant = Callable[[Path], object]


def edit_json(name: str, change: Callable[[Row], object]) -> Plant:
    def plant(out: Path) -> None:
        document = json.loads((out / name).read_text(encoding="utf-8"))
        change(document)
        (out / name).write_text(json.dumps(document), encoding="utf-8")

    return plant


def edit_annotation(change: Callable[[Row], object], index: int = 0) -> Plant:
    return edit_json(COCO, lambda document: change(document["annotations"][index]))


def edit_table(name: str, change: Callable[[list[Row]], object]) -> Plant:
    def plant(out: Path) -> None:
        rows = pq.read_table(out / name).to_pylist()
        schema = QUEUE_SCHEMA if name == QUEUE else POINT_SCHEMA
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / name)

    return plant


def edit_rows(change: Callable[[list[Row]], object], extent: str = "nnec") -> Plant:
    """Change the rows of the first image and write all files from them: they agree in the error."""

    def plant(out: Path) -> None:
        records = sample_records()
        rows = records[0].rows.to_pylist()
        change(rows)
        records[0] = make_record(records[0].info, rows)
        write_run(out, records, extent)

    return plant


def write(name: str, text: str) -> Plant:
    return lambda out: (out / name).write_text(text)


def remove(name: str) -> Plant:
    return lambda out: (out / name).unlink()


def set_of(key: str, value: object) -> Callable[[Row], object]:
    return lambda item: item.update({key: value})


def set_attribute(key: str, value: object) -> Callable[[Row], object]:
    return lambda item: item["attributes"].update({key: value})


def set_row(index: int, **values: object) -> Callable[[list[Row]], object]:
    return lambda rows: rows[index].update(values)


def set_rle(**values: object) -> Plant:
    return edit_rows(lambda rows: rows[2]["rle"].update(values))


def set_count(name: str, value: object) -> Plant:
    return edit_json("run.json", lambda run: run["counts"].update({name: value}))


def set_pixel(rows: list[Row], point: int, x: int, y: int, value: bool = True) -> None:
    """Add a pixel to a mask or take it away, area and box included."""
    mask = pixels_of(rows[point])
    assert mask[y, x] != value
    mask[y, x] = value
    rows[point].update(mask_columns(mask))


def overlap(rows: list[Row]) -> None:
    """Give the first point's mask one pixel of the second's, inside both discs."""
    x, y = np.meshgrid(np.arange(56), np.arange(40))
    both = pixels_of(rows[1]) & (np.hypot(x - 9.4, y - 8.0) < 6)
    row, column = np.argwhere(both)[0]
    set_pixel(rows, 0, int(column), int(row))
    rows[3].update({name: rows[0][name] for name in ("bbox", "area", "rle")})


def drop_point(out: Path) -> None:
    """Lose a point without a mask in both tables."""
    edit_table(POINTS, lambda rows: rows.pop(4))(out)
    edit_table(QUEUE, lambda rows: rows.remove(next(row for row in rows if row["x"] == -3)))(out)


def swap_points(out: Path) -> None:
    edit_table(POINTS, lambda rows: rows.insert(4, rows.pop(6)))(out)


def rename_rows(out: Path) -> None:
    for name in (POINTS, QUEUE):
        edit_table(
            name,
            lambda rows: [
                row.update(image="z")
                for row in rows
                if (row["image_id"], row["point_id"]) == (1, 1)
            ],
        )(out)


def lose_queue_point(rows: list[Row]) -> None:
    rows.pop()


def swap(rows: list[Row]) -> None:
    rows[-1], rows[-2] = rows[-2], rows[-1]


def drop_image(document: Row) -> None:
    document["images"] = [image for image in document["images"] if image["id"] != 2]


def move_to_the_end(document: Row) -> None:
    document["annotations"].append(document["annotations"].pop(0))


def repeat_id(document: Row) -> None:
    document["annotations"][-1]["id"] = document["annotations"][0]["id"]


def add_to_unknown_image(document: Row) -> None:
    document["annotations"].append({**document["annotations"][0], "id": 42, "image_id": 5})


def add_unnamed(document: Row) -> None:
    one = json.loads(json.dumps(document["annotations"][0]))
    one.update(id=42, image_id=3, **mask_columns(np.ones((5, 4), bool)))
    one["segmentation"] = one.pop("rle")
    one["attributes"].update(point=[1, 1], point_id=0)
    document["annotations"].append(one)


def parquet_without(name: str, column: str) -> Plant:
    def plant(out: Path) -> None:
        pq.write_table(pq.read_table(out / name).drop_columns([column]), out / name)

    return plant


def folder_for_file(name: str) -> Plant:
    def plant(out: Path) -> None:
        (out / name).unlink()
        (out / name).mkdir()

    return plant


def replaced(name: str, old: bytes, new: bytes) -> Plant:
    def plant(out: Path) -> None:
        data = (out / name).read_bytes()
        assert old in data
        (out / name).write_bytes(data.replace(old, new, 1))

    return plant


def cut(name: str, last: int) -> Plant:
    return lambda out: (out / name).write_bytes((out / name).read_bytes()[:last])


SPLIT_COUNTS: Plant = edit_json(
    "run.json", lambda run: run["splits"]["test"]["counts"].update(images=7)
)
WAY_OUT: Plant = edit_json("run.json", lambda run: run["splits"].update({"../x": {"counts": {}}}))
BIG = {"id": 77, "file_name": "x", "width": 0, "height": 3}

DEFECTS: dict[str, tuple[Plant, str]] = {
    # The run.
    "no run.json": (remove("run.json"), "V001"),
    "run.json is cut": (write("run.json", '{"version": 1,'), "V001"),
    "run.json is a list": (write("run.json", "[]"), "V001"),
    "run.json is nested too deep": (write("run.json", "[" * 100_000), "V001"),
    "run.json is no text": (replaced("run.json", b"{", b"\xff"), "V001"),
    "run.json is a folder": (folder_for_file("run.json"), "V001"),
    "another version": (edit_json("run.json", set_of("version", 99)), "V001"),
    "no extent": (edit_json("run.json", set_of("extent", None)), "V001"),
    "splits are a list": (edit_json("run.json", set_of("splits", ["train"])), "V001"),
    "a split's name leads out": (WAY_OUT, "V001"),
    "no annotations": (remove(COCO), "V002"),
    "no points": (remove(POINTS), "V002"),
    "no queue": (remove(QUEUE), "V002"),
    "annotations of another run": (write("annotations/old.json", "{}"), "V003"),
    "points of another run": (write("points/old.parquet", ""), "V003"),
    "a second queue": (write("review/old.parquet", ""), "V003"),
    "points miscounted": (set_count("points", 1), "V004"),
    "masks miscounted": (set_count("masks", 0), "V004"),
    "failures miscounted": (set_count("failed_images", 0), "V004"),
    "a status miscounted": (set_count("by_status", {"ok": 9}), "V004"),
    "a count that is none": (set_count("points", "15"), "V004"),
    "a split's images miscounted": (SPLIT_COUNTS, "V004"),
    # Annotations by themselves.
    "annotations cut": (cut(COCO, 900), "V010"),
    "annotations empty": (write(COCO, ""), "V010"),
    "annotations no text": (replaced(COCO, b"nnec", b"\xff"), "V010"),
    "annotations hold NaN": (edit_annotation(set_of("score", float("nan"))), "V010"),
    "annotations nested too deep": (write(COCO, '{"images": ' + "[" * 100_000), "V010"),
    "annotations are a folder": (folder_for_file(COCO), "V010"),
    "an image without a size": (edit_json(COCO, lambda d: d["images"].append({"id": 77})), "V011"),
    "an image without pixels": (edit_json(COCO, lambda d: d["images"].append(BIG)), "V011"),
    "an annotation without a point": (
        edit_annotation(lambda a: a["attributes"].pop("point")),
        "V012",
    ),
    "an annotation that is a number": (
        edit_json(COCO, lambda d: d["annotations"].append(3)),
        "V012",
    ),
    "an area as text": (edit_annotation(set_of("area", "12")), "V012"),
    "an id of 80 bits": (edit_annotation(set_of("id", 1 << 80)), "V012"),
    "an infinite radius": (replaced(COCO, b'"radius_px":6.0', b'"radius_px":1e999'), "V012"),
    "a polygon": (edit_annotation(set_of("segmentation", [[0, 0, 1, 1, 0, 1]])), "V012"),
    "an image twice": (edit_json(COCO, lambda d: d["images"].append(d["images"][0])), "V013"),
    "an annotation id twice": (edit_json(COCO, repeat_id), "V014 V034 V037"),
    "an annotation of no image": (edit_json(COCO, add_to_unknown_image), "V015 V037 V004"),
    "an image that is not listed": (edit_json(COCO, drop_image), "V015 V038 V004"),
    "annotations not by image": (edit_json(COCO, move_to_the_end), "V016 V034"),
    "another category": (edit_annotation(set_of("category_id", 2)), "V017"),
    "a crowd": (edit_annotation(set_of("iscrowd", 1)), "V017"),
    "another extent": (edit_annotation(set_attribute("extent", "head")), "V018"),
    # Masks: all files agree in the error.
    "an RLE of another size": (set_rle(size=[56, 40]), "V020"),
    "an RLE of a larger image": (set_rle(size=[40, 57]), "V020"),
    "an empty RLE": (set_rle(counts=""), "V021"),
    "an RLE with strange letters": (set_rle(counts="\x01é~"), "V021"),
    "an RLE that stops within a number": (set_rle(counts="o"), "V021"),
    "runs that do not fill the image": (set_rle(counts=counts_of_runs([100, 20, 30])), "V021"),
    "a negative run": (set_rle(counts=counts_of_runs([2240, 32, -32])), "V021"),
    "runs that overflow": (set_rle(counts=counts_of_runs([2240, 1 << 63, 1 << 63])), "V021"),
    "an area too large": (edit_rows(set_row(2, area=999)), "V022"),
    "an area of no pixel": (edit_rows(set_row(2, area=0)), "V022"),
    "a box moved": (edit_rows(set_row(2, bbox=[0.0, 24.0, 13.0, 13.0])), "V023"),
    "two masks share a pixel": (edit_rows(overlap), "V024"),
    "a pixel right of the disc": (edit_rows(lambda rows: set_pixel(rows, 2, 27, 30)), "V025"),
    "a pixel across the disc": (edit_rows(lambda rows: set_pixel(rows, 2, 15, 26)), "V025"),
    "a pixel in the last row": (edit_rows(lambda rows: set_pixel(rows, 2, 20, 39)), "V025"),
    "a smaller disc": (edit_rows(set_row(2, radius_px=4.0)), "V025"),
    "a hole at the point": (
        edit_rows(lambda rows: set_pixel(rows, 2, 20, 30, value=False)),
        "V026",
    ),
    "a mask of no pixel": (
        edit_rows(lambda rows: rows[2].update(mask_columns(np.zeros((40, 56), bool)))),
        "V026",
    ),
    # Points.
    "points no Parquet": (write(POINTS, "PAR1"), "V030"),
    "points cut": (cut(POINTS, -50), "V030"),
    "points damaged": (lambda out: (out / POINTS).write_bytes(b"PAR1" + bytes(99)), "V030"),
    "points of another schema": (parquet_without(POINTS, "reasons"), "V031"),
    "a point lost": (drop_point, "V032 V004"),
    "points of an image swapped": (swap_points, "V032"),
    "a row of another image": (rename_rows, "V032"),
    "an unknown status": (edit_rows(set_row(4, status="lost")), "V033"),
    "no annotation for a mask": (edit_rows(set_row(3, annotation_id=None)), "V034 V044"),
    "an annotation that is not there": (edit_rows(set_row(3, annotation_id=123_456)), "V034"),
    "an annotation without a mask": (edit_rows(set_row(6, annotation_id=100_000)), "V035 V044"),
    "a source that is none": (edit_rows(set_row(1, source="bot", reviewer="ada")), "V039"),
    "an automatic mask with a reviewer": (edit_rows(set_row(1, reviewer="ada")), "V039 V036"),
    "an accepted mask of nobody": (edit_rows(set_row(1, source="accepted")), "V039"),
    "an added person of the dataset": (
        edit_rows(set_row(1, source="added", reviewer="ada")),
        "V039",
    ),
    "a source without a mask": (edit_rows(set_row(6, source="auto")), "V039"),
    "a person deleted by nobody": (edit_rows(set_row(6, status="deleted")), "V039"),
    "an added person before those of the dataset": (
        edit_rows(lambda rows: rows.insert(0, rows.pop(6) | {"point_id": 500_000})),
        "V032 V036",
    ),
    "a source that only the annotation names": (
        edit_annotation(set_attribute("source", "corrected")),
        "V036",
    ),
    "a reviewer that only the annotation names": (
        edit_annotation(set_attribute("reviewer", "ada")),
        "V036",
    ),
    "a mask without radius": (edit_annotation(set_attribute("radius_px", None)), "V012"),
    "a point elsewhere": (edit_annotation(set_attribute("point", [9.4, 8.0000005])), "V036"),
    "another radius": (edit_annotation(set_attribute("radius_px", 6.25)), "V036"),
    "the point that shares the mask": (edit_annotation(set_attribute("point_id", 3)), "V036"),
    "a point id out of range": (edit_annotation(set_attribute("point_id", -900)), "V036"),
    "an annotation that no row names": (edit_json(COCO, add_unnamed), "V037 V004"),
    "an image under another name": (
        edit_json(COCO, lambda document: document["images"][0].update(file_name="z.jpg")),
        "V038",
    ),
    # The queue.
    "queue no Parquet": (write(QUEUE, "PAR1"), "V040"),
    "queue of another schema": (parquet_without(QUEUE, "flagged"), "V041"),
    "queue without a point": (edit_table(QUEUE, lambda rows: rows.pop()), "V042"),
    "queue with a point twice": (edit_table(QUEUE, lambda rows: rows.append(rows[-1])), "V042"),
    "queue with another value": (edit_table(QUEUE, set_row(0, y=0.125)), "V042"),
    "queue with other reasons": (edit_table(QUEUE, set_row(0, reasons=["new"])), "V042"),
    "queue with another split": (
        edit_table(QUEUE, lambda rows: rows.append({**rows[-1], "score": 2.0, "split": "val"})),
        "V042",
    ),
    "queue in another order": (edit_table(QUEUE, swap), "V043"),
    "queue with another area": (edit_table(QUEUE, set_row(-1, area=3)), "V044"),
    "queue without a mask": (edit_table(QUEUE, set_row(-1, rle=None)), "V044"),
    "queue of another dataset": (edit_table(QUEUE, set_row(0, dataset="jhu")), "V045"),
    "no snapshot of decisions": (write("review/corrections.parquet", "no table"), "V050"),
    "a folder for the snapshot": (lambda out: (out / "review/corrections.parquet").mkdir(), "V050"),
}
