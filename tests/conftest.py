"""Small runs that train in a second or two, shared by the tests of train, run, sample and cli."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from in_process import train_here
from reader import Reader, opened
from unmask.cli import main

EXAMPLES = {"quick": 20, "thorough": 100}  # of each property; more only where a test says so
for name, examples in EXAMPLES.items():  # machines are shared and slow: no deadline
    settings.register_profile(name, deadline=None, derandomize=True, max_examples=examples)


def pytest_configure(config: pytest.Config) -> None:
    """The quick run, without the slow tests, tries fewer examples of each property too."""
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "thorough")


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


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons train their runs in this process, which is many times faster."""
    train_here(monkeypatch)


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not rendered, which takes most of the time."""
    monkeypatch.setattr("unmask.plot.figure.as_png", lambda *_: b"")
    monkeypatch.setattr("unmask.plot.figure.as_svg", lambda *_: "<svg ></svg>")


@pytest.fixture(scope="session")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A browser; skips where none is installed."""
    with opened(tmp_path_factory.mktemp("profile")) as browser:
        yield Reader(browser)


@pytest.fixture
def reader(visited: Reader) -> Reader:
    """A reader in a browser whose console and requests are those of this test."""
    visited.said(), visited.asked()
    return visited


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


@pytest.fixture(scope="session")
def tokenizer_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real tokenizers of the field's kinds, by name, trained on a few hundred sentences.

    ``wordpiece`` like BERT's, ``llama`` (BPE of pieces with bytes to fall back on), ``t5``
    (Unigram), ``gpt2`` (BPE of bytes), and ``dropping``: a BPE without bytes and without an unknown
    token, which leaves out what it does not know.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    chance = random.Random(0)
    words = [
        *RHYME,
        "alpha",
        "alphabet",
        "word",
        "naïve",
        "é",
        "漢字",
        "我喜欢吃苹果",
        "def",
        "return",
        "(a, b):",
    ]
    texts = [" ".join(chance.choices(words, k=12)) + ".\n" for _ in range(300)]
    quiet = {"show_progress": False}

    def save(name: str, backend: Tokenizer, **roles: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(str(folder))
        return folder

    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer(lowercase=True)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    wordpiece.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=140, special_tokens=names, **quiet)
    )

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    pieces.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=140, **quiet))
    learnt = json.loads(pieces.to_str())["model"]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", *bytes_, *learnt["vocab"]])}
    llama = Tokenizer(
        models.BPE(
            vocab,
            [tuple(pair) for pair in learnt["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    llama.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    llama.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )

    t5 = Tokenizer(models.Unigram())
    t5.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    t5.decoder = decoders.Metaspace(prepend_scheme="always")
    t5.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=140, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", **quiet
        ),
    )

    gpt2 = Tokenizer(models.BPE())
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    gpt2.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=340, special_tokens=["<|end|>"], initial_alphabet=alphabet, **quiet
        ),
    )

    dropping = Tokenizer(models.BPE())
    dropping.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    dropping.decoder = decoders.Metaspace(prepend_scheme="always")
    plain = [" ".join(chance.choices(RHYME, k=12)) for _ in range(100)]
    dropping.train_from_iterator(
        plain, trainers.BpeTrainer(vocab_size=80, special_tokens=["</s>"], **quiet)
    )
    llama_roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    bert = {f"{name.strip('[]').lower()}_token": name for name in names}
    return {
        "wordpiece": save("wordpiece", wordpiece, **bert),
        "llama": save("llama", llama, **llama_roles),
        "t5": save("t5", t5, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"),
        "gpt2": save("gpt2", gpt2, eos_token="<|end|>"),
        "dropping": save("dropping", dropping, eos_token="</s>"),
    }
