"""Ways to train the policy on states: GRPO, its exact gradient, and a ranker with supervision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dpmo_cli.rps.grpo import group_advantages, grpo_loss, sample_actions
from dpmo_cli.rps.policy import Policy
from dpmo_cli.training.states import States

GRPO, EXACT, RANK = "grpo", "exact", "rank"
WAYS = (GRPO, EXACT, RANK)
RANK_TEMPERATURE = 0.05
"""The ranker's target is a softmax of the rewards, this sharp."""


@dataclass(frozen=True)
class PolicyTraining:
    """Settings of one training run.

    Attributes:
        rounds: how often GRPO's old policy is renewed; the other ways make as many steps.
        batch: states of a step.
        group: actions drawn for each state.
        updates: steps for each draw.
        reference_every: rounds after which the reference becomes the policy.
        rate: of AdamW, falling to zero as a cosine.
        decay: AdamW's weight decay.
        clip, beta: of `grpo_loss`.
        noise: standard deviation of the noise on normalised features, and share of the embedding
            that is left out.
    """

    rounds: int = 400
    batch: int = 256
    group: int = 8
    updates: int = 2
    reference_every: int = 100
    rate: float = 2e-3
    decay: float = 0.02
    clip: float = 0.2
    beta: float = 0.02
    noise: float = 0.2


@dataclass(frozen=True)
class _Data:
    """States as tensors; `rewards` has the reward of rejecting, 0, as its last column."""

    features: Tensor
    embedding: Tensor
    rewards: Tensor

    def draw(self, count: int, noise: float, generator: torch.Generator) -> _Data:
        """Some states, made a little rougher."""
        rows = torch.randint(len(self.rewards), (count,), generator=generator)
        spread = self.features.flatten(0, 1).std(dim=0)
        features = rougher(self.features[rows], noise * spread, generator)
        embedding = with_gaps(self.embedding[rows], noise, generator)
        return _Data(features, embedding, self.rewards[rows])


def rougher(features: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """(n, K, F) features with normal noise of an (F,) spread."""
    return features + spread * torch.randn(features.shape, generator=generator)


def with_gaps(embedding: Tensor, part: float, generator: torch.Generator) -> Tensor:
    """(n, K, C) embeddings, of which a part of each point's channels is zero."""
    count, _, channels = embedding.shape
    return embedding * (torch.rand(count, 1, channels, generator=generator) >= part)


def as_data(states: States) -> _Data:
    """Put states into tensors."""
    rewards = torch.from_numpy(states.rewards)
    reject = torch.zeros(len(rewards), 1)
    return _Data(
        torch.from_numpy(states.features),
        torch.from_numpy(states.embedding),
        torch.cat([rewards, reject], dim=1),
    )


def train_policy(
    states: States,
    way: str,
    settings: PolicyTraining,
    seed: int,
    look: Callable[[int, Policy], None] = lambda step, policy: None,
) -> Policy:
    """Train a policy; the same for the same states, way, settings and seed.

    Args:
        states: to train on.
        way: one of WAYS.
        settings: of the run.
        seed: of the first weights and of all chance.
        look: called now and then, for curves.
    """
    data = as_data(states)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = Policy(data.embedding.shape[2])
    policy.normalise_by(data.features, data.embedding)
    optimiser = torch.optim.AdamW(
        policy.parameters(), lr=settings.rate, weight_decay=settings.decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.rounds)
    reference = copy.deepcopy(policy)
    every = max(1, settings.rounds // 30)
    for step in range(settings.rounds):
        part = data.draw(settings.batch, settings.noise, generator)
        if step % settings.reference_every == 0:
            reference.load_state_dict(policy.state_dict())
        losses = _LOSSES[way](policy, reference, part, settings, generator)
        for loss in losses:
            optimiser.zero_grad()
            torch.autograd.backward(loss())
            optimiser.step()
        schedule.step()
        if (step + 1) % every == 0:
            look(step + 1, policy)
    return policy.eval()


Losses = list[Callable[[], Tensor]]
"""The losses of a round's steps, each computed when its step comes."""


def _grpo(
    policy: Policy,
    reference: Policy,
    part: _Data,
    settings: PolicyTraining,
    generator: torch.Generator,
) -> Losses:
    with torch.no_grad():
        old = policy(part.features, part.embedding)
        actions = sample_actions(old, settings.group, generator)
        advantages, told = group_advantages(part.rewards.gather(1, actions))
        log_old = old.log_softmax(dim=1).gather(1, actions)
        logits = reference(part.features, part.embedding)
        log_reference = logits.log_softmax(dim=1).gather(1, actions)

    def loss() -> Tensor:
        logits: Tensor = policy(part.features, part.embedding)
        log_new = logits.log_softmax(dim=1).gather(1, actions)
        if not told.any():
            return log_new.sum() * 0
        return grpo_loss(
            log_new[told],
            log_old[told],
            log_reference[told],
            advantages[told],
            clip=settings.clip,
            beta=settings.beta,
        )

    return [loss] * settings.updates


def _exact(
    policy: Policy,
    reference: Policy,
    part: _Data,
    settings: PolicyTraining,
    generator: torch.Generator,
) -> Losses:
    """Every candidate's reward is known: the expected reward needs no sample."""

    def loss() -> Tensor:
        logits: Tensor = policy(part.features, part.embedding)
        chance = logits.softmax(dim=1)
        return -(chance * part.rewards).sum(dim=1).mean()

    return [loss]


def _rank(
    policy: Policy,
    reference: Policy,
    part: _Data,
    settings: PolicyTraining,
    generator: torch.Generator,
) -> Losses:
    def loss() -> Tensor:
        target = (part.rewards / RANK_TEMPERATURE).softmax(dim=1)
        return functional.cross_entropy(policy(part.features, part.embedding), target)

    return [loss]


_LOSSES = {GRPO: _grpo, EXACT: _exact, RANK: _rank}
