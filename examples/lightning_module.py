"""A masked language model, trained by a recipe as a LightningModule.

python examples/lightning_module.py
"""

import textwrap
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader
from transformers import AutoModelForMaskedLM, BertConfig

from unmask import Masker

MASK, LENGTH = 256, 64  # tokens are bytes


class MaskedModule(LightningModule):
    """Trains a network that gives logits by a recipe.

    Args:
        network: token ids (b, L) -> an object with ``logits``.
        recipe: by its text.
        mask_id: the mask token.
        rows: of a micro-batch of one process.
    """

    def __init__(
        self, network: nn.Module, recipe: str, mask_id: int, rows: int, learning_rate: float = 3e-3
    ) -> None:
        super().__init__()
        self.network, self.learning_rate = network, learning_rate
        self.recipe, self.mask_id, self.rows = recipe, mask_id, rows

    def on_train_start(self) -> None:
        """Lightning knows by now how many steps and processes there are."""
        accumulation = self.trainer.accumulate_grad_batches
        self.masker = Masker(
            self.recipe,
            self.mask_id,
            steps=int(self.trainer.estimated_stepping_batches),
            batch_size=self.rows * self.trainer.world_size * accumulation,
            micro_batches=accumulation,
        )

    def training_step(self, x: Tensor, index: int) -> Tensor:
        """The loss of a micro-batch; Lightning takes the mean over micro-batches and processes."""
        micro_batch = index % self.masker.micro_batches
        batch = self.masker(x, step=self.global_step, micro_batch=micro_batch)
        loss = batch.loss(self.network(batch.inputs).logits)
        if self.global_step % 5 == 0 and micro_batch == 0:
            self.print(f"step {self.global_step}: loss {loss:.3f} nats per token")
        return loss

    def configure_optimizers(self) -> Optimizer:
        """Every parameter by the same."""
        return AdamW(self.parameters(), self.learning_rate)


def main() -> None:
    """Train a tiny BERT on a module of Python's standard library."""
    torch.manual_seed(0)
    text = torch.tensor(list(Path(textwrap.__file__).read_bytes()))
    blocks = text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH)
    config = BertConfig(
        vocab_size=257,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
    )
    module = MaskedModule(
        AutoModelForMaskedLM.from_config(config), "narrow-scattered", MASK, rows=16
    )
    trainer = Trainer(
        max_steps=40,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(blocks, batch_size=16, shuffle=True, drop_last=True))


if __name__ == "__main__":
    main()
