"""Every device computes the same recipe, and none but the CPU is given float64.

The first half runs on every machine, on a device that is not there; the second needs one.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretended_device import DEVICE, OnDevice, PretendedDevice, WrongDevice
from unmask.analyze.learnability.gradients import gradient_signal
from unmask.analyze.learnability.transfer import Start, binned_cross_entropy, transfer_matrix
from unmask.analyze.locality.window import window_profile
from unmask.data.blocks import Blocks
from unmask.diffusion.adaptive import REFIT_EVERY, Seen
from unmask.diffusion.decoding import Decoding, categorical
from unmask.diffusion.estimators import ESTIMATORS
from unmask.diffusion.masking import MASKINGS, Correlated
from unmask.diffusion.noise import Stream, uniform
from unmask.diffusion.sampler import SAMPLERS, generate, left_to_right
from unmask.diffusion.time import Beta, LogitNormal, TruncatedNormal
from unmask.evaluate.conditional import CONDITIONAL_ESTIMATORS, conditional_nll, greedy_matches
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.recipe.objective import Denoising, Observers
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.train import device as devices
from unmask.train.batch import Batch, draw_batches
from unmask.train.config import TrainConfig
from unmask.train.step import batch_loss
from unmask.train.validation import ValidationConfig, validate

Call = Callable[..., tuple[int, str]]
CPU = torch.device("cpu")
V, L = 11, 16
MASK = V
BLOCKS = Blocks(np.random.default_rng(0).integers(0, V, (32, L)), None, 32 * L, 32 * L)
DECODINGS = [Decoding(), Decoding(0.7, 5, 0.9), Decoding(0.0)]


def network(device: torch.device, causal: bool = False, late: int = 0) -> Transformer:
    config = ModelConfig(layers=1 + late, width=16, heads=2, late=late)
    start = V if causal or late else None
    model = Transformer(config, V + 1, [V], mask_id=V, causal=causal, start=start, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model.to(device)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device is there that knows no float64, and every room that chooses one gets it."""
    real = devices.choose_device
    for module in list(sys.modules.values()):
        if getattr(module, "choose_device", None) is real:
            monkeypatch.setattr(module, "choose_device", lambda name: DEVICE)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: None)
    with PretendedDevice():
        yield


def drawn(
    recipe: str, device: torch.device, step: int = 5, observers: Observers | None = None
) -> list[Batch]:
    """The micro-batches of a step."""
    config, named = TrainConfig(batch_size=8, accumulation=1), parse_recipe(recipe)
    there = {"seed": 3, "step": step, "device": device, "observers": observers}
    return list(draw_batches(named, BLOCKS, config, **there))


def masked_with(masking: str) -> str:
    """The recipe ``standard`` with a masking of the registry."""
    return f"standard:masking={masking}" + (",neighbours=0.5" if masking == "correlated" else "")


class TestThePretendedDevice:
    """It can tell what it is there to tell."""

    @pytest.mark.parametrize(
        "mistake",
        [
            lambda x: x.double(),
            lambda x: x.to(torch.float64),
            lambda x: x.sum(dtype=torch.float64),
            lambda x: torch.zeros(3, dtype=torch.float64).to(x.device),
            lambda x: torch.zeros(3, dtype=torch.float64, device=x.device),
            lambda x: torch.tensor([0.5], dtype=torch.float64, device=x.device),
            lambda x: x.new_tensor([1.0], dtype=torch.float64),
        ],
    )
    def test_float64_on_it(self, mistake: Callable[[Any], Any], pretended: None) -> None:
        with pytest.raises(WrongDevice, match="float64"):
            mistake(torch.ones(3).to(DEVICE))

    def test_tensors_of_both_sides(self, pretended: None) -> None:
        with pytest.raises(WrongDevice, match="together"):
            torch.ones(3).to(DEVICE) + torch.ones(3)

    def test_a_planted_float64_in_a_recipe(
        self, pretended: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = Denoising.weights
        monkeypatch.setattr(Denoising, "weights", lambda self, t: weights(self, t).double())
        with pytest.raises(WrongDevice, match="float64"):
            drawn("standard", DEVICE)

    def test_masks_planted_on_it_in_float64(
        self, pretended: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Correlated, "float64", False)
        with pytest.raises(WrongDevice, match="float64"):
            drawn("narrow-scattered", DEVICE)

    def test_a_check_that_only_others_have(self, pretended: None) -> None:
        with pytest.raises(WrongDevice, match="_assert_async"):
            torch._assert_async(torch.ones(()).to(DEVICE) > 0, "never")

    def test_it_computes_and_differentiates(self, pretended: None) -> None:
        x = torch.arange(4.0).to(DEVICE).requires_grad_()
        assert isinstance(x, OnDevice) and x.device == DEVICE
        (x * x).sum().backward()
        assert x.grad is not None and x.grad.device == DEVICE
        assert x.grad.cpu().tolist() == [0.0, 2.0, 4.0, 6.0]


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] if line["kind"] == "train" else line["nelbo"] for line in lines]


