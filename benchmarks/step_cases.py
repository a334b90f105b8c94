"""The steps that `step.py` times: ours, those it is compared with, transformers' networks."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig

from unmask.config import Config
from unmask.data.blocks import Blocks
from unmask.model.transformer import Transformer
from unmask.recipe.parse import parse_recipe
from unmask.train.batch import Batch, draw_batches
from unmask.train.optim import build_optimizers
from unmask.train.state import TrainingState, average_of
from unmask.train.step import BatchLoss, Loss, batch_loss, take_step

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What is timed: a configuration and the command line's choices."""

    config: Config
    vocab: int
    precision: str
    compile: bool
    threads: int | None = None
    device: torch.device = CPU

    @property
    def mask_id(self) -> int:
        """The vocabulary's last entry."""
        return self.vocab - 1

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.config.train.batch_size * self.config.corpus.block_size

    def use_threads(self) -> None:
        """Compute with as many threads as were asked for."""
        if self.threads:
            torch.set_num_threads(self.threads)

    def batches(self, step: int, name: str = "naive") -> list[Batch]:
        """A batch of random tokens, masked as the preset's recipe does to its main samples.

        Ours is in micro-batches, if any were asked for.
        """
        b, length = self.config.train.batch_size, self.config.corpus.block_size
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, self.vocab - 1, (2 * b, length)).astype(np.uint16)
        blocks = Blocks(tokens, None, n_tokens=tokens.size, n_bytes=tokens.size)
        recipe = replace(parse_recipe(self.config.recipe), shares={})
        micro_batches = self.config.train.accumulation if name == "ours" else 1
        train = self.config.train.model_copy(update={"accumulation": micro_batches})
        return list(draw_batches(recipe, blocks, train, seed=0, step=step, device=self.device))

    def model(self, *, plain: bool = False) -> Transformer:
        """Our network; the plain one runs all positions through all blocks."""
        shape = self.config.model.model_copy(update={"late": 0} if plain else {})
        start = self.mask_id if shape.late or shape.shift else None
        network = Transformer(shape, self.vocab, (self.mask_id,), mask_id=self.mask_id, start=start)
        return network.to(self.device)


Step = Callable[[list[Batch]], None]


def ours(case: Case) -> Step:
    """The step as training takes it, with AdamW."""
    return _as_trained(case, case.model())


def plain(case: Case) -> Step:
    """The same with masked positions in all blocks."""
    return _as_trained(case, case.model(plain=True))


def arm(config: Config) -> Callable[[Case], Step]:
    """The step of an arm of a comparison: its network, and its optimiser."""

    def step(case: Case) -> Step:
        own = replace(case, config=case.config.model_copy(update={"model": config.model}))
        return _as_trained(own, own.model(), config.train.optimizer)

    return step


def _as_trained(case: Case, model: Transformer, optimizer: str = "adamw") -> Step:
    model.recompute = case.config.train.recompute
    train = case.config.train.model_copy(update={"optimizer": optimizer})
    loss = batch_loss(model, case.mask_id, compiled=case.compile)
    return _step(case, model, build_optimizers(model, train), loss)


def naive(case: Case, ema: float = 0.0) -> Step:
    """Full logits, and masked positions in all blocks."""
    model = case.model(plain=True)

    def logits(x: Tensor) -> Tensor:
        return model.head(model(x))  # type: ignore[no-any-return]

    network = torch.compile(logits) if case.compile else logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False, fused=False)

    def loss(batch: Batch) -> Loss:
        log_p = torch.log_softmax(network(batch.x.masked_fill(batch.mask, case.mask_id)), dim=-1)
        ce = -log_p.gather(-1, batch.x[:, :, None]).squeeze(-1) * batch.mask
        nats = ce.sum(dim=1)
        return Loss((batch.weights * nats).sum(), nats.detach(), batch.mask)

    return _step(case, model, [optimizer], loss, ema)


def published(case: Case) -> Step:
    """The naive step in float32, not compiled, with averaged weights: as MDLM's code takes it."""
    return naive(replace(case, precision="fp32", compile=False), ema=0.9999)


def bert(case: Case) -> Step:
    """transformers' BERT."""
    wide = 3 * case.config.model.mlp_width // 2  # two matrices where ours has three
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return _hugging_face(case, BertConfig, intermediate_size=wide, **no_dropout)


def modernbert(case: Case) -> Step:
    """transformers' ModernBERT, its special tokens moved into the vocabulary."""
    special = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    width = case.config.model.mlp_width
    return _hugging_face(case, ModernBertConfig, intermediate_size=width, **special)


def _hugging_face(
    case: Case, kind: type[BertConfig] | type[ModernBertConfig], **options: float
) -> Step:
    shape = case.config.model
    config = kind(
        vocab_size=case.vocab,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=case.config.corpus.block_size,
        **options,
    )
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="sdpa")
    network = torch.compile(model) if case.compile else model
    attended = torch.ones(case.config.train.batch_size, case.config.corpus.block_size).long()

    def loss(batch: Batch) -> Loss:
        out: Tensor = network(
            input_ids=batch.x.masked_fill(batch.mask, case.mask_id),
            attention_mask=attended,
            labels=batch.x.masked_fill(~batch.mask, -100),
        ).loss
        return Loss(out, out.detach(), batch.mask)

    return _step(case, model, [torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)], loss)


def _step(
    case: Case,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    loss: BatchLoss,
    ema: float = 0.0,
) -> Step:
    changes = {"precision": case.precision, "grad_clip": 1.0, "ema": ema}
    config = case.config.train.model_copy(update=changes)
    state = TrainingState(model, optimizers, average_of(model, ema))

    def step(batches: list[Batch]) -> None:
        take_step(state, loss, batches, config, step=0, learning_rate=1e-3)

    return step


STEPS: dict[str, Callable[[Case], Step]] = {
    "ours": ours,
    "plain": plain,
    "naive": naive,
    "published": published,
    "bert": bert,
    "modernbert": modernbert,
}
