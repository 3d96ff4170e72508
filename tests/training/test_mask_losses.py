"""The mask losses: values by hand, gradients, and what must not change them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dpmo_cli.training import mask_losses
from dpmo_cli.training.mask_losses import (
    background,
    foreground,
    likelihood,
    mask_terms,
    mass_of_logits,
    ownership,
    people_of_masks,
    poisson_deviance,
)
from dpmo_cli.training.mask_regions import Regions, nearest_labels, regions_of
from tests.training.mask_scenes import crowd, dense, regions_of_crowd, row

Loss = Callable[[Tensor, Regions], Tensor]
TERMS: tuple[Loss, ...] = (foreground, background, ownership)
LOSSES = (*TERMS, poisson_deviance, likelihood)


@pytest.mark.parametrize(
    ("labels", "mass", "expected"),
    [
        pytest.param(row(1, 1, 0, 2), [0.5, 0.5, 0.0, 1.0], (0.0, 0.0), id="perfect"),
        pytest.param(row(1, 1, 0, 2), [0.0, 0.0, 0.0, 0.0], (1.0, 0.0), id="nothing"),
        pytest.param(row(1, 1, 0, 2), [2.0, 1.0, 0.0, 1.0], (1.0, 0.0), id="too-much-on-one"),
        pytest.param(row(1, 1, 0, 2), [0.5, 0.5, 3.0, 1.0], (0.0, 1.5), id="on-the-ground"),
        pytest.param(row(1, 1, -1, 2), [0.5, 0.5, 3.0, 1.0], (0.0, 0.0), id="not-counted"),
        pytest.param(row(0, 0, 0, 0), [0.5, 0.5, 0.0, 1.0], (0.0, 2.0), id="nobody"),
    ],
)
def test_by_hand(labels: Tensor, mass: list[float], expected: tuple[float, float]) -> None:
    terms = mask_terms(torch.tensor([[mass]]), regions_of(labels))
    assert (float(terms.foreground), float(terms.background)) == pytest.approx(expected)
    assert float(terms.ownership) == 0.0


def test_ownership_by_hand() -> None:
    """Two persons at x = 0 and 4; the mask of the second reaches over to x = 1."""
    labels = row(1, 2, 2, 2, 2, 0)
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    nearest = nearest_labels([points], (1, 6))
    assert nearest.tolist() == [[[1, 1, 1, 2, 2, 2]]]
    regions = regions_of(labels, nearest=nearest)
    # Of the second's mask the cells 1 and 2 are nearer to the first.
    mass = torch.tensor([[[1.0, 0.3, 0.1, 0.2, 0.4, 0.0]]])
    assert float(ownership(mass, regions)) == pytest.approx(0.4 / 2)
    # The others see nothing wrong: each mask holds one.
    assert float(foreground(mass, regions)) == pytest.approx(0.0, abs=1e-6)
    assert float(background(mass, regions)) == 0.0


def test_mass_of_weighted_logits() -> None:
    """Of ten cells three are people: an entropy in which they weigh double ends at other odds."""
    logit = torch.zeros((), requires_grad=True)
    target = (torch.arange(10) < 3).float()
    optimiser = torch.optim.SGD([logit], lr=1.0)
    for _ in range(300):
        optimiser.zero_grad()
        entropy = functional.binary_cross_entropy_with_logits(
            logit.expand(10), target, pos_weight=torch.tensor(2.0)
        )
        entropy.backward()
        optimiser.step()
    assert float(mass_of_logits(logit.detach(), 2.0)) == pytest.approx(0.3, abs=1e-4)


def test_deviance_by_hand() -> None:
    """Masks of one and of two persons, something beside them, and a cell that nobody knows."""
    regions = regions_of(row(1, 1, 0, -1, 2), people=torch.tensor([1.0, 2.0]))
    found = poisson_deviance(torch.tensor([[[0.1, 0.4, 0.2, 9.0, 3.0]]]), regions)
    one, two = 0.5 - 1 - np.log(0.5), 3 - 2 + 2 * np.log(2 / 3)
    assert float(found) == pytest.approx((one + two + 0.2) / 2, abs=2e-4)
    perfect = torch.tensor([[[0.3, 0.7, 0.0, 9.0, 2.0]]])
    assert float(poisson_deviance(perfect, regions)) == pytest.approx(0.0, abs=2e-4)


def test_likelihood_by_hand() -> None:
    """A mask of two cells, one beside both, one of which nothing is known."""
    chances = torch.tensor([[[0.2, 0.5, 0.1, 0.9]]])
    logits = torch.logit(chances)
    one = 0.2 * 0.5 + 0.8 * 0.5
    found = likelihood(logits, regions_of(row(1, 1, 0, -1)))
    assert float(found) == pytest.approx(-np.log(one * 0.9), rel=1e-5)
    # Two on one mask: only the cell that is on none counts.
    two = regions_of(row(1, 1, 0, -1), people=torch.tensor([2.0]))
    assert float(likelihood(logits, two)) == pytest.approx(-np.log(0.9), rel=1e-5)


def test_likelihood_of_a_divided_cell() -> None:
    """Half of the cell in the middle is on each mask, and so is who is there with half a chance."""
    labels = torch.zeros((1, 2, 6), dtype=torch.int64)
    labels[..., :3], labels[..., 3:] = 1, 2
    regions = regions_of(labels, 2)
    chances = torch.tensor([[[0.2, 0.6, 0.7]]])
    one = 0.2 * (1 - 0.3) + 0.8 * 0.3
    two = 0.7 * (1 - 0.3) + 0.3 * 0.3
    found = likelihood(torch.logit(chances), regions)
    assert float(found) == pytest.approx(-np.log(one * two) / 2, rel=1e-5)
    # Nobody between two who are sure is right; somebody there for both is not.
    right, wrong = ([9.0, -9.0, 9.0], [-9.0, 99.0, -9.0])
    assert 0 <= float(likelihood(torch.tensor([[right]]), regions)) < 0.01
    assert float(likelihood(torch.tensor([[wrong]]), regions)) > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_likelihood_is_one_of_something_that_can_be(seed: int) -> None:
    """However masks divide the cells, no map is likelier than certain."""
    points, labels = crowd(60, (48, 48), seed)
    regions = regions_of_crowd(points, labels, 4)
    logits = torch.zeros((1, 12, 12), requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(300):
        optimiser.zero_grad()
        found = likelihood(logits, regions)
        found.backward()
        optimiser.step()
    assert float(found.detach()) >= 0
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("loss", "link"),
    [(likelihood, torch.clone), (poisson_deviance, functional.softplus)],
    ids=["likelihood", "deviance"],
)
def test_least_at_the_probability(loss: Loss, link: Callable[[Tensor], Tensor]) -> None:
    """Of ten places alike, three have somebody: the three terms pull to nobody at all."""
    value = torch.zeros((), requires_grad=True)
    labels = torch.zeros((1, 1, 10), dtype=torch.int64)
    labels[0, 0, :3] = torch.arange(1, 4)
    regions = regions_of(labels)
    optimiser = torch.optim.SGD([value], lr=0.5)
    for _ in range(300):
        optimiser.zero_grad()
        loss(link(value).expand(1, 1, 10), regions).backward()
        optimiser.step()
    mass = torch.sigmoid(value.detach()) if loss is likelihood else link(value.detach())
    assert float(mass) == pytest.approx(0.3, abs=1e-3)
    terms = mask_terms(mass.expand(1, 1, 10), regions)
    nothing = mask_terms(torch.zeros((1, 1, 10)), regions)
    assert terms.foreground + terms.background > nothing.foreground + nothing.background


def test_a_cell_that_both_share_is_not_another_s() -> None:
    """A coarse cell on which the nearest person is too can hold that person's mass."""
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    regions = regions_of(
        row(1, 2, 2, 2), 2, nearest=nearest_labels([points], (1, 4), 2), counts=[2]
    )
    assert float(ownership(torch.ones(1, 1, 2), regions)) == 0.0


