"""GRPO: its gradient by hand and by differences, its groups, and a toy problem that it solves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dpmo_cli.rps.grpo import EPSILON, group_advantages, grpo_loss, sample_actions

CLIP, BETA = 0.2, 0.05
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Toy:
    """One state with three actions, all of which were drawn once, and what is known of them.

    Attributes:
        ratios: of the new policy's probabilities to the old one's.
        references: of the reference's probabilities to the new one's.
        advantages: of the actions.
        clipped: which of the actions the clip leaves without a gradient.
    """

    ratios: tuple[float, float, float]
    references: tuple[float, float, float]
    advantages: tuple[float, float, float]
    clipped: tuple[bool, bool, bool]


SAME = (1.0, 1.0, 1.0)
TOYS = {
    "first step": Toy(SAME, SAME, (1.2, -0.2, -1.0), (False, False, False)),
    "within the clip": Toy((1.1, 0.9, 1.19), SAME, (1, -1, 0.5), (False, False, False)),
    "good and likelier": Toy((1.5, 1, 1), SAME, (1, -1, 0.5), (True, False, False)),
    "bad and likelier": Toy((1.5, 1, 1), SAME, (-1, 1, 0.5), (False, False, False)),
    "good and rarer": Toy((0.5, 1, 1), SAME, (1, -1, 0.5), (False, False, False)),
    "bad and rarer": Toy((0.5, 1, 1), SAME, (-1, 1, 0.5), (True, False, False)),
    "far from the reference": Toy(SAME, (3, 0.2, 0.7), (1, -1, 0.5), (False, False, False)),
    "divergence alone": Toy(SAME, (3, 0.2, 0.7), (0, 0, 0), (False, False, False)),
    "all at once": Toy((2, 0.4, 0.7), (0.5, 2, 1.3), (1, -1, 0.5), (True, True, False)),
}
LOGITS = np.array([0.3, -0.8, 1.1])


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _logs(toy: Toy) -> tuple[Floats, Floats]:
    """Logarithms of the old policy's and of the reference's probabilities."""
    log_new = _log_softmax(LOGITS)
    return log_new - np.log(toy.ratios), log_new + np.log(toy.references)


def _loss(logits: Floats, toy: Toy) -> float:
    """Once more from the paper's formulas."""
    log_old, log_reference = _logs(toy)
    log_new = _log_softmax(logits)
    total = 0.0
    for new, old, reference, advantage in zip(
        log_new, log_old, log_reference, toy.advantages, strict=True
    ):
        rho = np.exp(new - old)
        gain = min(rho * advantage, np.clip(rho, 1 - CLIP, 1 + CLIP) * advantage)
        q = np.exp(reference - new)
        total += gain - BETA * (q - np.log(q) - 1)
    return -total / len(log_new)


def _gradient(toy: Toy) -> Floats:
    """The derivative after the logits, written out."""
    log_old, log_reference = _logs(toy)
    log_new = _log_softmax(LOGITS)
    chance = np.exp(log_new)
    gradient = np.zeros(3)
    for action in range(3):
        rho = np.exp(log_new[action] - log_old[action])
        # d rho / d log new = rho; the clipped side of the minimum is constant.
        of_gain = 0.0 if toy.clipped[action] else rho * toy.advantages[action]
        # d (q - log q - 1) / d log new = 1 - q.
        of_divergence = 1 - np.exp(log_reference[action] - log_new[action])
        # d log softmax(z)_a / d z_b = [a = b] - softmax(z)_b.
        of_logits = np.eye(3)[action] - chance
        gradient += (BETA * of_divergence - of_gain) * of_logits / 3
    return gradient


def _measured(toy: Toy) -> tuple[float, Floats]:
    logits = torch.tensor(LOGITS[None], requires_grad=True)
    log_old, log_reference = (torch.from_numpy(logs[None]) for logs in _logs(toy))
    advantages = torch.tensor([toy.advantages], dtype=torch.float64)
    log_new = logits.log_softmax(dim=1)
    loss = grpo_loss(log_new, log_old, log_reference, advantages, clip=CLIP, beta=BETA)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.item(), gradient[0].numpy()


@pytest.mark.parametrize("name", TOYS)
def test_loss_and_gradient_by_hand(name: str) -> None:
    loss, gradient = _measured(TOYS[name])
    assert loss == pytest.approx(_loss(LOGITS, TOYS[name]), abs=1e-12)
    np.testing.assert_allclose(gradient, _gradient(TOYS[name]), atol=1e-12)
    assert np.abs(gradient).max() > 1e-4


