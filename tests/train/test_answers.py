"""A prompt is read, never masked and never counted: in masks, losses, bounds and whole runs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unmask.data.blocks import Blocks
from unmask.diffusion.masking import MASKINGS
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.recipe.parse import parse_recipe
from unmask.run import open_run
from unmask.sample import SamplerOptions, complete, complete_tokens, encode_prompts
from unmask.train.batch import Batch, draw_batches
from unmask.train.config import TrainConfig, ValidationConfig
from unmask.train.step import batch_loss
from unmask.train.validation import validate

Call = Callable[..., tuple[int, str]]
CPU = torch.device("cpu")
END, MASK, V, L, N = 9, 10, 11, 12, 40
RECIPES = [
    *(f"bell:masking={name}" for name in MASKINGS if name != "correlated"),
    *("bell:masking=correlated,neighbours=0.5", "standard", "fast", "mirror", "ar"),
    "fast:next-token=0.4,standard=0.3",
]


def blocks(seed: int = 0) -> Blocks:
    """Prompts of 0 to 6 tokens from 0 to 4, answers from 5 to 8 and an end, padded by ends."""
    random = np.random.default_rng(seed)
    prompts = random.integers(0, 7, N).astype(np.int32)
    answers = random.integers(1, L - 6, N)
    lengths = (prompts + answers).astype(np.int32)
    place = np.arange(L)
    tokens = np.where(place < prompts[:, None], random.integers(0, 5, (N, L)), END)
    inside = (place >= prompts[:, None]) & (place < lengths[:, None] - 1)
    tokens = np.where(inside, random.integers(5, 9, (N, L)), tokens).astype(np.uint16)
    return Blocks(tokens, lengths, int(answers.sum()), N, prompts=prompts)


def network(causal: bool = False, late: int = 0) -> Transformer:
    config = ModelConfig(layers=2, width=16, heads=2, late=late)
    model = Transformer(config, V, [MASK], mask_id=MASK, causal=causal, start=MASK)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if name in ("embedding.weight", "head.weight"):
            weight.data = torch.randn(weight.shape, generator=generator)
    return model


def drawn(recipe: str, some: Blocks, step: int = 0, parts: int = 1, device=CPU) -> list[Batch]:
    config = TrainConfig(batch_size=24, accumulation=parts, steps=20)
    how = {"seed": 3, "step": step, "device": device}
    return list(draw_batches(parse_recipe(recipe), some, config, **how))


def loss_of(recipe: str, some: Blocks, step: int = 5, parts: int = 1, late: int = 0) -> float:
    model = network(causal=parse_recipe(recipe).causal, late=late)
    loss = batch_loss(model, MASK)
    return sum(float(loss(batch).value.detach()) for batch in drawn(recipe, some, step, parts))


def nats(model: Transformer, inputs: torch.Tensor, targets: torch.Tensor, causal: bool):
    """(n,) cross-entropies of one text without padding, from the full logits."""
    with torch.no_grad():
        logits = model.head(model(inputs[None], None, causal))[0].double()
    return -logits.log_softmax(-1)[torch.arange(len(targets)), targets]


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_prompt_is_ever_masked_and_every_answer_is(recipe: str) -> None:
    """Over many draws: each token of an answer, its end too, is predicted; nothing else is."""
    some, ever = blocks(), torch.zeros(N, L, dtype=torch.bool)
    rows = {row.tobytes(): k for k, row in enumerate(some.tokens.astype(np.int64))}
    maskable = some.maskable(torch.arange(N))
    for step in range(20):
        for batch in drawn(recipe, some, step, parts=2):
            assert not (batch.mask & ~batch.maskable).any()
            hidden = batch.objective.hide(batch.x, batch.mask, MASK) != batch.x
            assert not (hidden & ~batch.maskable).any()
            for row, mask in zip(batch.x.numpy(), batch.mask, strict=True):
                ever[rows[row.tobytes()]] |= mask
    assert not (ever & ~maskable).any()
    assert (ever & maskable).sum() > 0.98 * maskable.sum()
    last = some.lengths_of(torch.arange(N)) - 1
    assert ever[torch.arange(N), last].sum() >= N - 1  # where an answer ends is learnt


def test_the_rate_is_that_of_the_answer() -> None:
    """Exactly ceil(t n) of an answer's n tokens, whatever the length of its prompt."""
    (batch,) = drawn("bell:masking=fixed-count", blocks())
    n = batch.maskable.sum(dim=1)
    assert torch.equal(batch.mask.sum(dim=1), (batch.t * n).ceil().long())


