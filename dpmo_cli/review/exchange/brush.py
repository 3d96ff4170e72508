"""Label Studio's brush masks: run lengths of an image's RGBA bytes, packed bit by bit.

The code is that of the npm package `@thi.ng/rle-pack`. Bits run from the most significant one of
each byte: 32 bits with the number of words, 5 with their length less one, four times 4 with the
lengths (less one) that a count can have; then blocks, each of a bit (1: one word many times, 0:
many words), 2 bits that choose the count's length, the count less one, and the word or the words.
Label Studio's words are bytes, four a pixel, row by row; the fourth, alpha, is the mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.rle import Rle, WindowXYXY, frame_rle, rle_of_runs, rle_window, window_runs

CHANNELS = 4
OPAQUE = 128
"""From this alpha on a pixel is of the mask: the brush's edge is soft."""

_WORD_BITS = 8
_COUNT_BITS = (3, 4, 8, 16)
"""Lengths of a count that we write, as Label Studio's own converter does."""
_HEAD_BITS = 32 + 5 + 4 * 4
_FULL = 255


def encode_brush(
    mask: NDArray[np.bool_], window_xyxy: WindowXYXY, size_hw: tuple[int, int]
) -> list[int]:
    """Pack a mask for `value.rle`.

    Args:
        mask: (h, w) bool, the window's pixels.
        window_xyxy: where the window lies in the image, px, half open.
        size_hw: height and width of the image, px.

    Returns:
        The bytes as numbers.
    """
    height, width = size_hw
    x0, y0, x1, y1 = window_xyxy
    # Row by row is column by column of the transposed image.
    runs = window_runs(mask.T, (y0, x0, y1, x1), (width, height))
    pieces = [
        f"{CHANNELS * height * width:032b}",
        f"{_WORD_BITS - 1:05b}",
        *(f"{bits - 1:04b}" for bits in _COUNT_BITS),
    ]
    for rank, run in enumerate(runs.tolist()):
        pieces += _blocks(CHANNELS * run, _FULL if rank % 2 else 0)
    bits = "".join(pieces)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def decode_brush(packed: Sequence[object], size_hw: tuple[int, int]) -> Rle:
    """Unpack a `value.rle` of an image of `size_hw` (H, W) px; runs in time and space of the bytes.

    Returns:
        The pixels whose alpha is at least `OPAQUE`.

    Raises:
        ValueError: it is no such code, or that of an image of another size.
    """
    if not all(type(one) is int and 0 <= one <= _FULL for one in packed):
        raise ValueError("the brush mask is no list of bytes")
    bits = np.unpackbits(np.array(packed, np.uint8))
    height, width = size_hw
    if len(bits) < _HEAD_BITS:
        raise ValueError("the brush mask is cut short")
    words = _number(bits[:32])
    if words != CHANNELS * height * width:
        raise ValueError(
            f"the brush mask has {words} bytes, an image of {width} x {height} px "
            f"{CHANNELS * height * width}"
        )
    spans = np.array(list(_opaque_spans(bits, words)), np.int64).reshape(-1, 2)
    edges = np.concatenate([[0], spans.reshape(-1), [height * width]])
    turned = rle_of_runs(np.diff(edges), (width, height))
    mask, (y0, x0, y1, x1) = rle_window(turned)
    return frame_rle(mask.T, (x0, y0, x1, y1), size_hw)


def _blocks(length: int, word: int) -> Iterator[str]:
    """Yield the blocks of `length` equal words."""
    largest = 1 << _COUNT_BITS[-1]
    while length:
        count = min(length, largest)
        kind = next(kind for kind, bits in enumerate(_COUNT_BITS) if count <= 1 << bits)
        yield f"1{kind:02b}{count - 1:0{_COUNT_BITS[kind]}b}{word:0{_WORD_BITS}b}"
        length -= count


def _opaque_spans(bits: NDArray[np.uint8], words: int) -> Iterator[tuple[int, int]]:
    """Yield first and last pixel (half open) of spans of the mask, in order.

    Raises:
        ValueError: the code ends too early, or has too many words.
    """
    word_bits = _number(bits[32:37]) + 1
    count_bits = [_number(bits[37 + 4 * k : 41 + 4 * k]) + 1 for k in range(4)]
    at, done = _HEAD_BITS, 0
    while done < words:
        head = bits[at : at + 3]
        if len(head) < 3:
            raise ValueError("the brush mask is cut short")
        size = count_bits[_number(head[1:])]
        count = _number(bits[at + 3 : at + 3 + size]) + 1
        at += 3 + size
        written = 1 if head[0] else count
        block = bits[at : at + written * word_bits]
        at += written * word_bits
        if len(block) < written * word_bits or done + count > words:
            raise ValueError("the brush mask is cut short, or longer than its image")
        if head[0]:
            if _number(block) >= OPAQUE:
                # The alphas inside are those of pixels `first` to `last`.
                first, last = done // CHANNELS, (done + count) // CHANNELS
                if first < last:
                    yield first, last
        else:
            powers = 1 << np.arange(word_bits - 1, -1, -1)
            values = block.reshape(written, word_bits) @ powers
            places = np.arange(done, done + count)
            for pixel in places[(places % CHANNELS == CHANNELS - 1) & (values >= OPAQUE)].tolist():
                yield pixel // CHANNELS, pixel // CHANNELS + 1
        done += count


def _number(bits: NDArray[np.uint8]) -> int:
    """The number that bits mean, the most significant one first."""
    return int("".join(map(str, bits.tolist())) or "0", 2)
