"""Small runs that train in a second or two, shared by the tests of train, run, sample and cli."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from unmask.cli import main

settings.register_profile("here", deadline=None, derandomize=True)  # machines are shared and slow
settings.load_profile("here")

RHYME = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "big", "dog", "run", "far"]


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache, and none reaches a hub."""
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def same_threads() -> None:
    """Bitwise equality needs the same number of threads in every run."""
    torch.set_num_threads(1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of 60 short text files: parts of one rhyme, over and over, so quickly learnt."""
    folder = tmp_path / "texts"
    folder.mkdir()
    chance = random.Random(0)
    for number in range(60):
        start, words = chance.randrange(len(RHYME)), chance.randrange(50, 70)
        text = " ".join((RHYME * 6)[start : start + words])
        (folder / f"{number:03}.txt").write_text(text)
    return folder


@pytest.fixture
def small(corpus: Path) -> list[str]:
    """Options of a run that takes about a second: bytes, 2 layers of 32, blocks of 32."""
    return [
        *("--corpus.source", str(corpus), "--corpus.block-size", "32"),
        *("--model.layers", "2", "--model.width", "32", "--model.heads", "2"),
        *("--train.batch-size", "8", "--train.warmup-steps", "2"),
        *("--train.device", "cpu", "--train.precision", "fp32", "--train.optimizer", "adamw"),
        *("--validation.blocks", "16", "--validation.draws", "2", "--train.log-every", "1"),
    ]


@pytest.fixture
def unmask(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command line in this process: (exit status, everything it printed)."""

    def call(*arguments: object) -> tuple[int, str]:
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as exit:  # the option parser's own way out
            status = int(exit.code or 0)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return call


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal language model with random weights that reads 16 tokens, and its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("judge")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(RHYME)] * 3, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=280,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                initializer_range=0.5,
            )
        )
    model.save_pretrained(folder)
    return folder
