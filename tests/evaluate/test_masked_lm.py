"""A Hugging Face masked language model is scored by its own logits, as a masked diffusion model."""

import itertools
import json

import pytest
import torch
from scipy import special

from unmask.base.errors import UserError
from unmask.evaluate.likelihood import LikelihoodOptions, evaluate_subject
from unmask.evaluate.subject import open_subject

PAD, CLS, SEP, UNK, MASK = range(5)
KINDS = ["Bert", "Roberta", "ModernBert", "DistilBert"]


@torch.no_grad()
def own_log_probabilities(network, text):
    """(L, V) of the model as it is, between its special tokens, over the ids it may predict."""
    logits = network(input_ids=torch.tensor([[CLS, *text, SEP]])).logits[0, 1:-1].double()
    logits[:, [PAD, CLS, MASK]] = -torch.inf
    logits[:, 18:] = -torch.inf  # rows of the output layer that the tokenizer has no token for
    return logits.log_softmax(-1)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_hidden_states_and_head_give_the_model_s_own_logits_whatever_the_padding(masked_lm, kind):
    folder, network = masked_lm(kind)
    model = open_subject(str(folder)).denoiser
    texts = [[5, MASK, 7, 17, 9, 3], [6, 8, MASK], [MASK]]
    x = torch.full((3, 6), 11)
    for row, text in enumerate(texts):
        x[row, : len(text)] = torch.tensor(text)
    valid = torch.arange(6) < torch.tensor([[6], [3], [1]])
    found = model.head(model(x, valid)).double().log_softmax(-1)
    for row, text in enumerate(texts):
        own = own_log_probabilities(network, text)
        torch.testing.assert_close(found[row, : len(text)], own, rtol=1e-4, atol=1e-5)
    full = model.head(model(x[:1]))
    torch.testing.assert_close(full, model.head(model(x[:1], valid[:1])))


@pytest.mark.parametrize("draws", [100, pytest.param(800, marks=pytest.mark.slow)])
def test_the_nelbo_is_that_of_all_masks(masked_lm, tmp_path, draws):
    folder, network = masked_lm()
    text = tmp_path / "text.txt"
    text.write_text("the cat saw\n")
    tokens = [5, 6, 12, SEP]  # and the separator after a document
    n, exact = len(tokens), 0.0
    for hidden in itertools.product([False, True], repeat=n):
        k = sum(hidden)
        if k:
            shown = [MASK if h else token for h, token in zip(hidden, tokens, strict=True)]
            found = own_log_probabilities(network, shown)
            nats = -sum(float(found[i, tokens[i]]) for i in range(n) if hidden[i])
            exact += special.beta(k, n - k + 1) * nats
    options = LikelihoodOptions(draws=draws, batch_size=1000)
    found = evaluate_subject(open_subject(str(folder)), str(text), options)
    assert found.bound.tokens == n  # shorter than a block: padded, and every token counts
    assert found.bound.nelbo * n == pytest.approx(exact, rel=0.03 * (800 / draws) ** 0.5)
    assert found.record()["stderr"] is None
    assert found.bits_per_byte == pytest.approx(found.bound.nelbo * n / 11 / 0.6931472)


@pytest.mark.parametrize(("kind", "longest"), [("Bert", 40), ("Roberta", 40), ("ModernBert", 40)])
def test_blocks_are_as_long_as_the_positions_allow(masked_lm, tmp_path, kind, longest):
    folder, _ = masked_lm(kind)
    subject = open_subject(str(folder))
    assert subject.block_size == subject.largest == longest - 2
    (tmp_path / "t.txt").write_text("the cat sat on a mat and saw one big dog " * 20)
    full = evaluate_subject(subject, str(tmp_path / "t.txt"), LikelihoodOptions())
    assert full.block_size == longest - 2 and full.bound.nelbo > 0
    with pytest.raises(UserError, match=f"between 2 and {longest - 2}, not {longest}"):
        evaluate_subject(subject, str(tmp_path / "t.txt"), LikelihoodOptions(block_size=longest))


def test_what_is_no_masked_language_model_is_told(masked_lm, tmp_path, unmask):
    folder, network = masked_lm(mask=False)
    status, text = unmask("evaluate", folder, "--corpus.source", "python-stdlib")
    assert status == 2 and "has no mask token" in text
    folder, network = masked_lm()
    assert unmask("evaluate", folder)[1].count("give --corpus.source") == 1
    status, text = unmask("evaluate", folder, "--checkpoint", "best")
    assert status == 2 and "is for runs" in text
    network.bert.save_pretrained(folder)  # its head is gone
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "architectures": ["BertForMaskedLM"]})
    )
    status, text = unmask("evaluate", folder, "--corpus.source", "python-stdlib")
    assert status == 2 and "lacks weights" in text
    torch.save({}, folder / "pytorch_model.bin")  # never unpickled
    (folder / "model.safetensors").unlink()
    status, text = unmask("evaluate", folder, "--corpus.source", "python-stdlib")
    assert status == 2 and "cannot load" in text and "Traceback" not in text
