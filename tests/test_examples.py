"""The recipe in other trainers: each example runs, and trains exactly as our own loop does."""

import importlib.util
import multiprocessing
import os
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR
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
EXAMPLES = ["accelerate_loop", "lightning_module", "transformers_trainer"]
MASK, ROWS, PARTS, STEPS, RATE = 10, 3, 2, 3, 0.5
SEED = 0  # the one that the examples and the page draw with, where they do not say
RECIPES = ["standard", "narrow-scattered:uniform=0.3"]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if "accelerate" in name else pytest.mark.slow)
        for name in EXAMPLES
    ],
)
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


def rows_in_order(data: Blocks) -> tuple[Tensor, Tensor]:
    """Tokens and which are no padding, of the run's samples one after another."""
    slots = torch.arange(ROWS * PARTS)
    steps = [sample_blocks(SEED, step, slots, len(slots), data.parts) for step in range(STEPS)]
    x, valid = data.batch(torch.cat(steps))
    return x, torch.ones_like(x, dtype=torch.bool) if valid is None else valid


def labelled() -> list[dict[str, Tensor]]:
    """The same, padded, as the Trainer of `transformers` reads it."""
    pairs = zip(*rows_in_order(blocks(padded=True)), strict=True)
    return [{"input_ids": a, "attention_mask": b, "labels": a.where(b, -100)} for a, b in pairs]


def made() -> tuple[Logits, SGD]:
    model = Logits()
    return model, SGD(model.parameters(), RATE)


def ours(recipe: str, data: Blocks) -> tuple[dict[str, Tensor], list[float]]:
    """Weights after the steps of our own loss, by gradient descent, and the losses."""
    model, optimizer = made()
    loss = batch_loss(model.network, MASK)
    config = TrainConfig(batch_size=ROWS * PARTS, steps=STEPS)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for batch in draw_batches(
            parse_recipe(recipe), data, config, seed=SEED, step=step, device=torch.device("cpu")
        ):
            value = loss(batch).value
            value.backward()
            total += float(value.detach())
        losses.append(total)
        optimizer.step()
    return model.state_dict(), losses


def with_transformers(recipe: str, folder: Path, parts: int) -> tuple[nn.Module, list[float]]:
    from torch.utils.data import SequentialSampler
    from transformers import TrainingArguments

    theirs = example("transformers_trainer")

    class InOrder(theirs.MaskedTrainer):  # type: ignore[misc,name-defined]
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    model, optimizer = made()
    trainer = InOrder(
        model,
        TrainingArguments(
            str(folder),
            max_steps=STEPS,
            per_device_train_batch_size=ROWS,
            gradient_accumulation_steps=parts,
            max_grad_norm=0,
            logging_steps=1,
            seed=SEED,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=True,
            dataloader_num_workers=1,  # one that works ahead changes nothing
        ),
        train_dataset=labelled(),
        optimizers=(optimizer, ConstantLR(optimizer, 1.0)),
        recipe=recipe,
        mask_id=MASK,
    )
    trainer.train()
    history = trainer.state.log_history
    return model, [float(entry["loss"]) for entry in history if "loss" in entry]


