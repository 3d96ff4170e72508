"""The policy: for each located point, which of its candidates to prompt with, or none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.points import FloatArray, IntArray
from dpmo_cli.rps.candidates import FEATURES
from dpmo_cli.rps.presence import Presence
from dpmo_cli.sam.checkpoint import load_state_dict

WIDTH = 64
EMBEDDED_WIDTH = 24
OFFERED_SCORE = 0.27
"""Policies also learn from points that the localiser rather takes for nobody, down to this."""
OFFERED_LOGIT = math.log(OFFERED_SCORE / (1 - OFFERED_SCORE))


class Policy(nn.Module):
    """A small network over the candidates of one point, the same for each of them.

    Each candidate is seen beside the mean and the maximum of all, so that the order of the
    candidates does not matter.

    Args:
        channels: of the network's image embedding; 0 for a policy that does not look at it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # Means and spreads of the training set: part of the weights.
        self.register_buffer("shift", torch.zeros(len(FEATURES)))
        self.register_buffer("scale", torch.ones(len(FEATURES)))
        self.register_buffer("embedding_scale", torch.ones(()))
        self.look = nn.Linear(channels, EMBEDDED_WIDTH)
        self.each = nn.Sequential(
            nn.Linear(len(FEATURES) + EMBEDDED_WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
        )
        self.score = nn.Sequential(nn.Linear(3 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        self.reject = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        last = self.reject[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.presence = Presence(len(FEATURES), channels)

    def normalise_by(self, features: Tensor, embedding: Tensor) -> None:
        """Take shift and scale from (n, K, F) features and (n, K, C) embeddings."""
        flat = features.flatten(0, 1)
        self.get_buffer("shift").copy_(flat.mean(dim=0))
        self.get_buffer("scale").copy_(flat.std(dim=0).clamp(min=1e-3))
        if embedding.numel():
            self.get_buffer("embedding_scale").copy_(embedding.std().clamp(min=1e-3))

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Logits of the actions: (n, K + 1), the last one rejects the point.

        Args:
            features: (n, K, F) float32.
            embedding: (n, K, C) float32.
        """
        normal, normal_embedding = self.normalised(features, embedding)
        looked = self.look(normal_embedding)
        each = self.each(torch.cat([normal, looked], dim=2))
        shared = torch.cat([each.mean(dim=1), each.amax(dim=1)], dim=1)
        beside = torch.cat([each, shared[:, None].expand(-1, each.shape[1], -1)], dim=2)
        logits = torch.cat([self.score(beside)[..., 0], self.reject(shared)], dim=1)
        return torch.as_tensor(logits)

    def normalised(self, features: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Both as the networks take them."""
        normal = (features - self.get_buffer("shift")) / self.get_buffer("scale")
        return normal, embedding / self.get_buffer("embedding_scale")

    def decide(
        self, features: NDArray[np.float32], embedding: NDArray[np.float32]
    ) -> tuple[IntArray, FloatArray]:
        """The best candidate of each of n points, and how much better rejecting it would be.

        Args:
            features, embedding: as of `forward`.

        Returns:
            (n,) int64 indices; (n,) float64, the logit of rejecting less the candidate's.
        """
        if not len(features):  # whose embedding has no channels
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        with torch.inference_mode():
            logits = self(torch.from_numpy(features), torch.from_numpy(embedding)).numpy()
        chosen = logits[:, :-1].argmax(axis=1)
        best = np.take_along_axis(logits, chosen[:, None], axis=1)[:, 0]
        return chosen, (logits[:, -1] - best).astype(np.float64)

    @property
    def asks_locator(self) -> bool:
        """Whether rejection weighs the localiser's logits, as `train rejection` fits it."""
        return self.presence.is_fitted

    def chances(
        self, features: NDArray[np.float32], embedding: NDArray[np.float32], located: FloatArray
    ) -> FloatArray:
        """How likely each of n points is somebody's: (n,) float64.

        Args:
            features, embedding: as of `forward`.
            located: (n,) float64 logits of the localiser.
        """
        if not len(features):  # whose embedding has no channels
            return np.zeros(0)
        with torch.inference_mode():
            logits = self.presence(
                *self.normalised(torch.from_numpy(features), torch.from_numpy(embedding)),
                torch.from_numpy(located).float(),
            )
            chances: FloatArray = torch.sigmoid(logits).double().numpy()
        return chances

    def act(
        self,
        features: NDArray[np.float32],
        embedding: NDArray[np.float32],
        located: FloatArray | None,
        *,
        reject: bool,
    ) -> tuple[IntArray, NDArray[np.bool_]]:
        """The best candidate of each of an image's n points, and which points are nobody's.

        Args:
            features, embedding: as of `forward`.
            located: (n,) the localiser's logits; None where another found the points: then the
                policy's likeliest action decides, as it does before a fit.
            reject: whether points may be nobody's.
        """
        chosen, doubts = self.decide(features, embedding)
        if not reject:
            return chosen, np.zeros(len(chosen), dtype=np.bool_)
        if located is None or not self.asks_locator:
            return chosen, doubts > 0
        return chosen, ~self.presence.keeps(self.chances(features, embedding, located))


def load_policy(path: Path, weights_sha256: str) -> Policy:
    """Load a policy for a network.

    Args:
        path: safetensors of `training.rps`.
        weights_sha256: of the network whose prompts it is to choose.

    Raises:
        UsageError: the file holds something else, or was trained with another network.
    """
    state = load_state_dict(path)
    try:
        with safe_open(path, framework="pt") as file:
            network = (file.metadata() or {}).get("network")
        policy = Policy(state["look.weight"].shape[1])
        policy.load_state_dict(state)
    except (SafetensorError, OSError, KeyError, IndexError, RuntimeError) as error:
        raise UsageError(
            f"{path}: does not hold a policy's weights; give the right file"
        ) from error
    if network != weights_sha256:
        raise UsageError(
            f"{path}: was trained with another network, whose scores mean something else; "
            "use --selector first, or train one with `dpmo train rps`"
        )
    return policy.float().eval()
