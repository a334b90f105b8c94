"""What other loops are given is what our own draws, whatever shares the global batch."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretended_device import DEVICE, PretendedDevice
from unmask import RECIPES, MaskedBatch, Masker, UserError, parse_recipe
from unmask.data.blocks import Blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.train.batch import Batch, draw_batches
from unmask.train.config import TrainConfig
from unmask.train.step import batch_loss

MASK, SIZE, STEPS = 10, 24, 20
MIXED = "narrow:uniform=0.3,standard=0.2"
REFUSED = {
    "fast": "next-token=0",
    "narrow-after-ar": "next-token=0",
    "bell:next-token=0.1": "next-token=0",
    "ar": "autoregressive",
    "mirror": "paired=false",
    "narrow-pairs": "paired=false",
    "adaptive": "fit=none",
    "clipped": "fit=none",
    "p-pots": "fit=none",
    "puma": "masking=bernoulli",
    "narrow-puma": "masking=bernoulli",
}
SERVED = [name for name in RECIPES if name not in REFUSED]


def blocks() -> Blocks:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, MASK, (50, 12)).astype(np.uint16)
    return Blocks(tokens, rng.integers(3, 13, 50).astype(np.int32), tokens.size, tokens.size)


def own(recipe: str, seed: int, step: int) -> list[Batch]:
    config, cpu = TrainConfig(batch_size=SIZE, steps=STEPS), torch.device("cpu")
    return list(
        draw_batches(parse_recipe(recipe), blocks(), config, seed=seed, step=step, device=cpu)
    )


def global_batch(seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Tokens of a step in the order of their places, and which are no padding."""
    (batch,) = own("standard", seed, step)
    assert batch.valid is not None
    return batch.x, batch.valid


def shares(
    recipe: str, world: int, micro_batches: int, seed: int = 3, step: int = 7
) -> list[MaskedBatch]:
    """What each process and micro-batch has of a step, one after another."""
    x, valid = global_batch(seed, step)
    parts = []
    for rank in range(world):
        masker = Masker(recipe, MASK, STEPS, SIZE, seed, micro_batches, rank, world)
        for number in range(micro_batches):
            mine = torch.arange(SIZE).tensor_split(world)[rank].tensor_split(micro_batches)[number]
            parts.append(masker(x[mine], valid[mine], step=step, micro_batch=number))
    return parts


def rows(x: Tensor, mask: Tensor, t: Tensor, weights: Tensor) -> list[tuple[object, ...]]:
    parts = zip(x.tolist(), mask.tolist(), t.tolist(), weights.tolist(), strict=True)
    return sorted((tuple(a), tuple(b), c, d) for a, b, c, d in parts)


@pytest.mark.parametrize("recipe", [*SERVED, MIXED, "fast:next-token=0"])
def test_the_global_batch_is_our_own(recipe: str) -> None:
    (found,) = shares(recipe, 1, 1)
    ours = own(recipe, 3, 7)
    whole = [torch.cat([getattr(b, key) for b in ours]) for key in ("x", "mask", "t", "weights")]
    whole[-1] = whole[-1] * ours[0].n_tokens
    mine = rows(found.targets, found.predicted, found.t, found.weights)
    for a, b in zip(mine, rows(*whole), strict=True):
        assert a[:3] == b[:3] and a[3] == pytest.approx(b[3], rel=1e-6)
    assert int(found.tokens) == ours[0].n_tokens
    assert torch.equal(found.inputs, found.targets.masked_fill(found.predicted, MASK))
    assert torch.equal(found.labels != -100, found.predicted)
    assert torch.equal(found.labels[found.predicted], found.targets[found.predicted])