@pytest.mark.parametrize("name", TOYS)
def test_gradient_by_differences(name: str) -> None:
    _, gradient = _measured(TOYS[name])
    step = 1e-6
    numeric = [
        (_loss(LOGITS + step * way, TOYS[name]) - _loss(LOGITS - step * way, TOYS[name]))
        / (2 * step)
        for way in np.eye(3)
    ]
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        pytest.param(1.19, 1.0, True, id="good, likelier, within"),
        pytest.param(1.21, 1.0, False, id="good, likelier, beyond"),
        pytest.param(0.79, -1.0, False, id="bad, rarer, beyond"),
        pytest.param(0.81, -1.0, True, id="bad, rarer, within"),
        pytest.param(5.0, -1.0, True, id="bad, likelier: the way back stays open"),
        pytest.param(0.1, 1.0, True, id="good, rarer: the way back stays open"),
    ],
)
def test_the_clip_stops_the_gradient(ratio: float, advantage: float, moves: bool) -> None:
    log_new = torch.tensor([[np.log(0.3)]], requires_grad=True)
    log_old = log_new.detach() - np.log(ratio)
    loss = grpo_loss(
        log_new, log_old, log_new.detach(), torch.tensor([[advantage]]), clip=CLIP, beta=0.0
    )
    (gradient,) = torch.autograd.grad(loss, log_new)
    assert gradient.item() == pytest.approx(-ratio * advantage if moves else 0)


def test_the_reference_holds_back() -> None:
    """Without a gain only the divergence is left; it is least at the reference."""
    log_reference = torch.tensor([[0.2, 0.5, 0.3]]).log()
    nothing = torch.zeros(1, 3)
    at_home = grpo_loss(log_reference, log_reference, log_reference, nothing, beta=1.0)
    log_new = torch.tensor([[0.3, 0.4, 0.3]]).log()
    away = grpo_loss(log_new, log_new, log_reference, nothing, beta=1.0)
    assert at_home.item() == 0
    # (q - log q - 1) of q = 2/3, 5/4 and 1, by hand.
    assert away.item() == pytest.approx((0.0721318 + 0.0268564 + 0) / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("rewards", "advantages", "told"),
    [
        pytest.param([0, 1], [-1, 1], True, id="two"),
        pytest.param([1, 1, 1, 5], [-(3**-0.5)] * 3 + [3**0.5], True, id="one stands out"),
        pytest.param([10, 11], [-1, 1], True, id="only differences count"),
        pytest.param([0, 1e-3], [-1, 1], True, id="nor does their size"),
        pytest.param([0.5, 0.5, 0.5], [0, 0, 0], False, id="all equal"),
        pytest.param([0, 0], [0, 0], False, id="all zero"),
        pytest.param([3], [0], False, id="a group of one"),
    ],
)
def test_advantages(rewards: list[float], advantages: list[float], told: bool) -> None:
    found, has_signal = group_advantages(torch.tensor([rewards], dtype=torch.float32))
    np.testing.assert_allclose(found[0].numpy(), advantages, rtol=3e-3)
    assert has_signal.tolist() == [told]


def test_advantages_are_of_each_group_alone() -> None:
    groups = torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [7.0, 7.0, 1.0]])
    found, told = group_advantages(groups)
    assert told.tolist() == [True, False, True]
    for row in range(3):
        torch.testing.assert_close(found[row : row + 1], group_advantages(groups[row : row + 1])[0])
    deviation = np.sqrt(2 / 3)
    expected = [-1 / (deviation + EPSILON), 0, 1 / (deviation + EPSILON)]
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-6)


def test_actions_are_drawn_as_often_as_the_policy_says() -> None:
    chances = torch.tensor([[0.5, 0.3, 0.2], [0.05, 0.05, 0.9]])
    drawn = sample_actions(chances.log() + 4, 4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 4000)
    shares = torch.stack([(drawn == action).float().mean(dim=1) for action in range(3)], dim=1)
    torch.testing.assert_close(shares, chances, atol=0.03, rtol=0)


REWARDS = torch.tensor([[0.1, 0.9, 0.3, 0.0], [0.6, 0.5, -0.5, 0.0], [-0.5, -0.5, -0.5, 0.0]])
"""Three states; the last one is nobody's point, whose best action is to reject it."""
BEST = REWARDS.argmax(dim=1)


def _learn(seed: int, rounds: int = 120) -> torch.Tensor:
    """Learn a table of logits by GRPO alone; the final probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(REWARDS.shape, requires_grad=True)
    reference = logits.detach().log_softmax(dim=1)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(rounds):
        actions = sample_actions(logits.detach(), 8, generator)
        advantages, told = group_advantages(REWARDS.gather(1, actions))
        log_old = logits.detach().log_softmax(dim=1).gather(1, actions)
        if not told.any():
            continue
        for _ in range(2):
            log_new = logits.log_softmax(dim=1).gather(1, actions)
            loss = grpo_loss(
                log_new[told], log_old[told], reference.gather(1, actions)[told], advantages[told]
            )
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return logits.detach().softmax(dim=1)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_best_policy(seed: int) -> None:
    before = torch.full((3,), 0.25)
    found = _learn(seed)
    best = found.gather(1, BEST[:, None])[:, 0]
    assert (best > before).all()
    assert (best > 0.9).all(), found


def test_by_seed_the_same() -> None:
    assert torch.equal(_learn(0, rounds=20), _learn(0, rounds=20))
    assert not torch.equal(_learn(0, rounds=20), _learn(1, rounds=20))