FITTED = "p-pots:masking=fixed-count"
SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in (FITTED, "mirror", "puma", "ar")]


@pytest.mark.parametrize("recipe", ["fast", *SLOWLY])
def test_training_validation_and_resuming_without_float64(
    recipe: str, unmask: Call, small: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = [*small, "--recipe", recipe, "--train.optimizer", "muon", "--train.ema", 0.9]
    options += ["--model.layers", 1, "--validation.blocks", 4]
    ended = unmask("train", "--run", tmp_path / "cpu", *options, "--train.steps", 4)
    assert ended[0] == 0, ended[1]
    request.getfixturevalue("pretended")
    run = tmp_path / "device"
    for steps in (2, 4):
        more = [] if steps == 2 else ["--resume"]
        ended = unmask("train", "--run", run, *options, "--train.steps", steps, *more)
        assert ended[0] == 0, ended[1]
    assert losses(run)[-3:] == pytest.approx(losses(tmp_path / "cpu")[-3:], rel=1e-4)


def of_batch(batch: Batch, device: torch.device) -> list[torch.Tensor]:
    """What a micro-batch holds, the masks that the model has looked at, and its loss."""
    assert batch.x.device == batch.mask.device == batch.weights.device == device
    with torch.no_grad():
        value, nats, predicted = batch_loss(network(device), MASK)(batch)
    return [x.cpu() for x in (predicted, batch.mask, batch.t, batch.x, batch.weights, nats, value)]


@pytest.mark.parametrize("masking", MASKINGS)
def test_every_masking_without_float64(masking: str, pretended: None) -> None:
    recipe = masked_with(masking)
    for on, off in zip(drawn(recipe, DEVICE), drawn(recipe, CPU), strict=True):
        found, expected = of_batch(on, DEVICE), of_batch(off, CPU)
        assert all(torch.equal(a, b) for a, b in zip(found[:4], expected[:4], strict=True))
        for a, b in zip(found[4:], expected[4:], strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if RECIPES[name].observers()])
def test_what_is_fitted_while_training_without_float64(recipe: str, pretended: None) -> None:
    """Rates that are fitted to what a device has seen are those fitted to the same on the CPU."""
    rates = []
    for device in (DEVICE, CPU):
        observers, t = parse_recipe(recipe).observers(device), (torch.arange(1000) + 0.5) / 1000
        for step in range(2):
            seen = Seen(
                t, 40 * t**2 * (1.5 - step), (20 * t).ceil().long(), torch.full((1000,), 20)
            )
            for observer in observers.values():
                observer.add(Seen(*(x.to(device) for x in seen)))
        batches = drawn(recipe, device, REFIT_EVERY, observers)
        rates.append(torch.cat([batch.t.cpu() for batch in batches]))
        assert all(x.device == device for o in observers.values() for x in [o.average])
    assert torch.equal(*rates)
    unfitted = torch.cat([batch.t for batch in drawn(recipe, CPU, REFIT_EVERY)])
    assert not torch.equal(rates[0], unfitted)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(name, marks=[] if name == "controlled" else [pytest.mark.slow])
        for name in ESTIMATORS
    ],
)
@pytest.mark.parametrize("late", [0, 1])
def test_every_estimator_without_float64(estimator: str, late: int, pretended: None) -> None:
    config = ValidationConfig(blocks=8, draws=4)
    found = validate(network(DEVICE, late=late), BLOCKS, config, MASK, estimator=estimator)
    expected = validate(network(CPU, late=late), BLOCKS, config, MASK, estimator=estimator)
    assert found.nelbo == pytest.approx(expected.nelbo, rel=1e-6)
    assert found.block_nats.tolist() == pytest.approx(expected.block_nats.tolist(), rel=1e-5)


