"""The engine: the same answers as SamPredictor's, whatever the chunks and the memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.resize import Frame, fitted_size
from dpmo_cli.sam.decoder import CANDIDATES
from dpmo_cli.sam.engine import Encoded, SamEngine
from dpmo_cli.sam.models import build_model
from tests.sam.asking import gather, photo, prompts

BORDERLINE = 1e-5
"""A sign may differ only where the reference lies this near to zero."""


def assert_same_signs(ours: Tensor, reference: Tensor) -> None:
    flips = (ours > 0) != (reference > 0)
    assert (reference[flips].abs() < BORDERLINE).all()


def assert_same_answers(
    engine: SamEngine,
    encoded: Encoded,
    predictor: SamPredictor,
    points_xy: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> None:
    """Compare low-resolution logits, scores, and full-resolution masks window by window."""
    masks, scores, low = predictor.predict_torch(
        torch.as_tensor(encoded.frame.to_frame(points_xy), dtype=torch.float32),
        torch.as_tensor(labels),
        multimask_output=True,
        return_logits=True,
    )
    ours = gather(engine, encoded, points_xy, labels)
    assert ours.logits.shape == (len(points_xy), len(CANDIDATES), engine.cells, engine.cells)
    assert ours.logits.dtype == ours.scores.dtype == torch.float32
    torch.testing.assert_close(ours.scores, scores, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.logits, low, rtol=1e-4, atol=1e-4)
    assert_same_signs(ours.logits, low)

    height, width = encoded.frame.size_hw
    windows = [
        (0, 0, width, height),
        (0, 0, width // 3, height),
        (width // 2, height // 2, width, height),
        (width // 4, height - 1, width // 2, height),
    ]
    for prompt in range(len(points_xy)):
        for candidate in range(len(CANDIDATES)):
            for x0, y0, x1, y1 in windows:
                window = encoded.frame.window_logits(
                    low[prompt, candidate].numpy(), (x0, y0, x1, y1)
                )
                reference = masks[prompt, candidate, y0:y1, x0:x1]
                torch.testing.assert_close(
                    torch.from_numpy(window), reference, rtol=1e-4, atol=1e-4
                )
                assert_same_signs(torch.from_numpy(window), reference)


@pytest.mark.parametrize(
    "size_hw",
    [
        pytest.param((97, 131), id="landscape"),
        pytest.param((131, 97), id="portrait"),
        pytest.param((64, 64), id="square, magnified"),
        pytest.param((301, 512), id="reduced"),
        pytest.param((1, 33), id="one row"),
    ],
)
def test_nano_answers_as_sam_predictor(engine: SamEngine, size_hw: tuple[int, int]) -> None:
    image = photo(*size_hw)
    predictor = SamPredictor(engine.model)
    predictor.set_image(image)
    (encoded,) = engine.encode([image])
    torch.testing.assert_close(encoded.embedding, predictor.features, rtol=1e-5, atol=1e-5)
    assert encoded.frame == Frame(size_hw, engine.frame_px, engine.cells)
    assert_same_answers(engine, encoded, predictor, *prompts(11, size_hw))


@pytest.mark.parametrize("negatives", [1, 3])
def test_points_outside_the_person_and_padding(engine: SamEngine, negatives: int) -> None:
    image = photo(90, 120)
    predictor = SamPredictor(engine.model)
    predictor.set_image(image)
    (encoded,) = engine.encode([image])
    points, labels = prompts(9, (90, 120), negatives)
    assert_same_answers(engine, encoded, predictor, points, labels)
    # A negative point is not taken for a positive one.
    positive = gather(engine, encoded, points, np.where(labels == 0, 1, labels))
    assert not torch.allclose(gather(engine, encoded, points, labels).logits, positive.logits)


def test_squares_are_answered_as_the_whole_grid(engine: SamEngine) -> None:
    size_hw = (90, 120)
    (encoded,) = engine.encode([photo(*size_hw)])
    points, labels = prompts(21, size_hw, negatives=1)
    whole = gather(engine, encoded, points, labels)
    rng = np.random.default_rng(5)
    # Of all sizes, beyond every border of the grid, and wholly off it.
    centres = rng.uniform(-20, engine.cells + 20, (len(points), 2))
    halves = rng.uniform(0, engine.cells, len(points))
    centres[:3], halves[:3] = [(-90, 5), (5, 400), (engine.cells / 2,) * 2], [3, 3, 500]
    squares = np.column_stack([centres, halves])
    seen = []
    for answer in engine.prompt(encoded, points, labels, squares=squares):
        torch.testing.assert_close(
            answer.predicted_ious, whole.scores[answer.chunk], rtol=0, atol=1e-5
        )
        side = answer.logits.shape[2]
        assert answer.logits.shape[3] == side <= engine.cells
        for index, logits, (column, row) in zip(
            answer.chunk.tolist(), answer.logits, answer.corners.tolist(), strict=True
        ):
            seen.append(index)
            assert min(row, column) >= 0
            assert max(row, column) + side <= engine.cells
            low, high = centres[index] - halves[index], centres[index] + halves[index]
            wanted = [x for x in range(engine.cells) if low[0] <= x <= high[0]]
            assert all(column <= x < column + side for x in wanted)
            wanted = [y for y in range(engine.cells) if low[1] <= y <= high[1]]
            assert all(row <= y < row + side for y in wanted)
            reference = whole.logits[index, :, row : row + side, column : column + side]
            torch.testing.assert_close(logits, reference, rtol=1e-4, atol=1e-4)
            assert_same_signs(logits, reference)
    assert sorted(seen) == list(range(len(points)))


def test_padding_points_say_nothing(engine: SamEngine) -> None:
    (encoded,) = engine.encode([photo(90, 120)])
    points, labels = prompts(5, (90, 120), negatives=2)
    labels[:, 1:] = -1
    moved = points.copy()
    moved[:, 1:] = 7
    before = gather(engine, encoded, points, labels)
    assert torch.equal(before.logits, gather(engine, encoded, moved, labels).logits)


def test_vit_b_decoder_answers_as_sam_predictor(vit_b: Sam) -> None:
    """The whole of vit_b but its encoder, on an embedding of chance."""
    size_hw = (301, 402)
    features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))
    predictor = SamPredictor(vit_b)
    predictor.features = features
    predictor.original_size = size_hw
    predictor.input_size = fitted_size(size_hw, 1024)
    predictor.is_image_set = True
    engine = SamEngine(vit_b, prompt_batch=2)
    encoded = Encoded(features, Frame(size_hw, engine.frame_px, engine.cells))
    assert (engine.frame_px, engine.cells) == (1024, 256)
    assert_same_answers(engine, encoded, predictor, *prompts(3, size_hw, negatives=1))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_vit_b_answers_as_sam_predictor(vit_b: Sam) -> None:
    image = photo(301, 402)
    predictor = SamPredictor(vit_b)
    predictor.set_image(image)
    engine = SamEngine(vit_b)
    (encoded,) = engine.encode([image])
    torch.testing.assert_close(encoded.embedding, predictor.features, rtol=1e-5, atol=1e-5)
    assert_same_answers(engine, encoded, predictor, *prompts(6, (301, 402)))


@pytest.mark.parametrize("size", [1, 3, 8])
def test_chunks_do_not_change_the_answers(engine: SamEngine, size: int) -> None:
    (encoded,) = engine.encode([photo(80, 100)])
    points, labels = prompts(13, (80, 100))
    engine.prompt_batch = 13
    whole = gather(engine, encoded, points, labels)
    engine.prompt_batch = size
    answers = list(engine.prompt(encoded, points, labels))
    assert [answer.chunk[0] for answer in answers] == list(range(0, 13, size))
    parts = gather(engine, encoded, points, labels)
    torch.testing.assert_close(parts.scores, whole.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-4, atol=1e-4)
    assert_same_signs(parts.logits, whole.logits)


@pytest.mark.parametrize("size_hw", [(97, 131), (131, 97), (64, 64), (301, 512), (1, 33)])
def test_frames_are_those_of_sam_predictor(engine: SamEngine, size_hw: tuple[int, int]) -> None:
    """To the last bit; each crop of a batch has its own padding."""
    transform = ResizeLongestSide(engine.frame_px)
    crops = [photo(*size_hw), photo(50, 80)]
    with torch.inference_mode():
        frames = engine._frames(crops)
        assert frames.is_contiguous(memory_format=torch.channels_last)
        for frame, crop in zip(frames, crops, strict=True):
            resized = torch.from_numpy(transform.apply_image(crop)).permute(2, 0, 1)
            assert torch.equal(frame, engine.model.preprocess(resized))


def test_crops_encoded_together_are_as_alone(engine: SamEngine) -> None:
    crops = [photo(40 + 30 * number, 90, seed=number) for number in range(6)]
    together = engine.encode(crops)
    for crop, encoded in zip(crops, together, strict=True):
        (alone,) = engine.encode([crop])
        assert encoded.frame == alone.frame
        assert encoded.embedding.shape == alone.embedding.shape
        torch.testing.assert_close(encoded.embedding, alone.embedding, rtol=1e-4, atol=1e-5)


def test_nothing_asked(engine: SamEngine) -> None:
    assert engine.encode([]) == []
    (encoded,) = engine.encode([photo(20, 20)])
    points, labels = prompts(0, (20, 20))
    assert list(engine.prompt(encoded, points, labels)) == []


def test_weights_that_give_no_numbers_are_named() -> None:
    model = build_model("nano")
    first = next(model.image_encoder.parameters())
    with torch.no_grad():
        first.fill_(torch.nan)
    with pytest.raises(DpmoError, match="no numbers: its weights are damaged"):
        SamEngine(model.eval()).encode([photo(60, 60)])


def test_bf16_is_close(nano: SamEngine) -> None:
    half = SamEngine(nano.model, bf16=True)
    image = photo(120, 160)
    points, labels = prompts(12, (120, 160))
    reference = gather(nano, nano.encode([image])[0], points, labels)
    ours = gather(half, half.encode([image])[0], points, labels)
    assert ours.logits.dtype == ours.scores.dtype == torch.float32
    # It was computed in another precision,
    assert not torch.equal(ours.logits, reference.logits)
    # and still says the same.
    spread = reference.logits.abs().mean()
    assert (ours.logits - reference.logits).abs().mean() < 0.05 * spread
    assert ((ours.logits > 0) == (reference.logits > 0)).float().mean() > 0.98
    assert (ours.scores - reference.scores).abs().max() < 0.1


def test_crops_may_be_views(engine: SamEngine) -> None:
    image = photo(100, 140)
    (view,) = engine.encode([image[10:70, 20:110]])
    (copy,) = engine.encode([image[10:70, 20:110].copy()])
    assert torch.equal(view.embedding, copy.embedding)
