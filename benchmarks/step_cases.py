"""The steps that `step.py` times: ours, the naive one, transformers' BERT and ModernBERT."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig

from unmask.config import Config
from unmask.data import Blocks
from unmask.model import Transformer
from unmask.recipe import parse_recipe
from unmask.train.batch import Batch, batch_loss, draw_batch
from unmask.train.device import autocast
from unmask.train.optim import build_optimizers

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What is timed: a configuration and the command line's choices."""

    config: Config
    vocab: int
    precision: str
    compile: bool
    threads: int | None = None

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

    def batch(self, step: int) -> Batch:
        """A batch of random tokens, masked as the preset's recipe does."""
        b, length = self.config.train.batch_size, self.config.corpus.block_size
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, self.vocab - 1, (2 * b, length)).astype(np.uint16)
        blocks = Blocks(tokens, None, n_tokens=tokens.size, n_bytes=tokens.size)
        return draw_batch(parse_recipe(self.config.recipe), blocks, 0, step, b, CPU)

    def model(self) -> Transformer:
        """Our network."""
        return Transformer(self.config.model, self.vocab, (self.mask_id,))


Step = Callable[[Batch], None]


def ours(case: Case) -> Step:
    """The step as training takes it, with AdamW."""
    model, recipe = case.model(), parse_recipe(case.config.recipe)
    model.recompute = case.config.train.recompute
    network = torch.compile(model) if case.compile else model
    adamw = case.config.train.model_copy(update={"optimizer": "adamw"})

    def loss(batch: Batch) -> Tensor:
        return batch_loss(network, model.head, recipe, batch, case.mask_id)[0]

    return _step(case, model, build_optimizers(model, adamw), loss, adamw.accumulation)


def naive(case: Case) -> Step:
    """The same mathematics from full logits."""
    model, recipe = case.model(), parse_recipe(case.config.recipe)

    def logits(x: Tensor) -> Tensor:
        return model.head(model(x))  # type: ignore[no-any-return]

    network = torch.compile(logits) if case.compile else logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False, fused=False)

    def loss(batch: Batch) -> Tensor:
        corrupted = recipe.corrupt(batch.x, batch.t, batch.u, valid=None, mask_id=case.mask_id)
        log_p = torch.log_softmax(network(corrupted.inputs), dim=-1)
        ce = -log_p.gather(-1, batch.x[:, :, None]).squeeze(-1) * corrupted.predicted
        return (batch.weights[:, None] * ce).sum()

    return _step(case, model, [optimizer], loss)


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
    recipe = parse_recipe(case.config.recipe)
    attended = torch.ones(case.config.train.batch_size, case.config.corpus.block_size).long()

    def loss(batch: Batch) -> Tensor:
        corrupted = recipe.corrupt(batch.x, batch.t, batch.u, valid=None, mask_id=case.mask_id)
        labels = batch.x.masked_fill(~corrupted.predicted, -100)
        out: Tensor = network(
            input_ids=corrupted.inputs, attention_mask=attended, labels=labels
        ).loss
        return out

    return _step(case, model, [torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)], loss)


def _step(
    case: Case,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    loss_of: Callable[[Batch], Tensor],
    micro_batches: int = 1,
) -> Step:
    def step(batch: Batch) -> None:
        for part in batch.split(micro_batches):
            with autocast(CPU, case.precision):
                loss = loss_of(part)
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


STEPS = {"ours": ours, "naive": naive, "bert": bert, "modernbert": modernbert}
