from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.outputs.exports import yolo
from dpmo_cli.outputs.exports.registry import FORMATS
from dpmo_cli.pipeline.export import EXPORT_FILE, Exported, export_run
from tests.conftest import moments, tree
from tests.outputs.exports.runs import draw_photos
from tests.outputs.samples import make_info, make_record, make_rows, sample_records, write_run

LOCK = ".export.lock"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    draw_photos(tmp_path / "data", sample_records())
    out = write_run(tmp_path / "out", sample_records())
    set_root(out, tmp_path / "data")
    return out


def set_root(out: Path, root: Path) -> None:
    document = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**document, "root": str(root)}))


def export(
    out: Path,
    name: str = "yolo-seg",
    to: Path | None = None,
    *,
    images: str | None = None,
    png: bool = False,
    splits: tuple[str, ...] = (),
    root: Path | None = None,
) -> Exported:
    form = FORMATS[name]
    options = form.options(images, per_image=False, png=png)
    to = to or out.parent / "to"
    return export_run(out, to, form, options, splits=splits, root=root, quiet=True)


def stamps(to: Path) -> dict[str, int]:
    """When each file was last changed, ns; folders saw temporaries come and go."""
    found = moments(to)
    return {name: at for name, at in found.items() if (to / name).is_file() and name != LOCK}


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_second_export_changes_nothing(out: Path, name: str) -> None:
    first = export(out, name)
    before = tree(out.parent / "to", without=()), stamps(out.parent / "to")
    assert export(out, name) == first
    assert (tree(out.parent / "to", without=()), stamps(out.parent / "to")) == before
    export(out, name, out.parent / "again")
    assert tree(out.parent / "again", without=()) == before[0]


def test_counts_and_warnings(out: Path) -> None:
    done = export(out, "density")
    counts = {split: vars(one) for split, one in done.splits.items()}
    assert counts == {
        "train": {"images": 3, "people": 9, "masks": 7},
        "test": {"images": 1, "people": 3, "masks": 2},
    }
    assert done.files == 4


def test_failed_images_are_told(out: Path) -> None:
    document = json.loads((out / "run.json").read_text())
    assert document["splits"]["train"]["counts"]["failed_images"] == 1
    (warning,) = export(out, "coco").warnings
    assert warning.startswith("split train: 1 ")


def test_the_list_says_what_there_is(out: Path) -> None:
    export(out, splits=("test",))
    document = json.loads((out.parent / "to" / EXPORT_FILE).read_text())
    assert document["format"] == "yolo-seg"
    assert document["splits"] == {"test": {"images": 1, "people": 3, "masks": 2}}
    there = tree(out.parent / "to", without=(EXPORT_FILE, LOCK))
    assert document["files"] == list(there)


def test_what_is_no_longer_exported_is_removed(out: Path) -> None:
    to = out.parent / "to"
    export(out)
    (to / "labels" / "train.cache").write_text("somebody else's")
    export(out, splits=("test",))
    there = tree(to, without=(EXPORT_FILE, LOCK))
    assert [name for name in there if "train" in name] == ["labels/train.cache"]
    assert not (to / "images" / "train").exists()
    assert (out.parent / "data" / "images" / "a b.jpg").is_file()
    export(out)
    assert (to / "labels/train/images__a b.txt").is_file()


def test_links_become_copies_and_go(out: Path) -> None:
    photo = out.parent / "to" / "images" / "test" / "images__f.jpg"
    export(out)
    assert photo.is_symlink()
    export(out, images="copy")
    assert photo.is_file()
    assert not photo.is_symlink()
    export(out, images="none")
    assert not photo.exists()
    assert (out.parent / "data" / "images" / "f.jpg").is_file()


def test_a_killed_export_leaves_no_stale_file(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = out.parent / "to"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(yolo, "data_yaml", stop)
        with pytest.raises(KeyboardInterrupt):
            export(out)
    (to / "labels" / "train" / ".0000.dpmo-tmp").write_text("half")
    export(out, splits=("test",))
    assert not (to / "labels" / "train").exists()
    export(out, to=out.parent / "whole", splits=("test",))
    assert tree(to) == tree(out.parent / "whole")


@pytest.mark.parametrize("name", ["/etc/passwd", "../out/run.json", "labels/../../out/run.json"])
def test_a_list_that_points_outside_removes_nothing(out: Path, name: str) -> None:
    path = out.parent / "to" / EXPORT_FILE
    export(out)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "files": [*document["files"], name]}))
    export(out)
    assert (out / "run.json").is_file()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("images", ["link", "copy"])
def test_a_photo_that_readers_would_turn_is_drawn_again(
    out: Path, orientation: int, images: str
) -> None:
    path = out.parent / "data" / "images" / "f.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    export(out, images=images, splits=("test",))
    (placed,) = (out.parent / "to" / "images" / "test").iterdir()
    assert placed.suffix == (".jpg" if orientation == 1 else ".png")
    with Image.open(placed) as image, Image.open(path) as stored:
        assert image.size == (30, 64)
        assert (np.asarray(image) == np.asarray(stored)).all()


