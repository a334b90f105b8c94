"""Brute force over tiny vocabularies and lengths: what the estimators are held against."""

import itertools

import numpy as np
import torch
from scipy import special
from torch import Tensor

from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer


def all_masks(length: int) -> Tensor:
    """(2^L, L) bool."""
    return torch.tensor(list(itertools.product([False, True], repeat=length)))


def all_sequences(vocab: int, length: int) -> Tensor:
    """(V^L, L) int64."""
    return torch.tensor(list(itertools.product(range(vocab), repeat=length)))


def nelbo_weights(length: int) -> Tensor:
    """Integral over t of (1/t) (1/L) t^k (1 - t)^(L - k) for each mask of k tokens: B(k, L-k+1)/L.

    The empty mask, which predicts nothing, gets 0.
    """
    k = all_masks(length).sum(dim=1).numpy()
    beta = special.beta(np.maximum(k, 1), length - k + 1)
    return torch.from_numpy(np.where(k > 0, beta, 0.0) / length)


def bin_chance(length: int, low: float, high: float) -> Tensor:
    """Integral over t in (low, high) of t^k (1 - t)^(L - k) for each mask of k tokens."""
    k = all_masks(length).sum(dim=1).double()
    a, b = (k + 1).numpy(), (length - k + 1).numpy()
    inside = special.betainc(a, b, high) - special.betainc(a, b, low)
    return torch.from_numpy(special.beta(a, b) * inside)


def random_transformer(
    vocab: int, *, causal: bool = False, head: float = 1.0, self_conditioning: bool = False
) -> Transformer:
    """A real network with an undeserved opinion; id ``vocab`` is its mask token."""
    config = ModelConfig(layers=1, width=16, heads=2, self_conditioning=self_conditioning)
    start = vocab if causal else None
    model = Transformer(config, vocab + 1, [vocab], causal=causal, start=start, seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if name in ("embedding.weight", "head.weight", "state_norm.weight"):
            scale = head if name == "head.weight" else 1.0
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
def cross_entropies(model: Transformer, x: Tensor, mask_id: int) -> Tensor:
    """(N, 2^L) float64: summed cross-entropy (nats) of the masked tokens of x (N, L), each mask."""
    columns = []
    for mask in all_masks(x.shape[1]):
        logits = model.head(model(x.masked_fill(mask, mask_id))).double()
        nats = -logits.log_softmax(-1).gather(-1, x[..., None]).squeeze(-1)
        columns.append((nats * mask).sum(dim=1))
    return torch.stack(columns, dim=1)


def random_joint(vocab: int, length: int, seed: int = 0) -> Tensor:
    """(V^L,) float64 probabilities of `all_sequences`, far from a product of marginals."""
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(1.2 * torch.randn(vocab**length, generator=generator).double(), dim=0)


def conditionals(joint: Tensor, x: Tensor, vocab: int, mask_id: int) -> Tensor:
    """(N, L, V): P(token at i | the visible tokens of x (N, L)) under the joint, exactly."""
    sequences = all_sequences(vocab, x.shape[1])
    agrees = ((x[:, None] == sequences) | (x[:, None] == mask_id)).all(dim=-1)
    posterior = agrees * joint
    posterior = posterior / posterior.sum(dim=1, keepdim=True)
    one_hot = torch.nn.functional.one_hot(sequences, vocab).double()
    return torch.einsum("ns,slv->nlv", posterior, one_hot)
