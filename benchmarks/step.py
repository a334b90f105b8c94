"""Time a training step beside the same step written the naive way.

    .venv/bin/python benchmarks/step.py --preset tiny --vocab 30000

Ours: the vocabulary projection and the cross-entropy run on masked positions only, AdamW is fused.
Naive, as the field's trainers do it: logits at every position, a log-softmax over the whole
(B, L, V) tensor, the loss multiplied by the mask, an AdamW that loops over parameters. Model,
batch, masks, precision and mathematics are the same; the two take turns in one process, and the
ratio is the median over rounds with the quartiles of the rounds beside it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unmask.config import Config, load_preset, preset_names
from unmask.data import Blocks
from unmask.model import Transformer
from unmask.recipe import Recipe, parse_recipe
from unmask.train.batch import Batch, batch_loss, draw_batch
from unmask.train.device import autocast
from unmask.train.optim import build_optimizers


def ours(model: Transformer, recipe: Recipe, batch: Batch, mask_id: int) -> Tensor:
    """The loss of a step as training computes it."""
    return batch_loss(model, model.head, recipe, batch, mask_id)


def naive(model: Transformer, recipe: Recipe, batch: Batch, mask_id: int) -> Tensor:
    """The same loss from full logits."""
    corrupted = recipe.corrupt(batch.x, batch.t, batch.u, valid=None, mask_id=mask_id)
    log_p = torch.log_softmax(model.head(model(corrupted.inputs)), dim=-1)
    ce = -log_p.gather(-1, batch.x[:, :, None]).squeeze(-1) * corrupted.predicted
    return (recipe.weights(batch.t)[:, None] * ce).sum() / batch.n_tokens


def timed_step(
    loss_of: Callable[[Transformer, Recipe, Batch, int], Tensor],
    model: Transformer,
    optimizers: list[torch.optim.Optimizer],
    recipe: Recipe,
    batch: Batch,
    mask_id: int,
    precision: str,
) -> float:
    """Seconds of one forward, backward, clip and optimiser step."""
    started = time.perf_counter()
    with autocast(torch.device("cpu"), precision):
        loss = loss_of(model, recipe, batch, mask_id)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def compare(config: Config, vocab: int, rounds: int, precision: str) -> dict[str, float]:
    """Alternate the two steps and summarise."""
    mask_id, length, b = vocab - 1, config.corpus.block_size, config.train.batch_size
    recipe = parse_recipe(config.recipe)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocab - 1, (4 * b, length)).astype(np.uint16)
    blocks = Blocks(tokens, None, n_tokens=tokens.size, n_bytes=tokens.size)
    models = [Transformer(config.model, vocab, (mask_id,)) for _ in range(2)]
    plain = torch.optim.AdamW(models[1].parameters(), lr=1e-3, foreach=False, fused=False)
    adamw = config.train.model_copy(update={"optimizer": "adamw"})
    steps = (
        (ours, models[0], build_optimizers(models[0], adamw)),
        (naive, models[1], [plain]),
    )
    seconds: list[list[float]] = [[], []]
    for step in range(rounds + 2):
        batch = draw_batch(recipe, blocks, 0, step, b, torch.device("cpu"))
        order = (0, 1) if step % 2 else (1, 0)
        for which in order:
            loss_of, model, optimizers = steps[which]
            took = timed_step(loss_of, model, optimizers, recipe, batch, mask_id, precision)
            if step >= 2:  # the first two warm up allocators and caches
                seconds[which].append(took)
    ratios = [slow / fast for fast, slow in zip(*seconds, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "ours_tokens_per_s": b * length / statistics.median(seconds[0]),
        "naive_tokens_per_s": b * length / statistics.median(seconds[1]),
        "ratio": statistics.median(ratios),
        "ratio_quartile_low": low,
        "ratio_quartile_high": high,
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny", choices=preset_names())
    parser.add_argument("--vocab", type=int, default=8192, help="vocabulary with the mask token")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = compare(load_preset(args.preset), args.vocab, args.rounds, args.precision)
    if args.json:
        print(json.dumps(result))
        return
    settings = (
        f"vocabulary {args.vocab:,}, precision {args.precision}, {args.rounds} rounds in turn"
    )
    print(f"preset {args.preset}, {settings}")
    print(f"  ours   {result['ours_tokens_per_s']:>10,.0f} tokens/s (median)")
    print(f"  naive  {result['naive_tokens_per_s']:>10,.0f} tokens/s (median)")
    print(
        f"  ratio  {result['ratio']:.2f}x "
        f"(quartiles {result['ratio_quartile_low']:.2f} to {result['ratio_quartile_high']:.2f})"
    )


if __name__ == "__main__":
    main()
