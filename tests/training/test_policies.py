"""Policies on toy states whose best action can be seen from one feature."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from dpmo_cli.rps.candidates import COUNT, FEATURES
from dpmo_cli.rps.policy import Policy
from dpmo_cli.training.policies import (
    EXACT,
    GRPO,
    RANK,
    WAYS,
    PolicyTraining,
    as_data,
    train_policy,
)
from dpmo_cli.training.rivals import chosen_by
from dpmo_cli.training.states import FALSE_KEPT, States

QUICK = PolicyTraining(rounds=100, batch=64, rate=5e-3, reference_every=50)


def toy(count: int = 150, seed: int = 0) -> States:
    """The best candidate is the one with the largest first feature; a third is nobody's."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, COUNT, len(FEATURES))).astype(np.float32)
    embedding = rng.normal(size=(count, COUNT, 3)).astype(np.float32)
    meant = np.arange(count) % 3 > 0
    features[..., 1] = np.where(meant, 1, -1)[:, None]
    best = features[..., 0].argmax(axis=1)
    features[np.arange(count), best, 0] += 1
    ious = rng.uniform(0, 0.3, (count, COUNT)).astype(np.float32)
    ious[np.arange(count), best] = 0.8
    ious[~meant] = 0
    rewards = np.where(meant[:, None], ious, -FALSE_KEPT).astype(np.float32)
    return States(features, embedding, ious.copy(), ious, rewards, meant, np.zeros(count))


def right(policy: Policy, states: States) -> tuple[float, float]:
    """Part of the persons' points at the best candidate, and of all points rightly kept."""
    chosen, dropped = chosen_by(policy, reject=True)(states)
    best = chosen == states.ious.argmax(axis=1)
    return float(best[states.meant].mean()), float((dropped != states.meant).mean())


@pytest.mark.parametrize("way", WAYS)
def test_each_way_learns(way: str) -> None:
    before = right(train_policy(toy(), way, replace(QUICK, rounds=1), 0), toy(seed=1))
    policy = train_policy(toy(), way, QUICK, 0)
    after = right(policy, toy(seed=1))
    assert not policy.training
    assert before[0] < 0.6
    assert before[1] < 0.7
    assert after[0] > 0.9
    assert after[1] > 0.9


@pytest.mark.parametrize("way", WAYS)
def test_the_same_by_seed(way: str) -> None:
    few = replace(QUICK, rounds=4)
    states = toy(30)
    one = train_policy(states, way, few, 0).state_dict()
    torch.manual_seed(99)
    again = train_policy(states, way, few, 0).state_dict()
    other = train_policy(states, way, few, 1).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["look.weight"], other["look.weight"])


def test_the_ways_differ() -> None:
    few = replace(QUICK, rounds=2)
    found = [train_policy(toy(30), way, few, 0).state_dict()["look.weight"] for way in WAYS]
    assert set(WAYS) == {GRPO, EXACT, RANK}
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("way", WAYS)
def test_nothing_else_changes(way: str) -> None:
    """Neither the states nor the chance of others."""
    states = toy(30)
    before = copy.deepcopy(states)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_policy(states, way, replace(QUICK, rounds=3), 0)
    assert torch.equal(torch.rand(3), expected)
    for field in fields(States):
        np.testing.assert_array_equal(getattr(states, field.name), getattr(before, field.name))


def test_groups_without_signal_teach_nothing() -> None:
    """All rewards equal, that of rejecting too: GRPO leaves the first weights as they are."""
    states = toy(30)
    flat = replace(states, rewards=np.zeros_like(states.rewards))
    still = replace(QUICK, rounds=3, decay=0.0)
    untrained = train_policy(flat, GRPO, replace(still, rate=0.0), 0).state_dict()
    trained = train_policy(flat, GRPO, still, 0).state_dict()
    assert all(torch.equal(untrained[name], trained[name]) for name in untrained)
    told = train_policy(states, GRPO, still, 0).state_dict()
    assert not torch.equal(untrained["look.weight"], told["look.weight"])


def test_rejecting_earns_nothing() -> None:
    states = toy(5)
    data = as_data(states)
    assert data.rewards.shape == (5, COUNT + 1)
    assert not data.rewards[:, -1].any()
    np.testing.assert_array_equal(data.rewards[:, :-1].numpy(), states.rewards)


def test_what_is_drawn_is_rougher() -> None:
    data = as_data(toy(20))
    generator = torch.Generator().manual_seed(0)
    plain = data.draw(500, 0.0, generator)
    assert set(map(tuple, plain.rewards.tolist())) == set(map(tuple, data.rewards.tolist()))
    assert set(plain.features[:, 0, 0].tolist()) <= set(data.features[:, 0, 0].tolist())
    rough = data.draw(500, 0.25, torch.Generator().manual_seed(0))
    left_out = (rough.embedding == 0).float().mean()
    assert left_out == pytest.approx(0.25, abs=0.05)
    same = data.draw(500, 0.0, torch.Generator().manual_seed(0))
    noise = (rough.features - same.features).flatten(0, 1).std(dim=0)
    torch.testing.assert_close(
        noise, 0.25 * data.features.flatten(0, 1).std(dim=0), rtol=0.1, atol=0
    )
    assert torch.equal(rough.rewards, same.rewards)


def test_it_can_be_looked_at() -> None:
    seen: list[int] = []
    train_policy(toy(20), RANK, replace(QUICK, rounds=60), 0, lambda step, _: seen.append(step))
    assert seen == list(range(2, 61, 2))
    seen.clear()
    train_policy(toy(20), RANK, replace(QUICK, rounds=3), 0, lambda step, _: seen.append(step))
    assert seen == [1, 2, 3]
