"""What all readers have in common, checked on each of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpmo_cli.datasets.images import read_image
from dpmo_cli.datasets.reader import Pairing
from dpmo_cli.datasets.registry import DATASET_NAMES, open_dataset
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder

LAYOUTS: dict[str, Callable[[Builder], None]] = {
    "shanghaitech-a": lambda build: build.shanghaitech("part_A_final"),
    "shanghaitech-b": lambda build: build.shanghaitech("part_B_final"),
    "qnrf": lambda build: build.qnrf(),
    "jhu": lambda build: build.jhu(),
    "nwpu": lambda build: build.nwpu(),
    "ucf-cc-50": lambda build: build.cc50(),
    "csv": lambda build: build.csv(),
}
PAIRED = [name for name in DATASET_NAMES if name not in ("csv", "nwpu")]


def test_every_dataset_has_a_layout_here() -> None:
    assert tuple(LAYOUTS) == DATASET_NAMES


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_entries_are_sorted_exist_and_can_be_read(build: Builder, name: str) -> None:
    LAYOUTS[name](build)
    dataset = open_dataset(name, build.root)
    assert dataset.name == name
    assert dataset.root == build.root
    assert dataset.splits()
    for split in dataset.splits():
        entries = dataset.entries(split)
        names = [entry.file_name for entry in entries]
        assert names == sorted(set(names))
        for entry in entries:
            assert entry.split == split
            assert build.root / entry.file_name == entry.image_path
            assert dataset.read_heads(entry).points_xy.shape[1] == 2
            assert read_image(entry.image_path).shape == (20, 30, 3)


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_an_unknown_split_is_named_with_those_that_are_there(build: Builder, name: str) -> None:
    LAYOUTS[name](build)
    dataset = open_dataset(name, build.root)
    with pytest.raises(UsageError) as caught:
        dataset.entries("trian")
    assert "'trian'" in str(caught.value)
    assert str(caught.value).endswith(", ".join(dataset.splits()))
    first = dataset.splits()[0]
    assert dataset.entries(first.upper()) == dataset.entries(first)


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_a_missing_root_ends_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_dataset(name, tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no"):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize("name", PAIRED)
def test_neither_a_missing_image_nor_a_missing_annotation_is_lost(
    build: Builder, name: str
) -> None:
    LAYOUTS[name](build)
    dataset = open_dataset(name, build.root)
    split = dataset.splits()[-1]
    before = dataset.entries(split)
    entry = before[0]
    assert entry.annotation_path is not None

    content = entry.image_path.read_bytes()
    entry.image_path.unlink()
    assert dataset.entries(split) == before
    dataset.read_heads(entry)
    with pytest.raises(InputError, match="is missing"):
        read_image(entry.image_path)

    entry.image_path.write_bytes(content)
    spare = entry.annotation_path.with_name(
        entry.annotation_path.name.replace(entry.image_path.stem, "99")
    )
    entry.annotation_path.rename(spare)  # so that the split keeps one
    after = dataset.entries(split)
    assert len(after) == len(before) + 1
    (same,) = [one for one in after if one.file_name == entry.file_name]
    assert same.annotation_path == entry.annotation_path
    with pytest.raises(InputError, match="is missing"):
        dataset.read_heads(same)


@pytest.mark.parametrize("name", DATASET_NAMES)
@pytest.mark.parametrize("which", ["image", "annotation", "folder"])
def test_symlinks_out_of_the_root_are_refused(
    build: Builder, tmp_path_factory: pytest.TempPathFactory, name: str, which: str
) -> None:
    LAYOUTS[name](build)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    dataset = open_dataset(name, build.root)
    entry = dataset.entries(dataset.splits()[0])[0]
    path = entry.image_path
    if which == "annotation":
        if entry.annotation_path is None:
            pytest.skip("one table annotates all images")
        path = entry.annotation_path
    elif which == "folder":
        path = path.parent
    if path == build.root:
        pytest.skip("the images lie in the root itself")
    path.rename(elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)
    dataset = open_dataset(name, build.root)
    (same,) = [one for one in dataset.entries(entry.split) if one.file_name == entry.file_name]
    with pytest.raises(InputError, match="leaves the dataset's root"):
        dataset.read_heads(same)


def test_a_name_that_is_no_utf8_is_listed_escaped_and_refused(build: Builder) -> None:
    build.cc50("")
    try:
        (build.root / "1.jpg").rename(build.root / "1\udcff.jpg")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    dataset = open_dataset("ucf-cc-50", build.root)
    entries = {entry.file_name: entry for entry in dataset.entries("all")}
    assert list(entries) == ["1.jpg", "10.jpg", "1\\udcff.jpg", "2.jpg"]
    with pytest.raises(InputError, match="no UTF-8; rename the file") as caught:
        dataset.read_heads(entries["1\\udcff.jpg"])
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("name", PAIRED)
def test_leftovers_of_other_systems_are_no_images(build: Builder, name: str) -> None:
    LAYOUTS[name](build)
    dataset = open_dataset(name, build.root)
    split = dataset.splits()[0]
    before = dataset.entries(split)
    entry = before[0]
    assert entry.annotation_path is not None
    for path in (entry.image_path, entry.annotation_path):
        path.with_name(f"._{path.name}").touch()
        path.with_name(".DS_Store").touch()
        path.with_name("Thumbs.db").touch()
    assert dataset.entries(split) == before


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from([*PAIRED, "nwpu"]), content=st.binary(max_size=200))
def test_any_bytes_for_an_annotation_give_heads_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    build = Builder(tmp_path_factory.mktemp("fuzz"))
    LAYOUTS[name](build)
    dataset = open_dataset(name, build.root)
    entry = dataset.entries(dataset.splits()[0])[0]
    assert entry.annotation_path is not None
    entry.annotation_path.write_bytes(content)
    try:
        heads = dataset.read_heads(entry)
    except InputError as error:
        said = str(error)
    else:
        said = f"{entry.annotation_path.name} gave {heads.points_xy.shape[1]} columns"
        assert said.endswith("2 columns")
    assert entry.annotation_path.name in said


@pytest.mark.parametrize(
    ("pairing", "stem", "annotation"),
    [
        pytest.param(Pairing("GT_", ".mat"), "IMG_1", "GT_IMG_1.mat", id="prefix"),
        pytest.param(Pairing("", "_ann.mat"), "img_0001", "img_0001_ann.mat", id="suffix"),
    ],
)
def test_names_are_paired_both_ways(pairing: Pairing, stem: str, annotation: str) -> None:
    assert pairing.annotation_name(stem) == annotation
    assert pairing.image_stem(annotation) == stem
    assert pairing.image_stem(annotation.upper()) == stem.upper()
    assert pairing.image_stem("notes.txt") is None
    assert pairing.image_stem(f"{pairing.prefix}{pairing.suffix}") is None
