"""Attention within documents: what a network sees, and what is masked, counted and measured."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tiny_networks import CAUSAL, END, make
from unmask.data.blocks import Blocks
from unmask.data.mixture import in_proportion, side_by_side
from unmask.model.config import ModelConfig
from unmask.model.documents import within_documents
from unmask.model.network import Network
from unmask.model.pretrained import CausalLM
from unmask.model.transformer import Transformer
from unmask.recipe.parse import parse_recipe
from unmask.train.batch import draw_batches
from unmask.train.config import TrainConfig, ValidationConfig
from unmask.train.step import batch_loss
from unmask.train.validation import validate

Call = Callable[..., tuple[int, str]]
SEP, MASK, V, L, N = 9, 10, 11, 12, 24
KINDS = {
    "plain": {},
    "convolution": {"convolution": 2},
    "values": {"value_embedding": True, "loops": 2},
}


def network(causal: bool = False, shift: bool = False, **shape: object) -> Transformer:
    """All of whose weights matter."""
    config = ModelConfig(layers=4, width=16, heads=2, **shape)
    start = MASK if causal or shift else None
    model = Transformer(config, V, [MASK], mask_id=MASK, causal=causal, start=start, separator=SEP)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return model.eval()


def blocks(seed: int = 0) -> Blocks:
    """Documents of 1 to 5 tokens, joined; the last blocks end in padding."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, 9, (N, L))
    tokens[random.random((N, L)) < 0.25] = SEP
    tokens[:, 5] = 3  # no block is of separators alone
    lengths = np.full(N, L, dtype=np.int32)
    lengths[-6:] = random.integers(6, L, 6)
    tokens = np.where(np.arange(L) < lengths[:, None], tokens, SEP).astype(np.uint16)
    inside = (tokens != SEP) & (np.arange(L) < lengths[:, None])
    return Blocks(tokens, lengths, int(inside.sum()), N, separator=SEP)


def test_what_each_token_sees() -> None:
    """Separators belong to what comes after them."""
    x = torch.tensor([[1, 2, SEP, 3, 4, SEP]])
    valid = torch.tensor([[True] * 5 + [False]])
    both = within_documents(x, SEP, valid, causal=False)[0, 0].int()
    document = [[1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 1, 0]] * 3 + [[0, 0, 0, 0, 0, 1]]
    assert both.tolist() == document
    left = within_documents(x, SEP, None, causal=True)[0, 0].int()
    assert torch.equal(left, torch.tensor(document).tril())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["masked", "shifted", "causal"])
