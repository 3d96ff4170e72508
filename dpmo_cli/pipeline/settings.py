"""What decides the bytes of a run's outputs, and the fingerprint that tells runs apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.outputs.atomic import sha256_file
from dpmo_cli.outputs.json_values import as_object
from dpmo_cli.version import VERSION

if TYPE_CHECKING:
    from dpmo_cli.masks.method import Method
    from dpmo_cli.sam.models import EngineSpec


@dataclass(frozen=True)
class Settings:
    """Everything that changes masks; two runs with equal settings may share an output folder.

    Attributes:
        dataset: name of the dataset.
        extent: what a mask is.
        sam: name of the network.
        weights_sha256: hash of its weights.
        device: kind of device, without its number.
        dtype: `fp32` or `bf16`.
        prompt_batch: prompts per decoder call as given, None for the byte budget.
        nnec_scale: factor on the neighbour's distance.
        tiles: `auto` or `off`.
        negatives: nearest other points that each prompt names as not the person's.
        radii: what the discs' radii follow, `nearest` or `robust`.
        ownership: who gets a pixel that several claim: `nearest`, `ratio` or `logit`.
        points: where the points come from, in words with the hashes of all that finds and moves
            them; None for annotated ones.
        dpmo_version: of the program.
        calibration_sha256: of the user's own calibration of the scores.
    """

    dataset: str
    extent: str
    sam: str
    weights_sha256: str
    device: str
    dtype: str
    prompt_batch: int | None
    nnec_scale: float
    tiles: str
    negatives: int
    radii: str
    ownership: str
    points: str | None = None
    dpmo_version: str = VERSION
    calibration_sha256: str | None = None

    @classmethod
    def of(
        cls, dataset: str, spec: EngineSpec, method: Method, points: str | None = None
    ) -> Settings:
        """The settings of a run with a network and a method."""
        return cls(
            dataset=dataset,
            extent=method.extent,
            sam=spec.name,
            weights_sha256=spec.weights_sha256,
            device=spec.device.split(":")[0],
            dtype=spec.dtype,
            prompt_batch=spec.prompt_batch,
            nnec_scale=method.nnec_scale,
            tiles="auto" if method.tiles else "off",
            negatives=method.negatives,
            radii=method.radii,
            ownership=str(method.ownership),
            points=points,
            calibration_sha256=None if spec.calibration is None else sha256_file(spec.calibration),
        )

    @classmethod
    def of_json(cls, document: object) -> Settings:
        """Read what `as_json` gives.

        Raises:
            ValueError: it is something else.
        """
        plain = as_object(document, "settings")
        try:
            return cls(**plain)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"settings: {error}") from error

    def as_json(self) -> dict[str, str | int | float | None]:
        """The settings as a plain object."""
        plain = asdict(self)
        if self.calibration_sha256 is None:
            # Records of runs before there was such a setting are of these settings too.
            del plain["calibration_sha256"]
        return plain


def image_fingerprint(
    settings: Settings, entry: ImageEntry, image_id: int, image_sha256: str, heads: Heads | None
) -> str:
    """SHA-256 of all that one image's record is made from, hexadecimal."""
    digest = hashlib.sha256()
    about = {
        "settings": settings.as_json(),
        "split": entry.split,
        "file_name": entry.file_name,
        "image_id": image_id,
        "image": image_sha256,
        "labels": dict(entry.labels),
        "ids": heads.external_ids if heads else None,
        "warnings": heads.warnings if heads else None,
    }
    digest.update(_canonical(about))
    if heads is not None:
        for array in (
            heads.points_xy,
            heads.boxes_xyxy,
            heads.occlusion,
            heads.blurred,
            heads.locator_scores,
        ):
            digest.update(_array_bytes(array))
    return digest.hexdigest()


def _canonical(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True).encode()


def _array_bytes(array: NDArray[np.generic] | None) -> bytes:
    if array is None:
        return b"none"
    return f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
