"""Runs as models of the real lm-eval, on tasks whose data are local files."""

import json
from dataclasses import replace
from functools import partial
from itertools import combinations
from types import SimpleNamespace

import lm_eval
import lm_eval.tasks
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unmask import sample
from unmask.base.errors import UserError
from unmask.data.tokenizers import hub_tokenizer
from unmask.evaluate import lm_eval_model
from unmask.evaluate.lm_eval import run_tasks, tasks_table
from unmask.evaluate.lm_eval_model import UnmaskLM, fitting_pieces
from unmask.run import build_model

QUESTIONS = [("the ca", "t"), ("and sa", "w"), ("one bi", "q"), ("dog ru", "n"), ("on a m", "x")]
LETTERS = list("twqnx")


def requests(*arguments):
    return [SimpleNamespace(args=args) for args in arguments]


def encode(run, text):
    return run.tokenizer.encode([text])[0].tolist()


@torch.no_grad()
def next_logp(run, context: str) -> torch.Tensor:
    """(V,) log-probabilities of the token after a document's beginning, by the network directly."""
    ids = [run.tokenizer.separator_id, *encode(run, context), run.tokenizer.mask_id]
    return run.model.head(run.model(torch.tensor([ids]))[0, -1]).log_softmax(-1)


def letter_nats(run, context: str) -> dict[str, float]:
    """-log p of each single letter after a context."""
    logp = next_logp(run, context)
    return {letter: -float(logp[ord(letter)]) for letter in LETTERS}


@torch.no_grad()
def causal_nats(run, left, piece) -> float:
    """-log p of a piece after what stands left of it, by the causal network directly."""
    logp = run.model.head(run.model(torch.tensor([[*left, *piece]]))[0]).log_softmax(-1)
    return -float(sum(logp[len(left) + i, token] for i, token in enumerate(piece)))


@torch.no_grad()
def enumerated(run, context, continuation) -> float:
    """sum over k of S_k / k, by all masks of the continuation."""
    n, x, total = len(continuation), torch.tensor([context + continuation]), 0.0
    for k in range(1, n + 1):
        sums = []
        for chosen in combinations(range(n), k):
            where = torch.tensor(chosen) + len(context)
            inputs = x.clone()
            inputs[0, where] = run.tokenizer.mask_id
            logp = run.model.head(run.model(inputs)[0, where]).log_softmax(-1)
            sums.append(-float(logp.gather(1, x[0, where, None]).sum()))
        total += sum(sums) / len(sums) / k
    return total


class TestLikelihood:
    def test_one_token_is_exact(self, denoiser, causal):
        for run in (denoiser, causal):
            found = UnmaskLM(run, draws=4).loglikelihood(requests(*QUESTIONS))
            wanted = [-letter_nats(run, context)[letter] for context, letter in QUESTIONS]
            assert [nats for nats, _ in found] == pytest.approx(wanted, rel=1e-4)

    def test_longer_ones_estimate_the_mean_over_all_masks(self, denoiser):
        pair = encode(denoiser, "the cat s"), encode(denoiser, "atqon")
        model = UnmaskLM(denoiser, draws=3000, batch_size=500)
        ((nats, _),) = model._score([pair], greedy=False)
        assert -nats == pytest.approx(enumerated(denoiser, *pair), rel=0.02)

    def test_batches_change_nothing(self, denoiser):
        asked = requests(("the cat", " sat on"), ("one", " big dog"))
        few = UnmaskLM(denoiser, draws=8, batch_size=3).loglikelihood(asked)
        many = UnmaskLM(denoiser, draws=8, batch_size=64).loglikelihood(asked)
        assert [a for a, _ in few] == pytest.approx([b for b, _ in many], rel=1e-5)

    def test_a_causal_model_obeys_the_chain_rule(self, causal):
        model = UnmaskLM(causal)
        asked = requests(("", "the cat"), ("the cat", " sat on"), ("", "the cat sat on"))
        (first, _), (second, _), (whole, _) = model.loglikelihood(asked)
        assert first + second == pytest.approx(whole, rel=1e-5)
        rolling = model.loglikelihood_rolling(requests(("the cat sat on",)))
        assert rolling == pytest.approx([whole])

    def test_spaces_at_a_contexts_end_belong_to_what_follows(self, causal):
        asked = requests(("the cat ", "sat"), ("the cat", " sat"))
        one, other = UnmaskLM(causal).loglikelihood(asked)
        assert one == other

    def test_a_long_context_loses_its_beginning(self, denoiser):
        asked = requests(("x" * 99 + "the cat sat on a mat and saw", " one"),
                         ("y" * 50 + "the cat sat on a mat and saw", " one"))  # fmt: skip
        one, other = UnmaskLM(denoiser, draws=4).loglikelihood(asked)
        assert one == other

    def test_a_long_text_is_the_sum_of_its_stretches(self, causal):
        text = "the cat sat on a mat and saw one big dog run far the cat sat"
        ids, wanted = [causal.tokenizer.separator_id, *encode(causal, text)], 0.0
        for start in range(1, len(ids), 16):
            piece = ids[start : start + 16]
            wanted += causal_nats(causal, ids[max(0, start + len(piece) - 32) : start], piece)
        (found,) = UnmaskLM(causal).loglikelihood_rolling(requests((text,)))
        assert found == pytest.approx(-wanted, rel=1e-5)

    def test_greedy_is_the_most_probable_token(self, denoiser, causal):
        for run in (denoiser, causal):
            one = chr(int(next_logp(run, "the cat sa").argmax()))
            texts = [one, "q" if one != "q" else "z", one + "\0"]
            found = UnmaskLM(run).loglikelihood(requests(*(("the cat sa", t) for t in texts)))
            assert [greedy for _, greedy in found] == [True, False, False]


