"""Thirty real crowds: the order of points, the chunks and the shards do not change the masks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask

from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.masks.method import NEGATIVES, Method
from dpmo_cli.outputs.coco import iter_coco
from dpmo_cli.outputs.validate import validate_run
from dpmo_cli.pipeline.convert import run_job
from dpmo_cli.pipeline.job import Job
from dpmo_cli.pipeline.merge import merge_runs
from dpmo_cli.pipeline.plan import Selection, Shard
from dpmo_cli.pipeline.settings import Settings
from dpmo_cli.sam.models import load_engine, resolve_engine
from tests.conftest import tree

CROWDS = Path(__file__).parents[2].parent / "shared/data/ShanghaiTech/part_A_final"
IMAGES = 30
FLIPPED_PER_PIXEL = 1e-6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not CROWDS.is_dir(), reason="needs ../shared/data/ShanghaiTech"),
]


def make_root(folder: Path, shuffle: bool) -> Path:
    """Every tenth image of the part as a csv dataset, its points in order or shuffled."""
    dataset = open_dataset("shanghaitech-a", CROWDS)
    rng = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "points.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "x", "y"])
        for entry in list(dataset.entries("train"))[:: 300 // IMAGES]:
            shutil.copy(entry.image_path, folder)
            points_xy = dataset.read_heads(entry).points_xy
            order = rng.permutation(len(points_xy)) if shuffle else np.arange(len(points_xy))
            for x, y in points_xy[order].tolist():
                writer.writerow([entry.image_path.name, repr(x), repr(y)])
    return folder


def convert(root: Path, out: Path, batch: int | None = None, shard: Shard | None = None) -> Path:
    spec = resolve_engine("nano", device="cpu", prompt_batch=batch)
    settings = Settings(
        dataset="csv",
        extent="nnec",
        sam="nano",
        weights_sha256=spec.weights_sha256,
        device="cpu",
        dtype="fp32",
        prompt_batch=batch,
        nnec_scale=1.0,
        tiles="auto",
        negatives=NEGATIVES["nano"],
        radii="nearest",
        ownership="logit",
    )
    method = Method(negatives=settings.negatives)
    selection = Selection(("all",), None, shard)
    job = Job(
        open_dataset("csv", root), out, settings, method, selection, lambda: load_engine(spec),
        quiet=True,
    )  # fmt: skip
    assert run_job(job).exit_code == 0
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("crowds")
    root = make_root(folder / "root", shuffle=False)
    return root, convert(root, folder / "out")


def masks_by_place(out: Path) -> dict[tuple[int, float, float], str]:
    return {
        (one["image_id"], *one["attributes"]["point"]): one["segmentation"]["counts"]
        for kind, one in iter_coco(out / "annotations/all.json")
        if kind == "annotations"
    }


def test_run_is_valid(plain: tuple[Path, Path]) -> None:
    assert validate_run(plain[1]) == []
    assert json.loads((plain[1] / "run.json").read_text())["counts"]["images"] == IMAGES


def test_shuffled_points_give_the_same_masks(plain: tuple[Path, Path], tmp_path: Path) -> None:
    shuffled = convert(make_root(tmp_path / "root", shuffle=True), tmp_path / "out")
    assert masks_by_place(shuffled) == masks_by_place(plain[1])


def test_other_chunks_give_the_same_rows(plain: tuple[Path, Path], tmp_path: Path) -> None:
    other = convert(plain[0], tmp_path / "out", batch=3)
    tables = [pq.read_table(out / "points/all.parquet") for out in (plain[1], other)]
    exact = ["image", "point_id", "x", "y", "radius_px", "status", "annotation_id"]
    assert tables[0].select(exact) == tables[1].select(exact)
    for name in ("predicted_iou", "stability", "retained", "score"):
        one, two = (np.array(table[name].to_pylist(), dtype=float) for table in tables)
        np.testing.assert_allclose(one, two, atol=1e-5, rtol=0)
    flipped = pixels = 0
    mine, theirs = masks_by_place(plain[1]), masks_by_place(other)
    sizes = {
        one["id"]: [one["height"], one["width"]]
        for kind, one in iter_coco(other / "annotations/all.json")
        if kind == "images"
    }
    assert mine.keys() == theirs.keys()
    for place, counts in mine.items():
        pair = [{"size": sizes[place[0]], "counts": c.encode()} for c in (counts, theirs[place])]
        pixels += int(coco_mask.area(pair[0]))
        if counts != theirs[place]:
            both = coco_mask.area(coco_mask.merge(pair, intersect=True))
            flipped += int(sum(coco_mask.area(one) for one in pair) - 2 * both)
    assert flipped < FLIPPED_PER_PIXEL * pixels


def test_shards_merge_to_the_same_bytes(plain: tuple[Path, Path], tmp_path: Path) -> None:
    parts = [convert(plain[0], tmp_path / str(index), shard=Shard(index, 3)) for index in (1, 2, 3)]
    merge_runs(parts, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(plain[1])
