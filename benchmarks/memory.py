"""What a training step holds in memory when its forward pass is done, ours and the naive step.

    .venv/bin/python benchmarks/memory.py --preset small --vocab 30522 --batch 8
    .venv/bin/python benchmarks/memory.py --preset small --vocab 30522 --batch 8 --precision bf16

Counts the storages that autograd keeps for the backward pass, each once, parameters apart: those of
the blocks, and those of head and loss. It explains the peaks that `step.py` measures, and is no
measurement of them: a backward pass makes more, and frees as it goes.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from step_cases import CPU, Case
from unmask.config import load_preset, with_options
from unmask.diffusion.objective import predicted_loss
from unmask.train.device import autocast

MIB = 2**20


@contextmanager
def kept(parameters: list[Tensor]) -> Iterator[dict[int, int]]:
    """Bytes of each storage that autograd saves, by address."""
    mine = {p.untyped_storage().data_ptr() for p in parameters}
    sizes: dict[int, int] = {}
    alive = []  # no address is used twice

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in mine:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield sizes


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--vocab", type=int, default=30_522)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    config = with_options(load_preset(args.preset), {"train.batch_size": str(args.batch)})
    case = Case(config, args.vocab, args.precision, compile=False)
    model, (batch,) = case.model(), case.batches(0)
    parameters = list(model.parameters())
    with autocast(CPU, args.precision):
        with kept(parameters) as blocks:
            hidden = model(batch.x.masked_fill(batch.mask, case.mask_id))
        leaf = hidden.detach().requires_grad_()
        with kept(parameters) as ours:
            predicted_loss(leaf, batch.x, batch.mask, batch.weights, model.head)
        with kept(parameters) as naive:
            log_p = torch.log_softmax(model.head(leaf), dim=-1)
            ce = -log_p.gather(-1, batch.x[:, :, None]).squeeze(-1) * batch.mask
            (batch.weights[:, None] * ce).sum()
    weights = sum(p.numel() * p.element_size() for p in parameters)
    print("| what | MiB |\n|---|---|")
    for name, size in (
        ("weights", weights),
        ("gradients and AdamW's averages", 3 * weights),
        ("kept by the blocks", sum(blocks.values())),
        ("kept by head and loss, ours", sum(ours.values())),
        ("kept by head and loss, naive", sum(naive.values())),
    ):
        print(f"| {name} | {size / MIB:,.0f} |")


if __name__ == "__main__":
    main()
