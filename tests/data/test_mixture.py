"""Several sources: as one corpus, or as a mixture drawn by weights."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.data.config import CorpusConfig
from unmask.data.load import Data, load_data
from unmask.data.mixture import in_proportion
from unmask.data.order import Part, sample_blocks, shares
from unmask.data.sources import open_corpus
from unmask.train.validation import evenly_spaced

WEIGHTS = st.lists(st.integers(1, 50), min_size=1, max_size=5)


class TestShares:
    @given(WEIGHTS, st.integers(0, 10**9))
    def test_every_part_has_its_share_of_the_first_n(self, weights, n):
        """The number of each sample says how many of its part came before, whatever n."""
        which, number = shares(torch.arange(n, n + 200), weights)
        for k, weight in enumerate(weights):
            exact = torch.arange(n, n + 200)[which == k].double() * weight / sum(weights)
            assert ((number[which == k] - exact).abs() <= len(weights)).all()

    @given(WEIGHTS)
    def test_numbers_of_a_part_follow_each_other(self, weights):
        which, number = shares(torch.arange(1000), weights)
        for k in range(len(weights)):
            mine = number[which == k]
            assert mine.equal(torch.arange(len(mine)))
        total = sum(weights)
        counts = Counter(shares(torch.arange(total * 4), weights)[0].tolist())
        assert all(abs(counts[k] - 4 * w) <= 1 for k, w in enumerate(weights))

    @given(WEIGHTS, st.integers(0, 10**6))
    def test_a_function_of_the_number_alone(self, weights, n):
        alone = shares(torch.tensor([n]), weights)
        among = shares(torch.arange(n - min(n, 50), n + 3), weights)
        assert [x.item() for x in alone] == [x[min(n, 50)].item() for x in among]

    def test_one_part_has_everything(self):
        which, number = shares(torch.arange(7), [3])
        assert which.tolist() == [0] * 7 and number.tolist() == list(range(7))


PARTS = [Part(7, 3), Part(20, 1), Part(1, 2)]


def drawn(seed: int, steps: range, batch_size: int, parts=PARTS) -> torch.Tensor:
    slots = torch.arange(batch_size)
    return torch.stack([sample_blocks(seed, step, slots, batch_size, parts) for step in steps])


def part_of(blocks: torch.Tensor) -> torch.Tensor:
    return (blocks >= 7).long() + (blocks >= 27).long()


class TestDraws:
    def test_weights_are_the_shares_of_the_samples(self):
        counts = part_of(drawn(0, range(50), 12)).flatten().bincount()
        assert (counts - torch.tensor([300, 100, 200])).abs().max() <= 1

    def test_within_a_step_too(self):
        for step in part_of(drawn(0, range(50), 12)):
            assert (step.bincount(minlength=3) - torch.tensor([6, 2, 4])).abs().max() <= 1

    def test_each_corpus_in_epochs_of_its_own(self):
        blocks = drawn(3, range(80), 5).flatten()
        for k, part in enumerate(PARTS):
            first = sum(p.n_blocks for p in PARTS[:k])
            # within a step, samples stand in a random order: whole epochs are compared as counts
            mine = blocks[part_of(blocks) == k] - first
            counts = mine.bincount(minlength=part.n_blocks)
            assert counts.max() - counts.min() <= 1

    @pytest.mark.parametrize("steps", [200, pytest.param(600, marks=pytest.mark.slow)])
    def test_no_place_in_the_batch_belongs_to_one_corpus(self, steps):
        """Mask rates are stratified over the places, so a fixed place would fix the rates."""
        share = (part_of(drawn(0, range(steps), 4)) == 0).double().mean(dim=0)
        assert ((share - 0.5).abs() < 5 * (0.25 / steps) ** 0.5).all()

    @pytest.mark.parametrize("parts", [1, 2, 5])
    def test_slots_may_be_asked_for_apart(self, parts):
        whole = sample_blocks(9, 4, torch.arange(20), 20, PARTS)
        split = [sample_blocks(9, 4, s, 20, PARTS) for s in torch.arange(20).chunk(parts)]
        assert torch.cat(split).equal(whole)
        mixed = torch.arange(20).flip(0)[::3]
        assert sample_blocks(9, 4, mixed, 20, PARTS).equal(whole[mixed])

    def test_nothing_that_came_before_is_needed(self):
        assert drawn(1, range(40, 45), 6).equal(drawn(1, range(45), 6)[40:])
        assert not drawn(1, range(5), 6).equal(drawn(2, range(5), 6))

    def test_one_corpus_is_drawn_as_before_there_were_mixtures(self):
        """The order of golden runs: the first epoch of 10 blocks under seed 0."""
        from unmask.diffusion.noise import Stream, uniform_double

        keys = uniform_double(0, Stream.ORDER, 0, torch.zeros(1, dtype=torch.int64), 10)
        assert drawn(0, range(2), 5, [Part(10)]).flatten().equal(keys[0].argsort(stable=True))
        assert drawn(0, range(2), 5, [Part(10, 7)]).equal(drawn(0, range(2), 5, [Part(10)]))


@pytest.fixture
def texts(tmp_path) -> dict[str, Path]:
    """Two corpora of many documents, told apart by their letters."""
    files = {}
    for name, letters, documents in (("a", "abc", 300), ("x", "xyz", 60)):
        files[name] = tmp_path / f"{name}.txt"
        lines = [
            "".join(letters[(i * j) % 3] for j in range(30)) + f"{i}" for i in range(documents)
        ]
        files[name].write_text("\n".join(lines))
    return files


def load(source: str, **options) -> Data:
    return load_data(CorpusConfig(source=source, block_size=16, valid_fraction=0.3, **options))


def is_x(data: Data, rows: torch.Tensor) -> torch.Tensor:
    x, _ = data.train.batch(rows)
    return ((x >= ord("x")) & (x < 256)).any(dim=1)


class TestMixture:
    def test_training_blocks_are_those_of_the_corpora(self, texts):
        alone = [load(str(texts[name])) for name in ("a", "x")]
        data = load(f"{texts['a']}:weight=1 + {texts['x']}:weight=3")
        assert data.train.parts == (Part(len(alone[0].train), 1), Part(len(alone[1].train), 3))
        x, valid = data.train.batch(torch.arange(len(data.train)))
        expected = [one.train.batch(torch.arange(len(one.train)))[0] for one in alone]
        assert x.equal(torch.cat(expected)) and valid is None
        blocks = drawn(0, range(100), 8, data.train.parts)
        assert is_x(data, blocks.flatten()).double().mean() == pytest.approx(0.75, abs=0.01)

    def test_validation_is_in_proportion(self, texts):
        alone = [load(str(texts[name])) for name in ("a", "x")]
        data = load(f"{texts['a']}:weight=1 + {texts['x']}:weight=3")
        x, _ = data.valid.batch(torch.arange(len(data.valid)))
        share = (x == ord("x")).any(dim=1).double()
        assert float(share.mean()) == pytest.approx(0.75, abs=1 / len(share))
        for wanted in (2, 4, 7, 10, 16):
            some = share[evenly_spaced(len(share), wanted)]
            assert float(some.mean()) == pytest.approx(0.75, abs=1 / len(some))
        assert abs(len(data.valid) - len(alone[1].valid) * 4 / 3) <= 2  # as the shorter one allows
        per_byte = [one.valid.n_bytes / one.valid.n_tokens for one in alone]
        expected = per_byte[0] * (1 - share.mean()) + per_byte[1] * share.mean()
        assert data.valid.n_bytes / data.valid.n_tokens == pytest.approx(float(expected), rel=1e-2)

    def test_padded_blocks(self, texts):
        data = load(f"{texts['a']}:weight=2 + {texts['x']}:weight=1", packing="pad")
        for blocks in (data.train, data.valid):
            _, valid = blocks.batch(torch.arange(len(blocks)))
            lengths = blocks.lengths_of(torch.arange(len(blocks)))
            assert valid is None or valid.sum(dim=1).equal(lengths)
        assert data.valid.n_tokens == data.valid.lengths_of(torch.arange(len(data.valid))).sum()

    def test_facts_of_every_part_are_recorded(self, texts):
        data = load(f"{texts['a']}:weight=0.5 + {texts['x']}:weight=1.5", tokenizer="bpe:262")
        for split in ("train", "valid"):
            facts = data.facts[split]
            assert [part["weight"] for part in facts["parts"]] == [1, 3]
            assert [part["source"] for part in facts["parts"]] == [str(p) for p in texts.values()]
            assert len({part["sha256"] for part in facts["parts"]}) == 2
            for name in ("documents", "bytes", "tokens", "blocks"):
                assert facts[name] == sum(part[name] for part in facts["parts"])

    def test_the_identity_follows_texts_and_weights(self, texts):
        a, x = texts.values()
        source = f"{a}:weight=1 + {x}:weight=3"
        first = load(source).facts["sha256"]
        assert load(source).facts["sha256"] == first
        assert load(f"{a}:weight=2 + {x}:weight=6").facts["sha256"] == first  # the same mixture
        assert load(f"{a}:weight=1 + {x}:weight=2").facts["sha256"] != first
        x.write_text(x.read_text() + "\nmore")
        assert load(source).facts["sha256"] != first

    def test_a_corpus_of_little_weight_is_still_validated(self, texts):
        data = load(f"{texts['a']}:weight=1000 + {texts['x']}:weight=1")
        x, _ = data.valid.batch(torch.arange(len(data.valid)))
        assert (x == ord("x")).any()

    def test_a_validation_source(self, texts, tmp_path):
        (tmp_path / "v.txt").write_text("validation text\nof two lines\n")
        source = f"{texts['a']}:weight=1 + {texts['x']}:weight=3"
        data = load(source, valid_source=str(tmp_path / "v.txt"))
        assert data.facts["valid"]["documents"] == 2 and "parts" not in data.facts["valid"]
        assert data.facts["train"]["documents"] == 360

    @given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=2, max_size=4))
    def test_any_sizes_and_weights(self, corpora):
        import numpy as np

        from unmask.data.blocks import Blocks

        tokens = [np.full((n, 4), k, dtype=np.uint16) for k, (n, _) in enumerate(corpora)]
        tokens = [t + 10 * np.arange(len(t))[:, None] for t in tokens]
        blocks = [Blocks(t, None, t.size, 2 * t.size) for t in tokens]
        weights = [weight for _, weight in corpora]
        mixed = in_proportion(blocks, weights)
        x, _ = mixed.batch(torch.arange(len(mixed)))
        which = x[:, 0] % 10
        assert len(set(x[:, 0].tolist())) == len(x)  # no block twice
        counts = which.bincount(minlength=len(corpora))
        assert (counts >= 1).all()
        exact = torch.tensor(weights) / sum(weights) * len(mixed)
        assert ((counts - exact).abs() <= len(corpora)).all()
        assert (mixed.n_tokens, mixed.n_bytes) == (x.numel(), 2 * x.numel())


class TestSpelling:
    def test_several_without_weights_are_one_corpus(self, texts, tmp_path):
        both = load(f"{texts['a']} + {texts['x']}")
        assert both.facts["train"]["documents"] + both.facts["valid"]["documents"] == 360
        assert "parts" not in both.facts["train"] and len(both.train.parts) == 1

    def test_each_keeps_its_own_validation_split(self, tmp_path, texts):
        import json

        folder = tmp_path / "hub"
        folder.mkdir()
        for split, n in (("train", 20), ("validation", 3)):
            rows = [json.dumps({"text": f"{split} {i}"}) for i in range(n)]
            (folder / f"{split}.jsonl").write_text("\n".join(rows))
        data = load(f"hf:{folder}:valid=validation + {texts['x']}")
        alone = load(str(texts["x"]))
        assert data.facts["valid"]["documents"] == 3 + alone.facts["valid"]["documents"]

    def test_a_list_is_the_same(self, texts):
        specs = [f"{texts['a']}:weight=1", f"{texts['x']}:document=line,weight=2"]
        config = CorpusConfig(source=specs, valid_source=[str(texts["x"])])
        assert config.source == " + ".join(specs)
        assert [share.weight for share in open_corpus(config.source)] == [1, 2]
        assert [share.spec for share in open_corpus(config.source)] == [
            str(texts["a"]),
            f"{texts['x']}:document=line",
        ]

    def test_options_around_the_weight(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"body": "one"}\n{"body": "two"}')
        (tmp_path / "b.txt").write_text("three")
        for options in ("field=body,weight=2", "weight=2,field=body"):
            (first, _) = open_corpus(f"{tmp_path}/a.jsonl:{options} + {tmp_path}/b.txt:weight=1")
            assert first.spec == f"{tmp_path}/a.jsonl:field=body" and first.weight == 2
            assert list(first.sources[0].train) == ["one", "two"]

    def test_a_file_with_the_sign_in_its_name(self, tmp_path):
        (tmp_path / "a + b.txt").write_text("one file")
        (share,) = open_corpus(str(tmp_path / "a + b.txt"))
        assert list(share.sources[0].train) == ["one file"]

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("{a}:weight=1 + {x}", "a weight for each"),
            ("{a}:weight=1", "for a mixture"),
            ("{a}:weight=0 + {x}:weight=1", "above 0, not '0'"),
            ("{a}:weight=-1 + {x}:weight=1", "above 0, not '-1'"),
            ("{a}:weight=nan + {x}:weight=1", "not 'nan'"),
            ("{a}:weight= + {x}:weight=1", "not ''"),
            ("{a}:weight=٣ + {x}:weight=1", "above 0"),
            ("{a}:weight=1e9 + {x}:weight=1", "above 0"),
            ("{a}:weight=0.000001 + {x}:weight=99999", "six digits"),
            ("{a}:weight=1 + {x}:weight=1 + ", "corpus.source"),
            ("{a}:weight=1 + missing.txt:weight=1", "'missing.txt'"),
        ],
    )
    def test_wrong(self, source, said, texts):
        source = source.format(**texts)
        with pytest.raises(UserError) as caught:
            load(source)
        assert said in str(caught.value)

    def test_weights_in_the_smallest_whole_numbers(self, texts):
        a, x = texts.values()
        for one, other in (("1", "3"), ("0.25", "0.75"), ("10", "30"), ("33.3", "99.9")):
            mixed = open_corpus(f"{a}:weight={one} + {x}:weight={other}")
            assert [share.weight for share in mixed] == [1, 3]
            assert math.gcd(*(share.weight for share in mixed)) == 1


def test_a_run_on_a_mixture_resumes_to_the_same_weights(texts, tmp_path, unmask):
    """Stopped and continued, it is bit for bit the run that went through."""
    from safetensors.torch import load_file

    source = f"{texts['a']}:weight=1 + {texts['x']}:weight=3"
    options = [
        *("--preset", "nano", "--corpus.source", source, "--corpus.block-size", "16"),
        *("--model.layers", "1", "--model.width", "16", "--model.heads", "2"),
        *("--train.batch-size", "6", "--train.device", "cpu", "--train.warmup-steps", "1"),
        *("--validation.blocks", "8", "--validation.draws", "2", "--train.precision", "fp32"),
        *("--recipe", "bell", "--train.save-every", "3", "--validation.every", "4"),
    ]
    for run, steps in (("whole", 7), ("parts", 3)):
        status, text = unmask("train", "--run", tmp_path / run, *options, "--train.steps", steps)
        assert status == 0, text
    again = ("train", "--run", tmp_path / "parts", "--resume", "--train.steps", 7)
    status, text = unmask(*again)
    assert status == 0, text
    found = [sorted((tmp_path / run).rglob("model.safetensors"))[-1] for run in ("whole", "parts")]
    first, second = map(load_file, found)
    assert found[0].parent.name == found[1].parent.name
    assert all(first[name].equal(second[name]) for name in first)
    status, text = unmask("evaluate", tmp_path / "whole")
    assert status == 0, text
    texts["x"].write_text("another text\nof two long documents\n" * 9)
    status, text = unmask(*again)
    assert status == 2 and "is no longer what the run" in text