@pytest.fixture(params=["wordpiece", "llama", "t5", "gpt2"])
def other(request, causal, denoiser, tokenizer_folders):
    """Make a run, untrained, with another tokenizer: kind of network -> run."""

    def make(kind="causal"):
        run = causal if kind == "causal" else denoiser
        tokenizer = hub_tokenizer(str(tokenizer_folders[request.param]))
        return replace(run, tokenizer=tokenizer, model=build_model(run.config, tokenizer).eval())

    return make


class TestChoicesThatMergeWithTheirContext:
    """A token that holds letters of both belongs to the choice."""

    PAIRS = (("the word is alp", "ha"), ("我喜欢", "吃苹果"), ("zeb", "ra"), ("the cat", " sat"),
             ("the cat  ", "sat"), ("", "alpha"), ("the cat on\n", "a mat"))  # fmt: skip

    @pytest.mark.parametrize("pair", PAIRS, ids=repr)
    def test_all_of_a_choice_is_scored_once(self, other, pair):
        run = other()
        whole = encode(run, "".join(pair))
        ((logp, _),) = UnmaskLM(run).loglikelihood(requests(pair))
        start = [run.tokenizer.separator_id]
        sums = [-causal_nats(run, [*start, *whole[:n]], whole[n:]) for n in range(len(whole))]
        cut = min(range(len(sums)), key=lambda n: abs(sums[n] - logp))
        assert logp == pytest.approx(sums[cut], rel=1e-4) and logp < -1
        hidden = run.tokenizer.unknown_ids
        context, left = pair[0].replace(" ", ""), run.tokenizer.decode(whole[:cut])
        assert context.startswith(left.replace(" ", "").rstrip("\ufffd")) or {*hidden} & {*whole}
        if "zeb" in pair and run.tokenizer.decode(whole) == "[UNK]":
            assert cut == 0  # the unknown token is the context's own, and hides the choice as well

    def test_every_kind_of_network_and_the_whole_word_too(self, denoiser, tokenizer_folders):
        tokenizer = hub_tokenizer(str(tokenizer_folders["gpt2"]))
        run = replace(denoiser, tokenizer=tokenizer, model=build_model(denoiser.config, tokenizer))
        asked = requests(("the word is alp", "ha"), ("the word is", " alpha"))
        (merged, _), (plain, _) = UnmaskLM(run, draws=4).loglikelihood(asked)
        assert merged == plain < 0  # the same token after the same tokens

    def test_nothing_to_score_is_an_error_that_names_the_example(self, causal, tokenizer_folders):
        def run(name):
            tokenizer = hub_tokenizer(str(tokenizer_folders[name]))
            return replace(causal, tokenizer=tokenizer, model=build_model(causal.config, tokenizer))

        asked = SimpleNamespace(args=("the cat", "漢字"), task_name="hanzi", doc_id=7)
        with pytest.raises(UserError, match=r"task hanzi, example 7: .*'漢字', has no token"):
            UnmaskLM(run("dropping")).loglikelihood([asked])
        with pytest.raises(UserError, match="has no token"):
            UnmaskLM(run("wordpiece")).loglikelihood_rolling(requests(("\0\1",)))
        with pytest.raises(UserError, match="'', is empty"):
            UnmaskLM(causal).loglikelihood(requests(("the cat ", "")))
        assert UnmaskLM(causal).loglikelihood_rolling(requests(("",))) == [0]


