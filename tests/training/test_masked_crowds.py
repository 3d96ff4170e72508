"""A converted folder as a dataset: what an item holds, and that crops keep it together."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.outputs.corrections import Correction, Person, write_corrections
from dpmo_cli.outputs.findings import CORRECTIONS_FILE
from dpmo_cli.outputs.records import read_record, record_path
from dpmo_cli.training import masked_crowds
from dpmo_cli.training.mask_losses import mask_terms
from dpmo_cli.training.masked_crowds import (
    MaskedCrowd,
    MaskedCrowds,
    RandomCrop,
    collate,
    crop,
    flip,
)
from tests.training.masked_run import draw_masked_run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_masked_run(tmp_path_factory.mktemp("run"), 4)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A run that the test may change."""
    return draw_masked_run(tmp_path, 2)


def same(one: MaskedCrowd, other: MaskedCrowd) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_an_item(out: Path) -> None:
    crowds = MaskedCrowds(out, doubtful=0.25)
    assert len(crowds) == 4
    item = crowds[1]
    rows = read_record(record_path(out, "train", 2)).rows
    height, width = item.labels.shape
    assert item.image.shape == (height, width, 3)
    assert item.image.dtype == torch.uint8
    assert item.points_xy.tolist() == [list(xy) for xy in zip(*(
        rows[name].to_pylist() for name in ("x", "y")), strict=True)]  # fmt: skip
    bare = [number for number, rle in enumerate(rows["rle"].to_pylist()) if rle is None]
    assert bare == [6, 13, 20]
    assert item.people.tolist() == [float(n not in bare) for n in range(21)]
    flagged = rows["flagged"].to_pylist()
    expected = [0.0 if n in bare else 0.25 if flagged[n] else 1.0 for n in range(21)]
    assert item.weight.tolist() == expected
    assert {0.25, 1.0} < set(expected)
    for number, (x, y) in enumerate(item.points_xy.long().tolist(), start=1):
        assert int(item.labels[y, x]) == (-1 if number - 1 in bare else number)
    area = torch.bincount(item.labels[item.labels > 0])[1:]
    known = rows["area"].to_pylist()
    assert [n for n in area.tolist() if n] == [n for n in known if n]
    # Round the bare ones nothing is known, up to their discs.
    x, y = item.points_xy[6].long().tolist()
    assert int(item.labels[y + 5, x + 5]) == -1
    assert int((item.labels == 0).sum()) > 0


def correct(out: Path, verdict: str, point_id: int) -> None:
    """Decide about a person of the first image, as `dpmo review apply` would keep it."""
    record = read_record(record_path(out, "train", 1))
    row = record.rows.slice(point_id, 1).to_pylist()[0]
    size_hw = (record.info.height or 0, record.info.width or 0)
    drawn = frame_rle(np.ones((4, 6), dtype=np.bool_), (2, 3, 8, 7), size_hw)
    rle = {"corrected": drawn, "accepted": row["rle"], "deleted": None}[verdict]
    person = Person("train", 1, point_id)
    one = Correction(person, verdict, rle, None, "ada", record.info.file_name, (row["x"], row["y"]))
    write_corrections(out / CORRECTIONS_FILE, [one])


def test_what_reviewers_decided(own: Path) -> None:
    before = MaskedCrowds(own)[0]
    doubtful = int(torch.nonzero(before.weight == 0.5)[0])
    correct(own, "accepted", doubtful)
    accepted = MaskedCrowds(own)[0]
    assert float(accepted.weight[doubtful]) == 1
    assert torch.equal(accepted.labels, before.labels)
    correct(own, "corrected", doubtful)
    corrected = MaskedCrowds(own)[0]
    assert float(corrected.weight[doubtful]) == 1
    assert (corrected.labels[3:7, 2:8] == doubtful + 1).all()
    assert int((corrected.labels == doubtful + 1).sum()) == 24
    correct(own, "deleted", doubtful)
    assert len(MaskedCrowds(own)[0].weight) == len(before.weight) - 1


