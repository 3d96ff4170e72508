"""Floating-point operations: counted by torch, two for each multiplication with its addition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from dpmo_cli.masks.method import default_method
from dpmo_cli.sam.models import build_model
from dpmo_cli.trials.agreement import our_claims
from dpmo_cli.trials.crowd import drawn_crowd, prompts_of_tiles
from dpmo_cli.trials.networks import Remembering, finish, prompting_engine, random_embedding
from dpmo_cli.trials.stock import Prompts, Stock

MATMUL = 2048
"""Side of the square matrices whose product measures a machine's peak."""
MATMUL_ROUNDS = 7
PROMPTS = 256
SIZE_HW = (768, 1024)
"""The crowd whose prompts are counted: ours compute more where discs are larger."""
STOCK_PROMPTS = 8


def _of_attention(q: Any, k: Any, v: Any, *_: object, **__: object) -> int:
    """As torch counts attention on other devices; on a CPU it does not know it."""
    return int(sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]


def counted(what: Callable[[], object]) -> int:
    """The operations of torch's in a call."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={attention: _of_attention})
    with torch.inference_mode(), counter:
        what()
    return int(counter.get_total_flops())


def stock_flops(stock: Stock, parts: Sequence[Prompts]) -> int:
    """The operations of one prompt of the stock path, the same for every prompt."""
    part = parts[0].part(0, STOCK_PROMPTS)
    return round(counted(lambda: stock.candidates(part)) / len(part.sites))


def matmul_peak(device: torch.device) -> float:
    """FLOP/s of the fastest of some fp32 matrix products."""
    one = torch.randn(MATMUL, MATMUL, device=device)
    product = torch.empty_like(one)
    best = float("inf")
    for _ in range(MATMUL_ROUNDS):
        begin = perf_counter()
        torch.mm(one, one, out=product)
        finish(device)
        best = min(best, perf_counter() - begin)
    return 2 * MATMUL**3 / best


@dataclass(frozen=True)
class Costs:
    """What a network computes.

    Attributes:
        sam: its name.
        tile: FLOP of its encoder for a tile.
        stock_prompt: FLOP of a prompt in segment-anything.
        our_prompt: FLOP of a prompt here, in a crowd of PROMPTS in an image of SIZE_HW.
    """

    sam: str
    tile: int
    stock_prompt: int
    our_prompt: int


def costs_of(name: str) -> Costs:
    """Count the operations of a network; nothing of its encoder is computed for it."""
    with torch.device("meta"):
        encoder = build_model(name).eval().image_encoder
        frame = torch.empty(1, 3, encoder.img_size, encoder.img_size)
    tile = counted(lambda: encoder(frame))
    engine = prompting_engine(name, "cpu")
    method = replace(default_method(name), tiles=False)
    crowd = drawn_crowd(PROMPTS, SIZE_HW, method, engine.frame_px)
    known = Remembering(engine)
    known.know(crowd.image, random_embedding(engine, crowd.size_hw))
    parts = prompts_of_tiles(crowd, crowd.tiles, known)
    stock = Stock(engine.model)
    ours = counted(lambda: our_claims(crowd, crowd.tiles, known))
    return Costs(name, tile, stock_flops(stock, parts), round(ours / crowd.prompts))


def costs_as_json(costs: Sequence[Costs]) -> list[dict[str, object]]:
    """As plain objects."""
    return [asdict(cost) for cost in costs]


def cost_lines(costs: Sequence[Costs]) -> list[str]:
    """A Markdown table."""
    lines = [
        "| network | GFLOP per tile | GFLOP per prompt, stock | GFLOP per prompt, ours | "
        "prompts that cost a tile |",
        "|---|---:|---:|---:|---:|",
    ]
    for cost in costs:
        lines.append(
            f"| {cost.sam} | {cost.tile / 1e9:,.1f} | {cost.stock_prompt / 1e9:.2f} | "
            f"{cost.our_prompt / 1e9:.2f} | {cost.tile / cost.our_prompt:,.0f} |"
        )
    return lines