def test_mass_near_somebody_without_a_mask_is_not_another_s() -> None:
    """As at a crop's border, which cuts that one's mask."""
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    nearest = nearest_labels([points], (1, 6))
    mass = torch.ones(1, 1, 6)
    for labels, weight in ((row(-1, 2, 2, 2, 2, 0), [1.0, 1.0]), (row(1, 2, 2, 2, 2, 0), [0.0, 1])):
        regions = regions_of(labels, nearest=nearest, counts=[2], weight=torch.tensor(weight))
        assert float(ownership(mass, regions)) == 0.0


def test_weights_and_shared_masks() -> None:
    labels, mass = row(1, 2), torch.tensor([[[0.0, 1.0]]])
    half = regions_of(labels, weight=torch.tensor([0.5, 1.0]))
    assert float(foreground(mass, half)) == pytest.approx(0.25)
    two = regions_of(labels, people=torch.tensor([1.0, 3.0]))
    assert float(foreground(mass, two)) == pytest.approx((1 + 2) / 2)
    # A mask without a pixel asks for nobody.
    lost = regions_of(row(1, 0), counts=[2])
    assert float(foreground(torch.tensor([[[1.0, 0.0]]]), lost)) == 0.0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cell_px", [1, 4])
def test_gradients(loss: Loss, cell_px: int) -> None:
    points, labels = crowd(9, (12, 16))
    regions = regions_of_crowd(points, labels, cell_px, weight=torch.linspace(0.3, 1, 9))
    generator = torch.Generator().manual_seed(0)
    mass = torch.rand(regions.ground.shape, generator=generator, dtype=torch.float64)
    mass.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m: loss(m, regions), (mass,))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_logits(loss: Loss) -> None:
    points, labels = crowd(9, (12, 16))
    regions = regions_of_crowd(points, labels)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(regions.ground.shape, generator=generator, dtype=torch.float64)
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(mass_of_logits(x), regions), (logits,))


