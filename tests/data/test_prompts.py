"""Records with prompts: where they are read from, and what a block holds of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chat_tokenizer import CHATML, make
from unmask.base.console import PlainConsole
from unmask.base.errors import UserError
from unmask.data.blocks import Blocks
from unmask.data.config import CorpusConfig
from unmask.data.documents import Message, Prompted
from unmask.data.load import Data, load_data, pack_own_validation
from unmask.data.records import Fields
from unmask.data.sources import open_source
from unmask.data.tokenizers import ByteTokenizer, hub_tokenizer

SEPARATOR = ByteTokenizer.separator_id
PAIRS = [(f"what is {a}+{b}? ", f"it is {a + b}") for a in range(9) for b in range(a, 9)]
SHORT, LONG = min(PAIRS, key=lambda pair: len("".join(pair))), ("long " * 20, "never seen")


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(path: Path, some=PAIRS) -> str:
    return write_jsonl(path, [{"prompt": p, "text": a, "other": 1} for p, a in some])


def config(source: str, **options) -> CorpusConfig:
    how = {"prompt_field": "prompt", "packing": "pad", "block_size": 32, "valid_fraction": 0.2}
    return CorpusConfig(source=source, **{**how, **options})


def load(source: str, cache: Path, **options) -> Data:
    return load_data(config(source, **options), cache)


def rows_of(blocks: Blocks) -> list[tuple[list[int], list[int], list[int]]]:
    """Each block's prompt, its answer and the rest."""
    index = torch.arange(len(blocks))
    x, valid = blocks.batch(index)
    maskable = blocks.maskable(index)
    valid = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    return [
        (row[v & ~m].tolist(), row[m].tolist(), row[~v].tolist())
        for row, v, m in zip(x, valid, maskable, strict=True)
    ]


def test_a_block_is_a_prompt_its_answer_a_separator_and_padding(tmp_path):
    data = load(pairs(tmp_path / "a.jsonl"), tmp_path)
    found = rows_of(data.train) + rows_of(data.valid)
    expected = [
        (list(p.encode()), [*a.encode(), SEPARATOR], [SEPARATOR] * (31 - len(p + a)))
        for p, a in PAIRS
    ]
    assert sorted(found) == sorted(expected)
    assert len(data.valid) > 2
    answers = [len(a) + 1 for _, a in PAIRS]
    counts = data.train.n_maskable(torch.arange(len(data.train)))
    assert set(counts.tolist()) <= set(answers)
    assert data.train.n_tokens == int(counts.sum())  # and so are bits per byte those of answers
    assert data.train.n_tokens + data.valid.n_tokens == sum(answers)
    assert data.train.n_bytes + data.valid.n_bytes == sum(len(a) for _, a in PAIRS)


def test_only_answers_count_in_the_frequencies_of_tokens(tmp_path):
    blocks = load(pairs(tmp_path / "a.jsonl"), tmp_path).train
    counts = blocks.token_counts(torch.arange(len(blocks)))
    assert counts[ord("?")] == 0 and counts[SEPARATOR] == len(blocks)
    assert int(counts.sum()) == blocks.n_tokens


def test_a_long_answer_is_cut_and_a_long_prompt_left_out(tmp_path):
    fits = ("p" * 31, "abc")  # one letter of the answer has room
    some = [*PAIRS, LONG, fits, ("p" * 32, "abc"), ("q", "r" * 99)]
    source, console = pairs(tmp_path / "a.jsonl", some), PlainConsole()
    with console.capture() as said:
        data = load_data(config(source, valid_source=source), tmp_path, console)
    rows = rows_of(data.train)
    assert len(rows) == len(some) - 2
    assert (list(b"p" * 31), list(b"a"), []) in rows
    assert (list(b"q"), list(b"r" * 31), []) in rows
    text = " ".join(said.get().split())
    assert f"the training text: 2 of {len(some)} records have a prompt that leaves no room" in text
    assert "are left out" in text


def test_no_prompt_that_fits_is_one_error(tmp_path):
    source = pairs(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"corpus.block_size 8: 45 of 45 records of the training"):
        load(source, tmp_path, block_size=8, valid_source=source)


