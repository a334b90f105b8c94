"""The batch of a step is a function of (seed, step); its parts' gradients add up to its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unmask.data.blocks import Blocks
from unmask.diffusion.masking import MASKINGS
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.train.batch import Batch, draw_batches
from unmask.train.config import TrainConfig
from unmask.train.step import batch_loss

CPU = torch.device("cpu")
MASK = 10
MIXED = ["bell:next-token=0.3", "fast:next-token=0.4,standard=0.3", "bell:mix=steps,next-token=0.5"]


def blocks(padded: bool) -> Blocks:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, MASK, (50, 12)).astype(np.uint16)
    lengths = rng.integers(3, 13, 50).astype(np.int32) if padded else None
    return Blocks(tokens, lengths, tokens.size, tokens.size)


def drawn(
    recipe: str,
    padded: bool = False,
    parts: int = 1,
    seed: int = 3,
    step: int = 7,
    size: int = 32,
    shorter: float = 0.0,
) -> list[Batch]:
    config = TrainConfig(batch_size=size, accumulation=parts, steps=20, shorter=shorter)
    whole = parse_recipe(recipe), blocks(padded), config
    return list(draw_batches(*whole, seed=seed, step=step, device=CPU))


def gradients(
    recipe: str, padded: bool, parts: int, late: int = 0
) -> tuple[float, list[torch.Tensor]]:
    config = ModelConfig(layers=1 + late, width=16, heads=2, late=late)
    named = parse_recipe(recipe)
    options = {"mask_id": MASK, "causal": named.causal, "start": MASK}
    model = Transformer(config, MASK + 1, (MASK,), **options).double()
    with torch.no_grad():  # the head starts at zero, which would leave the rest without gradient
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    loss, total = batch_loss(model, MASK), 0.0
    for batch in drawn(recipe, padded, parts):
        value = loss(batch).value
        value.backward()
        total += float(value.detach())
    return total, [p.grad for p in model.parameters() if p.grad is not None]


QUICKLY = ("standard", "fast", "mirror", "puma", "ar", MIXED[1], MIXED[2])
EVERY = [
    pytest.param(
        recipe,
        padded,
        parts,
        marks=[] if recipe in QUICKLY and padded and parts == 5 else [pytest.mark.slow],
    )
    for recipe in (*RECIPES, *MIXED)
    for padded in (False, True)
    for parts in (4, 5, 32)
]


@pytest.mark.parametrize(("recipe", "padded", "parts"), EVERY)
def test_micro_batches_add_up_to_the_batch(recipe: str, padded: bool, parts: int) -> None:
    loss, whole = gradients(recipe, padded, 1)
    split_loss, split = gradients(recipe, padded, parts)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recipe", ["bell", "fast", MIXED[1]])
def test_micro_batches_add_up_where_masked_positions_come_in_late(recipe: str) -> None:
    loss, whole = gradients(recipe, True, 1, late=1)
    split_loss, split = gradients(recipe, True, 5, late=1)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_batch_depends_on_seed_and_step_alone() -> None:
    def batch(seed: int, step: int) -> list[torch.Tensor]:
        torch.manual_seed(step * 31 + seed)  # global state must not matter
        (only,) = drawn("bell", seed=seed, step=step, size=16)
        return [only.x, only.t, only.mask]

    same = zip(batch(1, 5), batch(1, 5), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    for other in ((2, 5), (1, 6)):
        assert not any(torch.equal(a, b) for a, b in zip(batch(1, 5), batch(*other), strict=True))


@pytest.mark.parametrize("recipe", ["flat", "mirror", "fast", "ar", MIXED[1]])
def test_padding_is_neither_predicted_nor_counted(recipe: str) -> None:
    batches = drawn(recipe, padded=True, parts=3)
    valid = [batch.valid for batch in batches if batch.valid is not None]
    assert len(valid) == len(batches)
    assert {batch.n_tokens for batch in batches} == {sum(int(v.sum()) for v in valid)}
    assert not any((batch.mask & ~v).any() for batch, v in zip(batches, valid, strict=True))


@pytest.mark.parametrize("recipe", ["mirror", "fast:paired=true,next-token=0"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_pair_is_one_sequence_under_a_mask_and_its_complement(
    recipe: str, padded: bool, parts: int
) -> None:
    """Also where a micro-batch ends within a pair."""
    batches = drawn(recipe, padded, parts)
    x, mask = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "mask"))
    valid = torch.cat([torch.ones_like(b.mask) if b.valid is None else b.valid for b in batches])
    assert torch.equal(x[::2], x[1::2]) and mask.any()
    assert torch.equal(mask[1::2], ~mask[::2] & valid[::2])


def test_samples_come_apart_by_objective_and_none_is_lost() -> None:
    causal, masked = drawn("bell:next-token=0.3")
    assert causal.objective.causal and not masked.objective.causal
    assert len(causal.x) == 10 and len(masked.x) == 22
    assert causal.mask.all() and not masked.mask.all()
    (whole,) = drawn("bell")
    assert torch.equal(
        torch.cat([causal.x, masked.x]).sort(dim=0).values, whole.x.sort(dim=0).values
    )


def test_refined_masks_have_noise_of_their_own() -> None:
    (own,) = drawn("puma")
    (plain,) = drawn("bell")
    assert own.reveal is not None and own.reveal.shape == (32, 13) and plain.reveal is None


def drawn_on_meta(recipe: str, parts: int = 1) -> list[Batch]:
    """On torch's device without data, on which reading anything back is an error."""
    config, device = TrainConfig(batch_size=16, accumulation=parts), torch.device("meta")
    named = parse_recipe(recipe)
    return list(draw_batches(named, blocks(True), config, seed=0, step=0, device=device))


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=[] if recipe in QUICKLY else [pytest.mark.slow])
        for recipe in (*RECIPES, *MIXED)
    ],
)
def test_nothing_is_read_back_from_the_device(recipe: str) -> None:
    for batch in drawn_on_meta(recipe, 3):
        assert batch.x.is_meta and batch.weights.is_meta and batch.mask.is_meta and batch.t.is_meta