@pytest.mark.parametrize("recipe", ["bell", "standard", "fast:next-token=0.4", "ar", "mirror"])
@pytest.mark.parametrize(("parts", "late"), [(1, 0), (3, 0), (1, 1)])
def test_the_loss_by_hand(recipe: str, parts: int, late: int) -> None:
    """One record at a time, without padding, over the answers' tokens of the whole batch."""
    some, total, n_tokens = blocks(), 0.0, 0
    model = network(causal=parse_recipe(recipe).causal, late=late)
    for batch in drawn(recipe, some, 5, parts):
        causal = batch.objective.causal
        for x, valid, maskable, mask, t in zip(
            batch.x, batch.valid, batch.maskable, batch.mask, batch.t, strict=True
        ):
            text, hidden = x[valid], mask[valid]
            inputs = text if causal else text.masked_fill(hidden, MASK)
            weight = batch.objective.weights(t[None])[0]
            total += float(weight * nats(model, inputs, text, causal)[hidden].sum())
            n_tokens += int(maskable.sum())
    assert loss_of(recipe, some, 5, parts, late) == pytest.approx(total / n_tokens, rel=1e-5)


@pytest.mark.parametrize("recipe", ["bell", "fast:next-token=0.4", "ar"])
@pytest.mark.parametrize("late", [0, 1])
def test_a_prompt_is_read_and_padding_is_not(recipe: str, late: int) -> None:
    some = blocks()
    place = np.arange(L)
    in_prompt = place < some.prompts[:, None]
    in_padding = place >= some.lengths[:, None]
    tokens = some.tokens
    before = loss_of(recipe, some, late=late)
    other = replace(some, tokens=np.where(in_prompt, (tokens + 1) % 5, tokens))
    assert abs(loss_of(recipe, other, late=late) - before) > 1e-3
    other = replace(some, tokens=np.where(in_padding, 3, tokens))
    assert loss_of(recipe, other, late=late) == before


@pytest.mark.parametrize("causal", [False, True])
def test_prompts_and_padding_get_no_gradient_of_their_own(causal: bool) -> None:
    """What the head learns comes from the answers' tokens: those of prompts are never targets."""
    recipe = "ar" if causal else "bell"
    (batch,) = drawn(recipe, blocks())
    targets = batch.x[batch.mask]
    assert targets.min() >= 5 and END in targets


def test_more_of_a_prompt_is_visible_than_a_masking_leaves() -> None:
    """Where shapes are bounded, the bounds hold with prompts too."""
    some = blocks()
    for recipe in ("bell:masking=fixed-count", "fast:masking=fixed-count,next-token=0.4", "ar"):
        there = drawn(recipe, some, device=torch.device("meta"))
        for batch, unread in zip(drawn(recipe, some), there, strict=True):
            visible = (batch.valid & ~batch.mask).sum(dim=1)
            assert unread.bounds is not None
            assert unread.bounds.predicted >= batch.mask.sum()
            assert unread.bounds.visible >= visible.sum()
            assert unread.bounds.in_row >= visible.max()


