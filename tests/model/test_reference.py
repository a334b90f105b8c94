"""The network is Qwen3 (in Hugging Face's code), with and without its causal mask."""

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer

V = 50
MASK_ID = V - 1
CONFIG = ModelConfig(layers=3, width=64, heads=4, rope_theta=500.0)
NAMES = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


def random_model(causal):
    """Every weight random, norms and head too: a factor in the wrong place would show."""
    model = Transformer(CONFIG, V, [MASK_ID], seed=1)
    model.causal = causal
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            centre, scale = (1.0, 0.3) if weight.ndim == 1 else (0.0, 0.15)
            weight.copy_(centre + scale * torch.randn(weight.shape, generator=generator))
    return model


def reference_of(model):
    config = Qwen3Config(
        vocab_size=V,
        hidden_size=CONFIG.width,
        intermediate_size=CONFIG.mlp_width,
        num_hidden_layers=CONFIG.layers,
        num_attention_heads=CONFIG.heads,
        num_key_value_heads=CONFIG.heads,
        head_dim=CONFIG.head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": CONFIG.rope_theta},
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        attention_bias=False,
    )
    weights = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.weight,
    }
    for i, block in enumerate(model.blocks):
        for ours, theirs in NAMES.items():
            weights[f"model.layers.{i}.{theirs}.weight"] = block.get_submodule(ours).weight
    reference = Qwen3ForCausalLM(config).eval()
    reference.load_state_dict({name: w.detach() for name, w in weights.items()})
    return reference


@torch.no_grad()
def run_reference(reference, x, causal):
    # A 4-D mask is used as it is, and turns the attention's own causal flag off.
    mask = None if causal else torch.ones(x.shape[0], 1, x.shape[1], x.shape[1], dtype=torch.bool)
    out = reference(x, attention_mask=mask, output_hidden_states=True)
    return out.hidden_states[-1], out.logits


@pytest.mark.parametrize("causal", [False, True])
def test_equals_qwen3(causal):
    model = random_model(causal)
    reference = reference_of(model)
    x = torch.randint(V, (3, 17), generator=torch.Generator().manual_seed(3))
    hidden, logits = run_reference(reference, x, causal)

    # The reference itself is (or is not) causal: does an earlier position see the last token?
    changed = x.clone()
    changed[:, -1] = (changed[:, -1] + 1) % V
    seen = (run_reference(reference, changed, causal)[0] - hidden)[:, :-1].abs().max()
    assert seen == 0 if causal else seen > 1e-3

    with torch.no_grad():
        ours = model(x)
        our_logits = model.head(ours)
    torch.testing.assert_close(ours, hidden, rtol=1e-5, atol=1e-5)
    predicted = torch.arange(V) != MASK_ID
    torch.testing.assert_close(
        our_logits[..., predicted], logits[..., predicted], rtol=1e-5, atol=1e-5
    )
    assert hidden.std() > 0.1 and logits.std() > 0.1  # equal, and not because all is zero
