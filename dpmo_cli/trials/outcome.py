"""What a race of the stock path and ours found: ratios, seconds by stage, work, memory, masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dpmo_cli.trials.agreement import Agreement, Likeness

UPSAMPLE = ("choose", "clip")
"""Our stages from low-resolution logits to a mask in its disc: the stock path's upsampling."""
FP32, BF16 = "fp32", "bf16"
_TITLES = {
    "total": "embedding to run lengths",
    "prompt": "prompts",
    "upsample": "upsampling; ours: choice, window and disc",
    "rle": "run lengths",
    "encode": "encoder, per tile",
    "image": "image, encoder included",
}


@dataclass(frozen=True)
class Race:
    """What to compare.

    Attributes:
        sam: the network.
        points: how many the image has.
        size_hw: height and width of the image, px.
        tiles: the run's own tiles; otherwise the image is one.
        checkpoint: its weights; without them nano's own, and random ones for the others.
        device: where to compute.
        dtype: of ours; the stock path computes in fp32, and so does ours beside BF16.
        prompt_batch: of ours; None as in a run.
        repeats: rounds of each path, in turn.
        stock_points: prompts of the stock path, its time is extrapolated to all; None for all.
    """

    sam: str
    points: int
    size_hw: tuple[int, int]
    tiles: bool
    checkpoint: Path | None
    device: str
    dtype: str
    prompt_batch: int | None
    repeats: int
    stock_points: int | None


@dataclass(frozen=True)
class Case:
    """What was compared, as it turned out.

    Attributes:
        weights: embedded, random, or a file.
        threads: of torch's.
        prompts, tiles: of the image.
        stock_prompts: of the stock path; its seconds are extrapolated where that is fewer.
        stock_chunk: prompts per call that are its best.
        stock_seconds_by_chunk: per prompt, of all chunks that were tried.
        matmul_flop_per_s: of an fp32 matrix product, the machine's peak.
        our_masks: that ours gave in the end.
    """

    weights: str
    threads: int
    prompts: int
    tiles: int
    stock_prompts: int
    stock_chunk: int
    stock_seconds_by_chunk: Mapping[int, float]
    matmul_flop_per_s: float
    our_masks: int


@dataclass(frozen=True)
class Side:
    """What one path takes for the whole image.

    Attributes:
        seconds: by stage and in total from embedding to run lengths, medians over the rounds.
        prompts_per_s: from embedding to run lengths.
        encode_s_per_tile: of its encoder, measured once.
        seconds_per_image: encoder included.
        flop_per_prompt: as torch counts them.
        share_of_matmul_peak: FLOP/s while prompting, in parts of the machine's fp32 peak.
        memory_bytes: see `Need.bytes`; in fp32, with the image as one tile, and for the stock path
            of one chunk.
    """

    seconds: Mapping[str, float]
    prompts_per_s: float
    encode_s_per_tile: float
    seconds_per_image: float
    flop_per_prompt: int
    share_of_matmul_peak: float
    memory_bytes: int


