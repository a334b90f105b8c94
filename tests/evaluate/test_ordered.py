"""The likelihood in an order: it sums to one, and is what one row at a time gives."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unmask.base.errors import UserError
from unmask.evaluate.ordered import RULES, TIE, find_rule, ordered_nats
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer

Call = Callable[..., tuple[int, str]]
V, L, MASK = 4, 4, 3


@pytest.fixture(params=[False, True], ids=["plain", "self-conditioned"])
def model(request: pytest.FixtureRequest) -> Transformer:
    """One with opinions, and three tokens."""
    config = ModelConfig(layers=2, width=16, heads=2, self_conditioning=request.param)
    made = Transformer(config, V, [MASK])
    generator = torch.Generator().manual_seed(0)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.6, generator=generator)
    return made.eval()


def every_text() -> Tensor:
    return torch.tensor(list(itertools.product(range(MASK), repeat=L)))


@pytest.mark.parametrize("order", RULES)
def test_probabilities_of_all_texts_sum_to_one(order: str, model: Transformer) -> None:
    nats = ordered_nats(model, every_text(), None, None, MASK, find_rule(order))
    assert nats.neg().exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert nats.std() > 0.1


def by_hand(model: Transformer, x: Tensor, order: str) -> float:
    masked, nats = [True] * L, 0.0
    while any(masked):
        seen = x.masked_fill(torch.tensor(masked), MASK)
        with torch.no_grad():
            log_p = model.head(model(seen[None]))[0].log_softmax(-1)
        left = [i for i in range(L) if masked[i]]
        certain = {i: log_p[i].max().item() for i in left}
        best = [i for i in left if certain[i] >= max(certain.values()) - TIE]
        pick = left[0] if order == "left-to-right" else best[0]
        nats -= log_p[pick, x[pick]].item()
        masked[pick] = False
    return nats


@pytest.mark.parametrize("order", RULES)
def test_it_is_what_one_row_at_a_time_gives(order: str, model: Transformer) -> None:
    texts = every_text()[::7]
    found = ordered_nats(model, texts, None, None, MASK, find_rule(order))
    for text, nats in zip(texts, found, strict=True):
        assert nats.item() == pytest.approx(by_hand(model, text, order), abs=1e-4)


@pytest.mark.parametrize("order", RULES)
def test_padding_changes_nothing(order: str, model: Transformer) -> None:
    x = every_text()[:6]
    valid = torch.arange(L) < torch.tensor([4, 3, 2, 1, 3, 4])[:, None]
    found = ordered_nats(model, x, valid, valid, MASK, find_rule(order))
    for row, length in enumerate(valid.sum(dim=1).tolist()):
        alone = ordered_nats(model, x[row : row + 1, :length], None, None, MASK, find_rule(order))
        assert found[row].item() == pytest.approx(alone.item(), abs=1e-4)


def test_a_prompt_is_read_and_not_counted(model: Transformer) -> None:
    """Given any prompt the probabilities of all answers sum to one."""
    texts = every_text()
    answer = torch.arange(L) >= 2
    maskable = answer.expand(len(texts), L)
    nats = ordered_nats(model, texts, None, maskable, MASK, find_rule("most-certain"))
    for prompt in texts[:, :2].unique(dim=0):
        of_it = (texts[:, :2] == prompt).all(dim=1)
        assert nats[of_it].neg().exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_an_unknown_order_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"best-first.*left-to-right.*most-certain"):
        find_rule("best-first")


@pytest.mark.parametrize("order", RULES)
def test_the_command_says_the_likelihood_in_an_order(
    order: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert unmask("train", "--run", run, *small, "--recipe", "bell", "--train.steps", 2)[0] == 0
    status, text = unmask(
        "evaluate", run, "--order", order, "--budget", 4 * 32 * 32, "--batch-size", 3
    )
    assert status == 0 and f"exact, {order}" in text and "NLL" in text and "draw" not in text
    status, text = unmask("evaluate", run, "--order", order, "--budget", 100)
    assert status == 2 and "a forward pass for each of them" in text
    status, text = unmask("evaluate", run, "--order", "best")
    assert status == 2 and "left-to-right" in text and "most-certain" in text


def test_a_causal_model_has_its_own_order(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert unmask("train", "--run", run, *small, "--recipe", "ar", "--train.steps", 2)[0] == 0
    status, text = unmask("evaluate", run, "--order", "left-to-right")
    assert status == 2 and "exact as it is" in text
