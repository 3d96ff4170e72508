"""Presence: which points stay, whatever their order and the order of their candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpmo_cli.rps.policy import Policy
from dpmo_cli.rps.presence import Presence
from tests.rps.knowing import knows_logits


@pytest.mark.parametrize(
    ("people", "kept"),
    [
        pytest.param(0.1, [], id="nobody"),
        pytest.param(0.5, [0.9], id="one"),
        pytest.param(1.0, [0.9, 0.6], id="as the chances say"),
        pytest.param(1.5, [0.9, 0.6, 0.4], id="some have no point"),
        pytest.param(9.0, [0.9, 0.6, 0.4, 0.1], id="more than there are"),
    ],
)
def test_the_likeliest_stay(people: float, kept: list[float]) -> None:
    presence = knows_logits(Policy(2), people).presence
    chances = np.array([0.4, 0.9, 0.1, 0.6])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = chances[order][presence.keeps(chances[order])]
        assert sorted(found, reverse=True) == kept


def test_points_that_are_alike_stay_or_go_together() -> None:
    presence = knows_logits(Policy(2), 1.0).presence
    assert presence.keeps(np.full(3, 0.3)).all()
    assert not presence.keeps(np.full(3, 0.1)).any()
    assert presence.keeps(np.zeros(0)).shape == (0,)


def test_the_order_of_the_candidates_does_not_matter() -> None:
    torch.manual_seed(0)
    presence = Presence(3, 4).eval()
    assert not presence.is_fitted
    features, embedding, located = torch.randn(6, 5, 3), torch.randn(6, 5, 4), torch.randn(6)
    before = presence(features, embedding, located)
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(presence(features[:, order], embedding[:, order], located), before)
    # All that it is given counts.
    for part in range(3):
        given = [features, embedding, located]
        given[part] = given[part] + 1
        assert not torch.isclose(presence(*given), before).any()
