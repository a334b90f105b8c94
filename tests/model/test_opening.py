"""The attention of a causal model that opens over a part of the steps."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tiny_networks import CAUSAL, make
from unmask.model.pretrained import CausalLM
from unmask.recipe.parse import parse_recipe
from unmask.train.batch import draw_batches
from unmask.train.config import TrainConfig

Call = Callable[..., tuple[int, str]]
L = 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return lambda kind: make(kind, tmp_path_factory.mktemp(kind) / "model")


@pytest.mark.parametrize("kind", CAUSAL)
def test_each_token_sees_so_far_to_its_right(kind: str, folders: Callable[[str], Path]) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folders(kind)).eval()
    model = CausalLM(loaded, [], 257, start=None)
    x = torch.arange(1, L + 1)[None, :]
    other = x.clone()
    other[0, 7] = 90
    layers = 2  # each passes on what the one before has seen
    with torch.no_grad():
        for reach in (0, 1, 2, L):
            how = {"reach": torch.tensor(reach)}
            changed = (model(x, **how) - model(other, **how)).abs().amax(-1)[0] > 0
            assert changed.nonzero().flatten().tolist() == list(
                range(max(0, 7 - layers * reach), L)
            )
        assert torch.equal(model(x, reach=torch.tensor(L)), model(x))
        assert torch.equal(model(x, causal=True, reach=torch.tensor(1)), model(x, causal=True))
        left = model(x, reach=torch.tensor(0))
        torch.testing.assert_close(left, model(x, causal=True))


def test_it_opens_in_equal_steps_and_stays_open() -> None:
    from unmask.data.blocks import Blocks

    tokens = torch.randint(0, 9, (8, 12), generator=torch.Generator().manual_seed(0)).numpy()
    some, config = Blocks(tokens, None, 96, 96), TrainConfig(batch_size=4, steps=20)
    found = []
    for step in range(20):
        (batch,) = draw_batches(
            parse_recipe("bell"),
            some,
            config,
            seed=0,
            step=step,
            device=torch.device("cpu"),
            opening=0.3,
        )
        found.append(None if batch.reach is None else int(batch.reach))
    assert found == [0, 2, 4, 6, 8, 10, *[None] * 14]


def test_a_run_resumes_and_says_what_it_cannot(
    unmask: Call, small: list[str], folders: Callable[[str], Path], tmp_path: Path
) -> None:
    options = [*small[:4], "--train.batch-size", 4, "--validation.blocks", 4, "--recipe", "bell"]
    options += ["--train.warmup-steps", 0, "--train.device", "cpu", "--train.precision", "fp32"]
    runs = [tmp_path / name for name in ("whole", "parts", "open")]
    given = [*options, "--init", folders("llama"), "--adapt.opening", 1]
    assert (
        unmask("train", "--run", runs[0], *given, "--train.steps", 4, "--train.save-every", 2)[0]
        == 0
    )
    assert unmask("train", "--run", runs[2], *given[:-2], "--train.steps", 4)[0] == 0
    kept = [
        load_file(run / "checkpoints/step-00000004/model.safetensors") for run in (runs[0], runs[2])
    ]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    shutil.copytree(runs[0], runs[1])
    shutil.rmtree(runs[1] / "checkpoints/step-00000004")  # as if it had been killed
    assert unmask("train", "--run", runs[1], "--resume")[0] == 0
    again = load_file(runs[1] / "checkpoints/step-00000004/model.safetensors")
    assert all(torch.equal(kept[0][name], again[name]) for name in again)
    said = {
        (): "--adapt.opening and --adapt.lora need init",
        ("--init", folders("bert")): "masked language model, whose attention is open already",
    }
    for init, why in said.items():
        status, text = unmask(
            "train", "--run", tmp_path / "none", *options, *init, "--adapt.opening", 0.5
        )
        assert status != 0 and why in " ".join(text.split()), text
