"""The configurations that a mistake is one in, and the cases that it concerns."""

from __future__ import annotations

import torch
from transformers import Qwen3Config

from .. import attention_cases, gradient_cases, prefill_cases, rope, sparse
from ..cases import Case

FAR = 30_000


def theta(config: Qwen3Config) -> float:
    """The configuration's RoPE base."""
    return config.rope_parameters["rope_theta"]


def has_groups(config: Qwen3Config) -> bool:
    """Whether interleaving the groups of query heads moves any."""
    return 1 < config.num_key_value_heads < config.num_attention_heads


def scale_differs(config: Qwen3Config) -> bool:
    """Whether hidden_size / heads is not head_dim."""
    return config.head_dim * config.num_attention_heads != config.hidden_size


def has_windows(config: Qwen3Config) -> bool:
    """Whether a layer looks back over a window."""
    return "sliding_attention" in config.layer_types


def sees_everything(config: Qwen3Config) -> bool:
    """Whether no layer looks back over a window."""
    return not has_windows(config)


def has_both_reaches(config: Qwen3Config) -> bool:
    """Whether some layers look back over a window, and some over everything."""
    return len(set(config.layer_types)) == 2


def has_yarn(config: Qwen3Config) -> bool:
    """Whether RoPE's frequencies are scaled by YaRN."""
    return config.rope_parameters["rope_type"] == "yarn"


def truncates(config: Qwen3Config) -> bool:
    """Whether YaRN's ramp begins and ends at whole pairs that it would not otherwise."""
    return has_yarn(config) and rope.parameters(config)["truncate"]


def has_experts(config: Qwen3Config) -> bool:
    """Whether a layer has experts."""
    return any(sparse.is_sparse(config, index) for index in range(config.num_hidden_layers))


def is_dense(config: Qwen3Config) -> bool:
    """Whether no layer has experts."""
    return not has_experts(config)


def is_wide(config: Qwen3Config) -> bool:
    """Whether the weights are in float32."""
    return config.dtype == torch.float32


def normalises_experts(config: Qwen3Config) -> bool:
    """Whether the weights of a token's experts are divided by their sum."""
    return has_experts(config) and config.sparse.norm_topk_prob


def has_one_block(config: Qwen3Config) -> bool:
    """Whether a layer has a feed-forward block that every token passes through."""
    return not all(sparse.is_sparse(config, index) for index in range(config.num_hidden_layers))


def every_case(case: Case) -> bool:
    """All cases."""
    return True


def no_case(case: Case) -> bool:
    """None."""
    return False


def is_rms_norm(case: Case) -> bool:
    """Whether it is a norm."""
    return case.kind == "rms_norm"


def is_full_model(case: Case) -> bool:
    """Whether it is a prompt and its greedy tokens."""
    return case.kind == "full_model"


def is_padded(case: Case) -> bool:
    """Whether its rows are of unequal length."""
    return "attention_mask" in case.inputs


def is_far(case: Case) -> bool:
    """Whether it is a layer's attention at far positions."""
    return case.kind == "attention" and case.inputs["position_ids"].max() > FAR


def is_attention(case: Case) -> bool:
    """Whether the case is attention alone."""
    return case.kind == attention_cases.KIND


def is_causal(case: Case) -> bool:
    """Whether it is attention alone with a causal mask."""
    return is_attention(case) and case.attention["causal"]


def is_grouped(case: Case) -> bool:
    """Whether it is attention alone with several query heads to each of several key heads."""
    if not is_attention(case):
        return False
    return 1 < case.attention["num_key_value_heads"] < case.attention["num_attention_heads"]


def has_equal_kv(case: Case) -> bool:
    """Whether it is attention alone whose keys and values have the same shape."""
    return is_attention(case) and case.inputs["k_proj"].shape == case.inputs["v_proj"].shape


def has_dropout(case: Case) -> bool:
    """Whether it is attention alone with a mask for dropout."""
    return "dropout_mask" in case.inputs


def is_prefill(case: Case) -> bool:
    """Whether it is a prefill of several tokens."""
    return case.kind == prefill_cases.KIND and case.inputs["input_ids"].shape[1] > 1


def is_padded_prefill(case: Case) -> bool:
    """Whether it is a prefill of rows of unequal length."""
    return is_prefill(case) and is_padded(case)


def has_chunks(case: Case) -> bool:
    """Whether it is a prefill in more than one chunk."""
    return is_prefill(case) and case.inputs["input_ids"].shape[1] > case.chunk_size


def has_cache(case: Case) -> bool:
    """Whether it is attention alone, or a prefill, with tokens that come after others."""
    return has_chunks(case) or (is_attention(case) and attention_cases.has_cache(case))


def hides_tokens(case: Case) -> bool:
    """Whether it is attention alone, or a prefill, with tokens behind some query of their chunk."""
    return is_causal(case) or (is_prefill(case) and case.chunk_size > 1)


def is_backward(case: Case) -> bool:
    """Whether it is a backward pass."""
    return case.kind == gradient_cases.KIND


def is_grouped_backward(case: Case) -> bool:
    """Whether it is a backward pass with several query heads to a key head."""
    if not is_backward(case):
        return False
    queries, keys = (case.expected[f"gradient.model.layers.0.self_attn.{name}.weight"] for name in ("q_proj", "k_proj"))
    return len(queries) > len(keys)


def is_tied_backward(case: Case) -> bool:
    """Whether it is a backward pass with one matrix for embedding and head."""
    return is_backward(case) and f"{gradient_cases.PREFIX}lm_head.weight" not in case.expected
