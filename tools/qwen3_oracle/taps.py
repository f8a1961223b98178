"""The names of what passes through a decoder layer."""

from __future__ import annotations

TAPS = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.q_rope",
    "self_attn.k_rope",
    "self_attn.context",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.router_logits",
    "mlp.chosen_experts",
    "mlp.expert_weights",
    "mlp",
)
# [batch, heads, seq, head_dim]; the others begin with [batch, seq].
HEADS_FIRST = tuple(name for name in TAPS if name.endswith("_rope"))
# No outputs of submodules.
FROM_ATTENTION = (*HEADS_FIRST, "self_attn.context")
# Of layers with experts only.
ROUTER = tuple(name for name in TAPS if name.startswith("mlp."))
HOOKED = tuple(name for name in TAPS if name not in FROM_ATTENTION + ROUTER)
