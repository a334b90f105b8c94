"""Texts of trained runs: from nothing, after prompts, in gaps."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import unmask.sample as module
from unmask.base.errors import UserError
from unmask.cli.sample import _view
from unmask.data.tokenizers import hub_tokenizer
from unmask.diffusion.sampler import SAMPLERS
from unmask.run import Run, open_run
from unmask.sample import SamplerOptions, complete, fill, gaps, infill, sample

Call = Callable[..., tuple[int, str]]
GREEDY = SamplerOptions("confidence", steps=32, temperature=0)
tokenizer_of = cache(lambda folder: hub_tokenizer(str(folder)))


PIECES = st.lists(
    st.sampled_from(
        ["[MASK]", "[MASK*2]", "\\", "[", "]", " ", "\n", "the", " cat", "漢", "é", "🙂"]
    )
    | st.text(max_size=3)
).map("".join)


def literal(text: str) -> str:
    """A text as `gaps` reads it, nothing in it a gap."""
    return re.sub(r"(\\*)(\[MASK(\*[0-9]+)?\])", r"\1\1\\\2", text)


def before_a_gap(text: str) -> str:
    """What to add to a text that a gap follows: its last backslashes once more."""
    return text[len(text.rstrip("\\")) :]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path, list[str], Call, str, int], Run]:
    """Train once per recipe, options and number of steps: 500 are enough to know the rhyme."""
    runs: dict[tuple[object, ...], Path] = {}

    def train(corpus: Path, small: list[str], unmask: Call, recipe: str, steps: int) -> Run:
        key = recipe, steps, *(option for option in small if option != str(corpus))
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp(recipe) / "run"
            options = ["--train.steps", steps, "--validation.every", steps, "--recipe", recipe]
            options += ["--train.learning-rate", 0.01, "--train.batch-size", 16]
            status, text = unmask("train", "--run", runs[key], *small, *options)
            assert status == 0, text
        return open_run(runs[key])

    return train


@pytest.fixture
def run(trained, corpus: Path, small: list[str], unmask: Call) -> Run:
    return trained(corpus, small, unmask, "fast", 40)


@pytest.fixture
def twin(trained, corpus: Path, small: list[str], unmask: Call) -> Run:
    return trained(corpus, small, unmask, "ar", 10)


@pytest.mark.slow
def test_a_gap_is_filled_with_what_fits_on_both_sides(
    trained, corpus: Path, small: list[str], unmask: Call
) -> None:
    run = trained(corpus, small, unmask, "fast", 500)
    (text,) = infill(run, "the cat [MASK*3] on a mat and", num=1, options=GREEDY)
    assert text == "the cat sat on a mat and"
    (text,) = infill(run, "[MASK*4]cat sat [MASK]n a mat", num=1, options=GREEDY)
    assert text == "the cat sat on a mat"


def test_a_gap_is_filled_and_what_stands_around_it_kept(run: Run) -> None:
    (text,) = infill(run, "the cat [MASK*3] on a mat and", num=1, options=GREEDY)
    assert text.startswith("the cat ") and text.endswith(" on a mat and") and "░" not in text


PROMPTS = ["the cat sat on ", "one big ", "the cat sat on a mat and "]


@pytest.mark.slow
def test_a_twin_that_knows_the_rhyme_goes_on_with_it(
    trained, corpus: Path, small: list[str], unmask: Call
) -> None:
    twin = trained(corpus, small, unmask, "ar", 500)
    greedy = SamplerOptions(temperature=0)
    assert complete(twin, PROMPTS, new_tokens=5, options=greedy) == ["a mat", "dog r", "saw o"]


def test_prompts_of_any_length_are_kept_and_continued(run: Run, twin: Run) -> None:
    left = SamplerOptions("confidence", steps=5, temperature=0, block_length=1)
    found = complete(run, PROMPTS, new_tokens=5, options=left)
    assert [len(text) for text in found] == [5, 5, 5]
    greedy = SamplerOptions(temperature=0)
    alone = [complete(twin, [prompt], new_tokens=5, options=greedy)[0] for prompt in PROMPTS]
    assert complete(twin, PROMPTS, new_tokens=5, options=greedy) == alone


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_the_states_that_a_step_reads_are_computed_where_that_saves_work(
    sampler: str,
    trained,
    corpus: Path,
    small: list[str],
    unmask: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network whose masked positions come in late draws what it draws if it computes all."""
    run = trained(corpus, [*small, "--model.late", "1"], unmask, "fast", 40)
    options, template = SamplerOptions(sampler, steps=6), "the cat [MASK*9] on [MASK*4] and"
    found = infill(run, template, num=3, options=options)
    several = complete(run, PROMPTS, new_tokens=5, options=options)
    asked, forward = [], run.model.forward

    def whole(x: torch.Tensor, valid: object = None, *, predicted: torch.Tensor) -> torch.Tensor:
        asked.append(int(predicted.sum()))
        return forward(x, valid)

    monkeypatch.setattr(run.model, "forward", whole)
    assert infill(run, template, num=3, options=options) == found
    assert complete(run, PROMPTS, new_tokens=5, options=options) == several
    assert min(asked) <= 8  # of 39


