"""A masked language model, trained by a recipe in a loop with `accelerate`.

python examples/accelerate_loop.py
torchrun --nproc-per-node 2 examples/accelerate_loop.py
"""

import textwrap
from contextlib import nullcontext
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForMaskedLM, BertConfig

from unmask import Masker

MASK, PAD, LENGTH = 256, 257, 64  # tokens are bytes


def train(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: Optimizer,
    loader: DataLoader,
    masker: Masker,
) -> None:
    """Train a network that `accelerator` has prepared, with loader and optimiser.

    A batch is (tokens, valid), (b, L) each.
    """
    batches = chain.from_iterable(repeat(loader))
    for step in range(masker.steps):
        parts = list(islice(batches, masker.micro_batches))
        # accelerate takes the mean over micro-batches and processes: each gets its part of them.
        tokens = torch.stack([valid.sum() for _, valid in parts]).float().mean()
        tokens = accelerator.reduce(tokens, "mean")
        total = 0.0
        for number, (x, valid) in enumerate(parts):
            last = number == len(parts) - 1
            batch = masker(x, valid, step=step, micro_batch=number)
            with nullcontext() if last else accelerator.no_sync(network):
                loss = batch.loss(network(batch.inputs, attention_mask=valid).logits, tokens)
                accelerator.backward(loss)
            total += loss.detach() / len(parts)
        optimizer.step()
        optimizer.zero_grad()
        if step % 5 == 0:
            value = float(accelerator.reduce(total, "mean"))
            accelerator.print(f"step {step}: loss {value:.3f} nats per token")


def main() -> None:
    """Train a tiny BERT on the lines of a module of Python's standard library."""
    torch.manual_seed(0)
    lines = [line for line in Path(textwrap.__file__).read_bytes().splitlines() if line.strip()]
    x = torch.full((len(lines), LENGTH), PAD)
    for i, line in enumerate(lines):
        x[i, : len(line)] = torch.tensor(list(line[:LENGTH]))
    config = BertConfig(
        vocab_size=258,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
        pad_token_id=PAD,
    )
    network = AutoModelForMaskedLM.from_config(config)
    optimizer = AdamW(network.parameters(), 3e-3)
    rows, accumulation = 16, 2
    loader = DataLoader(TensorDataset(x, x != PAD), rows, shuffle=True, drop_last=True)

    cpu = not torch.accelerator.is_available()  # else its processes on CPUs would not be joined
    accelerator = Accelerator(cpu=cpu, gradient_accumulation_steps=accumulation)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    everywhere = rows * accelerator.num_processes * accumulation
    masker = Masker("narrow-scattered", MASK, 40, everywhere, micro_batches=accumulation)
    train(accelerator, network, optimizer, loader, masker)


if __name__ == "__main__":
    main()
