"""Every command opens an exported folder like the run it comes from, and tokenizers agree."""

import json

import pytest
import torch

from convert.conftest import KINDS, WORDS
from unmask.data.tokenizers import ByteTokenizer, saved_tokenizer
from unmask.run import open_run


def printed(unmask, *arguments):
    status, text = unmask(*arguments)
    assert status == 0, text
    return json.JSONDecoder().raw_decode(text[text.index("{") :])[0]  # progress follows it


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_gives_the_run_s_nelbo_on_its_own_text_and_on_another(
    converted, unmask, kind, tmp_path
):
    (tmp_path / "text.txt").write_text("a dog sat on the cat and the cat saw the mat " * 10)
    of_run, of_model = (
        [
            printed(unmask, "evaluate", folder, "--device", "cpu", "--json", *more)
            for more in ([], ["--corpus.source", tmp_path / "text.txt"])
        ]
        for folder in converted(kind)
    )
    for one, other in zip(of_run, of_model, strict=True):
        assert {**one, "model": ""} == {**other, "model": ""}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        ["--temperature", "0.7", "--top-k", "20"],
        ["--prompt", "the cat", "one", "--length", "9"],
        ["--infill", "the[MASK*5] sat[MASK]", "--seed", "3"],
        pytest.param(["--sampler", "first-hitting", "--length", "12"], marks=pytest.mark.slow),
        ["--sampler", "confidence", "--steps", "6"],
        pytest.param(
            ["--sampler", "margin", "--steps", "6", "--block-length", "8"], marks=pytest.mark.slow
        ),
        pytest.param(["--sampler", "entropy", "--steps", "6"], marks=pytest.mark.slow),
    ],
    ids=lambda options: options[1],
)
def test_sample_gives_the_run_s_texts(converted, unmask, kind, options):
    arguments = ["--num", "2", "--device", "cpu", "--json", *options]
    of_run, of_model = (unmask("sample", folder, *arguments) for folder in converted(kind))
    assert of_run == of_model
    bidirectional = options[0] in ("--sampler", "--infill")
    assert of_run[0] == (2 if kind == "causal" and bidirectional else 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["late", "causal"])
def test_its_own_texts_are_judged_the_same(converted, unmask, kind, judge_folder):
    arguments = ["--judge", judge_folder, "--num", "2", "--steps", "4", "--length", "12"]
    of_run, of_model = (
        printed(unmask, "evaluate", "generative", folder, *arguments, "--device", "cpu", "--json")
        for folder in converted(kind)
    )
    assert {**of_run, "run": ""} == {**of_model, "run": ""}


TEXTS = [
    "the cat sat on a mat",
    " and  saw\n\n",
    "ééé 漢字 \x00\x7f",
    "",
    "on a",
]


@pytest.mark.parametrize("kind", ["bytes", "bpe:280", "wordpiece", "llama", "t5", "gpt2"])
def test_transformers_reads_the_same_ids_off_a_text(
    converted, tokenizer_folders, texts, kind, tmp_path
):
    from transformers import AutoTokenizer

    spec = str(tokenizer_folders.get(kind, kind))
    options = ["--corpus.tokenizer", spec, "--train.steps", "1", "--corpus.block-size", "8"]
    for recipe in ("bell", "ar") if kind in ("bytes", "wordpiece") else ("bell",):
        folder, model = converted("--recipe", recipe, *options)
        own, fast = saved_tokenizer(folder / "tokenizer"), AutoTokenizer.from_pretrained(model)
        assert (fast.mask_token_id, fast.eos_token_id) == (own.mask_id, own.separator_id)
        assert fast.pad_token_id is not None and len(fast) == own.vocab_size
        begin = [own.mask_id] if recipe == "ar" else []
        assert fast("").input_ids == begin and (fast.bos_token_id == own.mask_id) >= bool(begin)
        whole = [path.read_text() for path in sorted(texts.iterdir())[:20]] + TEXTS
        for text, ids in zip(whole, own.encode(whole), strict=True):
            assert fast(text).input_ids == begin + ids.tolist()
            assert fast(text, add_special_tokens=False).input_ids == ids.tolist()
        ids = own.encode(whole[:1])[0].tolist()
        assert fast.decode(ids) == own.decode(ids)
        assert own.mask_id in fast(f"a{fast.mask_token}b", add_special_tokens=False).input_ids
        padded = fast(["the cat sat", "on"], padding=True)
        assert padded.attention_mask[1][-1] == 0
        opened = open_run(model).tokenizer
        assert isinstance(opened, ByteTokenizer) == (kind == "bytes")
        for text in whole:
            assert opened.encode([text])[0].tolist() == own.encode([text])[0].tolist()
        for name in ("vocab_size", "mask_id", "separator_id", "never_predicted", "unknown_ids"):
            assert getattr(opened, name) == getattr(own, name)


@pytest.mark.parametrize("recipe", ["bell", "ar"])
def test_no_frame_comes_back_with_the_class_of_a_tokenizer(converted, tmp_path_factory, recipe):
    from transformers import AutoTokenizer, BertTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    spec = tmp_path_factory.mktemp("bert")
    BertTokenizerFast(vocab={name: i for i, name in enumerate(names)}).save_pretrained(spec)
    options = ["--corpus.tokenizer", str(spec), "--train.steps", "1", "--corpus.block-size", "8"]
    _, model = converted("--recipe", recipe, *options)
    begin = [4] if recipe == "ar" else []
    assert AutoTokenizer.from_pretrained(model)("the cat").input_ids == [*begin, 5, 6]


def test_a_checkpoint_is_chosen(converted, unmask, tmp_path):
    folder, model = converted("shift")
    assert unmask("convert", folder, "--to", tmp_path / "three", "--checkpoint", "3")[0] == 0
    own, three = open_run(folder, "3"), open_run(tmp_path / "three", "3")
    assert torch.equal(own.model.head.weight, three.model.head.weight)
    assert open_run(tmp_path / "three", "best").checkpoint.progress.step == 3
    status, text = unmask("sample", model, "--checkpoint", "3")
    assert status == 2 and "valid: last, best or 6" in text
    status, text = unmask("convert", model, "--to", tmp_path / "again")
    assert status == 2 and "is an exported model already" in text
