"""Self-conditioning in training: half of the steps, by counters, and nothing hidden is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unmask.cost import cost_of
from unmask.data.blocks import Blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.recipe.parse import parse_recipe
from unmask.run import open_run
from unmask.train.batch import Batch, draw_batches, makes_first_pass
from unmask.train.config import TrainConfig
from unmask.train.step import batch_loss

Call = Callable[..., tuple[int, str]]
MASK, L = 10, 12


def drawn(step: int, seed: int = 3, parts: int = 1, on: bool = True) -> list[Batch]:
    tokens = np.random.default_rng(0).integers(0, MASK, (50, L)).astype(np.uint16)
    config = TrainConfig(batch_size=12, accumulation=parts, steps=1000)
    return list(
        draw_batches(
            parse_recipe("bell:next-token=0.3"),
            Blocks(tokens, None, tokens.size, tokens.size),
            config,
            seed=seed,
            step=step,
            device=torch.device("cpu"),
            self_conditioning=on,
        )
    )


def network() -> Transformer:
    config = ModelConfig(layers=1, width=16, heads=2, self_conditioning=True)
    model = Transformer(config, MASK + 1, (MASK,), mask_id=MASK, start=MASK)
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.state_norm.weight.fill_(0.5)
    return model.double()


def test_half_of_the_steps_have_a_first_pass_by_seed_and_step_alone() -> None:
    flags = [[makes_first_pass(seed, step) for step in range(400)] for seed in (3, 4)]
    assert flags[0] != flags[1]
    assert all(abs(sum(seed) - 200) < 4 * 10 for seed in flags)  # four standard deviations
    for step in range(3):
        assert {b.conditioned for b in drawn(step)} == {flags[0][step]}
        parts = drawn(step, parts=5)
        assert {b.conditioned for b in parts} == {flags[0][step]}
        assert {w.conditioned for b in parts for w in b.work} == {flags[0][step]}
        assert not any(b.conditioned for b in drawn(step, on=False))


@pytest.mark.parametrize("conditioned", [False, True])
def test_what_is_masked_changes_no_state(conditioned: bool) -> None:
    """Nor does what comes after, in the samples of the next token."""
    model, states = network(), []
    model.register_forward_hook(lambda *args: states.append(args[-1].detach()))
    loss = batch_loss(model, MASK)
    for batch in drawn(0):
        hidden = batch.mask.clone()
        if batch.objective.causal:
            hidden[:, : L // 2] = False
        other = torch.where(hidden, (batch.x + 1) % MASK, batch.x)
        for x in (batch.x, other):
            loss(replace(batch, x=x, conditioned=conditioned))
        first, second = (s[:, : L // 2 + 1] if batch.objective.causal else s for s in states[-2:])
        assert torch.equal(first, second)
        assert (batch.x != other).any()


@pytest.mark.parametrize("conditioned", [False, True])
def test_micro_batches_add_up(conditioned: bool) -> None:
    found: list[list[Tensor]] = []
    for parts in (1, 5):
        model = network()
        loss = batch_loss(model, MASK)
        for batch in drawn(0, parts=parts):
            loss(replace(batch, conditioned=conditioned)).value.backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for whole, split in zip(*found, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fast", "ar"])
def test_a_run_counts_its_first_passes_evaluates_and_samples(
    recipe: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run, steps = tmp_path / "run", 9
    options = [*small, "--recipe", recipe, "--train.steps", steps, "--validation.every", 3]
    status, text = unmask("train", "--run", run, *options, "--model.self-conditioning")
    assert status == 0, text
    opened = open_run(run)
    assert opened.model.self_conditioning and opened.model.state_norm.weight.any()
    flags = [makes_first_pass(opened.config.seed, step) for step in range(steps)]
    assert {False, True} == set(flags)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    flops = {line["step"]: line["flops"] for line in lines if line["kind"] == "train"}
    assert unmask("train", "--run", tmp_path / "plain", *options)[0] == 0
    lines = [
        json.loads(line) for line in (tmp_path / "plain/metrics.jsonl").read_text().splitlines()
    ]
    plain = {line["step"]: line["flops"] for line in lines if line["kind"] == "train"}
    more = [flops[n + 1] - flops.get(n, 0) - plain[n + 1] + plain.get(n, 0) for n in range(steps)]
    assert [x > 0 for x in more] == flags and min(more) == 0
    if recipe == "ar":  # whose first passes all cost the same
        cost = cost_of(opened.config, opened.tokenizer.vocab_size)
        assert cost.flops == pytest.approx(plain[steps] + max(more) * steps / 2)
        assert cost.parameters == sum(p.numel() for p in opened.model.parameters())
    status, text = unmask("evaluate", run, "--budget", 32 * 64)
    assert status == 0, text
    status, text = unmask("sample", run, "--num", 1, "--length", 8)
    assert status == 0, text
    if recipe != "ar":
        status, text = unmask("sample", run, "--infill", "the [MASK*4] sat")
        assert status == 0, text
        status, text = unmask("evaluate", run, "--order", "most-certain", "--budget", 32 * 64)
        assert status == 0, text