def test_a_document_is_read_as_if_it_stood_alone(kind: str, how: str) -> None:
    model = network(how == "causal", how == "shifted", **KINDS[kind])
    first, second, third = [1, 2, MASK, 4], [SEP, 5, MASK, 7, 8], [SEP, 3, MASK]
    whole = torch.tensor([[*first, *second, *third]])
    with torch.no_grad():
        states, last = model(whole), model(torch.tensor([third]))
        torch.testing.assert_close(states[:, :4], model(torch.tensor([first])))
        begins = 1 if how != "masked" else 0  # what predicts a separator is not asked for
        alone = model(torch.tensor([second]))
        torch.testing.assert_close(states[:, 4 + begins : 9], alone[:, begins:])
        torch.testing.assert_close(states[:, 9 + begins :], last[:, begins:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_neither_other_documents_nor_padding_change_anything(kind: str, causal: bool) -> None:
    model = network(causal, **KINDS[kind])
    x = torch.tensor([[1, 2, 3, SEP, 4, 5, 6, SEP, 7, 8, SEP, SEP]])
    valid = torch.arange(L)[None, :] < 10
    other = x.clone()
    other[0, 5], other[0, 11] = 0, 2
    with torch.no_grad():
        changed = (model(x, valid) - model(other, valid)).abs().amax(-1)[0] > 0
    among = [4, 5, 6] if not causal else [5, 6]  # a causal state predicts the token at its place
    seen = [i for i in range(10) if changed[i]]
    assert set(seen) <= {3, 4, 5, 6, 7} and set(seen) & set(among)


@pytest.mark.parametrize("recipe", ["bell", "standard", "fast:next-token=0.4", "ar", "mirror"])
@pytest.mark.parametrize("parts", [1, 3])
def test_separators_are_neither_masked_nor_counted(recipe: str, parts: int) -> None:
    some, total, n_tokens = blocks(), 0.0, 0
    model = network(parse_recipe(recipe).causal, shift=True)
    config = TrainConfig(batch_size=24, accumulation=parts, steps=20)
    how = {"seed": 3, "step": 5, "device": torch.device("cpu")}
    drawn = list(draw_batches(parse_recipe(recipe), some, config, **how))
    by_hand, loss = 0.0, batch_loss(model, MASK)
    for batch in drawn:
        assert not (batch.mask & (batch.x == SEP)).any()
        total += float(loss(batch).value.detach())
        causal = batch.objective.causal
        weights = batch.objective.weights(batch.t)
        for x, valid, mask, weight in zip(batch.x, batch.valid, batch.mask, weights, strict=True):
            text, hidden = x[valid], mask[valid]
            n_tokens += int((text != SEP).sum())
            ends = [*torch.where(text == SEP)[0].tolist(), len(text)]
            for begin, end in zip([0, *ends], ends, strict=False):  # one document at a time
                one, asked = text[begin:end], hidden[begin:end]
                if len(one):
                    inputs = one if causal else one.masked_fill(asked, MASK)
                    states = model(inputs[None], None, causal)
                    logits = model.head(states)[0].double().log_softmax(-1)
                    by_hand -= float(weight * logits[torch.arange(len(one)), one][asked].sum())
    assert total == pytest.approx(by_hand / n_tokens, rel=1e-4)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_bounds_hold_the_separators_too(device: str) -> None:
    config, how = TrainConfig(batch_size=24, steps=20), {"seed": 3, "step": 5}
    (batch,) = draw_batches(
        parse_recipe("bell:masking=fixed-count"),
        blocks(),
        config,
        **how,
        device=torch.device("cpu"),
    )
    (other,) = draw_batches(
        parse_recipe("bell:masking=fixed-count"),
        blocks(),
        config,
        **how,
        device=torch.device(device),
    )
    if device == "meta":
        assert other.bounds is not None
        assert other.bounds.predicted >= batch.mask.sum()
        assert other.bounds.visible >= (batch.valid & ~batch.mask).sum()


def test_the_likelihood_is_that_of_each_document_given_where_they_end() -> None:
    some, model, total = blocks(), network(causal=True), 0.0
    assert some.lengths is not None
    for row, length in zip(some.tokens, some.lengths, strict=True):
        text = torch.from_numpy(row[:length].astype(np.int64))
        ends = [*torch.where(text == SEP)[0].tolist(), len(text)]
        for begin, end in zip([0, *ends], ends, strict=False):
            one = text[begin:end]
            if len(one):
                with torch.no_grad():
                    logits = model.head(model(one[None]))[0].double().log_softmax(-1)
                told = one != SEP
                total -= float(logits[torch.arange(len(one)), one][told].sum())
    bound = validate(model, some, ValidationConfig(blocks=N), MASK)
    assert bound.tokens == some.n_tokens
    assert bound.nelbo == pytest.approx(total / some.n_tokens, rel=1e-5)


@pytest.mark.parametrize("estimator", ["fixed-count", "complementary", "controlled"])
def test_estimators_agree(estimator: str) -> None:
    some, model = blocks(), network()
    config = ValidationConfig(blocks=N, draws=64, batch_size=N)
    one, other = (
        validate(model, some, config, MASK, estimator=name) for name in (estimator, "fixed-count")
    )
    assert one.tokens == other.tokens == some.n_tokens
    assert one.nelbo == pytest.approx(other.nelbo, rel=0.03)


def test_mixtures_count_what_is_predicted() -> None:
    parts = [blocks(0), blocks(1)]
    assert side_by_side(parts, [1, 2]).separator == SEP
    mixed = in_proportion(parts, [1, 1])
    assert mixed.separator == SEP
    assert mixed.n_tokens == sum(part.n_tokens for part in parts)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return lambda kind: make(kind, tmp_path_factory.mktemp(kind) / "model")


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("causal", [False, True])
def test_pretrained_networks(kind: str, causal: bool, folders: Callable[[str], Path]) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folders(kind)).eval()
    model: Network = CausalLM(loaded, [], 257, start=END, causal=causal, separator=END)
    x = torch.tensor([[1, 2, 3, END, 4, 5, 6, END, 7, 8]])
    other = x.clone()
    other[0, 5] = 90
    with torch.no_grad():
        changed = (model(x) - model(other)).abs().amax(-1)[0] > 0
    assert changed.nonzero().flatten().tolist() == ([6, 7] if causal else [4, 5, 6, 7])
    assert (model.head(model(x))[..., END] == -torch.inf).all()


# --- whole runs -------------------------------------------------------------------------------

DOCUMENTS = ["--corpus.attend", "document"]


def test_a_run_resumes_is_evaluated_samples_and_is_converted(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    options = [*small, *DOCUMENTS, "--validation.every", "4", "--recipe", "narrow"]
    whole, parts, model = (tmp_path / name for name in ("whole", "parts", "model"))
    assert unmask("train", "--run", whole, *options, "--train.steps", 8)[0] == 0
    assert unmask("train", "--run", parts, *options, "--train.steps", 4)[0] == 0
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 8)[0] == 0
    a, b = (
        load_file(run / "checkpoints" / "step-00000008" / "model.safetensors")
        for run in (whole, parts)
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert unmask("convert", whole, "--to", model)[0] == 0
    found = []
    for folder in (whole, model):
        status, text = unmask("evaluate", folder, "--json", "--draws", 2)
        assert status == 0, text
        found.append(json.loads(text.splitlines()[0]))
    assert found[0]["nelbo"] == found[1]["nelbo"]
    facts = json.loads((whole / "corpus.json").read_text())["valid"]
    assert found[0]["tokens"] <= facts["tokens"] - facts["documents"]
    status, text = unmask("sample", whole, "--num", 1, "--length", 24, "--steps", 8)
    assert status == 0, text


@pytest.mark.slow
def test_a_stream_is_trained_the_same_way(unmask: Call, small: list[str], tmp_path: Path) -> None:
    stream = [
        "--corpus.streaming",
        "--corpus.lanes",
        "2",
        "--corpus.valid-documents",
        "20",
        "--train.steps",
        "4",
    ]
    status, text = unmask("train", "--run", tmp_path / "run", *small, *DOCUMENTS, *stream)
    assert status == 0, text


def test_what_does_not_go_together_is_told(
    unmask: Call, small: list[str], folders: Callable[[str], Path], tmp_path: Path
) -> None:
    said = {
        ("--corpus.packing", "pad"): "in packing pad a block holds one document anyway",
        ("--corpus.transform", "reverse"): "needs transform none, not reverse",
        ("--model.late", "1"): "--model.late and --corpus.attend document do not go together",
        ("--init", str(folders("bert"))): "attention goes over whole blocks; valid: block",
    }
    for wrong, why in said.items():
        given = [*small[:4], "--recipe", "bell"] if wrong[0] == "--init" else small
        status, text = unmask("train", "--run", tmp_path / "run", *given, *DOCUMENTS, *wrong)
        assert status != 0 and why in " ".join(text.split()), (wrong, text)
        assert not (tmp_path / "run").exists()