def test_other_devices_than_a_cpu_get_bounds() -> None:
    recipe = "bell-weighted:masking=fixed-count"
    (whole,) = drawn_on_meta(recipe)
    bounds = [batch.bounds for batch in drawn_on_meta(recipe, 3)]
    assert len(bounds) == 3 and whole.bounds is not None
    for part in ("predicted", "visible"):
        assert sum(getattr(b, part) for b in bounds) == getattr(whole.bounds, part)
    assert max(b.in_row for b in bounds if b) == whole.bounds.in_row
    assert drawn("bell:masking=fixed-count")[0].bounds is None


def test_where_only_the_predicted_positions_are_bounded_all_may_be_visible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (usual,) = drawn_on_meta("bell:masking=fixed-count")
    monkeypatch.setattr(MASKINGS["fixed-count"], "most_visible", lambda *_: None)
    (only,) = drawn_on_meta("bell:masking=fixed-count")
    assert usual.bounds is not None
    assert only.bounds == (usual.bounds.predicted, 16 * 12, 12)


@pytest.mark.parametrize("recipe", ["bell", "mirror", "puma", "ar"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_share_of_the_sequences_is_shorter(recipe: str, padded: bool) -> None:
    (full,) = drawn(recipe, padded)
    (cut,) = drawn(recipe, padded, shorter=0.5)
    assert cut.valid is not None and torch.equal(full.x, cut.x) and torch.equal(full.t, cut.t)
    before = torch.full((32,), 12) if full.valid is None else full.valid.sum(dim=1)
    after = cut.valid.sum(dim=1)
    assert ((after >= 1) & (after <= before)).all() and 5 < int((after < before).sum()) < 27
    assert torch.equal(cut.valid, torch.arange(12) < after[:, None])  # padding at the right end
    assert not (cut.mask & ~cut.valid).any()
    assert cut.n_tokens == int(after.sum())
    # The noise of a position is the same with fewer behind it.
    if recipe in ("bell", "ar"):
        assert torch.equal(cut.mask, full.mask & cut.valid)


def test_shorter_lengths_are_uniform_and_as_many_as_asked() -> None:
    share, n = 0.3, 32 * 200
    ends = torch.cat([drawn("bell", step=k, shorter=share)[0].valid.sum(dim=1) for k in range(200)])
    counts = torch.bincount(ends, minlength=13)
    each = share * n / 12
    assert counts[0] == 0
    assert ((counts[1:12] - each).abs() < 5 * each**0.5).all()
    assert abs(int(counts[12]) - (n - 11 * each)) < 5 * (share * n) ** 0.5


def test_shorter_sequences_do_not_depend_on_who_draws_them() -> None:
    (whole,) = drawn("bell", shorter=0.5)
    parts = drawn("bell", shorter=0.5, parts=4)
    assert torch.equal(torch.cat([part.valid for part in parts]), whole.valid)
    assert {part.n_tokens for part in parts} == {whole.n_tokens}
    (again,) = drawn("bell", shorter=0.5, step=8)
    assert not torch.equal(again.valid.sum(dim=1), whole.valid.sum(dim=1))


def test_what_is_behind_the_end_changes_nothing() -> None:
    model = Transformer(ModelConfig(layers=2, width=16, heads=2), MASK + 1, (MASK,))
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    (batch,) = drawn("bell", shorter=0.6)
    loss = batch_loss(model, MASK)
    other = replace(batch, x=torch.where(batch.valid, batch.x, 7))
    assert not torch.equal(other.x, batch.x)
    torch.testing.assert_close(loss(batch).value, loss(other).value)