def test_a_format_that_trainers_do_not_know_is_drawn_again(tmp_path: Path) -> None:
    info = make_info(1, "train", "a.ppm", (8, 9))
    records = [make_record(info, make_rows(info, [(4, 4)]))]
    draw_photos(tmp_path / "data", records)
    out = write_run(tmp_path / "out", records)
    set_root(out, tmp_path / "data")
    export(out)
    assert [path.name for path in (tmp_path / "to/images/train").iterdir()] == ["a.png"]


def test_labels_have_one_type_whatever_the_split(tmp_path: Path) -> None:
    infos = make_info(1, "train", "a.jpg", (60, 60)), make_info(2, "test", "b.jpg", (9, 9))
    # Pixels apart, so that each of more than 255 points has a mask.
    many = [(float(x), float(y)) for x in range(0, 60, 3) for y in range(0, 60, 3)]
    records = [
        make_record(infos[0], make_rows(infos[0], many, radius_px=1)),
        make_record(infos[1], make_rows(infos[1], [(4, 4)])),
    ]
    out = write_run(tmp_path / "out", records)
    export(out, "label-maps", splits=("test",))
    assert np.load(tmp_path / "to" / "masks" / "b.npy").dtype == np.uint16


def test_formats_without_photos_need_no_root(out: Path) -> None:
    set_root(out, Path("/nowhere"))
    assert export(out, "label-maps").files == 4
    assert export(out, "yolo-seg", out.parent / "bare", images="none").files == 5


def _rename(out: Path, name: str) -> None:
    coco = out / "annotations" / "test.json"
    coco.write_text(coco.read_text().replace("images/f.jpg", name))


@pytest.mark.parametrize("name", ["../f.jpg", "/f.jpg", "a/../../f.jpg"])
@pytest.mark.parametrize("form", ["label-maps", "yolo-seg"])
def test_a_name_that_leads_out_of_the_folder(out: Path, name: str, form: str) -> None:
    _rename(out, name)
    with pytest.raises(InputError, match=r"\.\.|absolute"):
        export(out, form)
    assert not (out.parent / "to").exists()


def _no_run(out: Path) -> None:
    (out / "run.json").unlink()


def _torn_run(out: Path) -> None:
    (out / "run.json").write_text("{")


def _no_photo(out: Path) -> None:
    (out.parent / "data" / "images" / "f.jpg").unlink()


def _other_photo(out: Path) -> None:
    Image.new("RGB", (31, 64)).save(out.parent / "data" / "images" / "f.jpg")


def _foreign(out: Path) -> None:
    (out.parent / "to").mkdir()
    (out.parent / "to" / "notes.txt").write_text("mine")


def _is_file(out: Path) -> None:
    (out.parent / "to").write_text("mine")


def _other_format(out: Path) -> None:
    export(out, "coco")


def _torn_list(out: Path) -> None:
    export(out)
    (out.parent / "to" / EXPORT_FILE).write_text("{}")


@pytest.mark.parametrize(
    ("break_it", "kind", "problem"),
    [
        pytest.param(_no_run, UsageError, "no finished run", id="no run"),
        pytest.param(_torn_run, InputError, "run.json: is no run record", id="torn run"),
        pytest.param(_no_photo, InputError, "f.jpg: is missing", id="no photo"),
        pytest.param(_other_photo, InputError, "31 x 64 px, its masks 30 x 64", id="other photo"),
        pytest.param(_foreign, UsageError, "no export", id="foreign files"),
        pytest.param(_is_file, UsageError, "is a file", id="a file"),
        pytest.param(_other_format, UsageError, "format coco", id="another format"),
        pytest.param(_torn_list, InputError, "export.json: can't be read", id="torn list"),
    ],
)
def test_what_is_refused(out: Path, break_it: object, kind: type[DpmoError], problem: str) -> None:
    assert callable(break_it)
    break_it(out)
    with pytest.raises(kind, match=problem) as caught:
        export(out)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("to", "problem"), [("out", "own"), ("out/x", "own"), ("data", "root")])
def test_folders_that_are_not_written_to(out: Path, to: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        export(out, to=out.parent / to)


def test_an_unknown_split(out: Path) -> None:
    with pytest.raises(UsageError, match="the run has train, test"):
        export(out, splits=("val",))


def test_one_export_at_a_time(out: Path) -> None:
    (out.parent / "to").mkdir()
    with (
        FileLock(out.parent / "to" / LOCK),
        pytest.raises(UsageError, match="another export"),
    ):
        export(out)


def test_hidden_files_are_nobodys(out: Path) -> None:
    (out.parent / "to").mkdir()
    (out.parent / "to" / ".gitkeep").write_text("")
    assert export(out, "coco").files == 2
    assert os.listdir(out.parent / "to" / "annotations")