def denoise_on(device: torch.device, causal: bool = False) -> Callable[..., torch.Tensor]:
    model = network(device, causal)

    @torch.no_grad()
    def denoise(x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return model.head(model(x)[where])

    return denoise


PLAIN, TRUNCATED, GREEDY = DECODINGS


@pytest.mark.parametrize(
    "decoding",
    [
        TRUNCATED,
        pytest.param(PLAIN, marks=pytest.mark.slow),
        pytest.param(GREEDY, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "sampler",
    [
        *("ancestral", "confidence", "left to right"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in SAMPLERS
            if name not in ("ancestral", "confidence")
        ),
    ],
)
def test_every_sampler_without_float64(sampler: str, decoding: Decoding, pretended: None) -> None:
    """The same texts as on the CPU: float32 may move a boundary, but none of these draws sees it.

    Some tokens are given: where all is masked, all positions are equally certain but for rounding.
    """
    texts = []
    for device in (CPU, DEVICE):
        x = BLOCKS.batch(torch.arange(3))[0].clone()
        x[:, 3:] = x[:, 3:].masked_fill(torch.arange(13) % 5 > 0, MASK)
        x = x.to(device)
        if sampler == "left to right":
            x = left_to_right(denoise_on(device, causal=True), x, MASK, 0, decoding)
        else:
            denoise = denoise_on(device)
            x = generate(sampler, denoise, x, MASK, steps=4, seed=0, decoding=decoding)
        assert x.device == device
        texts.append(x.tolist())
    assert texts[0] == texts[1]


def test_draws_in_float32_lose_no_rare_token(pretended: None) -> None:
    """Each of 2^14 even u, and a sliver of 1e-13: the integers keep what float32 sums would not."""
    logits = torch.tensor([[0.0, -1.0]]) * 30
    p = 1 / (1 + np.exp(30))
    u = torch.tensor([1 - 2 * p, 1 - 1.01 * p, 1 - 0.99 * p, 1 - 0.5 * p], dtype=torch.float64)
    assert categorical(logits.expand(4, -1).to(DEVICE), u).tolist() == [0, 0, 1, 1]
    logits = 3 * torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    n = 2**14
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = categorical(logits.expand(n, -1).to(DEVICE), u).cpu()
    expected = n * logits[0].double().softmax(dim=0)
    assert (torch.bincount(drawn, minlength=300) - expected).abs().max() < 1.01


PAIRS = [([1, 2], [3, 4, 5]), ([], [6, 7]), ([1, 2, 3], [4])]


@pytest.mark.parametrize("causal", [False, True])
def test_conditional_likelihood_without_float64(causal: bool, pretended: None) -> None:
    on, off = network(DEVICE, causal), network(CPU, causal)
    for estimator in CONDITIONAL_ESTIMATORS:
        found = conditional_nll(on, PAIRS, mask_id=MASK, draws=4, estimator=estimator)
        expected = conditional_nll(off, PAIRS, mask_id=MASK, draws=4, estimator=estimator)
        assert [n for n, _ in found] == pytest.approx([n for n, _ in expected], rel=1e-6)
    assert greedy_matches(on, PAIRS, mask_id=MASK) == greedy_matches(off, PAIRS, mask_id=MASK)


def test_the_analyses_without_float64(pretended: None) -> None:
    found = []
    for device in (CPU, DEVICE):
        model, chosen = network(device), torch.arange(4)
        start = Start({k: v.clone() for k, v in model.state_dict().items()}, {}, 0, seed=0)
        config = TrainConfig(batch_size=4, precision="fp32", optimizer="muon")
        moved = transfer_matrix(
            model, start, BLOCKS, BLOCKS, chosen, ranges=[(0.2, 0.6)], bins=2, draws=1,
            config=config, learning_rate=1e-3, steps=1, restarts=1, mask_id=MASK,
        )  # fmt: skip
        signal = gradient_signal(
            model, BLOCKS, low=0.2, high=0.8, n_blocks=3, n_masks=2, mask_id=MASK
        )
        found.append(
            [
                *binned_cross_entropy(
                    model, BLOCKS, chosen, bins=3, draws=1, mask_id=MASK
                ).tolist(),
                *moved.change.flatten().tolist(),
                *(signal[w]["all"].moments.variance for w in signal),
                *window_profile(model, BLOCKS, chosen, MASK).ce["left"].flatten().tolist(),
            ]
        )
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-6)


def test_rates_and_densities_of_tensors_on_a_device(pretended: None) -> None:
    """Somebody's own loop may keep its rates there: computed in float64 all the same."""
    u = torch.rand(64, generator=torch.Generator().manual_seed(0))
    for p in (Beta(0.7, 2.0), TruncatedNormal(0.5, 0.1), LogitNormal()):
        t = p.draw(u)
        assert p.draw(u.to(DEVICE)).device == DEVICE
        assert torch.equal(p.draw(u.to(DEVICE)).cpu(), t)
        assert torch.equal(p.pdf(t.to(DEVICE)).cpu(), p.pdf(t))
        assert (p.at_most(u.to(DEVICE)).cpu() >= t).all()


def on_real_devices(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test of ``name`` on each accelerator, or skip it by the name of the absent one."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    each = [
        pytest.param(
            name,
            marks=[
                getattr(pytest.mark, name),
                pytest.mark.skipif(not there[name], reason=f"no {name} device here"),
            ],
        )
        for name in there
    ]
    return pytest.mark.parametrize("name", each)(test)


@on_real_devices
def test_the_default_recipe_trains_validates_resumes_and_samples(
    name: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    ends = {}
    for device in ("cpu", name):
        run = tmp_path / device
        for steps in (6, 12):
            options = [*small, "--train.device", device, "--train.steps", steps]
            options += ["--train.optimizer", "muon", *([] if steps == 6 else ["--resume"])]
            ended = unmask("train", "--run", run, *options)
            assert ended[0] == 0, ended[1]
        ends[device] = losses(run)
    assert ends[name] == pytest.approx(ends["cpu"], rel=1e-2)
    ended = unmask("sample", tmp_path / name, "--device", name, "--num", 2, "--length", 16)
    assert ended[0] == 0, ended[1]


@on_real_devices
@pytest.mark.parametrize("masking", MASKINGS)
def test_masks_and_rates_are_those_of_the_cpu_bit_for_bit(name: str, masking: str) -> None:
    recipe = masked_with(masking)
    for on, off in zip(drawn(recipe, torch.device(name)), drawn(recipe, CPU), strict=True):
        for key in ("mask", "t", "weights", "x"):
            assert torch.equal(getattr(on, key).cpu(), getattr(off, key)), key


@on_real_devices
def test_the_counters_give_the_same_bits(name: str) -> None:
    samples = torch.tensor([0, 1, 2**31, 2**32 - 1])
    for seed in (0, -1, 2**63 - 1):
        expected = uniform(seed, Stream.MASK, 2**32 - 1, samples, 1001)
        assert torch.equal(
            uniform(seed, Stream.MASK, 2**32 - 1, samples.to(name), 1001).cpu(), expected
        )


@on_real_devices
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_on(name: str, sampler: str) -> None:
    device = torch.device(name)
    for decoding in DECODINGS:
        x = torch.full((4, L), MASK, device=device)
        x = generate(sampler, denoise_on(device), x, MASK, steps=4, seed=0, decoding=decoding)
        assert ((x >= 0) & (x < V)).all()


@on_real_devices
def test_draws_lose_no_rare_token_on(name: str) -> None:
    """That 64-bit integers are added and compared as such there."""
    n = 2**14
    logits = 3 * torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = categorical(logits.expand(n, -1).to(name), u).cpu()
    expected = n * logits[0].double().softmax(dim=0)
    assert (torch.bincount(drawn, minlength=300) - expected).abs().max() < 1.01
    p = 1 / (1 + np.exp(30))
    u = torch.tensor([1 - 2 * p, 1 - 1.01 * p, 1 - 0.99 * p, 1 - 0.5 * p], dtype=torch.float64)
    two = torch.tensor([[0.0, -30.0]], device=name).expand(4, -1)
    assert categorical(two, u).tolist() == [0, 0, 1, 1]
