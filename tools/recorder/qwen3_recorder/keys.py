"""The keys and layouts of a file of activations, as `docs/verify.md` lists them."""

from __future__ import annotations

EMBEDDING = "embedding_output"
FINAL_NORM = "final_norm_output"
LOGITS = "logits"
STEP_LOGITS = "step_logits"
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
GENERATED_IDS = "generated_ids"

Q_ROPE = "self_attn.q_rope"
K_ROPE = "self_attn.k_rope"
CONTEXT = "self_attn.context"
ROUTER_LOGITS = "mlp.router_logits"
CHOSEN_EXPERTS = "mlp.chosen_experts"
EXPERT_WEIGHTS = "mlp.expert_weights"

# Inside a layer, in the order of computation.
INSIDE = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    Q_ROPE,
    K_ROPE,
    CONTEXT,
    "self_attn.o_proj",
    "post_attention_layernorm",
    ROUTER_LOGITS,
    CHOSEN_EXPERTS,
    EXPERT_WEIGHTS,
    "mlp",
)
# [batch, heads, seq, head_dim]; the others begin with [batch, seq].
HEADS_FIRST = (Q_ROPE, K_ROPE)
# [batch, seq, heads, head_dim].
BY_HEAD = ("self_attn.q_norm", "self_attn.k_norm")
# Of layers with experts only.
ROUTER = (ROUTER_LOGITS, CHOSEN_EXPERTS, EXPERT_WEIGHTS)
# What vLLM's attention has in place of three projections, and its module that rotates queries and keys.
PACKED_QKV = "self_attn.qkv_proj"
ROTARY = "self_attn.rotary_emb"
# What the submodules of a layer return.
FROM_MODULES = tuple(name for name in INSIDE if name not in (*HEADS_FIRST, CONTEXT, *ROUTER))


def layer_output(layer: int) -> str:
    """The key of a layer's output."""
    return f"layer_{layer:02}_output"


def inside(layer: int, name: str) -> str:
    """The key of one of `INSIDE` in a layer."""
    return f"layer_{layer:02}.{name}"


def packed_qkv(layer: int) -> str:
    """The name of a packed projection, which is no key: verify takes it apart."""
    return f"model.layers.{layer}.{PACKED_QKV}"


def step(number: int, key: str) -> str:
    """The key of what the decode pass gives whose logits are `step_logits[:, number]`."""
    return f"step_{number:03}.{key}"


def sequence_axis(key: str) -> int:
    """Which axis of a tensor is the sequence."""
    return 2 if key.endswith(HEADS_FIRST) else 1


def in_order(layers: int) -> list[str]:
    """Every key of a prompt's activations, in the order of computation."""
    result = [EMBEDDING]
    for layer in range(layers):
        result += [inside(layer, name) for name in INSIDE] + [layer_output(layer)]
    return [*result, FINAL_NORM, LOGITS]