class TestValidation:
    @pytest.mark.parametrize("estimator", ["fixed-count", "complementary", "controlled"])
    @pytest.mark.parametrize("late", [0, 1])
    def test_the_bound_is_that_of_all_masks(self, estimator: str, late: int) -> None:
        """Sum over k of S_k / k, with S_k the mean over all masks of k tokens of the answer."""
        tokens = np.array([[1, 2, 3, 5, 7, END, 3, 3], [4, 6, 6, 8, END, 0, 0, 0]], np.uint16)
        model, by_hand, copies = network(late=late), [], 500
        for row, first, length in zip(tokens.astype(np.int64), (3, 1), (6, 5), strict=True):
            text, n = torch.from_numpy(row[:length]), length - first
            sums, number = torch.zeros(n + 1), torch.zeros(n + 1)
            for bits in range(1, 2**n):
                mask = torch.zeros(length, dtype=torch.bool)
                mask[first:] = torch.tensor([bool(bits >> i & 1) for i in range(n)])
                ce = nats(model, text.masked_fill(mask, MASK), text, False)[mask].sum()
                sums[mask.sum()] += ce
                number[mask.sum()] += 1
            by_hand.append(float((sums[1:] / number[1:] / torch.arange(1, n + 1)).sum()))
        lengths, prompts = (np.tile(np.int32(some), copies) for some in ([6, 5], [3, 1]))
        some = Blocks(np.tile(tokens, (copies, 1)), lengths, 1, 1, prompts=prompts)
        config = ValidationConfig(blocks=2 * copies, draws=4, batch_size=2 * copies)
        bound = validate(model, some, config, MASK, estimator=estimator)
        assert bound.tokens == 7 * copies and bound.block_tokens.tolist() == [3, 4] * copies
        for record in (0, 1):
            found = bound.block_nats[record::2]
            error = float(found.std()) / copies**0.5
            assert error < 0.03 * by_hand[record]
            assert float(found.mean()) == pytest.approx(by_hand[record], abs=4 * error)
        residual = bound.block_nats - bound.nelbo * bound.block_tokens
        n = 2 * copies
        stderr = float((residual.square().sum() / (n - 1) / n).sqrt()) / 3.5
        assert bound.stderr == pytest.approx(stderr, rel=1e-5)

    def test_a_causal_likelihood_is_the_answers_given_their_prompts(self) -> None:
        some, model, total = blocks(), network(causal=True), 0.0
        for row, first, length in zip(some.tokens, some.prompts, some.lengths, strict=True):
            text = torch.from_numpy(row[:length].astype(np.int64))
            total += float(nats(model, text, text, True)[first:].sum())
        bound = validate(model, some, ValidationConfig(blocks=N), MASK)
        assert bound.tokens == some.n_tokens
        assert bound.nelbo == pytest.approx(total / some.n_tokens, rel=1e-5)

    @pytest.mark.parametrize("batch_size", [1, 7])
    def test_neither_batches_nor_padding_change_it(self, batch_size: int) -> None:
        some, config = blocks(), ValidationConfig(blocks=N, draws=2, batch_size=64)
        in_padding = np.arange(L) >= some.lengths[:, None]
        other = replace(some, tokens=np.where(in_padding, 3, some.tokens))
        found = [
            validate(network(), one, config.model_copy(update={"batch_size": size}), MASK)
            for one, size in ((some, 64), (other, batch_size))
        ]
        assert found[0].nelbo == pytest.approx(found[1].nelbo, rel=1e-5)


# --- whole runs -------------------------------------------------------------------------------


@pytest.fixture
def questions(tmp_path: Path) -> list[str]:
    """Options of a run that learns to answer with the letter it is asked for, three times."""
    letters = "abcdefghijklmnop"
    rows = [{"prompt": f"say {c} {k}: ", "text": c * 3} for c in letters for k in range(10)]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *("--corpus.source", str(path), "--corpus.prompt-field", "prompt"),
        *("--corpus.packing", "pad", "--corpus.block-size", "16"),
    ]


