"""The stock path of the bench against segment-anything called by hand, and ours against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from dpmo_cli.geometry.rle import rle_window
from dpmo_cli.geometry.windows import Windows
from dpmo_cli.masks.method import default_method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.masks.site_mask import SiteMask, site_masks
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.trials import agreement, stock
from dpmo_cli.trials.agreement import compare, likeness, our_claims
from dpmo_cli.trials.crowd import Crowd, drawn_crowd, prompts_of_tiles, some_of
from dpmo_cli.trials.flops import counted, matmul_peak
from dpmo_cli.trials.networks import Remembering, copy_of, random_embedding
from dpmo_cli.trials.stock import Stock, StockSeconds, count_of

POINTS = 12
SIZE_HW = (90, 130)
PER_PROMPT = ("sites", "frame_xy", "labels")


@pytest.fixture(scope="module")
def known(nano: SamEngine) -> Remembering:
    return Remembering(nano)


@pytest.fixture(scope="module", params=[False, True], ids=["image", "tiles"])
def crowd(request: pytest.FixtureRequest, nano: SamEngine) -> Crowd:
    method = replace(default_method("nano"), tiles=request.param)
    return drawn_crowd(POINTS, SIZE_HW, method, nano.frame_px)


@pytest.fixture(scope="module")
def model(nano: SamEngine):
    return copy_of(nano.model, "nano")


def pasted(mask: np.ndarray, window_xyxy: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = window_xyxy
    frame = np.zeros(SIZE_HW, dtype=bool)
    frame[y0:y1, x0:x1] = mask
    return frame


def decoded(rle: dict[str, Any]) -> np.ndarray:
    return pasted(*rle_window({"size": rle["size"], "counts": rle["counts"].decode()}))


@pytest.mark.parametrize("output", [None, 0, 2], ids=["argmax", "first", "third"])
def test_stock_is_the_predictor(crowd, known, model, output) -> None:
    path = Stock(model, output)
    for part in prompts_of_tiles(crowd, crowd.tiles, known):
        seconds = StockSeconds()
        found = path.masks(part, SIZE_HW, 5, seconds)
        assert min(vars(seconds).values()) > 0
        x0, y0, x1, y1 = part.window_xyxy
        predictor = SamPredictor(model)
        predictor.set_image(np.ascontiguousarray(crowd.image[y0:y1, x0:x1]))
        # Its own embedding differs in the last bits, by the order of the memory.
        torch.testing.assert_close(predictor.features, part.encoded.embedding, atol=1e-4, rtol=0)
        predictor.features = part.encoded.embedding
        masks, ious, _ = predictor.predict_torch(
            torch.as_tensor(part.frame_xy, dtype=torch.float32), torch.as_tensor(part.labels)
        )
        best = ious.argmax(dim=1) if output is None else [output] * len(ious)
        expected = [pasted(masks[i, int(k)].numpy(), part.window_xyxy) for i, k in enumerate(best)]
        assert len(found) == len(part.sites) == len(expected)
        for rle, frame in zip(found, expected, strict=True):
            # A batch of another size may turn a pixel.
            assert (decoded(rle) ^ frame).sum() <= 2
        plain = path.plain_masks(part, SIZE_HW)
        for rle, frame in zip(plain, expected, strict=True):
            assert (decoded(rle) == frame).all()


def test_our_masks_are_the_stock_path_s(crowd, known, model) -> None:
    path = Stock(model, known.extents.index("nnec"))
    claims = our_claims(crowd, crowd.tiles, known)
    found = compare(crowd, claims, prompts_of_tiles(crowd, crowd.tiles, known), path)
    assert found.masks == crowd.prompts == POINTS
    assert found.pixels > 20 * POINTS
    assert found.equal, found
    assert found.as_json()["equal"] is True


def test_a_wrong_pixel_is_found(crowd, known, model) -> None:
    path = Stock(model, known.extents.index("nnec"))
    parts = prompts_of_tiles(crowd, crowd.tiles, known)
    claims = our_claims(crowd, crowd.tiles, known)
    site = next(i for i, mask in enumerate(claims.masks) if mask is not None and mask.area_px > 9)
    pixels, (x0, y0, x1, y1) = rle_window(claims.masks[site].rle)
    row, column = np.argwhere(pixels)[4].tolist()
    pixels[row, column] = False
    window = Windows(np.array([[x0, y0, x1, y1]]))
    (claims.masks[site],) = site_masks(pixels[None], window, SIZE_HW)
    found = compare(crowd, claims, parts, path)
    assert (found.flips, found.equal) == (1, False)
    part = next(part for part in parts if site in part.sites)
    at = part.sites.tolist().index(site)
    lowres, _ = path.candidates(part.part(at, at + 1))
    logits = path.upsampled(lowres[:, path.output : path.output + 1], part.encoded)[0, 0]
    left, top = part.window_xyxy[:2]
    expected = abs(float(logits[y0 + row - top, x0 + column - left]))
    assert found.largest_logit == pytest.approx(expected, rel=1e-3)


def test_another_candidate_is_no_agreement(crowd, known, model) -> None:
    path = Stock(model, known.extents.index("visible"))
    claims = our_claims(crowd, crowd.tiles, known)
    found = compare(crowd, claims, prompts_of_tiles(crowd, crowd.tiles, known), path)
    assert found.flips > 10
    assert not found.equal


def test_tiles_are_encoded_once(crowd, nano) -> None:
    asked: list[int] = []

    class Counting(SamEngine):
        def encode(self, crops):
            asked.append(len(crops))
            return super().encode(crops)

    engine = Remembering(Counting(nano.model, extents=nano.extents))
    first = segment_image(crowd.image, crowd.points_xy, engine, crowd.method)
    again = segment_image(crowd.image, crowd.points_xy, engine, crowd.method)
    assert sum(asked) == len(crowd.tiles)
    crops = [crowd.crop(crowd.tiles[0])]
    (one,), (other,) = engine.encode(crops), engine.encode(crops)
    assert one is not other
    assert one.embedding is other.embedding
    assert first.masks == again.masks
    assert first.masks == segment_image(crowd.image, crowd.points_xy, nano, crowd.method).masks


@pytest.mark.parametrize("count", [1, 5, POINTS])
def test_some_tiles(crowd, known, count) -> None:
    chosen = some_of(crowd.tiles, count)
    assert sum(len(tile.sites) for tile in chosen) == count
    of_window = {tile.window_xyxy: set(tile.sites.tolist()) for tile in crowd.tiles}
    for tile in chosen:
        sites = tile.sites.tolist()
        assert len(set(sites)) == len(sites)
        assert set(sites) <= of_window[tile.window_xyxy]
    assert count_of(prompts_of_tiles(crowd, chosen, known)) == count


def test_best_chunk(crowd, known, model, monkeypatch) -> None:
    part = prompts_of_tiles(crowd, some_of(crowd.tiles, 1), known)[0]
    path = Stock(model, 0)
    monkeypatch.setattr(stock, "CHUNKS", (1, 3, 5))
    four = replace(part, **{n: np.repeat(getattr(part, n), 4, axis=0) for n in PER_PROMPT})
    times = {1: 4.0, 3: 3.0, 4: 8.0}
    monkeypatch.setattr(path, "_seconds", lambda _part, _size, chunk: times[chunk])
    # No more are asked for than there are.
    assert path.best_chunk(four, SIZE_HW) == (3, {1: 4.0, 3: 1.0, 4: 2.0})


def test_chunks_that_memory_does_not_hold(crowd, known, model, monkeypatch) -> None:
    part = prompts_of_tiles(crowd, some_of(crowd.tiles, 1), known)[0]
    path = Stock(model, 0)
    part = replace(part, **{n: np.repeat(getattr(part, n), 4, axis=0) for n in PER_PROMPT})

    def seconds(_part, _size, chunk):
        if chunk > 2:
            raise MemoryError
        return 1.0

    monkeypatch.setattr(path, "_seconds", seconds)
    monkeypatch.setattr(stock, "CHUNKS", (2, 3))
    assert path.best_chunk(part, SIZE_HW) == (2, {2: 0.5})
    monkeypatch.setattr(stock, "CHUNKS", (3,))
    with pytest.raises(MemoryError):
        path.best_chunk(part, SIZE_HW)


def test_likeness(crowd, nano) -> None:
    found = segment_image(crowd.image, crowd.points_xy, nano, crowd.method)
    masked = [i for i, mask in enumerate(found.masks) if mask is not None]
    same = likeness(found, found)
    assert (same.sites, same.mean_iou, same.below_half) == (len(masked), 1.0, 0)
    without: list[SiteMask | None] = [*found.masks]
    without[masked[0]] = None
    less = likeness(found, replace(found, masks=without))
    assert less.sites == len(masked)
    assert less.mean_iou == pytest.approx(1 - 1 / len(masked))
    assert less.below_half == 1
    none: list[SiteMask | None] = [None] * len(found.masks)
    empty = replace(found, masks=none)
    assert likeness(empty, empty).sites == 0


def test_operations_are_counted() -> None:
    one, other = torch.ones(3, 5), torch.ones(5, 7)
    assert counted(lambda: one @ other) == 2 * 3 * 5 * 7
    q, k = torch.ones(1, 2, 11, 4), torch.ones(1, 2, 13, 4)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert counted(lambda: attend(q, k, k)) == 2 * (2 * 11 * 13 * 4) * 2
    assert matmul_peak(torch.device("cpu")) > 1e9


def test_an_embedding_that_no_encoder_made(nano) -> None:
    (encoded,) = nano.encode([np.zeros((*SIZE_HW, 3), dtype=np.uint8)])
    made = random_embedding(nano, SIZE_HW)
    assert made.embedding.shape == encoded.embedding.shape
    assert made.frame == encoded.frame
    assert agreement.LIMIT == 1e-5