def with_lightning(recipe: str, folder: Path, parts: int) -> tuple[nn.Module, list[float]]:
    from lightning import Trainer

    theirs = example("lightning_module")
    model, optimizer = made()
    losses: list[Tensor] = []

    class Module(theirs.MaskedModule):  # type: ignore[misc,name-defined]
        def on_train_start(self) -> None:
            super().on_train_start()
            self.masker = replace(self.masker, seed=SEED)

        def training_step(self, *batch: Any) -> Tensor:
            losses.append(super().training_step(*batch))
            return losses[-1]

        def configure_optimizers(self) -> SGD:
            return optimizer

    world, rank = (int(os.environ.get(key, i)) for i, key in ((1, "WORLD_SIZE"), (0, "RANK")))
    x, _ = rows_in_order(blocks(padded=False))
    trainer = Trainer(
        max_steps=STEPS,
        accumulate_grad_batches=parts,
        accelerator="cpu",
        devices=world,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    mine = x.view(-1, ROWS, x.shape[1])[rank::world].flatten(0, 1)
    trainer.fit(Module(model, recipe, MASK, ROWS), DataLoader(mine, ROWS))  # type: ignore[arg-type]
    steps = torch.stack(losses).detach().view(STEPS, parts).mean(dim=1)
    if world > 1:
        steps = trainer.strategy.reduce(steps)
    return model, steps.tolist()


def with_accelerate(recipe: str, folder: Path, parts: int) -> tuple[nn.Module, list[float]]:
    from accelerate import Accelerator

    theirs = example("accelerate_loop")
    model, optimizer = made()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
    loader = DataLoader(TensorDataset(*rows_in_order(blocks(padded=True))), ROWS)
    prepared = accelerator.prepare(model, optimizer, loader)
    rows = ROWS * parts * accelerator.num_processes
    printed: list[str] = []
    accelerator.print = printed.append
    theirs.train(accelerator, *prepared, Masker(recipe, MASK, STEPS, rows, SEED, parts))
    return model, [float(line.split()[3]) for line in printed]


LOOPS: dict[str, tuple[Callable[[str, Path, int], tuple[nn.Module, list[float]]], bool]] = {
    "transformers": (with_transformers, True),
    "lightning": (with_lightning, False),
    "accelerate": (with_accelerate, True),
}
"""Three steps of each, of two parts; and whether some of its rows are padded."""


def assert_our_steps(loop: str, recipe: str, weights: dict[str, Tensor], losses: list) -> None:
    own_weights, own_losses = ours(recipe, blocks(padded=LOOPS[loop][1]))
    assert losses == pytest.approx(own_losses[: len(losses)], abs=6e-4)  # as they are printed
    assert own_losses[-1] != pytest.approx(own_losses[0], rel=1e-2)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, own_weights[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("loop", LOOPS)
def test_it_takes_the_steps_of_our_own_loop(loop: str, recipe: str, tmp_path: Path) -> None:
    model, losses = LOOPS[loop][0](recipe, tmp_path, PARTS)
    assert_our_steps(loop, recipe, model.state_dict(), losses)


def _process(loop: str, recipe: str, folder: Path, rank: int, port: int) -> None:
    """As torchrun starts it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PARTS)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    model, losses = LOOPS[loop][0](recipe, folder, 1)
    torch.save((dict(model.state_dict()), losses), folder / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_so_do_two_processes(loop: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    new = multiprocessing.get_context("spawn")  # whatever has been initialised here
    arguments = [(loop, RECIPES[1], tmp_path, rank, port) for rank in range(PARTS)]
    processes = [new.Process(target=_process, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * PARTS
    for rank in range(PARTS):
        weights, losses = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_our_steps(loop, RECIPES[1], weights, losses)


def test_the_trainer_of_transformers_evaluates_by_the_bound(tmp_path: Path) -> None:
    """An undecided network has log V nats per token, whatever the recipe; noise is fixed."""
    from transformers import TrainingArguments

    theirs = example("transformers_trainer")
    model, _ = made()
    arguments = TrainingArguments(str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True)

    def evaluated(recipe: str) -> float:
        trainer = theirs.MaskedTrainer(
            model, arguments, eval_dataset=labelled() * 20, recipe=recipe, mask_id=MASK
        )
        return float(trainer.evaluate()["eval_loss"])

    assert evaluated("bell") == evaluated("standard")
    nn.init.zeros_(model.network.head.weight)
    assert evaluated("bell") == pytest.approx(np.log(MASK), rel=0.1)


def test_a_collator_cannot_tell_the_step_that_its_rows_are_for(tmp_path: Path) -> None:
    """Why the example hides tokens in `compute_loss`: batches are collated ahead of their step."""
    from transformers import TrainingArguments

    theirs = example("transformers_trainer")
    collated: dict[int, int] = {}
    trained: dict[int, int] = {}

    class Watched(theirs.MaskedTrainer):  # type: ignore[misc,name-defined]
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kw: Any):  # type: ignore[no-untyped-def]
            trained[int(inputs["input_ids"][0, 0])] = self.state.global_step
            return super().compute_loss(model, inputs, *args, **kw)

    def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        x = torch.stack([row["input_ids"] for row in rows])
        collated[int(x[0, 0])] = trainer.state.global_step
        return {"input_ids": x, "attention_mask": x >= 0, "labels": x}

    model, _ = made()
    trainer = Watched(
        model,
        TrainingArguments(
            str(tmp_path), max_steps=4, per_device_train_batch_size=1, save_strategy="no",
            report_to="none", disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
        ),
        data_collator=collate,
        train_dataset=[{"input_ids": torch.full((6,), i)} for i in range(8)],
        recipe="standard",
        mask_id=MASK,
    )  # fmt: skip
    trainer.train()
    assert sorted(trained.values()) == [0, 1, 2, 3]
    assert any(collated[row] != step for row, step in trained.items())


PAGE = (ROOT / "docs" / "interop.md").read_text()


def test_the_page_names_every_example() -> None:
    assert sorted(re.findall(r"`examples/(\w+)\.py`", PAGE)) == EXAMPLES


@pytest.mark.parametrize("sign", ["-", "+"])
def test_the_patch_of_the_page_gives_our_loss(sign: str) -> None:
    """With the lines that it takes out the loss is the bound's; with those it puts in, ours."""
    (patch,) = re.findall(r"```diff\n(.*?)```", PAGE, flags=re.DOTALL)
    code = "".join(line[1:] + "\n" for line in patch.splitlines() if line[0] in (sign, " "))
    assert sum(line.startswith("+") for line in patch.splitlines()) == 3
    data, model = blocks(padded=True), Logits()
    x, valid = (rows[: ROWS * PARTS] for rows in rows_in_order(data))
    names: dict[str, Any] = {
        **{"torch": torch, "F": F, "Masker": Masker, "mask_id": MASK, "step": 0, "steps": STEPS},
        **{"x": x, "valid": valid, "batch_size": len(x)},
        "model": lambda inputs: model(inputs, valid).logits,
    }
    torch.manual_seed(0)
    exec(code, names)
    _, losses = ours("narrow-scattered", data)
    assert (float(names["loss"].detach()) == pytest.approx(losses[0], rel=1e-5)) == (sign == "+")


def test_the_page_s_own_loop_trains() -> None:
    (code,) = re.findall(r"```python\n(from unmask import Masker.*?)```", PAGE, flags=re.DOTALL)
    model = nn.Sequential(nn.Embedding(104, 8), nn.Linear(8, 104))
    names: dict[str, Any] = {"model": model, "x": torch.full((16, 10), 3), "step": 0}
    exec(code, names | {"valid": None})