def test_one_item_reads_one_photo_and_one_record(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> object:
        read.append(path)
        return read_record(path)

    monkeypatch.setattr(masked_crowds, "read_record", reading)
    crowds = MaskedCrowds(out)
    assert not read
    crowds[2]
    assert read == [record_path(out, "train", 3)]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_in_workers(out: Path, context: str) -> None:
    crowds = MaskedCrowds(out)
    loader = DataLoader(
        crowds, batch_size=2, num_workers=1, collate_fn=collate, multiprocessing_context=context
    )
    batches = list(loader)
    assert [batch.counts for batch in batches] == [(21, 21)] * 2
    assert torch.equal(batches[1].labels[1], crowds[3].labels)


def test_it_can_be_sent_to_a_worker(out: Path) -> None:
    crowds = MaskedCrowds(out, transform=RandomCrop(64))
    assert len(pickle.loads(pickle.dumps(crowds))) == 4


def test_flip_twice_is_nothing(out: Path) -> None:
    item = MaskedCrowds(out)[0]
    once = flip(item)
    assert not same(once, item)
    assert same(flip(once), item)
    for number, (x, y) in enumerate(once.points_xy.long().tolist(), start=1):
        assert int(once.labels[y, x]) in (number, -1)


def test_a_crop_of_everything_is_everything(out: Path) -> None:
    item = MaskedCrowds(out)[0]
    height, width = item.labels.shape
    assert same(crop(item, (0, 0, width, height)), item)


@pytest.mark.parametrize("window", [(30, 10, 94, 60), (0, 0, 50, 80), (100, 40, 160, 80)])
def test_crops_keep_points_and_masks_together(out: Path, window: tuple[int, int, int, int]) -> None:
    item = MaskedCrowds(out)[0]
    x0, y0, x1, y1 = window
    found = crop(item, window)
    assert torch.equal(found.image, item.image[y0:y1, x0:x1])
    number_of = {tuple(xy): n for n, xy in enumerate(item.points_xy.tolist())}
    before = item.labels[y0:y1, x0:x1]
    whole = 0
    for number, (x, y) in enumerate(found.points_xy.tolist(), start=1):
        old = number_of[x + x0, y + y0] + 1
        if found.weight[number - 1] > 0:
            whole += 1
            assert torch.equal(found.labels == number, before == old)
            assert int((before == old).sum()) == int((item.labels == old).sum())
            assert found.weight[number - 1] == item.weight[old - 1]
            assert found.people[number - 1] == 1
        else:
            # Cut, or without a mask: not asked about.
            assert int((found.labels == number).sum()) == 0
    assert whole > 0
    assert torch.equal(found.labels == 0, before == 0)
    assert int(found.labels.max()) <= len(found.weight)


def test_random_crops_follow_the_seed(out: Path) -> None:
    crowds = MaskedCrowds(out, transform=RandomCrop(48))
    torch.manual_seed(3)
    one = crowds[0]
    other = crowds[0]
    torch.manual_seed(3)
    assert same(crowds[0], one)
    assert not same(other, one)
    assert one.labels.shape == (48, 48)


def test_a_batch_for_the_losses(out: Path) -> None:
    crowds = MaskedCrowds(out)
    batch = collate([crop(crowds[0], (0, 0, 70, 50)), crowds[1]], multiple=32)
    assert batch.images.shape[1] % 32 == batch.images.shape[2] % 32 == 0
    regions = batch.regions(8)
    # What is padding asks for nothing.
    assert float(regions.ground[0, 7:].sum()) == 0
    assert float(regions.ground[0, :, 9:].sum()) == 0
    terms = mask_terms(torch.zeros(regions.ground.shape), regions)
    assert float(terms.foreground) == pytest.approx(
        float(batch.weight.sum() / (batch.weight > 0).sum())
    )


EXAMPLE = """\
import torch
from torch.utils.data import DataLoader
from dpmo_cli.training.mask_losses import mask_terms
from dpmo_cli.training.masked_crowds import MaskedCrowds, RandomCrop, collate

crowds = MaskedCrowds("masks", "train", transform=RandomCrop(256))
loader = DataLoader(crowds, batch_size=8, shuffle=True, collate_fn=collate)
for batch in loader:
    density = model(batch.images.permute(0, 3, 1, 2) / 255)  # (B, H/8, W/8), sums to the count
    terms = mask_terms(density, batch.regions(cell_px=8))
    loss = your_loss(density, batch.points_xy) + 0.1 * (terms.foreground + terms.background)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
"""
"""As the README shows it."""


def test_the_example(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In somebody's training loop: a network of one layer learns from it."""
    own.rename(tmp_path / "masks")
    monkeypatch.chdir(tmp_path)

    def model_of(images: Tensor) -> Tensor:
        found: Tensor = nn.functional.softplus(layer(images))[:, 0]
        return found

    layer = nn.Conv2d(3, 1, 8, stride=8)
    before = layer.weight.detach().clone()
    names = {
        "model": model_of,
        "optimiser": torch.optim.SGD(layer.parameters(), lr=0.1),
        "your_loss": lambda density, points: (
            density.sum(dim=(1, 2)) - torch.tensor([len(xy) for xy in points])
        ).abs().mean(),
    }  # fmt: skip
    exec(compile(EXAMPLE, "README.md", "exec"), names)
    assert not torch.equal(layer.weight, before)
    assert float(names["terms"].foreground.detach()) > 0
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert EXAMPLE in readme or "masked_crowds" not in readme


def test_no_run_and_no_split(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no finished run"):
        MaskedCrowds(tmp_path)
    with pytest.raises(UsageError, match="has no split val; it has train"):
        MaskedCrowds(out, "val")


def test_a_torn_record_and_a_lost_photo(own: Path) -> None:
    crowds = MaskedCrowds(own)
    path = record_path(own, "train", 1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DpmoError, match="is no whole record"):
        crowds[0]
    (own.parent / "root" / crowds.images[1].file_name).unlink()
    with pytest.raises(InputError, match="photo 2"):
        crowds[1]