KINDS = ["wordpiece", "llama", "t5", "gpt2"]


def filled_with(monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> None:
    """In place of a model: the mask tokens of every row become these, from left to right."""

    def fill(run: Run, rows: list[list[int]], *_: object, **__: object) -> list[list[int]]:
        found = []
        for row in rows:
            left = iter(ids)
            found.append([next(left) if i == run.tokenizer.mask_id else i for i in row])
        return found

    monkeypatch.setattr(module, "fill", fill)


@pytest.fixture
def with_tokenizer(run: Run, tokenizer_folders: dict[str, Path]) -> Callable[[str], Run]:
    """The run with another tokenizer (and a network that no longer fits, so fill it yourself)."""
    return lambda name: replace(run, tokenizer=hub_tokenizer(str(tokenizer_folders[name])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_and_its_continuation_are_the_text_of_all_their_tokens(
    kind: str, with_tokenizer: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_tokenizer(kind)
    for prompt, rest in (("the cat", " sat on"), ("the", " cat, the dog"), ("", "the cat sat")):
        before, whole = (
            run.tokenizer.encode([text])[0].tolist() for text in (prompt, prompt + rest)
        )
        new = whole[len(before) :]
        filled_with(monkeypatch, new)
        (text,) = complete(run, [prompt], new_tokens=len(new), options=GREEDY)
        assert prompt + text == run.tokenizer.decode([*before, *new])
        assert text == rest
        assert text[:1].isspace() == rest[:1].isspace()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tokenizer_changes_in_a_prompt_is_not_told_as_its_continuation(
    kind: str, with_tokenizer: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_tokenizer(kind)
    (sat,) = (run.tokenizer.encode([" sat"])[0].tolist()[-1:],)
    filled_with(monkeypatch, sat)
    (text,) = complete(run, ["THE  CAT "], new_tokens=1, options=GREEDY)
    assert text.strip() and "CAT" not in text.upper()
    assert kind != "wordpiece" or text == "sat"  # whose one space the prompt ends with already


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "pieces",
    [("the cat", " on a mat"), ("the ", "cat"), ("", " cat"), ("", "cat sat"), ("def", "(a, b):"),
     ("sat", ""), ("the cat ", " the dog")],
)  # fmt: skip
def test_the_text_around_a_gap_comes_back(
    kind: str,
    pieces: tuple[str, str],
    with_tokenizer: Callable[[str], Run],
) -> None:
    run = with_tokenizer(kind)
    row = gaps("[MASK*2]".join(pieces), run)
    assert row.count(run.tokenizer.mask_id) == 2
    text = run.tokenizer.decode(row)
    if kind == "wordpiece":  # it puts spaces around signs, and has none at an end
        start, end = text.split("░░")
        assert (start, end.replace(" ", "")) == (pieces[0].rstrip(), pieces[1].replace(" ", ""))
        assert end[:1].isspace() or not pieces[1][:1].isspace()
    else:
        assert text == "░░".join(pieces)


@settings(max_examples=60)
@given(one=PIECES, other=PIECES)
@pytest.mark.parametrize("kind", [pytest.param("llama", marks=pytest.mark.slow), "gpt2"])
def test_any_text_around_a_gap_comes_back(
    kind: str, one: str, other: str, tokenizer_folders: dict[str, Path]
) -> None:
    tokenizer = tokenizer_of(tokenizer_folders[kind])
    run = SimpleNamespace(
        tokenizer=tokenizer, config=SimpleNamespace(corpus=SimpleNamespace(block_size=32))
    )
    row = gaps(f"{literal(one)}{before_a_gap(one)}[MASK*3]{literal(other)}", run)
    assert tokenizer.decode(row) == f"{one}░░░{other}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (r"\[MASK] [MASK]", "[MASK] ░"),
        (r"\[MASK*12][MASK*2]", "[MASK*12]░░"),
        (r"\\[MASK]", "\\░"),
        (r"\\\[MASK*3][MASK]", r"\[MASK*3]░"),
        (r"a\b\\c \ [MASK] \d\\", "a\\b\\\\c \\ ░ \\d\\\\"),
        (r"[MASK\][MASK][MASK*][MASK*-1][mask]", r"[MASK\]░[MASK*][MASK*-1][mask]"),
        ("[MASK*007]", "░" * 7),
        ("[MASK*٣] [MASK]", "[MASK*٣] ░"),
        ("[MASK][MASK*2]", "░░░"),
    ],
)
def test_a_backslash_makes_a_gap_plain_text(template: str, text: str, run: Run) -> None:
    assert run.tokenizer.decode(gaps(template, run)) == text


def test_gaps_of_absurd_sizes_are_one_clear_error(run: Run) -> None:
    for size in ("9" * 5000, "1" + "0" * 30, "33", "0033"):
        with pytest.raises(UserError, match="more tokens than the run's block size, 32") as caught:
            gaps(f"the [MASK*{size}] cat", run)
        assert len(str(caught.value)) < 120
    for size in ("0", "0" * 5000):
        with pytest.raises(UserError, match="a gap of no tokens"):
            gaps(f"the [MASK*{size}] cat", run)
    with pytest.raises(UserError, match="nothing to fill in"):
        gaps(r"\[MASK]", run)
    with pytest.raises(UserError, match="36 tokens"):
        fill(run, [gaps("[MASK*32]", run) + [0] * 4], GREEDY, seed=0)


def test_a_row_of_a_mixed_batch_is_what_it_is_alone(run: Run) -> None:
    """Padding and neighbours change nothing (greedily: rows have noise of their own)."""
    prompts = ["the cat sat ", "saw one big dog ", "mat"]
    together = complete(run, prompts, new_tokens=6, options=GREEDY)
    alone = [complete(run, [prompt], new_tokens=6, options=GREEDY)[0] for prompt in prompts]
    assert together == alone


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_writes_texts_that_the_seed_decides(sampler: str, run: Run) -> None:
    def draw(seed: int) -> list[str]:
        # hot, since the rhyme is known so well that cool texts would come twice
        options = SamplerOptions(sampler, steps=32, temperature=3)
        return sample(run, num=3, length=32, options=options, seed=seed)

    texts = draw(1)
    assert all(texts) and not any("░" in text for text in texts)
    assert len(set(texts)) == 3 and texts == draw(1)
    assert not set(texts) & set(draw(2))


def test_what_is_asked_wrongly(run: Run, twin: Run) -> None:
    for request, said in (
        (lambda: infill(twin, "a[MASK]", num=1, options=SamplerOptions()), "autoregressive"),
        (
            lambda: sample(twin, length=8, options=SamplerOptions("margin")),
            "only temperature, top-k and top-p",
        ),
        (
            lambda: sample(twin, length=8, options=SamplerOptions(block_length=4)),
            "only temperature, top-k and top-p",
        ),
        (lambda: complete(run, ["a"], new_tokens=0, options=GREEDY), "at least 1"),
        (lambda: complete(run, ["a" * 30], new_tokens=3, options=GREEDY), "33 tokens"),
        (lambda: gaps("no gap", run), r"\[MASK\*12\]"),
    ):
        with pytest.raises(UserError, match=said):
            request()


def test_messages_name_fields_and_no_options(run: Run) -> None:
    for request, said in (
        (lambda: sample(run, num=0), "num must be at least 1, not 0"),
        (lambda: sample(run, length=33), "length must be between 1 and 32"),
        (lambda: SamplerOptions(steps=0), "steps must be at least 1, not 0"),
        (lambda: SamplerOptions(block_length=0), "block_length must be at least 1, not 0"),
        (lambda: complete(run, ["a" * 40], new_tokens=1, options=GREEDY), "a smaller length"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            request()
        assert "--" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_view_keeps_the_spaces_that_the_text_will_have(
    kind: str, with_tokenizer: Callable[[str], Run]
) -> None:
    tokenizer = with_tokenizer(kind).tokenizer
    ids = tokenizer.encode(["the cat sat on the dog"])[0].tolist()
    shown = tokenizer.decode([tokenizer.mask_id if n in (2, 4) else i for n, i in enumerate(ids)])
    assert shown.startswith("the cat░ on░ dog")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_prediction_is_told_before_its_step(sampler: str, run: Run) -> None:
    """What is revealed in a step was asked for in it, of all rows, and nothing else changes."""
    row, mask = gaps("the cat [MASK*9] on [MASK*4] and", run), run.tokenizer.mask_id
    asked: list[torch.Tensor] = []
    steps = [torch.tensor([row] * 3)]

    def on_predict(where: torch.Tensor, logits: torch.Tensor) -> None:
        assert logits.shape == (int(where.sum()), run.tokenizer.vocab_size)
        assert (steps[-1][where] == mask).all()
        asked.append(where)

    def on_step(x: torch.Tensor) -> None:
        changed = x != steps[-1]
        assert not changed.any() or bool((changed <= asked[-1]).all())
        steps.append(x.clone())

    options = SamplerOptions(sampler, steps=6)
    watched = fill(run, [row] * 3, options, seed=1, on_step=on_step, on_predict=on_predict)
    assert len(asked) > 1 and steps[-1].tolist() == watched
    assert watched == fill(run, [row] * 3, options, seed=1)


def test_a_causal_run_tells_its_predictions_too(twin: Run) -> None:
    asked: list[tuple[int, ...]] = []
    complete(
        twin,
        PROMPTS[:1],
        new_tokens=3,
        options=SamplerOptions(),
        on_predict=lambda where, logits: asked.append((*where.shape, *logits.shape)),
    )
    first, vocabulary = len(PROMPTS[0]), twin.tokenizer.vocab_size
    assert asked == [(1, first + i + 1, 1, vocabulary) for i in range(3)]


def test_the_view_shows_what_is_still_masked(run: Run) -> None:
    shown: list[str] = []

    def on_step(x: torch.Tensor) -> None:
        console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        console.print(_view(x, run, height=24))
        shown.append(console.export_text())

    row = gaps("the cat [MASK*8]", run)
    fill(run, [row] * 5, GREEDY, seed=0, on_step=on_step)
    masks = [text.count("░") for text in shown]
    assert masks[0] > 0 and masks[-1] == 0 and masks == sorted(masks, reverse=True)
    assert shown[0].count("the cat") == 3  # of five: what the screen has room for


def test_the_command_fills_and_continues(run: Run, unmask: Call, tmp_path: Path) -> None:
    status, text = unmask(
        "sample", run.folder, "--infill", "the cat [MASK*3] on", "--num", 1, "--temperature", 0
    )
    assert status == 0 and "the cat" in text and " on" in text
    file = tmp_path / "gap.txt"
    file.write_text("the [MASK*3] sat")
    status, text = unmask("sample", run.folder, "--infill-file", file, "--num", 2, "--watch")
    assert status == 0 and "sample 2" in text
    status, text = unmask(
        "sample", run.folder, "--prompt", "the cat", "saw one", "--num", 2, "--length", 5,
        "--sampler", "first-hitting", "--top-p", 0.9, "--top-k", 20,
    )  # fmt: skip
    assert status == 0 and text.count("the cat") == 2 and text.count("saw one") == 2