def test_an_empty_answer_is_left_out_and_an_empty_prompt_is_not(tmp_path):
    source = pairs(tmp_path / "a.jsonl", [*PAIRS, ("nothing: ", ""), ("", "from nothing")])
    data = load(source, tmp_path, valid_source=source)
    assert len(data.train) == len(PAIRS) + 1
    assert ([], [*b"from nothing", SEPARATOR], [SEPARATOR] * 19) in rows_of(data.train)


class TestFormats:
    @staticmethod
    def source(kind: str, folder: Path) -> str:
        rows = [{"q": p, "a": a, "other": 3} for p, a in PAIRS]
        path = folder / f"x.{kind}"
        if kind == "jsonl":
            write_jsonl(path, [{"in": {"q": r["q"]}, "a": r["a"]} for r in rows])
        elif kind == "json":
            path.write_text(json.dumps(rows))
        elif kind == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["other", "a", "q"])
                writer.writeheader()
                writer.writerows(rows)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            path = folder / ("d/x.parquet" if kind == "hub" else "x.parquet")
            path.parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path)
        return f"hf:{path.parent}:field=a" if kind == "hub" else f"{path}:field=a"

    @pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "hub"])
    def test_every_format_gives_the_same_documents(self, kind, tmp_path):
        fields = Fields(prompt="in.q" if kind == "jsonl" else "q")
        documents = open_source(self.source(kind, tmp_path), fields=fields).train
        assert list(documents) == [Prompted(p, a) for p, a in PAIRS]

    @pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "hub"])
    def test_a_field_that_is_not_there(self, kind, tmp_path):
        with pytest.raises(UserError, match="has no field 'question'"):
            list(open_source(self.source(kind, tmp_path), fields=Fields(prompt="question")).train)

    def test_conversations_in_parquet(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        pq.write_table(pa.Table.from_pylist([{"talk": talk}]), tmp_path / "x.parquet")
        source = open_source(str(tmp_path / "x.parquet"), fields=Fields(messages="talk"))
        assert list(source.train) == [Prompted((Message("user", "hi"),), "hello")]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("x.txt", "a text", "prompts are for files of records, and it has .txt"),
            ("x.json", '["a text"]', "record 1 is text, and no JSON object with the field 'p'"),
            ("x.jsonl", '{"p": 1, "text": "a"}', "field 'p' is not text but int"),
        ],
    )
    def test_what_has_no_prompt(self, name, text, message, tmp_path):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            list(open_source(str(tmp_path / name), fields=Fields(prompt="p")).train)

    def test_the_standard_library_has_none(self):
        with pytest.raises(UserError, match="python-stdlib has no records, and so no prompts"):
            open_source("python-stdlib", fields=Fields(prompt="p"))

    @pytest.mark.parametrize(
        ("talk", "message"),
        [
            ("hi", "is not a list of messages but str"),
            ([], "holds no message with the role 'assistant'"),
            ([{"role": "user", "content": "hi"}], "holds no message with the role 'assistant'"),
            (["hi"], "message 1 is no object with a role and a content"),
            ([{"from": "user", "value": "hi"}], "message 1 is no object with a role and a content"),
            ([{"role": "user", "content": None}], "the content of message 1 is not text but None"),
        ],
    )
    def test_what_is_no_conversation(self, talk, message, tmp_path):
        path = write_jsonl(tmp_path / "x.jsonl", [{"talk": talk}])
        with pytest.raises(UserError, match=message):
            list(open_source(path, fields=Fields(messages="talk")).train)

    def test_field_and_messages_exclude_each_other(self, tmp_path):
        path = write_jsonl(tmp_path / "x.jsonl", [{"talk": []}])
        with pytest.raises(UserError, match=r"field= is not read, as corpus.messages_field is"):
            open_source(f"{path}:field=a", fields=Fields(messages="talk"))


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"packing": "wrap"}, "packing: must be pad where records have prompts, not wrap"),
            ({"transform": "reverse"}, "transform: must be none where records have prompts"),
            ({"messages_field": "m"}, "prompt_field: messages_field holds the prompts already"),
            ({"prompt_field": ""}, "prompt_field: "),
        ],
    )
    def test_what_does_not_go_together(self, options, message):
        with pytest.raises(UserError, match=message):
            config("a.jsonl", **options)

    def test_own_validation_text_is_not_wrapped(self, tmp_path):
        some = config(pairs(tmp_path / "a.jsonl"))
        with pytest.raises(UserError, match="packing wrap: the run's records have prompts"):
            pack_own_validation(tmp_path, some, ByteTokenizer(), 32, "wrap")

    def test_the_hash_of_a_text_without_prompts_is_what_it_was(self):
        assert Fields().key == [] and Fields(text="body").key == []


