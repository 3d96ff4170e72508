"""Writing the files of a run: memory does not grow with the number of masks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dpmo_cli.outputs.records import ImageInfo, ImageRecord
from dpmo_cli.outputs.schema import RECORD_SCHEMA, annotation_id
from dpmo_cli.pipeline.settings import Settings
from dpmo_cli.pipeline.store import Manifest, Store

SETTINGS = Settings(
    "csv", "nnec", "nano", "0" * 64, "cpu", "fp32", None, 1.0, "auto", 0, "nearest", "logit"
)
POINTS_PER_IMAGE = 500
WRITE = """
import resource, sys
from pathlib import Path
from dpmo_cli.pipeline.finish import tally, write_outputs
from dpmo_cli.pipeline.store import Store
with Store(Path(sys.argv[1])) as store:
    tally(store)
    write_outputs(store, store.manifest("train").settings)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
LIMIT_KB = 80_000
"""A row group, which 2,000 points do not fill, and 40 bytes a point."""


def _write_records(out: Path, points: int) -> None:
    """Records of so many masks with run lengths of 80 characters, in random order of scores."""
    rng = np.random.default_rng(points)
    row = {
        "image": "", "image_id": 0, "point_id": 0, "x": 1.5, "y": 2.5, "radius_px": 3.0,
        "status": "ok", "reasons": ["tiny"], "predicted_iou": 0.5, "stability": 0.5,
        "retained": 0.5, "score": 0.0, "annotation_id": 0, "bbox": [0.0, 0.0, 3.0, 3.0],
        "area": 9, "rle": {"size": [768, 1024], "counts": "0" * 80}, "flagged": True,
        "source": "auto",
    }  # fmt: skip
    blank = pa.Table.from_pylist([row] * POINTS_PER_IMAGE, schema=RECORD_SCHEMA)
    records = {}
    with Store(out) as store:
        for image_id in range(1, points // POINTS_PER_IMAGE + 1):
            name = f"{image_id}.jpg"
            columns = {
                "image": [name] * POINTS_PER_IMAGE,
                "image_id": [image_id] * POINTS_PER_IMAGE,
                "point_id": list(range(POINTS_PER_IMAGE)),
                "score": rng.random(POINTS_PER_IMAGE, dtype=np.float32),
                "annotation_id": [annotation_id(image_id, one) for one in range(POINTS_PER_IMAGE)],
            }
            rows = blank
            for column, values in columns.items():
                index = RECORD_SCHEMA.get_field_index(column)
                array = pa.array(values, RECORD_SCHEMA.field(index).type)
                rows = rows.set_column(index, RECORD_SCHEMA.field(index), array)
            store.write_record(ImageRecord(ImageInfo(image_id, "train", name, 1024, 768), rows))
            records[image_id] = ""
        store.write_manifest("train", Manifest(SETTINGS, None, None, "", records))


def _peak_kb(out: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return int(subprocess.check_output([sys.executable, "-c", WRITE, str(out)], env=environment))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in kB is Linux's")
def test_memory_does_not_grow_with_the_masks(tmp_path: Path) -> None:
    peaks = []
    for points in (2_000, 200_000):
        out = tmp_path / str(points)
        _write_records(out, points)
        peaks.append(_peak_kb(out))
    assert peaks[1] - peaks[0] < LIMIT_KB, peaks