@dataclass(frozen=True)
class Half:
    """What computing in bfloat16 adds to ours.

    Attributes:
        gain: seconds from embedding to run lengths in fp32, in parts of those in bfloat16.
        encode_gain: the same of the encoder.
        masks: its masks held against those in fp32, both from their own embeddings.
    """

    gain: float
    encode_gain: float
    masks: Likeness


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        race: what was asked for.
        case: what was compared.
        stock, ours: the two paths.
        agreement: of their masks in fp32.
        half: where ours computed in bfloat16.
    """

    race: Race
    case: Case
    stock: Side
    ours: Side
    agreement: Agreement
    half: Half | None

    @property
    def ratio(self) -> dict[str, float]:
        """Seconds of the stock path in parts of ours, by stage."""
        return {
            stage: _of_stage(self.stock, stage) / _of_stage(self.ours, stage) for stage in _TITLES
        }

    @property
    def extrapolated(self) -> bool:
        """Whether the stock path's seconds are those of a part of the prompts, scaled."""
        return self.case.stock_prompts < self.case.prompts

    @property
    def overhead_s(self) -> float:
        """Seconds of ours per prompt beside the network's."""
        return (self.ours.seconds["total"] - self.ours.seconds["prompt"]) / self.case.prompts

    def as_json(self) -> dict[str, object]:
        """As a plain object."""
        race = self.race
        height, width = race.size_hw
        return {
            "case": {
                "sam": race.sam,
                "points": race.points,
                "width": width,
                "height": height,
                "device": race.device,
                "dtype": race.dtype,
                "repeats": race.repeats,
                **asdict(self.case),
                "stock_extrapolated": self.extrapolated,
            },
            "ratio": self.ratio,
            "stock": asdict(self.stock),
            "ours": {**asdict(self.ours), "overhead_s_per_prompt": self.overhead_s},
            "masks": self.agreement.as_json(),
            "bf16": None if self.half is None else asdict(self.half),
        }


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """For a person: what was compared, a Markdown table, and what else was found."""
    race, case, stock, ours = outcome.race, outcome.case, outcome.stock, outcome.ours
    height, width = race.size_hw
    yield (
        f"{race.sam} ({case.weights} weights), {race.device}, threads {case.threads}, "
        f"ours in {race.dtype}, stock in fp32"
    )
    yield (
        f"image of {width} x {height} px: prompts {case.prompts:,}, tiles {case.tiles:,}, "
        f"with a mask {case.our_masks:,}"
    )
    rounds = f"medians over rounds in turn: {race.repeats}"
    if outcome.extrapolated:
        yield (
            f"{rounds}; the stock path's seconds are extrapolated from {case.stock_prompts:,} of "
            "its prompts"
        )
    else:
        yield rounds
    tried = case.stock_seconds_by_chunk.items()
    of_chunks = ", ".join(f"{chunk}: {1000 * seconds:.1f}" for chunk, seconds in tried)
    yield f"stock chunk: {case.stock_chunk} (ms per prompt by chunk: {of_chunks})"
    yield ""
    yield "| seconds per image | stock | ours | ratio |"
    yield "|---|---:|---:|---:|"
    for stage, ratio in outcome.ratio.items():
        both = f"{_of_stage(stock, stage):.3f} | {_of_stage(ours, stage):.3f}"
        yield f"| {_TITLES[stage]} | {both} | {ratio:.2f} |"
    yield f"| ownership | | {ours.seconds['own']:.3f} | |"
    yield f"| discs, tiles, reasons | | {ours.seconds['rest']:.3f} | |"
    product = f"{case.matmul_flop_per_s / 1e9:,.0f} GFLOP/s of an fp32 matrix product"
    rows: list[tuple[str, Callable[[Side], str]]] = [
        ("prompts per second", lambda side: f"{side.prompts_per_s:,.1f}"),
        ("GFLOP per prompt", lambda side: f"{side.flop_per_prompt / 1e9:.3f}"),
        (f"prompts' part of the {product}", lambda side: f"{side.share_of_matmul_peak:.0%}"),
        ("MB above what was held before, one tile", lambda side: f"{side.memory_bytes / 1e6:,.0f}"),
    ]
    for title, value in rows:
        yield f"| {title} | {value(stock)} | {value(ours)} | |"
    yield ""
    yield f"ours beside the network: {1000 * outcome.overhead_s:.3f} ms per prompt"
    agreement = outcome.agreement
    yield (
        f"answers in fp32, inside their discs, which overlap: {agreement.masks:,} with "
        f"{agreement.pixels:,} pixels, {agreement.flips} flips, largest logit at a flip "
        f"{agreement.largest_logit:.1e}: "
        + ("equal to the stock path's" if agreement.equal else "NOT equal to the stock path's")
    )
    if (half := outcome.half) is not None:
        yield (
            f"bf16 against fp32: {half.gain:.2f} times as fast from embedding to run lengths, "
            f"{half.encode_gain:.2f} times in the encoder; mask IoU {half.masks.mean_iou:.4f} on "
            f"average, median {half.masks.median_iou:.4f}, below 0.5 in {half.masks.below_half} of "
            f"{half.masks.sites:,}"
        )


def _of_stage(side: Side, stage: str) -> float:
    """Seconds of a stage that the ratios know."""
    if stage == "encode":
        return side.encode_s_per_tile
    if stage == "image":
        return side.seconds_per_image
    names = UPSAMPLE if stage not in side.seconds else (stage,)
    return sum(side.seconds[name] for name in names)
