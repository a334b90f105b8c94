"""Texts of trained runs: from nothing, after prompts, in gaps."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from unmask.base.errors import UserError
from unmask.cli.sample import _view
from unmask.diffusion.sampler import SAMPLERS
from unmask.run import Run, open_run
from unmask.sample import SamplerOptions, complete, fill, gaps, infill, sample

Call = Callable[..., tuple[int, str]]
GREEDY = SamplerOptions("confidence", steps=32, temperature=0)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path, list[str], Call, str], Run]:
    """Train once per recipe, long enough to know the rhyme."""
    runs: dict[str, Path] = {}

    def train(corpus: Path, small: list[str], unmask: Call, recipe: str) -> Run:
        if recipe not in runs:
            runs[recipe] = tmp_path_factory.mktemp(recipe) / "run"
            options = ["--train.steps", 500, "--validation.every", 500, "--recipe", recipe]
            options += ["--train.learning-rate", 0.01, "--train.batch-size", 16]
            status, text = unmask("train", "--run", runs[recipe], *small, *options)
            assert status == 0, text
        return open_run(runs[recipe])

    return train


@pytest.fixture
def run(trained, corpus: Path, small: list[str], unmask: Call) -> Run:
    return trained(corpus, small, unmask, "fast")


@pytest.fixture
def twin(trained, corpus: Path, small: list[str], unmask: Call) -> Run:
    return trained(corpus, small, unmask, "ar")


def test_a_gap_is_filled_with_what_fits_on_both_sides(run: Run) -> None:
    (text,) = infill(run, "the cat [MASK*3] on a mat and", num=1, options=GREEDY)
    assert text == "the cat sat on a mat and"
    (text,) = infill(run, "[MASK*4]cat sat [MASK]n a mat", num=1, options=GREEDY)
    assert text == "the cat sat on a mat"


def test_prompts_of_any_length_are_kept_and_continued(run: Run, twin: Run) -> None:
    prompts = ["the cat sat on ", "one big ", "the cat sat on a mat and "]
    greedy = SamplerOptions(temperature=0)
    assert complete(twin, prompts, new_tokens=5, options=greedy) == ["a mat", "dog r", "saw o"]
    left = SamplerOptions("confidence", steps=5, temperature=0, block_length=1)
    found = complete(run, prompts, new_tokens=5, options=left)
    assert [len(text) for text in found] == [5, 5, 5]


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
        return sample(run, num=3, length=32, steps=32, seed=seed, sampler=sampler, temperature=3)

    texts = draw(1)
    assert all(texts) and not any("░" in text for text in texts)
    assert len(set(texts)) == 3 and texts == draw(1)
    assert not set(texts) & set(draw(2))


def test_what_is_asked_wrongly(run: Run, twin: Run) -> None:
    for request, said in (
        (lambda: infill(twin, "a[MASK]", num=1, options=SamplerOptions()), "autoregressive"),
        (lambda: sample(twin, sampler="margin", length=8), "only temperature, top-k and top-p"),
        (lambda: sample(twin, block_length=4, length=8), "only temperature, top-k and top-p"),
        (lambda: complete(run, ["a"], new_tokens=0, options=GREEDY), "at least 1"),
        (lambda: complete(run, ["a" * 30], new_tokens=3, options=GREEDY), "33 tokens"),
        (lambda: gaps("no gap", run), r"\[MASK\*12\]"),
    ):
        with pytest.raises(UserError, match=said):
            request()


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