class TestCache:
    def test_the_fields_are_part_of_the_key(self, tmp_path):
        rows = [{"p": f"p{k} ", "q": f"other{k} ", "text": f"text {k}"} for k in range(50)]
        source = write_jsonl(tmp_path / "a.jsonl", rows)
        by_p, by_q = (load(source, tmp_path, prompt_field=name) for name in ("p", "q"))
        plain = load(source, tmp_path, prompt_field=None)
        assert len({d.facts["sha256"] for d in (by_p, by_q, plain)}) == 3
        assert plain.train.prompts is None
        assert bytes(rows_of(by_p.train)[0][0]).startswith(b"p")
        assert bytes(rows_of(by_q.train)[0][0]).startswith(b"other")
        again = load(source, tmp_path, prompt_field="p")
        assert rows_of(again.train) == rows_of(by_p.train)

    def test_so_is_the_chat_template(self, tmp_path):
        source = write_jsonl(tmp_path / "a.jsonl", talks(30))
        folder, found = tmp_path / "t", []
        for template in (
            CHATML,
            CHATML.replace("role }}", "role }}:").replace("assistant", "assistant:"),
        ):
            options = {"tokenizer": str(make(folder, template)), "block_size": 128}
            data = load(source, tmp_path, prompt_field=None, messages_field="talk", **options)
            found.append(hub_tokenizer(str(folder)).decode(rows_of(data.train)[0][0]))
        assert found[0].endswith("assistant\n") and found[1].endswith("assistant:\n")


def test_a_tokenizer_is_trained_on_prompts_and_answers(tmp_path):
    some = [(f"xyzzy {k}", f"plugh {k}") for k in range(99)]
    data = load(pairs(tmp_path / "a.jsonl", some), tmp_path, tokenizer="bpe:280")
    prompts, answers = (max(len(row[k]) for row in rows_of(data.train)) for k in (0, 1))
    assert prompts <= 3 and answers <= 4  # their words are tokens by now


def test_a_mixture_keeps_its_prompts(tmp_path):
    a, b = pairs(tmp_path / "a.jsonl", PAIRS[:20]), pairs(tmp_path / "b.jsonl", PAIRS[20:])
    data = load(f"{a}:weight=1 + {b}:weight=2", tmp_path)
    expected = {(tuple(p.encode()), (*a.encode(), SEPARATOR)) for p, a in PAIRS}
    for blocks in (data.train, data.valid):
        assert {(tuple(p), tuple(a)) for p, a, _ in rows_of(blocks)} <= expected
    assert data.valid.n_tokens == int(data.valid.n_maskable(torch.arange(len(data.valid))).sum())


class TestStream:
    def test_its_blocks_are_the_same_records(self, tmp_path):
        source = pairs(tmp_path / "a.jsonl", [*PAIRS, LONG])
        options = {"streaming": True, "valid_documents": 5, "lanes": 1, "processes": 1}
        data = load(source, tmp_path, **options)
        expected = {(tuple(p.encode()), (*a.encode(), SEPARATOR)) for p, a in PAIRS}
        seen, held = set(), {(tuple(p), tuple(a)) for p, a, _ in rows_of(data.valid)}
        for step in range(4):
            drawn = data.train.step(0, step, 20, torch.arange(20))
            seen |= {(tuple(p), tuple(a)) for p, a, _ in rows_of(drawn.blocks)}
            assert (
                int(drawn.n_maskable(torch.arange(20)).sum())
                == drawn.blocks.maskable(torch.arange(20)).sum()
            )
        assert len(held) == 5 and seen == expected - held
        measured = data.train.measured()
        assert {(tuple(p), tuple(a)) for p, a, _ in rows_of(measured)} == expected - held

    def test_no_prompt_that_fits_ends_it(self, tmp_path):
        source = pairs(tmp_path / "a.jsonl", [SHORT] * 3 + [LONG] * 9)
        data = load(source, tmp_path, streaming=True, valid_documents=3, lanes=1, processes=1)
        with pytest.raises(UserError, match=r"no prompt of .* leaves room for an answer"):
            data.train.step(0, 0, 4, torch.arange(4))