def gradient(loss: Loss, mass: Tensor, regions: Regions) -> Tensor:
    mass = mass.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(loss(mass, regions), mass)
    return found


def test_every_cell_has_its_gradient() -> None:
    """No term comes from counts that nothing flows through: the first of one point alone did."""
    points, labels = crowd(20, (32, 32))
    regions = regions_of_crowd(points, labels)
    mass = torch.full((1, 32, 32), 1e-3)
    on_masks = labels[None] > 0
    too_few = gradient(foreground, mass, regions)
    assert (too_few[on_masks] < 0).all()
    assert (too_few[~on_masks] == 0).all()
    assert (gradient(foreground, mass + 1, regions)[on_masks] > 0).all()
    ground = gradient(background, mass, regions)
    assert (ground[~on_masks] > 0).all()
    assert (ground[on_masks] == 0).all()
    nearest = nearest_labels([points], (32, 32))
    foreign = on_masks & (labels[None] != nearest)
    assert foreign.any()
    owned = gradient(ownership, mass, regions)
    assert (owned[foreign] > 0).all()
    assert (owned[~foreign] == 0).all()


def test_logits_have_a_gradient_where_nobody_is_found() -> None:
    points, labels = crowd(20, (32, 32))
    regions = regions_of_crowd(points, labels)
    logits = torch.full((1, 32, 32), -6.0)
    found = gradient(lambda x, r: foreground(mass_of_logits(x), r), logits, regions)
    assert (found[labels[None] > 0] < 0).all()


def test_no_term_is_another() -> None:
    points, labels = crowd(20, (32, 32))
    regions = regions_of_crowd(points, labels)
    mass = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1))
    flat = torch.stack([gradient(loss, mass, regions).flatten() for loss in TERMS])
    unit = flat / flat.norm(dim=1, keepdim=True)
    assert (unit @ unit.T - torch.eye(3)).abs().max() < 0.9