@given(st.integers(0, 40), st.integers(1, 90), st.integers(2, 24))
def test_pieces_hold_each_token_once_and_its_true_neighbours(before, after, longest):
    context, continuation = list(range(before)), list(range(before, before + after))
    pieces = fitting_pieces(context, continuation, longest)
    assert [i for _, piece in pieces for i in piece] == continuation
    for left, piece in pieces:
        assert 0 < len(left) + len(piece) <= longest
        assert [*left, *piece] == list(range(piece[-1] + 1))[-len(left) - len(piece) :]
        assert len(left) == min(piece[0], longest - len(piece))  # as much as fits
    if before and after < longest:
        assert len(pieces) == 1


class TestGeneration:
    def test_it_stops_where_the_task_says(self, denoiser, monkeypatch):
        monkeypatch.setattr(lm_eval_model, "complete_tokens", lambda *_, **__: ["abc. def\n¶\nghi"])
        model = UnmaskLM(denoiser)
        asked = [("x", {"until": ["."]}), ("x", {"until": "\n\n"}), ("x", {"until": []})]
        assert model.generate_until(requests(*asked)) == ["abc", "abc. def", "abc. def"]

    def test_the_context_and_the_new_tokens_fit_into_a_block(self, denoiser, monkeypatch):
        asked = []

        def complete(run, prompts, *, new_tokens, options, seed):
            assert options.steps == new_tokens  # a token a step
            texts = [run.tokenizer.decode(ids) for ids in prompts]
            asked.append((*texts, new_tokens, options.temperature, options.sampler))
            return [""]

        monkeypatch.setattr(lm_eval_model, "complete_tokens", complete)
        context = "".join(chr(97 + i % 26) for i in range(60))
        UnmaskLM(denoiser).generate_until(
            requests(
                (context, {"max_gen_toks": 10}),
                (context, {"max_gen_toks": 300, "do_sample": True, "temperature": 0.7}),
            )
        )
        assert asked == [
            (context[-22:], 10, 0.0, "confidence"),
            (context[-16:], 16, 0.7, "ancestral"),
        ]

    def test_nothing_is_left_to_chance_unless_the_task_samples(self, denoiser, causal):
        for run in (denoiser, causal):
            greedy, free = {"max_gen_toks": 6}, {"max_gen_toks": 6, "do_sample": True}
            texts = [
                UnmaskLM(run, seed=seed).generate_until(requests(("the cat", options)))
                for options in (greedy, {**free, "temperature": 1.0})
                for seed in (5, 5, 6)
            ]
            assert texts[0] == texts[1] == texts[2]
            assert texts[3] == texts[4] != texts[5]

    @torch.no_grad()
    def test_without_sampling_the_most_probable_token_comes(self, denoiser, causal):
        for run in (denoiser, causal):
            x = torch.tensor([[*encode(run, "the cat sa"), run.tokenizer.mask_id]])
            best = int(run.model.head(run.model(x)[0, -1]).argmax())
            asked = requests(("the cat sa", {"max_gen_toks": 1}))
            assert UnmaskLM(run).generate_until(asked) == [chr(best)]

    @pytest.mark.parametrize(
        "context", ["é" * 500, "x" + "漢" * 99, "🙂" * 40, "a" * 99], ids=ascii
    )
    @pytest.mark.parametrize("new", [1, 9, 10, 11, 16])
    def test_a_long_context_is_cut_between_letters(self, causal, monkeypatch, context, new):
        prompts, fill = [], lm_eval_model.complete_tokens

        def watched(run, given, **options):
            prompts.extend(given)
            return fill(run, given, **options)

        monkeypatch.setattr(lm_eval_model, "complete_tokens", watched)
        asked = requests((context, {"max_gen_toks": new}))
        UnmaskLM(causal).generate_until(asked)
        (ids,) = prompts
        text = causal.tokenizer.decode(ids)
        assert context.endswith(text) and "\ufffd" not in text
        assert 32 - new - 3 <= len(ids) <= 32 - new

    def test_a_long_context_of_any_tokenizer(self, other):
        for context in ("我喜欢吃苹果漢字" * 40, "Zoë 🙂é" * 40, "the cat sat" * 50, "\x00" * 99):
            texts = UnmaskLM(other()).generate_until(requests((context, {"max_gen_toks": 4})))
            assert len(texts) == 1

    def test_a_context_of_broken_letters_alone_is_kept(self, causal):
        ids = UnmaskLM(causal)._last_tokens("\ufffd" * 40, 20)
        assert len(ids) == 20 or causal.tokenizer.decode(ids) == "\ufffd" * 6

    def test_the_first_space_of_what_follows_is_there(self, other, monkeypatch):
        run = other()
        after = encode(run, "the cat sat on")[len(encode(run, "the cat")) :]
        monkeypatch.setattr(
            sample, "fill", lambda run, rows, *_, **__: [[*rows[0][: -len(after)], *after]]
        )
        asked = requests(("the cat", {"max_gen_toks": len(after)}))
        assert UnmaskLM(run).generate_until(asked) == [" sat on"]

    def test_an_option_that_nothing_reads_is_refused(self, denoiser):
        asked = requests(("x", {"do_sample": True, "temperature": 1.0, "top_p": 0.9}))
        with pytest.raises(UserError, match="samples with top_p; valid: do_sample, max_gen_toks"):
            UnmaskLM(denoiser).generate_until(asked)