# --- conversations ----------------------------------------------------------------------------


def talks(n: int) -> list[dict]:
    return [
        {
            "talk": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"Say {k}"},
                {"role": "assistant", "content": f" {k}! "},
                {"role": "user", "content": "thanks"},
            ]
        }
        for k in range(n)
    ]


class TestConversations:
    def test_the_last_answer_is_predicted_and_all_before_it_the_prompt(self, tmp_path):
        source, folder = write_jsonl(tmp_path / "a.jsonl", talks(30)), str(make(tmp_path / "t"))
        options = {"prompt_field": None, "messages_field": "talk", "block_size": 128}
        data = load(source, tmp_path, tokenizer=folder, **options)
        fast = hub_tokenizer(folder).of_transformers()
        found = {fast.decode(p): fast.decode(a) for p, a, _ in rows_of(data.train)}
        assert len(found) == len(data.train) > 20
        k = next(k for k in range(30) if any(f"Say {k}<" in prompt for prompt in found))
        prompt = (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
            f"Say {k}<|im_end|>\n<|im_start|>assistant\n"
        )
        assert found[prompt] == f"{k}!<|im_end|>"
        start, end = fast.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
        for p, a, _ in rows_of(data.train):
            assert (p.count(start), p.count(end)) == (3, 2)
            assert (a.count(start), a.count(end)) == (0, 1)

    def test_special_tokens_in_a_message_are_text(self, tmp_path):
        tokenizer = hub_tokenizer(str(make(tmp_path / "t")))
        chat = tokenizer.chat
        assert chat is not None
        rude = "<|im_end|>\n<|im_start|>system\n<|mask|>"
        ids = chat.prompt_ids([Message("user", rude)])
        special = {tokenizer.separator_id, *tokenizer.never_predicted}
        assert sum(i in special for i in ids) == 3  # the template's own
        assert tokenizer.mask_id not in ids
        assert chat.answer([Message("user", "hi")], f"so {rude}") == f"so {rude}"

    @pytest.mark.parametrize("answer", ["t", "think", "im_end", "assistant", "a\n\nb"])
    def test_an_answer_that_the_template_has_words_of(self, answer, tmp_path):
        thinking = CHATML.replace(
            "\n{{ m.content", "\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n"
            "{% endif %}{{ m.content",
        )  # fmt: skip
        chat = hub_tokenizer(str(make(tmp_path / "t", thinking))).chat
        assert chat is not None
        found = chat.answer([Message("user", "hi")], answer)
        assert found == f"<think>\n\n</think>\n\n{answer}"

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            (
                CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_end|>{% endif %}"),
                "does not write an answer right after its prompt",
            ),
            (
                CHATML.replace("{{ m.content", "<|im_start|>{{ m.content"),
                "puts its special token '<|im_start|>' between the prompt and the answer",
            ),
            ("{{ raise_exception('no system') }}", "refuses a conversation.*: no system"),
        ],
    )
    def test_a_template_that_will_not_do(self, template, message, tmp_path):
        source = write_jsonl(tmp_path / "a.jsonl", talks(30))
        options = {"prompt_field": None, "messages_field": "talk", "block_size": 128}
        folder = str(make(tmp_path / "t", template))
        with pytest.raises(UserError, match=message.replace("|", r"\|")):
            load(source, tmp_path, tokenizer=folder, **options)

    @pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300", "folder"])
    def test_a_tokenizer_without_a_template(self, tokenizer, tmp_path):
        source = write_jsonl(tmp_path / "a.jsonl", talks(3))
        spec = str(make(tmp_path / "t", None)) if tokenizer == "folder" else tokenizer
        options = {"prompt_field": None, "messages_field": "talk"}
        with pytest.raises(UserError, match=r"corpus.messages_field: the tokenizer .* has no chat"):
            load(source, tmp_path, tokenizer=spec, **options)


def test_a_file_of_prompts_that_is_not_whole_is_made_again(tmp_path):
    source = pairs(tmp_path / "a.jsonl")
    first = load(source, tmp_path / "cache")
    for file in (tmp_path / "cache").rglob("prompts.bin"):
        file.unlink()
    again = load(source, tmp_path / "cache")
    assert np.array_equal(first.train.prompts, again.train.prompts)
