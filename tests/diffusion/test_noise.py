"""Counter-based noise: the published generator, and no variate shared by two purposes."""

import pytest
import torch
from scipy import stats

from unmask.base.errors import UserError
from unmask.diffusion.noise import Stream, philox, uniform, uniform_double

ONES = 0xFFFFFFFF
# Random123, kat_vectors: philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SAMPLES = torch.arange(500)
both = pytest.mark.parametrize("draw", [uniform, uniform_double])


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    words = philox(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in words) == answer


def test_known_answer_reaches_the_uniforms():
    """Seed, stream, step and sample are the key and counter words that the docstrings say."""
    for (c0, c1, c2, _), key, _ in KNOWN_ANSWERS[2:]:
        quarter = torch.tensor([0])
        words = philox((quarter, torch.tensor([c1]), torch.tensor([c2]), torch.tensor([3])), key)
        seed = key[0] + ((key[1] ^ 2**31) - 2**31 << 32)  # the key as an int64
        drawn = uniform(seed, Stream.EVAL_SIZE, c2, torch.tensor([c1]), 4)
        assert drawn.flatten().tolist() == [(int(w) >> 8) * 2.0**-24 for w in words]
        assert c0


@both
def test_uniform_on_the_half_open_interval(draw):
    u = draw(0, Stream.MASK, 0, torch.arange(2000), 51)
    assert u.shape == (2000, 51)
    assert u.dtype == (torch.float32 if draw is uniform else torch.float64)
    assert (u >= 0).all() and (u < 1).all()
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
    counts, _ = torch.histogram(u.float().flatten(), 1024, range=(0.0, 1.0))
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert (u.double() * 2.0 ** (24 if draw is uniform else 53) % 1 == 0).all()


def test_low_bits_of_doubles_are_random_too():
    u = uniform_double(0, Stream.TIME, 0, torch.arange(4000), 5).flatten()
    low = (u * 2.0**53).long() & 0xFF
    assert stats.chisquare(torch.bincount(low, minlength=256).numpy()).pvalue > 1e-3


def test_largest_word_stays_below_one():
    """The top 24 bits of the largest 32-bit word round to 1 - 2^-24, never to 1."""
    assert torch.tensor(ONES >> 8).to(torch.float32) * 2.0**-24 < 1


def test_nothing_is_shared():
    """Samples, streams, steps, seeds (negative and large too) and places have variates apart."""
    seeds = [0, 1, -1, 2**32, 2**32 + 1, -(2**40)]
    everything = torch.cat(
        [
            uniform_double(seed, stream, step, torch.arange(40), 7).flatten()
            for seed in seeds
            for stream in Stream
            for step in (0, 1, 2, 2**32 - 1)
        ]
    )
    assert len(everything.unique()) == len(everything) == 6 * len(Stream) * 4 * 40 * 7


@both
@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": -1},
        {"seed": 2**32},
        {"step": 1},
        {"stream": Stream.TIME},
        {"samples": SAMPLES + 1},
    ],
    ids=str,
)
def test_neighbours_are_uncorrelated(draw, other):
    here = {"seed": 0, "stream": Stream.MASK, "step": 0, "samples": SAMPLES}
    a, b = (draw(**{**here, **change}, n=40).flatten().double() for change in ({}, other))
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / len(a) ** 0.5


@both
def test_a_sample_s_noise_does_not_depend_on_its_batch(draw):
    whole = draw(5, Stream.MASK, 3, SAMPLES, 33)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(5, Stream.MASK, 3, SAMPLES[order], 33), whole[order])
    parts = [draw(5, Stream.MASK, 3, part, 33) for part in SAMPLES.split(37)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_longer_row_begins_like_a_shorter_one():
    assert torch.equal(
        uniform(0, Stream.MASK, 0, SAMPLES, 9), uniform(0, Stream.MASK, 0, SAMPLES, 64)[:, :9]
    )


@pytest.mark.parametrize("seed", [2**63, 2**64, -(2**63) - 1, 10**100])
@both
def test_a_seed_that_is_no_int64_is_refused_and_not_taken_modulo(draw, seed):
    with pytest.raises(UserError, match="seed must be at most"):
        draw(seed, Stream.MASK, 0, SAMPLES, 4)


@both
def test_both_halves_of_a_seed_count(draw):
    a = draw(-1, Stream.MASK, 0, SAMPLES, 4)
    assert not torch.equal(a, draw(2**32 - 1, Stream.MASK, 0, SAMPLES, 4))


def test_samples_up_to_the_32_bit_limit_differ():
    last = torch.tensor([0, 2**31, 2**32 - 1])
    assert len(uniform_double(0, Stream.MASK, 0, last, 1).unique()) == 3


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    uniform(0, Stream.MASK, 0, SAMPLES, 4)
    assert torch.equal(torch.get_rng_state(), before)
