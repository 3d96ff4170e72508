import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dpmo_cli.datasets.images import (
    MAX_PIXELS,
    image_size_hw,
    is_upright,
    read_image,
    read_photo,
)
from dpmo_cli.errors import InputError

HEIGHT, WIDTH = 5, 7
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
ALPHA = RGB[..., 1]
ORIENTATION = 0x0112


def _palette() -> Image.Image:
    image = Image.fromarray(GRAY // 64 * 64).convert("P")
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    return image


KINDS = {
    "rgb": (Image.fromarray(RGB), "png", RGB),
    "grayscale": (Image.fromarray(GRAY), "png", np.dstack([GRAY] * 3)),
    "1-bit": (
        Image.fromarray(GRAY > 127),
        "png",
        np.dstack([(GRAY > 127) * np.uint8(255)] * 3),
    ),
    "palette": (
        _palette(),
        "png",
        np.dstack([GRAY // 64 * 64, 255 - GRAY // 64 * 64, np.full_like(GRAY, 7)]),
    ),
    "rgba": (Image.fromarray(np.dstack([RGB, ALPHA])), "png", RGB),
    "gray with alpha": (
        Image.fromarray(np.dstack([GRAY, ALPHA])),
        "png",
        np.dstack([GRAY] * 3),
    ),
    "cmyk": (
        Image.merge("CMYK", [*Image.fromarray(255 - RGB).split(), Image.new("L", (WIDTH, HEIGHT))]),
        "tif",
        RGB,
    ),
    "bmp": (Image.fromarray(RGB), "bmp", RGB),
    "tiff": (Image.fromarray(RGB), "tif", RGB),
    "ppm": (Image.fromarray(RGB), "ppm", RGB),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_photo_becomes_rgb(tmp_path: Path, kind: str) -> None:
    image, suffix, expected = KINDS[kind]
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, expected)
    assert image_size_hw(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_over_their_full_range(tmp_path: Path, suffix: str) -> None:
    gray16 = np.array([[0, 128, 129, 257, 32_768], [65_535, 65_279, 65_407, 1, 300]], np.uint16)
    Image.fromarray(gray16).save(tmp_path / f"a.{suffix}")
    pixels = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels[..., 0], np.round(gray16 / 257).astype(np.uint8))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_32_bit_integers_beyond_16_bits_are_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-5, 65_535, 1_000_000]], np.int32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 255, 255]


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (200, 40, 40)).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "pixels", "options"),
    [
        pytest.param("png", RGB, {}, id="png"),
        pytest.param("webp", RGB, {"lossless": True}, id="webp"),
        pytest.param("tif", RGB, {}, id="tiff"),
        pytest.param("tif", RGB, {"compression": "tiff_lzw"}, id="tiff through libtiff"),
        pytest.param("tif", np.dstack([GRAY] * 3), {}, id="tiff, grayscale, could be mapped"),
        pytest.param("tif", None, {}, id="tiff, 16 bits, could be mapped"),
        pytest.param("jpg", None, {}, id="jpeg"),
    ],
)
def test_pixels_stay_as_stored_whatever_the_orientation(
    tmp_path: Path,
    orientation: int,
    suffix: str,
    pixels: np.ndarray | None,
    options: dict[str, object],
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if pixels is not None:
        is_gray = (pixels == pixels[..., :1]).all()
        image = Image.fromarray(pixels[..., 0] if is_gray else pixels)
    elif suffix == "tif":
        image = Image.fromarray(GRAY.astype(np.uint16) * 257)
        pixels = np.dstack([GRAY] * 3)
    else:
        image = Image.fromarray(RGB)
        image.save(tmp_path / f"upright.{suffix}")
        pixels = read_image(tmp_path / f"upright.{suffix}")
    image.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), pixels)
    assert image_size_hw(tmp_path / f"a.{suffix}") == (HEIGHT, WIDTH)
    assert is_upright(tmp_path / f"a.{suffix}") is (orientation == 1)


