"""What training loops share: the average of weights, batches in order, and the optimiser."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from dpmo_cli.training.loop import EMA_DECAY, WEIGHT_DECAY, Average, make_loader, make_optimiser


class Net(nn.Module):
    """A trunk with a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 1)


def steps_of(model: nn.Module, count: int) -> list[dict[str, torch.Tensor]]:
    """Random weights and statistics, as so many steps would leave them."""
    chance = torch.Generator().manual_seed(0)
    return [
        {
            name: torch.randn(value.shape, generator=chance) if value.is_floating_point() else value
            for name, value in model.state_dict().items()
        }
        for _ in range(count)
    ]


def set_in_place(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """As an optimiser and the norms do it."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(state[name])


def test_the_average_is_that_of_its_definition() -> None:
    model = Net()
    average = Average(model)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step, state in enumerate(steps_of(model, 12)):
        set_in_place(model, state)
        average.update(step)
        part = 1 - min(EMA_DECAY, (1 + step) / (10 + step))
        for name, value in state.items():
            if value.is_floating_point():
                expected[name] = expected[name] + part * (value - expected[name])
    found = average.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_the_average_leaves_the_network_alone() -> None:
    model = Net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = Average(model)
    average.update(0)
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_average_goes_on_where_it_was() -> None:
    """Weights that are loaded into the average and its network are those that it follows."""
    one, other = Net(), Net()
    states = steps_of(one, 6)
    average, resumed = Average(one), Average(other)
    for step, state in enumerate(states):
        if step == 3:
            other.load_state_dict(one.state_dict())
            resumed.load_state_dict(average.state_dict())
        set_in_place(one, state)
        average.update(step)
        if step >= 3:
            set_in_place(other, state)
            resumed.update(step)
    for name, value in average.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Squares(Dataset[torch.Tensor]):
    """The batch of a step is its square."""

    def __getitem__(self, step: int) -> torch.Tensor:
        return torch.tensor([step * step])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers: int) -> None:
    if workers and sys.platform != "linux":
        pytest.skip("processes are forked on Linux alone")
    loader = make_loader(Squares(), range(3, 12), workers, pin=False)
    assert [batch.tolist() for batch in loader] == [[step * step] for step in range(3, 12)]


def test_no_batches_for_no_steps() -> None:
    assert list(make_loader(Squares(), range(5, 5), 0, pin=False)) == []


def test_two_rates_and_the_weight_decay() -> None:
    model = Net()
    optimiser, _ = make_optimiser(model, model.trunk, (1e-4, 1e-3), 1)
    trunk, rest = optimiser.param_groups
    assert [group["initial_lr"] for group in (trunk, rest)] == [1e-4, 1e-3]
    assert {group["weight_decay"] for group in (trunk, rest)} == {WEIGHT_DECAY}
    assert [id(p) for p in trunk["params"]] == [id(p) for p in model.trunk.parameters()]
    assert [id(p) for p in rest["params"]] == [id(p) for p in model.head.parameters()]


@pytest.mark.parametrize(("steps", "warm_up"), [(10, 1), (1000, 50), (40_000, 500)])
def test_the_rates_warm_up_and_fall(steps: int, warm_up: int) -> None:
    model = Net()
    optimiser, schedule = make_optimiser(model, model.trunk, (0.5, 1.0), steps)
    rates: list[float] = []
    for _ in range(min(steps, 2 * warm_up + 8)):
        assert optimiser.param_groups[0]["lr"] == optimiser.param_groups[1]["lr"] / 2
        rates.append(optimiser.param_groups[1]["lr"])
        optimiser.step()
        schedule.step()
    assert rates[0] == pytest.approx(1 / warm_up)
    assert abs(rates.index(max(rates)) - (warm_up - 1)) <= 1
    assert rates[-1] < max(rates)
