"""The data order is a function of counters."""

import pytest
import torch

from unmask.data.order import Part, sample_blocks


def read(seed: int, steps: int, batch_size: int, n_blocks: int) -> torch.Tensor:
    """Return the blocks of some steps, (steps * batch_size,)."""
    slots = torch.arange(batch_size)
    rows = [sample_blocks(seed, step, slots, batch_size, [Part(n_blocks)]) for step in range(steps)]
    return torch.cat(rows)


@pytest.mark.parametrize(("batch_size", "n_blocks"), [(8, 40), (7, 30), (16, 5), (3, 1), (1, 9)])
def test_each_epoch_is_a_permutation(batch_size, n_blocks):
    epochs = 5
    steps = -(-epochs * n_blocks // batch_size)
    blocks = read(0, steps, batch_size, n_blocks)[: epochs * n_blocks].view(epochs, n_blocks)
    assert (blocks.sort(dim=1).values == torch.arange(n_blocks)).all()


def test_epochs_and_seeds_differ():
    blocks = read(0, 8, 50, 200).view(2, 200)
    assert (blocks[0] != blocks[1]).any()
    assert (blocks[0] != torch.arange(200)).any()
    assert (read(1, 4, 50, 200) != blocks[0]).any()


def test_order_is_random():
    """Over seeds, block 0 comes at a place whose mean and spread are those of a uniform one."""
    n_blocks, seeds = 50, 400
    places = torch.stack(
        [(read(seed, 1, n_blocks, n_blocks) == 0).nonzero().squeeze() for seed in range(seeds)]
    ).double()
    spread = ((n_blocks**2 - 1) / 12) ** 0.5
    assert abs(places.mean() - (n_blocks - 1) / 2) < 4 * spread / seeds**0.5
    assert abs(places.std() - spread) < 0.1 * spread


def test_function_of_counters_alone():
    slots = torch.arange(8)
    expected = sample_blocks(3, 11, slots, 8, [Part(37)])
    for step in (50, 0, 11, 99):  # whatever was asked for before
        sample_blocks(3, step, slots, 8, [Part(37)])
        sample_blocks(4, step, slots, 8, [Part(37)])
    torch.manual_seed(5)
    assert sample_blocks(3, 11, slots, 8, [Part(37)]).equal(expected)


def test_step_size_does_not_change_the_order():
    assert read(2, 30, 4, 23).equal(read(2, 10, 12, 23))


def test_batch_that_crosses_an_epoch():
    first, second = read(0, 4, 5, 10).view(2, 10)
    crossing = sample_blocks(0, 1, torch.arange(7), 7, [Part(10)])  # samples 7 to 13
    assert crossing.equal(torch.cat([first[7:], second[:4]]))


def test_batch_of_several_epochs():
    epochs = read(0, 4, 3, 3)
    assert sample_blocks(0, 0, torch.arange(12), 12, [Part(3)]).equal(epochs)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_split_of_slots_equals_whole(parts):
    slots = torch.arange(24)
    whole = sample_blocks(9, 2, slots, 24, [Part(31)])
    split = [sample_blocks(9, 2, part, 24, [Part(31)]) for part in slots.chunk(parts)]
    assert torch.cat(split).equal(whole)
    mixed = slots.flip(0)[::2]
    assert sample_blocks(9, 2, mixed, 24, [Part(31)]).equal(whole[mixed])


def test_type_and_shape():
    blocks = sample_blocks(0, 0, torch.arange(6), 6, [Part(100)])
    assert blocks.shape == (6,)
    assert blocks.dtype == torch.int64
