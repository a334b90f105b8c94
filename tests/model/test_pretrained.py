"""Networks of `transformers` as denoisers: which way they look and where they predict."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tiny_networks import CAUSAL, CONFIGS, END, make
from unmask.base.errors import UserError
from unmask.model.pretrained import (
    CausalLM,
    is_causal_lm,
    load_causal_network,
    load_masked_network,
    make_room,
)

MASK, V, L = 257, 258, 10


@pytest.fixture(params=CAUSAL)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> CausalLM:
    return causal_lm(str(make(request.param, tmp_path)))


def causal_lm(name: str, start: int | None = END) -> CausalLM:
    network = load_causal_network(name)
    rows = network.get_input_embeddings().num_embeddings
    make_room(network, V, [MASK, *range(rows, V)])
    return CausalLM(network, [MASK], V, start=start).eval()


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (2, L), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def changed_by(model: CausalLM, place: int, causal: bool) -> list[int]:
    """The places whose prediction changes with the token at one place."""
    x = tokens()
    other = x.clone()
    other[:, place] = (x[:, place] + 1) % 256
    difference = (model(x, None, causal) - model(other, None, causal)).abs().amax(dim=(0, 2))
    return torch.nonzero(difference > 1e-6).flatten().tolist()


def test_every_place_sees_every_other_and_causally_those_before(network: CausalLM) -> None:
    for place in (0, 4, L - 1):
        assert changed_by(network, place, causal=False) == list(range(L))
        # token i is predicted at the position before it: from those before i alone
        assert changed_by(network, place, causal=True) == list(range(place + 1, L))


def test_left_causal_it_is_the_model_that_it_was(network: CausalLM, tmp_path: Path) -> None:
    original = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    x = tokens()
    with torch.no_grad():
        found = network.head(network(x, None, True))[..., :257]
        begun = torch.cat((torch.full((2, 1), END), x[:, :-1]), dim=1)
        expected = original(input_ids=begun).logits[..., :257]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_is_never_predicted_is_minus_infinity(network: CausalLM) -> None:
    logits = network.head(network(tokens()))
    assert (logits[..., MASK:] == -torch.inf).all() and logits[..., :MASK].isfinite().all()


def test_padding_changes_nothing_before_it(network: CausalLM) -> None:
    x, valid = tokens(), torch.arange(L) < torch.tensor([[L], [6]])
    short = network(x[1:, :6])
    for causal in (False, True):
        short = network(x[1:, :6], None, causal)
        found = network(x, valid, causal)
        torch.testing.assert_close(found[1:, :6], short, rtol=1e-4, atol=1e-5)


def test_the_mask_is_embedded_as_the_mean_of_all_tokens(tmp_path: Path) -> None:
    network = load_causal_network(str(make("llama", tmp_path)))
    before = network.get_input_embeddings().weight.detach().clone()
    make_room(network, V, [MASK])
    weight = network.get_input_embeddings().weight
    assert torch.equal(weight[:MASK], before) and network.get_output_embeddings().weight is weight
    torch.testing.assert_close(weight[MASK], before.mean(dim=0))


@pytest.mark.parametrize("kind", ["llama-untied", "qwen3"])
def test_a_head_of_its_own_gets_the_mean_for_new_tokens(kind: str, tmp_path: Path) -> None:
    network = load_causal_network(str(make(kind, tmp_path / "model")))
    rows = network.get_input_embeddings().num_embeddings
    before = network.get_output_embeddings().weight.clone()
    with torch.no_grad():  # memory that was given back holds what would be found in new rows
        torch.full((rows + 3, before.shape[1]), torch.nan)
        make_room(network, rows + 3, [rows, rows + 1, rows + 2])
    after = network.get_output_embeddings().weight
    assert after is not network.get_input_embeddings().weight
    assert torch.equal(after[:rows], before)
    torch.testing.assert_close(after[rows:], before.mean(dim=0).expand(3, -1))


def test_without_the_shift_a_token_is_predicted_at_its_place(tmp_path: Path) -> None:
    name = str(make("llama", tmp_path))
    kept, dropped = causal_lm(name), causal_lm(name, start=None)
    x = tokens()
    with torch.no_grad():
        states = kept.network(
            input_ids=x, attention_mask=torch.ones(1, 1, L, L, dtype=torch.bool)
        ).last_hidden_state
        torch.testing.assert_close(dropped(x), states)


@pytest.mark.parametrize("kind", ["llama", "llama-untied"])
def test_a_tied_weight_is_kept_once(kind: str, tmp_path: Path) -> None:
    model = causal_lm(str(make(kind, tmp_path)))
    state = model.state_dict()
    assert ("head.weight" in state) == (kind == "llama-untied")
    storages = [value.data_ptr() for value in state.values()]
    assert len(set(storages)) == len(storages)
    assert len(model.matrix_parameters()) == 2 * 7


def test_what_cannot_look_ahead_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MambaForCausalLM: its causal mask cannot be"):
        causal_lm(str(make("mamba", tmp_path)))


def test_logits_that_are_more_than_a_linear_map_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import CohereConfig

    monkeypatch.setitem(
        CONFIGS, "cohere",
        lambda: CohereConfig(
            vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, logit_scale=0.1,
        ),
    )  # fmt: skip
    with pytest.raises(UserError, match="more than a linear map of its hidden states"):
        causal_lm(str(make("cohere", tmp_path)))


def test_which_kind_it_is(tmp_path: Path) -> None:
    assert is_causal_lm(str(make("gpt2", tmp_path / "a")))
    assert not is_causal_lm(str(make("bert", tmp_path / "b")))
    assert not load_masked_network(str(tmp_path / "b")).training
    for part in (tmp_path / "a").glob("*.safetensors"):
        part.unlink()
    with pytest.raises(UserError, match="cannot load causal language model"):
        load_causal_network(str(tmp_path / "a"))
