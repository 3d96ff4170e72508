from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.exports.plan import COPY, LINK, Photo, name_images
from dpmo_cli.outputs.finished import RunImage


def images_of(*names: str) -> list[RunImage]:
    """Images of splits; "test:a.jpg" is one of split test, others are of train."""
    return [
        RunImage(name.rpartition(":")[0] or "train", number, name.rpartition(":")[2], (4, 4))
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("files", "flat", "by_split", "names"),
    [
        pytest.param(["a/b c.jpg"], False, True, ["a/b c"], id="folders"),
        pytest.param(["a/b.c.jpg"], True, True, ["a__b.c"], id="flat"),
        pytest.param(["a/1.jpg", "b/1.jpg"], True, False, ["a__1", "b__1"], id="equal stems"),
        pytest.param(["a.jpg", "a.png", "b.png"], False, True, ["a_jpg", "a_png", "b"], id="kinds"),
        pytest.param(["A.jpg", "a.png"], False, True, ["A_jpg", "a_png"], id="case"),
        pytest.param(["a.jpg", "test:a.jpg"], False, True, ["a", "a"], id="two splits"),
        pytest.param(["a.jpg", "test:a.png"], False, False, ["a_jpg", "a_png"], id="one folder"),
        pytest.param(["é.jpg", "e\u0301.png"], True, True, ["é_jpg", "e\u0301_png"], id="accents"),
        pytest.param(["日本/人 群.jpg"], True, True, ["日本__人 群"], id="non-ASCII"),
        pytest.param(["a"], False, True, ["a"], id="no suffix"),
    ],
)
def test_names(files: list[str], flat: bool, by_split: bool, names: list[str]) -> None:
    images = images_of(*files)
    named = name_images(images, flat=flat, by_split=by_split)
    assert [named[image] for image in images] == names


@pytest.mark.parametrize(
    ("files", "flat", "by_split", "mend"),
    [
        pytest.param(["a/b.jpg", "a__b.jpg"], True, True, "rename one", id="flattened"),
        pytest.param(["a.jpg", "A.jpg"], False, True, "rename one", id="case alone"),
        pytest.param(["a.jpg", "test:a.jpg"], False, False, "--split", id="in two splits"),
        pytest.param(["a.jpg", "a.png", "a_jpg.png"], False, True, "rename", id="taken"),
    ],
)
def test_names_that_cant_be_told_apart(
    files: list[str], flat: bool, by_split: bool, mend: str
) -> None:
    with pytest.raises(UsageError, match=mend) as caught:
        name_images(images_of(*files), flat=flat, by_split=by_split)
    assert files[0] in str(caught.value)
    assert "\n" not in str(caught.value)


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("how", [LINK, COPY])
def test_a_photo_is_placed_as_it_is(tmp_path: Path, how: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    photo = Photo(tmp_path / "a.jpg")
    photo.place(tmp_path / "to" / "b.jpg", how)
    assert photo.suffix == ".jpg"
    assert (tmp_path / "to" / "b.jpg").read_bytes() == photo.read() == b"jpeg"
    assert (tmp_path / "to" / "b.jpg").is_symlink() is (how == LINK)


@pytest.mark.parametrize("how", [LINK, COPY])
def test_a_photo_is_drawn_again(tmp_path: Path, how: str) -> None:
    photo = Photo(tmp_path / "a.jpg", redraw=lambda: PIXELS)
    assert photo.suffix == ".png"
    photo.place(tmp_path / "b.png", how)
    for source in (tmp_path / "b.png", io.BytesIO(photo.read())):
        with Image.open(source) as image:
            assert image.format == "PNG"
            assert (np.asarray(image) == PIXELS).all()
