"""The reverse process: from masks (or nothing) to text.

`generate` fills the masked positions of a batch with one of `SAMPLERS`, all at once or in blocks
from left to right. A sampler decides which positions are revealed at which step; what stands there
is drawn from the model's prediction given what is visible.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unmask.base.errors import UserError, unknown
from unmask.diffusion.decoding import Decoding
from unmask.diffusion.noise import Stream, uniform_double
from unmask.diffusion.precision import finest

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x, where) -> logits: x (B, L) tokens, where (B, L) bool with M true, logits (M, V)."""

OnStep = Callable[[Tensor], None]
"""Called with the (B, L) tokens after each step."""


@dataclass(frozen=True)
class Task:
    """What a sampler is asked for.

    Attributes:
        denoise: the model.
        x: (B, L) int64 tokens.
        where: (B, L) bool, the positions to fill.
        steps: in how many steps.
        decoding: how a token is drawn.
        seed: draws are functions of (seed, row, counter).
        first: the counter of the first step; those of a batch's blocks are apart.
    """

    denoise: Denoise
    x: Tensor
    where: Tensor
    steps: int
    decoding: Decoding
    seed: int
    first: int = 0

    def uniform(self, stream: Stream, step: int) -> Tensor:
        """(B, L) float64 in [0, 1) on the CPU, other numbers for every stream, step and row."""
        rows = torch.arange(len(self.x))
        return uniform_double(self.seed, stream, self.first + step, rows, self.x.shape[1])

    def draw(self, logits: Tensor, where: Tensor, step: int) -> Tensor:
        """Tokens (M,) for the M positions ``where`` (B, L) that have the logits (M, V)."""
        u = self.uniform(Stream.SAMPLE_TOKEN, step)
        return self.decoding.draw(logits, u[where.cpu()])

    def reveal(self, x: Tensor, where: Tensor, step: int) -> Tensor:
        """The tokens x with those at ``where`` drawn; without any of them the model is not run."""
        if not where.any():
            return x
        return x.masked_scatter(where, self.draw(self.denoise(x, where), where, step))


Sampler = Callable[[Task, OnStep], Tensor]
"""Fills a task's positions: (B, L) int64; every other position is kept."""


def ancestral(task: Task, on_step: OnStep) -> Tensor:
    """Reverse the masking in equal steps of t from 1 to 0.

    Going from t to s, each masked token is revealed with probability (t - s)/t (Sahoo et al. 2024,
    MDLM, arXiv 2406.07524). Which ones does not depend on the predictions, so a step that reveals
    none costs nothing, and logits exist only where a token is drawn.
    """
    x, left = task.x, task.where
    for k in range(task.steps):
        # (t - s) / t with t = 1 - k / steps; 1 in the last step
        chosen = (task.uniform(Stream.SAMPLE_UNMASK, k) < 1 / (task.steps - k)).to(x.device)
        x, left = task.reveal(x, left & chosen, k), left & ~chosen
        on_step(x)
    return x


def first_hitting(task: Task, on_step: OnStep) -> Tensor:
    """Reveal one token at a time, in a random order: the reverse process without discretisation.

    The process reveals its tokens one by one, each as likely to be next (Zheng et al. 2024, arXiv
    2409.02908); when it does so is of no matter to a network that is not told the time. Takes as
    many steps as a row has tokens to fill, whatever ``steps`` says.
    """
    u = task.uniform(Stream.SAMPLE_UNMASK, 0).masked_fill(~task.where.cpu(), 2.0)
    order = u.argsort(dim=1).to(task.x.device)
    x, counts = task.x, task.where.sum(dim=1)
    for k in range(int(counts.max()) if len(counts) else 0):
        where = torch.zeros_like(task.where).scatter(1, order[:, k : k + 1], True)
        x = task.reveal(x, where & task.where & (k < counts)[:, None], k)
        on_step(x)
    return x


Certainty = Callable[[Tensor, Tensor], Tensor]
"""(log-probabilities (M, V) of the model, tokens drawn (M,)) -> (M,), more is revealed sooner."""


def probability(log_p: Tensor, drawn: Tensor) -> Tensor:
    """Logarithm of the drawn token's probability (MaskGIT, arXiv 2202.04200; LLaDA)."""
    return log_p.gather(1, drawn[:, None]).squeeze(1)


def margin(log_p: Tensor, drawn: Tensor) -> Tensor:
    """Probability of the likeliest token less that of the second (Kim et al., arXiv 2502.06768)."""
    top = log_p.topk(2, dim=1).values.exp()
    return top[:, 0] - top[:, 1]