@pytest.fixture
def tasks(tmp_path):
    """A folder of two tasks on local files: one of choices, one of text to be generated."""
    folder = tmp_path / "tasks"
    folder.mkdir()

    def task(name, rows, **config):
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config |= {"task": name, "dataset_path": "json", "test_split": "test"}
        config |= {"dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))

    task(
        "local_choice",
        [{"context": c, "choices": LETTERS, "label": LETTERS.index(a)} for c, a in QUESTIONS],
        output_type="multiple_choice",
        doc_to_text="{{context}}",
        doc_to_choice="choices",
        doc_to_target="label",
        target_delimiter="",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    task.folder = folder
    return task


class TestTasks:
    @pytest.mark.parametrize("kind", ["denoiser", pytest.param("causal", marks=pytest.mark.slow)])
    def test_multiple_choice(self, kind, tasks, request):
        run = request.getfixturevalue(kind)
        found = run_tasks(run, ["local_choice"], include_path=tasks.folder, draws=2)
        verdicts = []
        for context, answer in QUESTIONS:
            nats = letter_nats(run, context)
            verdicts.append(min(nats, key=nats.__getitem__) == answer)
        assert 0 < sum(verdicts) < 5
        assert found["tasks"]["local_choice"]["acc"] == sum(verdicts) / 5
        assert found["examples"] == {"local_choice": 5}
        json.dumps(found, allow_nan=False)

    def test_generation(self, denoiser, tasks):
        (text,) = UnmaskLM(denoiser).generate_until(requests(("the cat", {"max_gen_toks": 6})))
        stop = text[3]
        wanted = text.split(stop)[0]
        tasks(
            "local_text",
            [{"q": "the cat", "a": wanted}, {"q": "the cat", "a": text + "!"}],
            output_type="generate_until",
            doc_to_text="{{q}}",
            doc_to_target="{{a}}",
            generation_kwargs={"until": [stop], "max_gen_toks": 6, "do_sample": False},
            metric_list=[
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
        )
        both = ["local_text", "local_choice"]
        found = run_tasks(denoiser, both, include_path=tasks.folder, limit=2)
        assert found["tasks"]["local_text"]["exact_match"] == 0.5
        assert found["examples"] == {"local_text": 2, "local_choice": 2}
        table = tasks_table(found)
        assert table.row_count == 2
        assert found["tasks"]["local_text"]["exact_match_stderr"] == pytest.approx(0.5)

    def test_by_name_and_folder_as_lm_eval_does(self, causal, tasks):
        manager = lm_eval.tasks.TaskManager(include_path=str(tasks.folder), include_defaults=False)
        found = lm_eval.simple_evaluate(
            model="unmask",
            model_args={"run": str(causal.folder)},
            tasks=["local_choice"],
            task_manager=manager,
        )
        again = run_tasks(causal, ["local_choice"], include_path=tasks.folder)
        assert found["results"]["local_choice"]["acc,none"] == again["tasks"]["local_choice"]["acc"]

    def test_what_is_wrong_is_told(self, denoiser, tasks, monkeypatch):
        few = partial(lm_eval.tasks.TaskManager, include_defaults=False)  # the rest takes a while
        monkeypatch.setattr(lm_eval.tasks, "TaskManager", few)

        def problem(names, **options):
            with pytest.raises(UserError) as caught:
                run_tasks(denoiser, names, **({"include_path": tasks.folder} | options))
            assert "\n" not in str(caught.value)
            return str(caught.value)

        assert "did you mean local_choice?" in problem(["local_choise"])
        assert "names no task" in problem([])
        assert "limit must be at least 1, not 0" in problem(["local_choice"], limit=0)
        assert "is not a folder" in problem(["local_choice"], include_path=tasks.folder / "no")
        (tasks.folder / "local_choice.jsonl").unlink()
        assert "tasks local_choice: " in problem(["local_choice"])
