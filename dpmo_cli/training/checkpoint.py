"""What training runs share: checkpoints that survive a kill, exported weights, learning rates."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save
from torch import nn

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import write_bytes


class Part(Protocol):
    """What a checkpoint holds: a network, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """All that has to be kept."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take it back."""


def make_folder(out: Path) -> None:
    """Make the folder of a run.

    Raises:
        UsageError: it can't be one.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: can't be made a folder ({error.strerror})") from error


def save_checkpoint(
    path: Path, step: int, settings: Mapping[str, object], parts: Mapping[str, Part]
) -> None:
    """Write a checkpoint, atomically: a kill leaves the last one whole.

    Args:
        path: the file.
        step: steps done.
        settings: what the run began with, plain values.
        parts: by the name under which each is kept.

    Raises:
        OutputError: it can't be written.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    # In memory first: torch hides why a file can't be written.
    content = io.BytesIO()
    torch.save({**state, "step": step, "settings": dict(settings)}, content)
    write_bytes(path, content.getvalue())


def load_checkpoint(
    path: Path, settings: Mapping[str, object], parts: Mapping[str, Part], device: str
) -> int:
    """Restore all parts from a checkpoint, where there is one.

    Returns:
        Steps done; 0 without a checkpoint.

    Raises:
        UsageError: the file is damaged, or of a run with other settings.
    """
    if not path.is_file():
        return 0
    damaged = f"{path}: is damaged; delete it to begin again"
    try:
        saved = torch.load(path, weights_only=True, map_location=device)
        before, step = saved["settings"], int(saved["step"])
    # Damaged bytes can make the reader raise nearly anything.
    except Exception as error:
        raise UsageError(damaged) from error
    if before != dict(settings):
        known = before if isinstance(before, dict) else {}
        changed = [name for name in settings if known.get(name) != settings[name]]
        which = f" ({', '.join(changed)})" if changed else ""
        raise UsageError(f"{path}: holds a run with other settings{which}; use another --out")
    try:
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(damaged) from error
    return step


def export_weights(model: nn.Module, path: Path) -> Path:
    """Write a network's weights in half precision as safetensors, atomically."""
    state = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    # As bytes: safetensors' own files are for their owner alone.
    write_bytes(path, save(state))
    return path


def warm_cosine(step: int, steps: int, warm_up: int = 100) -> float:
    """Factor of the learning rate: a short linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / warm_up)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