@pytest.mark.parametrize("recipe", [*SERVED, MIXED])
def test_the_loss_is_our_own(recipe: str) -> None:
    """From logits, and from hidden states; its gradients too."""
    model = Transformer(ModelConfig(layers=1, width=16, heads=2), MASK + 1, (MASK,))
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))

    def gradients(loss: Tensor) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in model.parameters()]

    loss = batch_loss(model, MASK)
    batches = own(recipe, 3, 7)
    ours, own_gradients = gradients(torch.stack([loss(batch).value for batch in batches]).sum())
    (batch,) = shares(recipe, 1, 1)
    _, valid = global_batch(3, 7)
    for from_logits in (True, False):
        hidden = model(batch.inputs, valid)
        value = (
            batch.loss(model.head(hidden))
            if from_logits
            else batch.loss_of_hidden(hidden, model.head)
        )
        found, found_gradients = gradients(value)
        assert found == pytest.approx(ours, rel=1e-6)
        if not from_logits and len(batches) == 1:
            assert found == ours
        for a, b in zip(found_gradients, own_gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", ["narrow", "narrow-scattered", MIXED])
@pytest.mark.parametrize(("world", "micro_batches"), [(2, 1), (2, 3), (3, 1), (5, 2)])
def test_processes_have_the_rates_of_one_and_masks_of_their_own(
    recipe: str, world: int, micro_batches: int
) -> None:
    (whole,) = shares(recipe, 1, 1)
    parts = shares(recipe, world, micro_batches)
    for key in ("inputs", "targets", "predicted", "t", "weights"):
        assert torch.equal(torch.cat([getattr(p, key) for p in parts]), getattr(whole, key))
    assert sum(int(part.tokens) for part in parts) == int(whole.tokens)

    # Also of the same tokens, without padding: noise is never shared.
    x = torch.zeros(SIZE // world, 64, dtype=torch.int64)
    ranks = [
        Masker("narrow", MASK, STEPS, SIZE // world * world, 3, 1, rank, world)(x, step=0)
        for rank in range(world)
    ]
    masks = {tuple(row) for part in ranks for row in part.predicted.tolist()}
    assert len(masks) == SIZE // world * world


def test_rates_are_stratified_over_all_processes() -> None:
    parts = [Masker("flat", MASK, STEPS, SIZE, 0, 1, r, 4)(torch.zeros(6, 8).long(), step=2)
             for r in range(4)]  # fmt: skip
    strata = (torch.cat([part.t for part in parts]) * SIZE).long()
    assert strata.sort().values.tolist() == list(range(SIZE))


def test_the_mean_over_parts_is_the_loss_of_the_whole() -> None:
    logits = torch.randn(SIZE, 12, MASK, generator=torch.Generator().manual_seed(0))
    (whole,) = shares("bell", 1, 1)
    parts = shares("bell", 2, 2)
    pieces = zip(parts, logits.tensor_split(4), strict=True)
    losses = [part.loss(piece, whole.tokens / 4) for part, piece in pieces]
    assert float(torch.stack(losses).mean()) == pytest.approx(float(whole.loss(logits)), rel=1e-6)


def test_it_is_this_process_of_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up when rows are drawn: it may be initialised after the masker is made."""
    masker = Masker("narrow", MASK, STEPS, SIZE)
    x = torch.zeros(SIZE, 12, dtype=torch.int64)
    alone = masker(x, step=1)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 4)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 2)
    assert torch.equal(masker(x[:6], step=1).predicted, alone.predicted[12:18])
    with pytest.raises(UserError, match="7 rows, but batch_size 24 over 4 processes"):
        masker(x[:7], step=1)


@pytest.mark.parametrize("recipe", [*SERVED, MIXED])
def test_padding_is_neither_predicted_nor_counted(recipe: str) -> None:
    """And what stands there changes nothing. 1 and 0 are as good as true and false."""
    x, valid = global_batch(3, 7)
    masker = Masker(recipe, MASK, STEPS, SIZE, seed=3)
    batch = masker(x, valid, step=7)
    assert not (batch.predicted & ~valid).any() and batch.predicted.any()
    assert int(batch.tokens) == int(valid.sum())
    assert torch.equal(batch.inputs[~valid], x[~valid])
    other = masker(x.where(valid, 5), valid.long(), step=7)
    assert torch.equal(batch.predicted, other.predicted)
    logits = torch.randn(*x.shape, MASK, generator=torch.Generator().manual_seed(0))
    elsewhere = logits.where(valid[..., None], torch.nan)
    assert float(batch.loss(logits)) == float(other.loss(elsewhere))


def test_what_a_recipe_changes_goes_by_the_steps() -> None:
    x = torch.zeros(SIZE, 12, dtype=torch.int64)
    masker = Masker("narrow-anneal", MASK, STEPS, SIZE)
    first, last = (float(masker(x, step=step).t.std()) for step in (0, STEPS - 1))
    assert last > 2 * first


def test_a_last_batch_may_be_short_and_a_row_may_be_without_a_mask() -> None:
    x = torch.zeros(SIZE, 12, dtype=torch.int64)
    masker = Masker("window:low=0.001,high=0.002", MASK, STEPS, SIZE)
    short = masker(x[:5], step=0)
    assert torch.equal(short.t, masker(x, step=0).t[:5])
    assert not short.predicted.any()
    logits = torch.zeros(5, 12, MASK, requires_grad=True)
    loss = short.loss(logits)
    loss.backward()
    assert float(loss.detach()) == 0 and not logits.grad.any()  # type: ignore[union-attr]


def test_low_precision_logits_are_summed_in_full() -> None:
    (batch,) = shares("narrow", 1, 1)
    logits = torch.randn(SIZE, 12, MASK, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert float(batch.loss(logits)) == float(batch.loss(logits.float()))


@pytest.mark.parametrize("recipe", ["narrow", "narrow-scattered", MIXED])
@pytest.mark.parametrize("padded", [True, False])
def test_an_accelerator_is_given_the_same(recipe: str, padded: bool) -> None:
    x, valid = global_batch(3, 7)
    logits = torch.randn(*x.shape, MASK, generator=torch.Generator().manual_seed(0))
    masker = Masker(recipe, MASK, STEPS, SIZE, seed=3)
    here = masker(x, valid if padded else None, step=7)
    with PretendedDevice():
        moved = x.to(DEVICE), valid.to(DEVICE) if padded else None
        there = masker(*moved, step=7)
        for key in ("inputs", "labels", "predicted", "t", "weights", "tokens"):
            assert getattr(there, key).device == DEVICE
            assert torch.equal(getattr(there, key).cpu(), getattr(here, key))
        torch.testing.assert_close(there.loss(logits.to(DEVICE)).cpu(), here.loss(logits))


@pytest.mark.parametrize("recipe", REFUSED)
def test_what_needs_more_than_hidden_tokens_is_refused(recipe: str) -> None:
    with pytest.raises(UserError, match=REFUSED[recipe]) as error:
        Masker(recipe, MASK, STEPS, SIZE)
    assert repr(parse_recipe(recipe).name) in str(error.value)
    if recipe != "ar":  # with what it says, the recipe is taken
        joint = "," if ":" in recipe else ":"
        base = recipe.replace("next-token=0.1", "") if ":" in recipe else recipe + joint
        Masker(base + REFUSED[recipe], MASK, STEPS, SIZE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"steps": -1}, "steps must be at least 1"),
        ({"micro_batches": 0}, "micro_batches must be at least 1"),
        ({"rank": 1}, "rank and world_size are given together"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to 1, not 2"),
        ({"recipe": "bel"}, "unknown recipe 'bel' .did you mean 'bell'"),
    ],
)
def test_bad_numbers_are_named(changes: dict[str, object], said: str) -> None:
    given = {"recipe": "bell", "mask_id": MASK, "steps": STEPS, "batch_size": SIZE}
    with pytest.raises(UserError, match=said):
        Masker(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "place", "said"),
    [
        ((4,), {"step": 0}, r"tokens must be \(b, L\)"),
        ((4, 3), {"step": -1}, "step is counted from 0"),
        ((4, 3), {"step": 0, "micro_batch": 1}, "micro_batch from 0 to 0"),
        ((SIZE + 1, 3), {"step": 0}, "25 rows, but batch_size 24 over 1 processes"),
    ],
)
def test_bad_rows_are_named(shape: tuple[int, ...], place: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Masker("bell", MASK, STEPS, SIZE)(torch.zeros(shape).long(), **place)


TORCH = {
    *("torch", "torchgen", "functorch", "typing_extensions", "sympy", "mpmath", "networkx"),
    *("jinja2", "markupsafe", "filelock", "fsspec", "setuptools", "triton", "nvidia", "cuda"),
}
"""torch, and what it is installed with."""


def test_it_needs_torch_alone() -> None:
    """In an interpreter where all but torch, what torch requires and Python are out of reach."""
    code = f"""
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        top = name.split('.')[0]
        if top not in sys.stdlib_module_names | {TORCH | {"unmask"}!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Wall())
import torch
from unmask import Masker
x = torch.randint(0, 9, (8, 16))
batch = Masker('narrow-scattered', 9, steps=10, batch_size=8)(x, x != 0, step=3)
logits = torch.zeros(8, 16, 9, requires_grad=True)
batch.loss(logits).backward()
head = torch.nn.Linear(4, 9, bias=False)
batch.loss_of_hidden(torch.randn(8, 16, 4), head).backward()
assert logits.grad.any() and head.weight.grad.any() and 'numpy' not in sys.modules
for heavy in ('numpy', 'transformers', 'datasets', 'pydantic'):
    try:
        __import__(heavy)
    except ModuleNotFoundError:
        continue
    raise AssertionError(heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
