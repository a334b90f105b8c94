"""FLOPs by formula, held to what torch counts while a step computes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from unmask.diffusion.objective import predicted_confidence, predicted_loss
from unmask.model.config import ModelConfig
from unmask.model.flops import training_flops
from unmask.model.transformer import Transformer

V, L, B = 50, 64, 8
MASK = V - 1
ATEN = torch.ops.aten
ATTENTION = {  # which torch does not count on a CPU
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(
        q, k, v
    ),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
        sdpa_backward_flop_count(g, q, k, v)
    ),
}


def counted(
    config: ModelConfig, mask: torch.Tensor, *, causal: bool, start: bool, recompute: bool
) -> int:
    model = Transformer(
        config, V, [MASK], mask_id=MASK, causal=causal, start=MASK if start else None
    )
    model.recompute = recompute
    x = torch.randint(MASK, mask.shape, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        hidden = model(x if causal else x.masked_fill(mask, MASK))
        predicted_loss(hidden, x, mask, torch.ones(len(x)), model.head).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(("causal", "start"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("recompute", [False, True])
def test_they_are_counted_exactly(causal: bool, start: bool, recompute: bool) -> None:
    config = ModelConfig(layers=3, width=32, heads=2)
    k = torch.arange(1, B + 1) * (L // B)
    mask = torch.arange(L) < k[:, None]
    if causal:
        mask[:] = True
    rates = mask.double().mean(dim=1)
    found = training_flops(config, V, L, rates, causal=causal, start=start, recompute=recompute)
    options = {"causal": causal, "start": start, "recompute": recompute}
    assert found == counted(config, mask, **options)


@pytest.mark.parametrize(("late", "recompute"), [(1, False), (2, True), (3, False), (5, False)])
def test_late_positions_cost_what_is_said_on_average(late: int, recompute: bool) -> None:
    """Wide enough for attention, whose spread over nothing is left out, to be little."""
    config = ModelConfig(layers=3, width=256, heads=4, late=late)
    generator = torch.Generator().manual_seed(1)
    rates = torch.linspace(0.3, 0.7, 64)
    mask = torch.rand(64, L, generator=generator) < rates[:, None]
    options = {"causal": False, "start": True, "recompute": recompute}
    found = training_flops(config, V, L, rates, **options)
    seen = counted(config, mask, **options)
    assert found == pytest.approx(seen, rel=0.02)


def test_confidences_cost_a_forward_pass_before() -> None:
    config = ModelConfig(layers=2, width=32, heads=2)
    mask = torch.arange(L) < torch.arange(1, B + 1)[:, None] * (L // B)
    model = Transformer(config, V, [MASK], mask_id=MASK)
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter, torch.no_grad():
        predicted_confidence(model(torch.zeros(B, L, dtype=torch.int64)), mask, model.head)
    rates = mask.double().mean(dim=1)
    with_it, without = (
        training_flops(config, V, L, rates, causal=False, start=False, asked=asked)
        for asked in (True, False)
    )
    assert with_it - without == pytest.approx(counter.get_total_flops(), rel=1e-12)
