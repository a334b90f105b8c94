"""A masked language model, trained by a recipe in the Trainer of `transformers`.

python examples/transformers_trainer.py
torchrun --nproc-per-node 2 examples/transformers_trainer.py
"""

import tempfile
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig, Trainer, TrainingArguments

from unmask import Masker

MASK, PAD, LENGTH = 256, 257, 64  # tokens are bytes


class MaskedTrainer(Trainer):
    """Trains by a recipe; ``eval_loss`` estimates the bound (NELBO), whatever the recipe.

    Tokens are hidden here and not by the collator, which may work ahead of the step, in a process
    of its own. The collator gives clean tokens, and as labels the same with -100 where nothing
    counts: the Trainer then counts the tokens of the whole global batch.
    """

    def __init__(self, *args: Any, recipe: str, mask_id: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recipe, self.mask_id = recipe, mask_id
        self.model_accepts_loss_kwargs = True  # count the labels; the loss is not divided again
        self.label_names = ["labels"]
        self.place, self.number = None, 0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The loss of a micro-batch, of which the Trainer takes the mean over processes."""
        place = (model.training, self.state.global_step)
        self.number = self.number + 1 if place == self.place else 0
        self.place = place
        x, attention, counts = inputs["input_ids"], inputs["attention_mask"], inputs["labels"] >= 0
        args, world = self.args, self.args.world_size
        if model.training:
            accumulation = args.gradient_accumulation_steps
            rows = args.train_batch_size * world * accumulation
            masker = Masker(
                self.recipe, self.mask_id, self.state.max_steps, rows, args.seed, accumulation
            )
            batch = masker(x, counts, step=self.state.global_step, micro_batch=self.number)
        else:
            masker = Masker("standard", self.mask_id, 1, args.eval_batch_size * world, args.seed)
            batch = masker(x, counts, step=self.number)
        outputs = model(input_ids=batch.inputs, attention_mask=attention)
        tokens = num_items_in_batch
        if tokens is not None and args.average_tokens_across_devices:
            tokens = tokens / world
        loss = batch.loss(outputs.logits, tokens)
        return (loss, outputs) if return_outputs else loss


def collate(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Pad rows of clean tokens to one length."""
    x = torch.full((len(rows), LENGTH), PAD)
    for i, row in enumerate(rows):
        x[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
    attention = x != PAD
    return {"input_ids": x, "attention_mask": attention, "labels": x.where(attention, -100)}


def main() -> None:
    """Train a tiny BERT on the lines of a module of Python's standard library."""
    torch.manual_seed(0)
    lines = [line for line in Path(textwrap.__file__).read_bytes().splitlines() if line.strip()]
    rows = [{"input_ids": list(line[:LENGTH])} for line in lines]
    config = BertConfig(
        vocab_size=258,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
        pad_token_id=PAD,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = MaskedTrainer(
            AutoModelForMaskedLM.from_config(config),
            TrainingArguments(
                folder,
                max_steps=40,
                per_device_train_batch_size=16,
                gradient_accumulation_steps=2,
                learning_rate=3e-3,
                logging_steps=5,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=not torch.accelerator.is_available(),
            ),
            data_collator=collate,
            train_dataset=rows[20:],
            eval_dataset=rows[:20],
            recipe="narrow-scattered",
            mask_id=MASK,
        )
        trainer.train()
        trainer.evaluate()


if __name__ == "__main__":
    main()
