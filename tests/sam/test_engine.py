"""The engine: the same answers as SamPredictor's, whatever the chunks and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.resize import Frame, fitted_size
from dpmo_cli.sam.decoder import CANDIDATES
from dpmo_cli.sam.engine import Encoded, SamEngine, out_of_memory
from dpmo_cli.sam.models import build_model, load_engine, resolve_engine

BORDERLINE = 1e-5
"""A sign may differ only where the reference lies this near to zero."""


class Answers(NamedTuple):
    logits: Tensor
    scores: Tensor


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft coloured blobs with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 90.0)
    for _ in range(12):
        centre = rng.uniform(0, 1, 2) * (height, width)
        radius = rng.uniform(3, 20)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[inside] = rng.uniform(0, 255, 3)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def prompts(
    count: int, size_hw: tuple[int, int], negatives: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positive points, the four corners among them, each with points outside the person."""
    height, width = size_hw
    rng = np.random.default_rng(count)
    points = rng.uniform(0, 1, (count, 1 + negatives, 2)) * (width, height)
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)])
    points[: min(4, count), 0] = corners[:count]
    labels = np.zeros((count, 1 + negatives), dtype=np.int64)
    labels[:, 0] = 1
    # Every other prompt has fewer points than there is room for.
    labels[::2, 2:] = -1
    return points, labels


def gather(
    engine: SamEngine,
    encoded: Encoded,
    points_xy: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> Answers:
    answers = list(engine.prompt(encoded, points_xy, labels))
    covered = [index for answer in answers for index in answer.chunk.tolist()]
    assert covered == list(range(len(points_xy)))
    assert not any(answer.corners.any() for answer in answers)
    return Answers(
        torch.cat([answer.logits for answer in answers]),
        torch.cat([answer.predicted_ious for answer in answers]),
    )


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


@pytest.fixture(scope="module")
def nano() -> SamEngine:
    return load_engine(resolve_engine("nano", device="cpu"))


@pytest.fixture
def engine(nano: SamEngine) -> SamEngine:
    """An engine of its own for each test over the same model."""
    return SamEngine(nano.model)


@pytest.fixture(scope="module")
def vit_b() -> Sam:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sam_model_registry["vit_b"](checkpoint=None).eval()


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


def test_batch_follows_the_bytes_unless_it_is_given(nano: SamEngine, vit_b: Sam) -> None:
    assert SamEngine(nano.model, prompt_batch=5).batch == 5
    for model in (nano.model, vit_b):
        assert 1 <= SamEngine(model).batch <= 8


@pytest.mark.parametrize("wanted", [None, 2])
def test_batch_of_crops_follows_the_bytes_unless_it_is_given(
    wanted: int | None, nano: SamEngine, vit_b: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def encode(self: SamEngine, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        asked.append(len(crops))
        frame = Frame((9, 9), self.frame_px, self.cells)
        return [Encoded(torch.zeros(1, 1, 1, 1), frame)] * len(crops)

    monkeypatch.setattr(SamEngine, "_encode", encode)
    for model in (nano.model, vit_b):
        assert len(SamEngine(model, tile_batch=wanted).encode([photo(9, 9)] * 6)) == 6
    assert asked == ([4, 2] + [1] * 6 if wanted is None else [2] * 6)


def limit_decoder(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """Let the decoder fail above a number of prompts; returns the sizes that were tried."""
    tried: list[int] = []
    decode = SamEngine._decode

    def limited(
        self: SamEngine, encoded: Encoded, xy: NDArray[np.float64], *rest: Any
    ) -> tuple[Tensor, Tensor]:
        tried.append(len(xy))
        if len(xy) > most:
            raise error
        return decode(self, encoded, xy, *rest)

    monkeypatch.setattr(SamEngine, "_decode", limited)
    return tried


def limit_encoder(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """The same for the encoder and its crops."""
    tried: list[int] = []
    encode = SamEngine._encode

    def limited(self: SamEngine, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        tried.append(len(crops))
        if len(crops) > most:
            raise error
        return encode(self, crops)

    monkeypatch.setattr(SamEngine, "_encode", limited)
    return tried


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), id="cuda"),
    pytest.param(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), id="mps"),
    pytest.param(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), id="cpu"
    ),
    pytest.param(MemoryError(), id="python"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_prompts_are_halved_when_memory_runs_out(
    engine: SamEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    points, labels = prompts(10, (60, 60))
    undisturbed = gather(engine, encoded, points, labels)
    tried = limit_decoder(monkeypatch, 2, error)
    halved = gather(engine, encoded, points, labels)
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    assert engine.halvings == 2
    torch.testing.assert_close(halved.logits, undisturbed.logits, rtol=1e-4, atol=1e-4)
    # What was learnt is kept for the next image.
    tried.clear()
    gather(engine, encoded, points, labels)
    assert tried == [2] * 5


def test_a_last_short_chunk_is_halved_by_its_own_size(
    engine: SamEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    tried = limit_decoder(monkeypatch, 1, torch.OutOfMemoryError("out of memory"))
    gather(engine, encoded, *prompts(3, (60, 60)))
    assert tried == [3, 1, 1, 1]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_tiles_are_halved_when_memory_runs_out(
    engine: SamEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    crops = [photo(30 + 10 * number, 50) for number in range(5)]
    tried = limit_encoder(monkeypatch, 1, error)
    encoded = engine.encode(crops)
    assert tried == [4, 2, 1, 1, 1, 1, 1]
    assert engine.halvings == 2
    assert [one.frame.size_hw for one in encoded] == [crop.shape[:2] for crop in crops]


def test_no_memory_for_one(engine: SamEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    limit_decoder(monkeypatch, 0, torch.OutOfMemoryError("out of memory"))
    limit_encoder(monkeypatch, 0, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(DpmoError, match="not enough memory") as caught:
        gather(engine, encoded, *prompts(8, (60, 60)))
    assert "\n" not in str(caught.value)
    with pytest.raises(DpmoError, match="not enough memory"):
        engine.encode([photo(60, 60)])


def test_weights_that_give_no_numbers_are_named() -> None:
    model = build_model("nano")
    first = next(model.image_encoder.parameters())
    with torch.no_grad():
        first.fill_(torch.nan)
    with pytest.raises(DpmoError, match="no numbers: its weights are damaged"):
        SamEngine(model.eval()).encode([photo(60, 60)])


def test_other_errors_pass(engine: SamEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (encoded,) = engine.encode([photo(60, 60)])
    limit_decoder(monkeypatch, 0, RuntimeError("shapes do not match"))
    limit_encoder(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        gather(engine, encoded, *prompts(8, (60, 60)))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.encode([photo(60, 60)])
    assert engine.halvings == 0
    assert not out_of_memory(ValueError("the memory of this is long"))


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