@pytest.mark.parametrize("orientation", [None, 0, 9])
def test_no_orientation_or_an_unknown_one_is_upright(
    tmp_path: Path, orientation: int | None
) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert is_upright(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a b.png", "a,b.png", "été 人.png", "A.PNG"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    Image.fromarray(RGB).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), RGB)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("suffix", ["webp", "png", "tif"])
def test_of_several_frames_the_first_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), RGB)


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


def test_a_photo_of_a_run(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photo(tmp_path, "a.png", (HEIGHT, WIDTH)), RGB)
    with pytest.raises(InputError, match=r"has 7 x 5 px, its masks 5 x 7; .*--root"):
        read_photo(tmp_path, "a.png", (WIDTH, HEIGHT))
    with pytest.raises(InputError, match="missing"):
        read_photo(tmp_path, "b.png", (HEIGHT, WIDTH))
    with pytest.raises(InputError, match=r"'\.\.'"):
        read_photo(tmp_path / "x", "../a.png", (HEIGHT, WIDTH))


def test_the_header_is_held_against_the_limit_before_decoding(tmp_path: Path) -> None:
    assert MAX_PIXELS >= 20_000 * 20_000
    before = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "huge.png"
    path.write_bytes(_png_header(20_001, 20_001))
    with pytest.raises(InputError, match="20001 x 20001 pixels, which is above the limit"):
        read_image(path)
    assert image_size_hw(path) == (20_001, 20_001)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="above the limit of 34"):
        read_image(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH - 1)
    assert read_image(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    assert before == Image.MAX_IMAGE_PIXELS


def test_photos_above_pillows_own_limit_are_read_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    for name, compression in (("a.png", None), ("plain.tif", None), ("lzw.tif", "tiff_lzw")):
        options = {} if compression is None else {"compression": compression}
        Image.fromarray(RGB).save(tmp_path / name, **options)
        np.testing.assert_array_equal(read_image(tmp_path / name), RGB)


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)).save(
        buffer, "JPEG"
    )
    return buffer.getvalue()


def _gif() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GRAY).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "no image of a known format", id="empty"),
        pytest.param(b"image,x,y\n", "no image of a known format", id="text"),
        pytest.param(_gif(), "no image of a known format", id="a format that is not let in"),
        pytest.param(_jpeg()[:-30], "can't be decoded .*truncated", id="end is missing"),
        pytest.param(_jpeg()[:800], "can't be decoded", id="half is missing"),
        pytest.param(_jpeg()[:30], "can't be decoded", id="cut in the header"),
        pytest.param(_png_header(4, 4), "can't be decoded", id="no pixels"),
    ],
)
def test_a_broken_photo_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_image(tmp_path / "a.jpg")
    assert str(tmp_path / "a.jpg") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    floats = tmp_path / "floats.tif"
    Image.fromarray(np.zeros((2, 2), np.float32)).save(floats)
    for path, says in (
        (tmp_path / "missing.jpg", "is missing"),
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (floats, "floating-point"),
    ):
        with pytest.raises(InputError, match=says):
            read_image(path)


def test_a_corrupt_exif_block_is_no_warning(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0\xff\xff\xff\x7f" * 3
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    with pytest.warns(UserWarning, match="EXIF|Tag"), Image.open(tmp_path / "a.jpg") as image:
        image.getexif()
    assert read_image(tmp_path / "a.jpg").shape == (HEIGHT, WIDTH, 3)


def test_threads_leave_the_limit_as_it_was(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    Image.fromarray(RGB).save(tmp_path / "a.png")
    good: list[bool] = []

    def read() -> None:
        for _ in range(20):
            good.append(bool((read_image(tmp_path / "a.png") == RGB).all()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 80
    assert before == Image.MAX_IMAGE_PIXELS


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_gives_pixels_or_an_input_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(_jpeg())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.jpg"
    path.write_bytes(content)
    try:
        # A damaged header may claim any size; decoding gigabytes is not what is tested.
        pixels = read_image(path, max_pixels=1_000_000)
    except InputError:
        return
    assert pixels.shape[2] == 3
