"""`dpmo evaluate masks` on runs made by hand and by `dpmo convert`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpmo_cli.outputs.records import ImageRecord
from tests.conftest import Crowd, Dpmo, FakeEngine
from tests.outputs.samples import make_info, make_record, make_rows, pixels_of, write_run

TRAIN = [(9.4, 8.0), (14.2, 9.5), (20, 30), (9.4, 8.0), (-3, 5), (39.9, 20.5), (50, 9), (30, 5)]
SIZE = (40, 56)


def records() -> list[ImageRecord]:
    """Two images of train, one of them failed, and two of test; each with its oddities."""
    first = make_info(1, "train", "train/images/a.jpg", SIZE)
    second = make_info(2, "train", "train/images/b.jpg", (33, 47))
    failed = make_info(3, "train", "train/images/c.jpg", None)
    test = make_info(1, "test", "test/images/a.jpg", (64, 30))
    rows = make_rows(
        first, TRAIN, statuses={4: "outside", 6: "empty", 7: "occluded"}, shares={3: 0}
    )
    for row in rows[:4]:
        x, y = row["x"], row["y"]
        row["head_box_xyxy"] = [x - 5, y - 5, x + 5, y + 5]
    rows[7]["head_box_xyxy"] = [27.0, 2.0, 33.0, 8.0]
    return [
        make_record(first, rows),
        make_record(second, make_rows(second, [(4.0, 4.0), (46.4, 32.2), (24, 0)], seed=1)),
        make_record(failed, make_rows(failed, [(1, 2)], statuses={0: "failed"}), "torn"),
        make_record(test, make_rows(test, [(10, 20), (20, 61)], seed=2)),
    ]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_run(tmp_path / "out", records())


def change_run(out: Path, **changes: Any) -> None:
    run = json.loads((out / "run.json").read_text())
    run["splits"]["train"].update(changes)
    (out / "run.json").write_text(json.dumps(run))


def label_map(out: Path, split: str, image_id: int, size_hw: tuple[int, int]) -> Any:
    """The masks of an image of the run as a label map."""
    document = json.loads((out / "annotations" / f"{split}.json").read_text())
    labels = np.zeros(size_hw, np.uint8)
    of_image = [one for one in document["annotations"] if one["image_id"] == image_id]
    for value, one in enumerate(of_image, start=1):
        labels[pixels_of({"rle": one["segmentation"]})] = value
    return labels


def save_labels(out: Path, folder: Path, *images: tuple[str, str, int, tuple[int, int]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, split, image_id, size_hw in images:
        Image.fromarray(label_map(out, split, image_id, size_hw)).save(folder / f"{name}.png")
    return folder


PERFECT = ("iou_per_point", "boundary_f", "mean_iou_c", "pq", "sq", "rq", "precision", "ap", "ap50")


def test_a_run_against_its_own_masks(out: Path, dpmo: Dpmo) -> None:
    truth = out / "annotations" / "train.json"
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth, "--split", "train", "--json")
    assert done.code == 0, done.stderr
    found = done.json
    assert (found["version"], found["kind"]) == (1, "evaluate-masks")
    assert (found["against"], found["extent"], found["headline"]) == ("masks", "nnec", "cut")
    assert (found["images"], found["points"]) == (2, 11)
    counts = {key: value for key, value in found.items() if key.startswith("points_")}
    assert counts == {
        "points_with_truth": 8,
        "points_off_truth": 2,
        "points_outside": 1,
        "points_without_mask": 0,
        "points_occluded": 1,
    }
    assert (found["detections"], found["instances"]) == (7, 7)
    for name in PERFECT:
        assert found["uncut"]["figures"][name] == {"value": 1.0, "low": 1.0, "high": 1.0}, name
    assert done.stderr == ""


def test_the_table(out: Path, dpmo: Dpmo) -> None:
    command = ("evaluate", "masks", "--pred", out, "--split", "train", "--samples", "50")
    done = dpmo(*command, "--truth", out / "annotations" / "train.json", "--seed", "3")
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 images, extent nnec: 11 points, 8 on true instances (0 of them")
    assert any(line.split() == ["truth", "cut", "*", "truth", "uncut"] for line in lines)
    assert any(line.startswith("PQ ") and "1.000 [1.000, 1.000]" in line for line in lines)
    assert "* the headline for the extent nnec" in done.stdout
    assert "from 50 resamples of the images, seed 3" in done.stdout
    assert lines[-1] == "left out: 1 occluded point"
    assert all(len(line) < 130 for line in lines)


@pytest.mark.parametrize(("extent", "headline"), [("visible", "uncut"), ("head", "uncut")])
def test_the_headline(tmp_path: Path, dpmo: Dpmo, extent: str, headline: str) -> None:
    out = write_run(tmp_path / "out", records(), extent)
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", out / "annotations/test.json",
                "--split", "test", "--samples", 0, "--json")  # fmt: skip
    assert (done.json["headline"], done.json["samples"]) == (headline, 0)
    assert done.json["cut"]["figures"]["pq"]["low"] is None


def test_images_that_only_the_run_has(out: Path, dpmo: Dpmo) -> None:
    truth = save_labels(out, out.parent / "truth", ("b", "train", 2, (33, 47)))
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth, "--json")
    assert done.json["images_left_out"] == 2
    assert done.json["uncut"]["figures"]["pq"]["value"] == 1
    assert done.lines == ["dpmo: left out: 2 images of the run that the truth does not have"]
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth, "-q")
    assert (done.code, done.stderr) == (0, "")


def test_images_of_other_splits(out: Path, dpmo: Dpmo) -> None:
    truth = out.parent / "truth"
    save_labels(out, truth / "train/images", ("a", "train", 1, SIZE), ("b", "train", 2, (33, 47)))
    save_labels(out, truth / "test/images", ("a", "test", 1, (64, 30)))
    command = ("evaluate", "masks", "--pred", out, "--truth", truth, "--json")
    found = dpmo(*command).json
    assert (found["images"], found["truth_images_left_out"]) == (3, 0)
    done = dpmo(*command, "--split", "test")
    assert (done.json["images"], done.json["truth_images_left_out"]) == (1, 2)
    assert done.lines == ["dpmo: left out: 2 images of the truth in other splits"]


@pytest.mark.parametrize("changes", [{"limit": 2}, {"shard": "1/2"}, {}])
def test_images_that_only_the_truth_has(out: Path, dpmo: Dpmo, changes: dict[str, Any]) -> None:
    images = [("b", "train", 2, (33, 47)), ("z", "train", 1, SIZE)]
    truth = save_labels(out, out.parent / "truth", *images)
    change_run(out, **changes)
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth, "--split", "train", "--json")
    if changes:
        assert (done.json["images"], done.json["truth_images_left_out"]) == (1, 1)
        assert "left out: 1 image of the truth beyond the run's limit or shard" in done.stderr
    else:
        assert done.code == 1
        (line,) = done.lines
        assert line == (
            f"dpmo: error: {truth / 'z.png'}: the run has no such image; convert it too, or take "
            "it out of the truth"
        )


def test_head_boxes(out: Path, dpmo: Dpmo) -> None:
    command = ("evaluate", "masks", "--pred", out, "--split", "train")
    done = dpmo(*command, "--truth", "boxes", "--json")
    found = done.json
    assert (found["against"], found["headline"]) == ("boxes", None)
    # The occluded head has a box, but nothing to be seen in it.
    assert (found["points_with_box"], found["points_occluded"]) == (4, 1)
    assert found["images_left_out"] == 1
    assert done.lines == ["dpmo: left out: 1 image of the run that failed"]
    for name in ("containment", "fit", "cover"):
        figure = found["figures"][name]
        assert 0.5 < figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert "containment" in dpmo(*command, "--truth", "boxes").stdout
    rows = pq.read_table(out / "points" / "train.parquet").to_pylist()
    boxes = [
        {"id": n, "image_id": 1, "bbox": [x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0]}
        for n, row in enumerate(rows)
        if row["head_box_xyxy"]
        for x0, y0, x1, y1 in [row["head_box_xyxy"]]
    ]
    image = {"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
    (out.parent / "boxes.json").write_text(json.dumps({"images": [image], "annotations": boxes}))
    again = dpmo(*command, "--truth", out.parent / "boxes.json", "--json").json
    # Two boxes hold one point: the smallest, of equal ones the first.
    assert (again["against"], again["images"], again["points_with_box"]) == ("boxes", 1, 4)
    assert again["images_left_out"] == 1


def test_no_head_boxes(out: Path, dpmo: Dpmo) -> None:
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", "boxes", "--split", "test", "-q")
    assert done.code == 2
    assert done.lines == [
        f"dpmo: error: --pred {out}: none of its points has a head box in its image; "
        "give true masks with --truth"
    ]


def _unfinished(out: Path) -> None:
    (out / "run.json").unlink()


def _torn_record(out: Path) -> None:
    (out / "run.json").write_text("{")


def _torn_annotations(out: Path) -> None:
    path = out / "annotations" / "train.json"
    path.write_text(path.read_text()[:-400])


def _no_points(out: Path) -> None:
    (out / "points" / "train.parquet").unlink()


def _broken_mask(out: Path) -> None:
    path = out / "annotations" / "train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"]["counts"] = "01"
    path.write_text(json.dumps(document))


def _lost_mask(out: Path) -> None:
    path = out / "annotations" / "train.json"
    document = json.loads(path.read_text())
    del document["annotations"][0]
    path.write_text(json.dumps(document))


def _turned(out: Path) -> None:
    path = out / "annotations" / "train.json"
    document = json.loads(path.read_text())
    document["annotations"].reverse()
    path.write_text(json.dumps(document))


def _nothing(out: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "options", "code", "says"),
    [
        pytest.param(_unfinished, [], 2, "no finished run", id="unfinished"),
        pytest.param(_torn_record, [], 1, "run.json: is no run record", id="torn record"),
        pytest.param(_torn_annotations, [], 1, "train.json: can't be read", id="torn masks"),
        pytest.param(_no_points, [], 1, "train.parquet: can't be read", id="no points"),
        pytest.param(_broken_mask, [], 1, "annotation 1", id="broken mask"),
        pytest.param(_lost_mask, [], 1, "is missing", id="lost mask"),
        pytest.param(_turned, [], 1, "train.json: can't be read", id="another order"),
        pytest.param(_nothing, ["--split", "val"], 2, "the run has train, test", id="split"),
        pytest.param(_nothing, ["--pred", "nowhere"], 2, "no such folder", id="no folder"),
        pytest.param(_nothing, ["--truth", "nowhere"], 2, "nowhere: no such file", id="no truth"),
        pytest.param(_nothing, ["--truth", ""], 2, "--truth is empty", id="empty truth"),
    ],
)
def test_wrong_input(
    out: Path, dpmo: Dpmo, damage: Callable[[Path], None], options: list[str], code: int, says: str
) -> None:
    images = [("a", "train", 1, SIZE), ("b", "train", 2, (33, 47))]
    truth = save_labels(out, out.parent / "truth", *images)
    damage(out)
    command = ["evaluate", "masks", "--pred", out, "--truth", truth, "--split", "train", "-q"]
    done = dpmo(*command, *options)
    assert done.code == code
    assert done.stdout == ""
    (line,) = done.errors
    assert done.lines == [line]
    assert says in line


def test_names_that_fit_several(out: Path, dpmo: Dpmo) -> None:
    truth = save_labels(out, out.parent / "truth", ("a", "train", 1, SIZE))
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth)
    assert done.code == 1
    (line,) = done.errors
    assert f"{truth / 'a.png'}: fits test/images/a and train/images/a of the run" in line
    assert "give --split" in line


def test_an_image_that_failed(out: Path, dpmo: Dpmo) -> None:
    truth = save_labels(out, out.parent / "truth", ("c", "train", 1, SIZE))
    change_run(out, limit=3)
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth)
    assert done.code == 1
    assert "c.png: the run could not read the image; mend it" in done.errors[0]


def test_nothing_in_common(out: Path, dpmo: Dpmo) -> None:
    truth = save_labels(out, out.parent / "truth", ("z", "train", 1, SIZE))
    change_run(out, limit=3)
    done = dpmo("evaluate", "masks", "--pred", out, "--truth", truth, "--split", "train")
    assert done.code == 2
    assert (
        "none of its images is in the run, as 'train/images/a' there and 'z' here" in done.errors[0]
    )


def test_a_converted_crowd(crowd: Crowd, dpmo: Dpmo, fake_engine: FakeEngine) -> None:
    """As a reader of the README would: convert, then compare with label maps."""
    assert dpmo("convert", "--root", crowd.root, "--out", "out", "--quiet").code == 0
    truth = Path("truth").absolute()
    for split, count in (("train", 5), ("test", 2)):
        images = [(str(n), split, n + 1, (48, 64)) for n in range(count)]
        save_labels(Path("out").absolute(), truth / split, *images)
    found = dpmo("evaluate", "masks", "--pred", "out", "--truth", "truth", "--json").json
    assert (found["images"], found["points"]) == (7, crowd.total)
    assert found["uncut"]["figures"]["ap"]["value"] == 1
    limited = ("convert", "--root", crowd.root, "--out", "few", "--limit", "1", "--quiet")
    assert dpmo(*limited).code == 0
    found = dpmo("evaluate", "masks", "--pred", "few", "--truth", "truth", "--json").json
    assert (found["images"], found["truth_images_left_out"]) == (2, 5)


def test_torch_is_not_imported(out: Path) -> None:
    code = (
        "import sys\nfrom dpmo_cli.cli.app import main\n"
        f"sys.argv = ['dpmo', 'evaluate', 'masks', '--pred', {str(out)!r}, '--truth',"
        f" {str(out / 'annotations' / 'test.json')!r}, '--split', 'test', '--json']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