def test_a_step_along_the_gradient_helps() -> None:
    points, labels = crowd(20, (32, 32))
    regions = regions_of_crowd(points, labels)
    logits = torch.full((1, 32, 32), -2.0, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    first = None
    for _ in range(200):
        loss = torch.stack(tuple(mask_terms(mass_of_logits(logits), regions))).sum()
        first = first or float(loss.detach())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert first is not None
    assert float(loss.detach()) < 0.1 * first


def test_the_order_of_the_people_does_not_matter() -> None:
    points, labels = crowd(50, (48, 64))
    mass = torch.rand(1, 12, 16, generator=torch.Generator().manual_seed(2))
    weight = torch.linspace(0.2, 1, 50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    number = torch.zeros(51, dtype=torch.int64)
    number[order + 1] = torch.arange(1, 51)
    one = regions_of_crowd(points, labels, 4, weight)
    other = regions_of_crowd(points[order], number[labels], 4, weight[order])
    for loss in LOSSES:
        assert float(loss(mass, one)) == pytest.approx(float(loss(mass, other)), rel=1e-5)


def test_a_batch_is_the_mean_over_all_its_people() -> None:
    parts = [crowd(6, (16, 16), 1), crowd(0, (16, 16)), crowd(2, (16, 16), 2)]
    mass = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(4))
    batch = regions_of(
        torch.stack([labels for _, labels in parts]),
        4,
        counts=[len(points) for points, _ in parts],
        nearest=nearest_labels([points for points, _ in parts], (16, 16), 4),
    )
    alone = [regions_of_crowd(*part, 4) for part in parts]
    counts = torch.tensor([float((one.weight > 0).sum()) for one in alone])
    for loss in LOSSES:
        each = torch.stack([loss(m[None], r) for m, r in zip(mass, alone, strict=True)])
        # An image of nobody is divided by one.
        expected = (each * counts.clamp(min=1)).sum() / counts.sum()
        assert float(loss(mass, batch)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("loss", "far"),
    [(likelihood, -200.0), (likelihood, 200.0), (poisson_deviance, 0.0), (poisson_deviance, 200.0)],
)
def test_sure_maps(dtype: torch.dtype, loss: Loss, far: float) -> None:
    """Wherever a map is sure, right or wrong, there are a loss and gradients that are numbers."""
    points, labels = crowd(20, (32, 32))
    regions = regions_of_crowd(points, labels, 4, weight=torch.arange(20) % 3 / 2)
    logits = torch.full((1, 8, 8), far, dtype=dtype, requires_grad=True)
    found = loss(logits, regions)
    found.backward()
    assert torch.isfinite(found)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("people", [0, 1, 5000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(people: int, dtype: torch.dtype) -> None:
    """What half precision says of a map is what single precision says of the same map."""
    points, labels = crowd(people, (96, 128)) if people < 5000 else dense(5000, (480, 640))
    size = (labels.shape[0] // 4, labels.shape[1] // 4)
    regions = regions_of_crowd(points, labels, 4)
    mass = torch.rand(1, *size, generator=torch.Generator().manual_seed(5)).to(dtype)
    for loss in LOSSES:
        value = loss(mass, regions)
        assert value.dtype == torch.float32
        assert float(value) == float(loss(mass.float(), regions))
        found = gradient(loss, mass, regions)
        assert found.dtype == dtype
        assert torch.isfinite(found).all()
        expected = gradient(loss, mass.float(), regions)
        assert torch.allclose(found.float(), expected, rtol=1e-2, atol=1e-6)


def test_large_sums_stay_exact_in_bfloat16() -> None:
    """5,000 people of one: a sum in bfloat16 would stop at 256."""
    _, labels = dense(5000, (480, 640))
    area = torch.bincount(labels.flatten()).float()
    mass = torch.where(labels > 0, 1 / area[labels], 0.0)[None].bfloat16()
    regions = regions_of(labels[None])
    assert float(people_of_masks(mass, regions).sum()) == 5000
    assert float(foreground(mass, regions)) == 0


def test_nothing_but_torch_is_imported() -> None:
    """Others use the file from their own training code."""
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "import dpmo_cli.training.mask_losses\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dpmo_cli']"


def test_cost_of_2000_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Against plain L2, forward and backward, on a map of 192 x 256 cells."""
    _, labels = dense(2000, (768, 1024))
    regions = regions_of(labels[None], 4)
    mass = torch.rand(1, 192, 256)

    def seconds(loss: Callable[[Tensor], Tensor]) -> float:
        best = float("inf")
        for _ in range(5):
            leaf = mass.clone().requires_grad_(True)
            begun = time.perf_counter()
            torch.autograd.backward(loss(leaf))
            best = min(best, time.perf_counter() - begun)
        return best

    plain = seconds(lambda m: ((m - regions.ground) ** 2).mean())
    masked = seconds(lambda m: torch.stack(tuple(mask_terms(m, regions))).sum())
    begun = time.perf_counter()
    regions_of(labels[None], 4)
    table = time.perf_counter() - begun
    with capsys.disabled():
        print(f"\n2,000 people: L2 {plain * 1e3:.2f} ms, mask terms {masked * 1e3:.2f} ms, "
              f"their table {table * 1e3:.1f} ms")  # fmt: skip
    # A loop over the people takes seconds.
    assert masked < 0.1
    assert mask_losses.__doc__ is not None
