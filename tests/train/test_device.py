"""Devices and precision: what is chosen, and that bf16 training is close to fp32's."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from unmask.base.errors import UserError
from unmask.train.device import Stopwatch, autocast, choose_device, products_of_optimizers

CPU = torch.device("cpu")


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    missing = [d for d in ("cuda", "mps") if choose_device("auto").type != d]
    for name in (missing[0], "tpu"):
        with pytest.raises(UserError, match=rf"^device '{name}' .*valid: auto, .*cpu"):
            choose_device(name)


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_cuda_then_mps_then_the_cpu(
    cuda: bool, mps: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == torch.device(wanted)


@pytest.mark.parametrize(
    ("precision", "wanted"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precision(precision: str, wanted: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == wanted


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, torch.float32),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_multiplies_in_it(
    capabilities: dict[str, bool], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with autocast(CPU, "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == wanted


def test_auto_is_float32_where_torch_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    with autocast(CPU, "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.slow
def test_bf16_trains_as_fp32_does(
    unmask: Callable[..., tuple[int, str]], small: list[str], tmp_path: Path
) -> None:
    finals = {}
    for precision in ("fp32", "bf16"):
        run = tmp_path / precision
        options = ["--train.steps", 100, "--train.precision", precision]
        options += ["--train.learning-rate", 0.002]
        assert unmask("train", "--run", run, *small, *options)[0] == 0
        finals[precision] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert finals["bf16"]["nelbo"] == pytest.approx(finals["fp32"]["nelbo"], abs=0.03)


def test_the_stopwatch_leaves_out_what_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.0, 20.0, 21.5])
    monkeypatch.setattr("unmask.train.device.perf_counter", lambda: next(times))
    watch = Stopwatch(CPU, seconds=5.0)
    watch.start()
    assert watch.stop() == 7.0
    watch.start()
    assert watch.stop() == 8.5


@pytest.mark.parametrize("has", [True, False])
def test_optimizers_multiply_bfloat16_as_hardware_does_also_where_it_cannot(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has}, raising=False)
    generator = torch.Generator().manual_seed(0)
    a, b, c = torch.randn(3, 24, 24, generator=generator).bfloat16()
    with products_of_optimizers(CPU) as mode:
        both = torch.addmm(c, a, b, beta=-4.775, alpha=2.0315)
        stacks = a[None], b[None]
        written = torch.baddbmm(c[None], *stacks, beta=-4.775, alpha=2.0315, out=c.clone()[None])
        found = a @ b, both, torch.bmm(*stacks)[0], written[0]
    assert (mode is None) is has
    product = a.double() @ b.double()
    sum_ = -4.775 * c.double() + 2.0315 * product
    exact = product, sum_, product, sum_
    for x, wanted in zip(found, exact, strict=True):
        assert x.dtype == torch.bfloat16
        # rounded once: at most half of the last of 8 bits away, and float32's own error
        assert torch.allclose(x.double(), wanted, rtol=2**-8, atol=1e-5)


def test_muon_takes_the_same_step_where_bfloat16_is_emulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 24, 40, generator=generator)
    steps = []
    for context in (nullcontext(), products_of_optimizers(CPU)):
        p = torch.nn.Parameter(start.clone())
        p.grad = gradient.clone()
        optimizer = torch.optim.Muon([p], lr=1.0, weight_decay=0.0)
        with context:
            optimizer.step()
        steps.append(start - p.detach())
    assert (steps[0] - steps[1]).norm() < 0.01 * steps[0].norm()
    assert (steps[0] - steps[1]).abs().max() < 0.03 * steps[0].abs().max()
