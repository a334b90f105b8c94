"""How a text came: what is noted is what the model predicted, and drawing is not changed by it."""

from itertools import pairwise

import pytest
import torch

from unmask.diffusion.sampler import SAMPLERS
from unmask.play.request import Request
from unmask.play.trace import TOP, Stopped, Trace, trace
from unmask.run import Run
from unmask.sample import SamplerOptions, complete, infill, sample


def traced(run: Run, text: str = "", options: SamplerOptions | None = None, seed: int = 0) -> Trace:
    into = Trace()
    trace(run, Request(text, 12, options or SamplerOptions(steps=6), seed), into)
    return into


@torch.no_grad()
def predicted(run: Run, tokens: list[int], position: int) -> torch.Tensor:
    """The model's distribution at a position of a text, by itself."""
    x = torch.tensor([tokens])
    if run.model.causal:
        x = x[:, : position + 1]
    where = torch.zeros_like(x, dtype=torch.bool)
    where[0, position] = True
    return run.model.head(run.model(x, predicted=where)[where])[0].double().softmax(0)


def check(run: Run, found: Trace) -> None:
    """Each token came where there was a mask, with the probabilities that the model gave then."""
    mask = run.tokenizer.mask_id
    assert [a.step <= b.step for a, b in pairwise(found.reveals)] == [True] * (
        len(found.reveals) - 1
    )
    for reveal in found.reveals:
        assert 1 <= reveal.step <= found.steps
        before, _ = found.at(reveal.step - 1)
        after, came = found.at(reveal.step)
        assert before[reveal.position] == mask and after[reveal.position] == reveal.token
        assert came[reveal.position] == reveal
        p = predicted(run, before, reveal.position)
        assert reveal.certainty == pytest.approx(float(p[reveal.token]), abs=1e-5)
        best = [other.probability for other in reveal.alternatives]
        assert len(best) == TOP and best == sorted(best, reverse=True)
        assert best == pytest.approx(p.topk(TOP).values.tolist(), abs=1e-5)
        for other in reveal.alternatives:
            assert other.probability == pytest.approx(float(p[other.token]), abs=1e-5)
    first, last = found.at(0)[0], found.at(found.steps)[0]
    assert sorted(r.position for r in found.reveals) == [
        i for i, token in enumerate(first) if token == mask
    ]
    assert mask not in last


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("block", [None, 5])
def test_every_token_is_noted_with_what_the_model_held_likely(
    sampler: str, block: int | None, run: Run
) -> None:
    options = SamplerOptions(sampler, steps=6, temperature=0.7, top_p=0.9, block_length=block)
    found = traced(run, options=options, seed=3)
    check(run, found)
    assert found.text == sample(run, num=1, length=12, options=options, seed=3)[0]


def test_a_prompt_is_no_part_of_what_came(run: Run) -> None:
    options = SamplerOptions(steps=6)
    found = traced(run, "the cat ", options, seed=5)
    check(run, found)
    assert min(reveal.position for reveal in found.reveals) == 8
    (after,) = complete(run, ["the cat "], new_tokens=12, options=options, seed=5)
    assert found.text == "the cat " + after


def test_gaps_are_filled_as_without_a_trace(run: Run) -> None:
    template, options = "the [MASK*3] sat on [MASK]", SamplerOptions("confidence", steps=3)
    found = traced(run, template, options, seed=2)
    check(run, found)
    assert {reveal.position for reveal in found.reveals} == {4, 5, 6, 15}
    assert [found.text] == infill(run, template, num=1, options=options, seed=2)


def test_a_causal_run_takes_a_step_for_each_new_token(trained) -> None:
    twin = trained("ar")
    found = traced(twin, "the cat ", SamplerOptions("margin", steps=3, temperature=0.5), seed=2)
    check(twin, found)
    assert [(r.step, r.position) for r in found.reveals] == [(i + 1, i + 8) for i in range(12)]
    plain = SamplerOptions(temperature=0.5)
    assert (
        found.text
        == "the cat " + complete(twin, ["the cat "], new_tokens=12, options=plain, seed=2)[0]
    )


def test_the_same_seed_gives_the_same_trace_and_another_another(run: Run) -> None:
    first, second, other = (traced(run, "on a ", seed=seed) for seed in (1, 1, 2))
    assert first == second and first.text != other.text


def test_a_stopped_text_ends_at_its_next_step(run: Run) -> None:
    into = Trace(stopped=True)
    with pytest.raises(Stopped):
        trace(run, Request("", 12, SamplerOptions(steps=6), 0), into)
    assert into.steps == 0 and into.text is None


def test_a_token_that_is_hidden_again_is_noted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a sampler that corrects itself would do."""
    mask = run.tokenizer.mask_id

    def twice(task, on_step):
        x = task.reveal(task.x, task.where, 0)
        on_step(x)
        x = x.clone()
        x[:, 2] = mask
        on_step(x)
        x = task.reveal(x, x == mask, 2)
        on_step(x)
        return x

    monkeypatch.setitem(SAMPLERS, "twice", twice)
    found = traced(run, options=SamplerOptions("twice"))
    assert [r.step for r in found.reveals] == [1] * 12 + [2, 3]
    assert found.at(2)[0].count(mask) == 1 and found.at(2)[0][2] == mask
    assert found.at(3)[1][2].step == 3 and found.reveals[-2].certainty is None