def negative_entropy(log_p: Tensor, drawn: Tensor) -> Tensor:
    """Minus the entropy of the prediction, in nats (Dream)."""
    p = log_p.exp()
    return torch.xlogy(p, p).sum(dim=1)


def most_certain_first(certainty: Certainty) -> Sampler:
    """Reveal at each step the positions whose predictions are most certain.

    A row of n tokens reveals n/steps of them a step, evenly rounded. Certainty is that of the
    model's own distribution, whatever the temperature. This is no sampler of the model's joint
    distribution, even one token at a time: it prefers what is easy.
    """

    def sampler(task: Task, on_step: OnStep) -> Tensor:
        x, left, total = task.x, task.where, task.where.sum(dim=1)
        for k in range(task.steps):
            count = total * (k + 1) // task.steps - total * k // task.steps
            if (count > 0).any():
                # a row that reveals nothing now need not be predicted
                asked = left & (count > 0)[:, None]
                logits = task.denoise(x, asked)
                drawn = task.draw(logits, asked, k)
                log_p = logits.to(finest(x.device)).log_softmax(dim=1)
                score = torch.full(x.shape, -torch.inf, dtype=log_p.dtype, device=x.device)
                score[asked] = certainty(log_p, drawn)
                rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
                chosen = asked & (rank < count[:, None])
                x, left = torch.where(chosen, x.masked_scatter(asked, drawn), x), left & ~chosen
            on_step(x)
        return x

    return sampler


SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "first-hitting": first_hitting,
    "confidence": most_certain_first(probability),
    "margin": most_certain_first(margin),
    "entropy": most_certain_first(negative_entropy),
}
"""The samplers of a denoiser by name."""


def generate(
    sampler: str,
    denoise: Denoise,
    x: Tensor,
    mask_id: int,
    *,
    steps: int,
    seed: int,
    decoding: Decoding | None = None,
    block_length: int | None = None,
    on_step: OnStep = lambda x: None,
) -> Tensor:
    """Fill the masked positions of a batch.

    Args:
        sampler: a name in `SAMPLERS`.
        denoise: the model.
        x: (B, L) int64; masked positions are filled, the others are kept (a prompt).
        mask_id: the mask token.
        steps: how many, at least 1; shared out among the blocks, at least one for each.
        seed: a row's result is a function of (seed, row, what stands in it).
        decoding: how tokens are drawn; None: from the model's distribution as it is.
        block_length: fill this many masked tokens of a row at a time, from left to right
            (semi-autoregressive); None: all together.
        on_step: called with the tokens after each step (for progress).

    Returns:
        (B, L) int64 without masks.

    Raises:
        UserError: no such sampler, or a number below 1.
    """
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    for name, value in (("steps", steps), ("block_length", block_length)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    masked = x == mask_id
    number = masked.cumsum(dim=1) - 1  # of a masked position, from the left
    most = int(masked.sum(dim=1).max()) if masked.numel() else 0
    length = block_length or max(most, 1)
    blocks = max(-(-most // length), 1)
    apart = max(steps, x.shape[1])
    task = Task(denoise, x, masked, -(-steps // blocks), decoding or Decoding(), seed)
    for block in range(blocks):
        where = masked & (number // length == block)
        x = SAMPLERS[sampler](replace(task, x=x, where=where, first=block * apart), on_step)
    return x


def left_to_right(
    denoise: Denoise,
    x: Tensor,
    mask_id: int,
    seed: int,
    decoding: Decoding | None = None,
    on_step: OnStep = lambda x: None,
) -> Tensor:
    """Sample a causal model one token at a time (its inputs start with the mask token).

    Arguments and result as in `generate`; the network is run on the prefix at every token.
    """
    decoding = decoding or Decoding()
    x, rows = x.clone(), torch.arange(len(x))
    start = torch.full_like(x[:, :1], mask_id)
    for i in range(x.shape[1]):
        where = torch.zeros_like(x[:, : i + 1], dtype=torch.bool)
        where[:, i] = x[:, i] == mask_id
        if where.any():
            prefix = torch.cat([start, x[:, :i]], dim=1)
            u = uniform_double(seed, Stream.SAMPLE_TOKEN, i, rows, 1).squeeze(1)
            drawn = decoding.draw(denoise(prefix, where), u[where[:, i].cpu()])
            x[:, i] = x[:, i].masked_scatter(where[:, i], drawn)
        on_step(x)
    return x
