"""Orders of the tokens in a block."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unmask.base.errors import UserError
from unmask.config import Config, load_config
from unmask.data.blocks import Blocks
from unmask.data.config import CorpusConfig
from unmask.data.load import load_data
from unmask.data.transforms import TRANSFORMS, token_order


def blocks(n: int, size: int, transform: str, lengths: list[int] | None = None) -> Blocks:
    """Block b holds the tokens 100 b, 100 b + 1, ...: a token tells where it was."""
    tokens = 100 * np.arange(n)[:, None] + np.arange(size)[None, :]
    kept = None if lengths is None else np.array(lengths, dtype=np.int32)
    return Blocks(tokens.astype(np.uint16), kept, tokens.size, tokens.size, transform)


@given(
    name=st.sampled_from(sorted(TRANSFORMS)),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
)
def test_an_order_is_a_permutation_that_leaves_the_padding(name: str, lengths: list[int]) -> None:
    order = token_order(name, torch.arange(len(lengths)), torch.tensor(lengths), 12)
    for row, n in zip(order.tolist(), lengths, strict=True):
        assert sorted(row[:n]) == list(range(n))
        assert row[n:] == list(range(n, 12))


def test_none_and_reverse() -> None:
    rows = torch.tensor([2, 0])
    assert blocks(3, 4, "none").batch(rows)[0].tolist() == [[200, 201, 202, 203], [0, 1, 2, 3]]
    assert blocks(3, 4, "reverse").batch(rows)[0].tolist() == [[203, 202, 201, 200], [3, 2, 1, 0]]
    x, valid = blocks(2, 4, "reverse", [3, 4]).batch(torch.tensor([0, 1]))
    assert x.tolist() == [[2, 1, 0, 3], [103, 102, 101, 100]]
    assert valid is not None and valid.tolist() == [[True] * 3 + [False], [True] * 4]


def test_one_permutation_for_every_block() -> None:
    x, _ = blocks(5, 32, "permute-positions").batch(torch.arange(5))
    places = x - 100 * torch.arange(5)[:, None]
    assert (places == places[0]).all()
    assert places[0].tolist() != list(range(32))
    again, _ = blocks(5, 32, "permute-positions").batch(torch.tensor([3]))
    assert torch.equal(again[0], x[3])  # whatever else is in the batch


def test_shorter_blocks_follow_the_same_order_with_places_left_out() -> None:
    x, _ = blocks(2, 16, "permute-positions", [16, 9]).batch(torch.arange(2))
    whole, part = x[0].tolist(), (x[1] - 100).tolist()
    assert part[:9] == [place for place in whole if place < 9]


def test_shuffled_tokens_have_orders_of_their_own_and_keep_their_block() -> None:
    x, _ = blocks(400, 8, "shuffle-tokens").batch(torch.arange(400))
    places = x - 100 * torch.arange(400)[:, None]
    assert torch.equal(places.sort(dim=1).values, torch.arange(8).expand(400, 8))
    assert len({tuple(row) for row in places.tolist()}) > 390
    # Each token is found at each place equally often: chi-square with 7 degrees of freedom each.
    counts = torch.stack([(places == token).sum(dim=0) for token in range(8)]).double()
    assert float(((counts - 50) ** 2 / 50).sum()) < 49 + 4 * (2 * 49) ** 0.5


def frequencies(found: Blocks) -> Tensor:
    return torch.bincount(found.batch(torch.arange(len(found)))[0].flatten())


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n != "none"])
def test_both_splits_are_transformed_and_the_cache_is_shared(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    plain = load_data(CorpusConfig(source=str(corpus), block_size=16))
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("tokens.bin")}
    moved = load_data(CorpusConfig(source=str(corpus), block_size=16, transform=name))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("tokens.bin")} == files
    assert moved.facts["transform"] == name and moved.facts["sha256"] == plain.facts["sha256"]
    for a, b in ((plain.train, moved.train), (plain.valid, moved.valid)):
        assert not torch.equal(a.batch(torch.arange(2))[0], b.batch(torch.arange(2))[0])
        assert torch.equal(frequencies(a), frequencies(b))
        assert a.unigram_entropy() == b.unigram_entropy()


def test_the_name_is_checked_and_a_configuration_without_it_still_loads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown transform 'reversed'.*did you mean 'reverse'"):
        CorpusConfig(transform="reversed")
    values = Config().model_dump(mode="json")
    del values["corpus"]["transform"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(values))
    assert load_config(tmp_path / "old.yaml").corpus == CorpusConfig()


def test_a_new_one_is_one_entry(corpus, monkeypatch):
    def halves_swapped(indices: torch.Tensor, length: int) -> torch.Tensor:
        return (torch.arange(length)[None, :] + length // 2) % length

    monkeypatch.setitem(TRANSFORMS, "swap-halves", halves_swapped)
    plain, moved = (
        load_data(CorpusConfig(source=str(corpus), block_size=32, transform=name))
        for name in ("none", "swap-halves")
    )
    x, _ = plain.train.batch(torch.arange(5))
    assert moved.train.batch(torch.arange(5))[0].equal(x.roll(16, dims=1))
