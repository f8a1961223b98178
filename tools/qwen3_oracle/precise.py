"""Turns Transformers' Qwen3 into a float64 oracle.

Even after `.double()`, `Qwen3RMSNorm.forward`, the softmax of `eager_attention_forward` and
`Qwen3RotaryEmbedding` compute in float32, and so does the router of `Qwen3MoeSparseMoeBlock`. `float64_inside` replaces
the four for the time of a `with` block;
outside it Transformers runs as published, which is what the noise floors need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3_moe import modeling_qwen3_moe

from . import rope, sparse


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Sets `owner.name` to `value` inside a `with` block."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def rms_norm(self: modeling_qwen3.Qwen3RMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
    """`Qwen3RMSNorm.forward` normalising in float64, with the same rounding points. Any shape [..., size]."""
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.double()
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states / torch.sqrt(variance + self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)


def rotary_embedding(
    self: modeling_qwen3.Qwen3RotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`Qwen3RotaryEmbedding.forward` in float64: position_ids [batch, seq] -> cos, sin [batch, seq, head_dim]."""
    return rope.tables(self.config, position_ids, x.dtype)


def eager_attention(
    module: modeling_qwen3.Qwen3Attention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`eager_attention_forward` with the softmax in float64.

    query [batch, heads, q_len, head_dim], key and value [batch, kv_heads, kv_len, head_dim] ->
    context [batch, q_len, heads, head_dim], weights [batch, heads, q_len, kv_len].
    """
    key = modeling_qwen3.repeat_kv(key, module.num_key_value_groups)
    value = modeling_qwen3.repeat_kv(value, module.num_key_value_groups)
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float64).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


@contextmanager
def float64_inside() -> Iterator[None]:
    """Inside the block, no part of Qwen3's forward pass computes in less than float64."""
    with (
        replaced(modeling_qwen3.Qwen3RMSNorm, "forward", rms_norm),
        replaced(modeling_qwen3.Qwen3RotaryEmbedding, "forward", rotary_embedding),
        replaced(modeling_qwen3, "eager_attention_forward", eager_attention),
        replaced(modeling_qwen3_moe.Qwen3MoeTopKRouter, "forward", sparse.router),
    ):
        yield
