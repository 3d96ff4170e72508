"""The policy: candidates in any order, an action that rejects, and files that load or do not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpmo_cli.errors import UsageError
from dpmo_cli.rps.candidates import COUNT, FEATURES
from dpmo_cli.rps.locator import Locator
from dpmo_cli.rps.policy import Policy, load_policy
from dpmo_cli.training.rps import write_policy
from tests.rps.knowing import knows_logits

CHANNELS = 5
NETWORK = "a" * 64


@pytest.fixture
def policy() -> Policy:
    torch.manual_seed(0)
    return Policy(CHANNELS).eval()


def draw(count: int = 6, candidates: int = COUNT, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features and embeddings of some points."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, candidates, len(FEATURES), generator=generator),
        torch.randn(count, candidates, CHANNELS, generator=generator),
    )


def test_an_action_for_each_candidate_and_one_that_rejects(policy: Policy) -> None:
    logits = policy(*draw())
    assert logits.shape == (6, COUNT + 1)
    # An untrained policy keeps nearly every point, whatever it sees.
    assert logits[:, -1].tolist() == [0.0] * 6
    assert logits[:, :-1].std() > 0


def test_the_order_of_the_candidates_does_not_matter(policy: Policy) -> None:
    with torch.no_grad():
        policy.reject[-1].weight.normal_()
    features, embedding = draw()
    before = policy(features, embedding)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    after = policy(features[:, order], embedding[:, order])
    torch.testing.assert_close(after[:, :-1], before[:, :-1][:, order])
    torch.testing.assert_close(after[:, -1], before[:, -1])
    assert not torch.allclose(after[:, :-1], before[:, :-1])
    assert before[:, -1].std() > 0


def test_points_do_not_see_each_other(policy: Policy) -> None:
    features, embedding = draw()
    together = policy(features, embedding)
    alone = torch.cat([policy(features[i : i + 1], embedding[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone)


def test_each_candidate_sees_the_others(policy: Policy) -> None:
    features, embedding = draw(count=1)
    before = policy(features, embedding)
    features[0, 3] += 2
    after = policy(features, embedding)
    assert not torch.isclose(after[0, :-1], before[0, :-1]).any()


def test_it_looks_at_the_embedding(policy: Policy) -> None:
    features, embedding = draw()
    assert not torch.allclose(policy(features, embedding), policy(features, embedding + 1))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_without_an_embedding() -> None:
    features, _ = draw()
    policy = Policy(0)
    nothing = torch.zeros(*features.shape[:2], 0)
    policy.normalise_by(features, nothing)
    assert policy(features, nothing).shape == (6, COUNT + 1)


def test_normalised_features_have_no_unit(policy: Policy) -> None:
    """Any shift and scale of what is seen gives the same actions."""
    features, embedding = draw(count=50)
    policy.normalise_by(features, embedding)
    before = policy(features, embedding)
    factor = torch.linspace(0.5, 7, len(FEATURES))
    policy.normalise_by(3 + factor * features, 4 * embedding)
    torch.testing.assert_close(policy(3 + factor * features, 4 * embedding), before,
                               atol=1e-4, rtol=1e-4)  # fmt: skip
    plain = torch.ones_like(features)
    policy.normalise_by(plain, embedding)
    assert torch.isfinite(policy(plain, embedding)).all(), "a feature that never varies"


def test_saved_and_loaded(policy: Policy, tmp_path: Path) -> None:
    policy.normalise_by(*draw(seed=3))
    write_policy(policy, tmp_path / "p.safetensors", NETWORK)
    loaded = load_policy(tmp_path / "p.safetensors", NETWORK)
    assert not loaded.training
    assert torch.equal(loaded(*draw()), policy(*draw()))
    write_policy(policy, tmp_path / "again.safetensors", NETWORK)
    first, again = (tmp_path / f"{name}.safetensors" for name in ("p", "again"))
    assert first.read_bytes() == again.read_bytes()


def _text(path: Path, policy: Policy) -> None:
    path.write_text("weights")


def _empty(path: Path, policy: Policy) -> None:
    path.write_bytes(b"")


def _pickle(path: Path, policy: Policy) -> None:
    path.write_bytes(pickle.dumps({"look.weight": [1.0]}))


def _torch_file(path: Path, policy: Policy) -> None:
    torch.save(policy.state_dict(), path)


def _truncated(path: Path, policy: Policy) -> None:
    write_policy(policy, path, NETWORK)
    path.write_bytes(path.read_bytes()[:2000])


def _localiser(path: Path, policy: Policy) -> None:
    save_file(Locator().state_dict(), path)


def _without(path: Path, policy: Policy) -> None:
    state = policy.state_dict()
    del state["shift"]
    save_file(state, path, metadata={"network": NETWORK})


def _flat(path: Path, policy: Policy) -> None:
    save_file(policy.state_dict() | {"look.weight": torch.zeros(3)}, path)


def _wider(path: Path, policy: Policy) -> None:
    look = torch.zeros(7, CHANNELS)
    save_file(policy.state_dict() | {"look.weight": look}, path, metadata={"network": NETWORK})


def _unnamed(path: Path, policy: Policy) -> None:
    save_file(policy.state_dict(), path)


def _other_network(path: Path, policy: Policy) -> None:
    write_policy(policy, path, "b" * 64)


NO_POLICY = "does not hold a policy's weights; give the right file"
TRAINED_ELSEWHERE = "was trained with another network"


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        pytest.param("p.pt", _text, "is no checkpoint, or damaged", id="text"),
        pytest.param("p.safetensors", _text, "is no safetensors file", id="text, well named"),
        pytest.param("p.safetensors", _empty, "is no safetensors file", id="empty"),
        pytest.param("p.pkl", _pickle, "is a bare pickle", id="pickle"),
        pytest.param("p.pt", _torch_file, NO_POLICY, id="of torch.save"),
        pytest.param("p.safetensors", _truncated, "is no safetensors file", id="truncated"),
        pytest.param("p.safetensors", _localiser, NO_POLICY, id="a localiser"),
        pytest.param("p.safetensors", _without, NO_POLICY, id="a tensor is missing"),
        pytest.param("p.safetensors", _flat, NO_POLICY, id="a tensor of another shape"),
        pytest.param("p.safetensors", _wider, NO_POLICY, id="a wider layer"),
        pytest.param("p.safetensors", _unnamed, TRAINED_ELSEWHERE, id="names no network"),
        pytest.param("p.safetensors", _other_network, TRAINED_ELSEWHERE, id="another network"),
    ],
)
def test_other_files(
    name: str,
    write: Callable[[Path, Policy], None],
    says: str,
    policy: Policy,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    write(path, policy)
    with pytest.raises(UsageError, match=says) as caught:
        load_policy(path, NETWORK)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        load_policy(tmp_path / "none.safetensors", NETWORK)


def test_the_file_names_its_network(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_policy(policy, path, NETWORK)
    assert load_file(path).keys() == policy.state_dict().keys()
    assert NETWORK.encode() in path.read_bytes()[:300]


def test_what_it_decides(policy: Policy) -> None:
    with torch.no_grad():
        policy.reject[-1].weight.normal_()
    features, embedding = draw(count=50)
    logits = policy(features, embedding).detach().numpy()
    middle = float(np.median(logits[:, -1] - logits[:, :-1].max(axis=1)))
    with torch.no_grad():
        policy.reject[-1].bias -= middle
    logits[:, -1] -= middle
    chosen, doubts = policy.decide(features.numpy(), embedding.numpy())
    np.testing.assert_array_equal(chosen, logits[:, :-1].argmax(axis=1))
    np.testing.assert_allclose(doubts, logits[:, -1] - logits[:, :-1].max(axis=1), atol=1e-5)
    assert (doubts > 0).sum() == 25


def rejected(
    policy: Policy,
    features: NDArray[np.float32],
    embedding: NDArray[np.float32],
    located: NDArray[np.float64] | None,
) -> NDArray[np.bool_]:
    """Which points go; which candidates are chosen is the same without."""
    chosen, gone = policy.act(features, embedding, located, reject=True)
    kept, nobody = policy.act(features, embedding, located, reject=False)
    np.testing.assert_array_equal(chosen, kept)
    assert not nobody.any()
    return gone


def test_rejection_before_a_fit_is_the_likeliest_action(policy: Policy) -> None:
    with torch.no_grad():
        policy.reject[-1].weight.normal_()
    features, embedding = (part.numpy() for part in draw(count=50))
    doubts = policy.decide(features, embedding)[1]
    assert not policy.asks_locator
    for known in (np.full(50, 9.0), None):
        np.testing.assert_array_equal(rejected(policy, features, embedding, known), doubts > 0)


def test_fitted_rejection_weighs_the_localiser(policy: Policy, tmp_path: Path) -> None:
    """It is the same after a round through a file."""
    knows_logits(policy, people=1.7)
    write_policy(policy, tmp_path / "p.safetensors", NETWORK)
    loaded = load_policy(tmp_path / "p.safetensors", NETWORK)
    assert loaded.asks_locator
    features, embedding = (part.numpy() for part in draw(count=5))
    located = np.array([-2.0, 3.0, 0.1, -9.0, 1.0])
    chances = loaded.chances(features, embedding, located)
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-located)), rtol=1e-5)
    # They come to 2.3, which tell of four people.
    kept = [True, True, True, False, True]
    assert (~rejected(loaded, features, embedding, located)).tolist() == kept
    # Another localiser's points have no logit of ours.
    doubts = loaded.decide(features, embedding)[1]
    np.testing.assert_array_equal(rejected(loaded, features, embedding, None), doubts > 0)


def test_rejection_where_nobody_is(policy: Policy) -> None:
    knows_logits(policy, people=1.0)
    none = np.zeros((0, COUNT, len(FEATURES)), np.float32), np.zeros((0, COUNT, 0), np.float32)
    assert rejected(policy, *none, np.zeros(0)).shape == (0,)
