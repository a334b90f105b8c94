"""Every example runs as it stands, and trains exactly as our own loop does."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from unmask import Masker, parse_recipe
from unmask.data.blocks import Blocks
from unmask.data.order import sample_blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.train.batch import draw_batches
from unmask.train.config import TrainConfig
from unmask.train.step import batch_loss

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
MASK, ROWS, PARTS, STEPS, RATE = 10, 3, 2, 3, 0.5
RECIPES = ["standard", "narrow-scattered:uniform=0.3"]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs_and_the_loss_goes_down(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    example(name).main()
    printed = capfd.readouterr().out
    losses = [float(number) for number in re.findall(r"\bloss\W+([\d.]+)", printed)]
    assert len(losses) >= 8 and all(3 < loss < 6 for loss in losses[:1])
    assert sum(losses[-2:]) / 2 < losses[0] - 0.7


class Logits(nn.Module):
    """Our network as a masked language model of `transformers` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Transformer(ModelConfig(layers=1, width=16, heads=2), MASK + 1, (MASK,))
        with (
            torch.no_grad()
        ):  # the head starts at zero, which would leave the rest without gradient
            self.network.head.weight.normal_(generator=torch.Generator().manual_seed(0))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        from transformers.modeling_outputs import MaskedLMOutput

        hidden = self.network(input_ids, attention_mask)
        return MaskedLMOutput(logits=self.network.head(hidden))


def blocks(padded: bool) -> Blocks:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, MASK, (50, 12)).astype(np.uint16)
    lengths = rng.integers(3, 13, 50).astype(np.int32) if padded else None
    return Blocks(tokens, lengths, tokens.size, tokens.size)


def rows_in_order(data: Blocks, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens and which are no padding, of the run's samples one after another."""
    slots = torch.arange(ROWS * PARTS)
    steps = [sample_blocks(seed, step, slots, len(slots), data.parts) for step in range(STEPS)]
    x, valid = data.batch(torch.cat(steps))
    return x, torch.ones_like(x, dtype=torch.bool) if valid is None else valid


def ours(recipe: str, data: Blocks, seed: int) -> tuple[dict[str, Tensor], list[float]]:
    """Weights after the steps of our own loss, by gradient descent, and the losses."""
    model = Logits()
    loss, optimizer = batch_loss(model.network, MASK), SGD(model.parameters(), RATE)
    config = TrainConfig(batch_size=ROWS * PARTS, steps=STEPS)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for batch in draw_batches(
            parse_recipe(recipe), data, config, seed=seed, step=step, device=torch.device("cpu")
        ):
            value = loss(batch).value
            value.backward()
            total += float(value.detach())
        losses.append(total)
        optimizer.step()
    return model.state_dict(), losses


def assert_the_same(found: nn.Module, losses: list[float], own: Any) -> None:
    weights, own_losses = own
    assert losses == pytest.approx(own_losses, rel=1e-4)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-2)
    for name, weight in found.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_trainer_of_transformers_takes_our_steps(recipe: str, tmp_path: Path) -> None:
    from torch.utils.data import SequentialSampler
    from transformers import TrainingArguments

    theirs = example("transformers_trainer")

    class InOrder(theirs.MaskedTrainer):  # type: ignore[misc,name-defined]
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    data = blocks(padded=True)
    x, valid = rows_in_order(data, seed=5)
    model = Logits()
    trainer = InOrder(
        model,
        TrainingArguments(
            str(tmp_path),
            max_steps=STEPS,
            per_device_train_batch_size=ROWS,
            gradient_accumulation_steps=PARTS,
            max_grad_norm=0,
            logging_steps=1,
            seed=5,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=1,  # one that works ahead changes nothing
        ),
        train_dataset=[
            {"input_ids": a, "attention_mask": b, "labels": a.where(b, -100)}
            for a, b in zip(x, valid, strict=True)
        ],
        optimizers=(SGD(model.parameters(), RATE), None),
        recipe=recipe,
        mask_id=MASK,
    )
    trainer.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer, 1.0)
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    weights, own = ours(recipe, data, 5)
    assert losses == pytest.approx(own, abs=6e-4)  # as it is logged
    assert_the_same(model, own, (weights, own))


def test_the_trainer_of_transformers_evaluates_by_the_bound(tmp_path: Path) -> None:
    """An undecided network has log V nats per token, whatever the recipe; noise is fixed."""
    from transformers import TrainingArguments

    theirs = example("transformers_trainer")
    model = Logits()
    arguments = TrainingArguments(str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True)
    x, valid = rows_in_order(blocks(padded=True), seed=5)
    rows = [
        {"input_ids": a, "attention_mask": b, "labels": a.where(b, -100)}
        for a, b in zip(x, valid, strict=True)
    ]

    def evaluated(recipe: str) -> float:
        trainer = theirs.MaskedTrainer(
            model, arguments, eval_dataset=rows * 20, recipe=recipe, mask_id=MASK
        )
        return float(trainer.evaluate()["eval_loss"])

    assert evaluated("bell") == evaluated("standard")
    nn.init.zeros_(model.network.head.weight)
    assert evaluated("bell") == pytest.approx(np.log(MASK), rel=0.1)


@pytest.mark.parametrize("recipe", RECIPES)
def test_lightning_takes_our_steps(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning import Trainer

    theirs = example("lightning_module")
    model, losses = Logits(), []

    class Module(theirs.MaskedModule):  # type: ignore[misc,name-defined]
        def training_step(self, *batch: Any) -> Tensor:
            losses.append(super().training_step(*batch))
            return losses[-1]

        def configure_optimizers(self) -> SGD:
            return SGD(self.parameters(), RATE)

    data = blocks(padded=False)
    x, _ = rows_in_order(data, seed=0)
    trainer = Trainer(
        max_steps=STEPS,
        accumulate_grad_batches=PARTS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(model, recipe, MASK, ROWS), DataLoader(x, ROWS))  # type: ignore[arg-type]
    steps = torch.stack(losses).detach().view(STEPS, PARTS).mean(dim=1)
    assert_the_same(model, steps.tolist(), ours(recipe, data, 0))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_loop_of_accelerate_takes_our_steps(recipe: str) -> None:
    from accelerate import Accelerator

    theirs = example("accelerate_loop")
    data = blocks(padded=True)
    model, accelerator = Logits(), Accelerator(cpu=True, gradient_accumulation_steps=PARTS)
    optimizer = SGD(model.parameters(), RATE)
    loader = DataLoader(TensorDataset(*rows_in_order(data, seed=1)), ROWS)
    prepared = accelerator.prepare(model, optimizer, loader)
    masker = Masker(recipe, MASK, STEPS, ROWS * PARTS, seed=1, micro_batches=PARTS)
    theirs.train(accelerator, *prepared, masker)
    own = ours(recipe, data, 1)
    assert_the_same(model, own[1], own)