def evals(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keep = ("step", "nelbo", "stderr")
    return [{k: r[k] for k in keep} for r in lines if r["kind"] == "eval"]


def test_a_run_resumes_and_is_evaluated_on_its_own_answers(
    unmask: Call, small: list[str], questions: list[str], tmp_path: Path
) -> None:
    options = [*small, *questions, "--validation.every", "4", "--recipe", "narrow"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert unmask("train", "--run", whole, *options, "--train.steps", 8)[0] == 0
    assert unmask("train", "--run", parts, *options, "--train.steps", 4)[0] == 0
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 8)[0] == 0
    a, b = (
        load_file(run / "checkpoints" / "step-00000008" / "model.safetensors")
        for run in (whole, parts)
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert evals(whole) == evals(parts)
    facts = json.loads((whole / "corpus.json").read_text())
    answers = facts["train"]["tokens"] + facts["valid"]["tokens"]
    assert answers == 160 * 4  # three letters and an end
    status, text = unmask(
        *("evaluate", whole, "--json", "--estimator", "fixed-count", "--draws", 2)
    )
    record = json.loads(text.splitlines()[0])
    assert status == 0 and record["tokens"] == facts["valid"]["tokens"]
    assert record["nelbo"] == pytest.approx(evals(whole)[-1]["nelbo"], rel=0.2)


def test_prompts_that_are_wrapped_are_refused(
    unmask: Call, small: list[str], questions: list[str], tmp_path: Path
) -> None:
    questions[questions.index("pad")] = "wrap"
    status, text = unmask("train", "--run", tmp_path / "run", *small, *questions)
    assert status != 0 and not (tmp_path / "run").exists()
    assert "--corpus.packing: must be pad where records have prompts" in " ".join(text.split())


def test_locality_is_of_plain_text(unmask: Call, questions: list[str], tmp_path: Path) -> None:
    source, rest = questions[1], questions[2:]
    status, text = unmask("analyze", "locality", source, *rest, "--out", tmp_path / "study")
    assert status != 0 and not (tmp_path / "study").exists()
    assert "measured on plain text" in " ".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fast", "ar"])
def test_a_run_learns_to_answer(
    recipe: str, unmask: Call, small: list[str], questions: list[str], tmp_path: Path
) -> None:
    options = [*small, *questions, "--recipe", recipe, "--train.batch-size", "32"]
    options += ["--train.steps", "300", "--train.learning-rate", "3e-3"]
    assert unmask("train", "--run", tmp_path / "run", *options)[0] == 0
    assert evals(tmp_path / "run")[-1]["nelbo"] < 0.1
    run = open_run(tmp_path / "run")
    prompts = [f"say {c} 3: " for c in "afkp"]
    found = complete(run, prompts, new_tokens=4, options=SamplerOptions(), seed=0)
    assert found == [c * 3 for c in "afkp"]
    status, text = unmask(
        *("sample", tmp_path / "run", "--prompt", "say d 5: ", "--length", 4, "--num", 1)
    )
    assert status == 0 and "say d 5: ddd" in text


@pytest.mark.slow
def test_a_run_learns_to_converse(unmask: Call, small: list[str], tmp_path: Path) -> None:
    from chat_tokenizer import make

    letters = "abcdefghijklmnop"
    talks = [
        [{"role": "user", "content": f"{c} {k}"}, {"role": "assistant", "content": c * 3}]
        for c in letters
        for k in range(10)
    ]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    options = [
        *(*small, "--corpus.source", str(path), "--corpus.messages-field", "messages"),
        *("--corpus.packing", "pad", "--corpus.block-size", "32"),
        *("--corpus.tokenizer", str(make(tmp_path / "tokenizer")), "--train.batch-size", "32"),
        *("--train.steps", "300", "--train.learning-rate", "3e-3"),
    ]
    assert unmask("train", "--run", tmp_path / "run", *options)[0] == 0
    run = open_run(tmp_path / "run")
    ids = encode_prompts(run, ["d 5"])
    assert run.tokenizer.decode(ids[0]).endswith("assistant\n")
    assert complete_tokens(run, ids, new_tokens=4, options=SamplerOptions()) == ["ddd"]
    status, text = unmask(
        *("sample", tmp_path / "run", "--prompt", "d 5", "--length", 4, "--num", 1)
    )
    assert status == 0 and "d 5\nddd" in text
    other = make(tmp_path / "tokenizer", "{% for m in messages %}{{ m.content }}{% endfor %}")
    assert other.is_dir()
    status, text = unmask("train", "--run", tmp_path / "run", "--resume", "--train.steps", 310)
    assert status != 0 and "chat template is no longer what it was trained with" in text
