"""Arithmetic of another precision than float32: no mistakes, but what other engines do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3

from ..precise import replaced
from ..sparse import Block
from .planting import Changes, Pair, Plant, Subject, layers_changed, patched, rope_replaced, rope_tables

Rounding = Callable[[torch.Tensor], torch.Tensor]
BLOCK = 32
BLOCK_K = 256


def nothing(x: torch.Tensor) -> torch.Tensor:
    """Rounds nothing."""
    return x


def to(dtype: torch.dtype) -> Rounding:
    """Rounds each value to `dtype`."""
    return lambda x: x.to(dtype).to(x.dtype)


def blocks(x: torch.Tensor, size: int = BLOCK) -> np.ndarray:
    """The values [.., features] in blocks [n, size] of the last axis, which the last block of a row may not fill."""
    values = x.detach().float().numpy()
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % size)]).reshape(-1, size)


def unblocked(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Blocks [n, size] in the shape of `like`."""
    rows = values.reshape(*like.shape[:-1], -1)[..., : like.shape[-1]]
    return torch.from_numpy(np.ascontiguousarray(rows)).to(like.dtype)


def q8_0(x: torch.Tensor) -> torch.Tensor:
    """ggml's q8_0: the nearest of 255 multiples of a scale in float16, for each block."""
    values = blocks(x)
    scale = np.abs(values).max(-1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    steps = values * inverse
    steps = np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5))
    return unblocked(steps * scale.astype(np.float16).astype(np.float32), x)


def q4_0(x: torch.Tensor) -> torch.Tensor:
    """ggml's q4_0: the nearest of 16 multiples of a scale in float16, for each block."""
    values = blocks(x)
    largest = np.take_along_axis(values, np.abs(values).argmax(-1, keepdims=True), -1)
    scale = largest / np.float32(-8)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    steps = np.clip(values * inverse + np.float32(8.5), 0, 15).astype(np.int8).astype(np.float32) - 8
    return unblocked(steps * scale.astype(np.float16).astype(np.float32), x)


def q8_k(x: torch.Tensor) -> torch.Tensor:
    """ggml's q8_K: the nearest of 255 multiples of a scale in float32, for each block of 256."""
    values = blocks(x, BLOCK_K)
    largest = np.take_along_axis(values, np.abs(values).argmax(-1, keepdims=True), -1)
    inverse = np.divide(np.float32(-127), largest, out=np.zeros_like(largest), where=largest != 0)
    scale = np.divide(np.float32(1), inverse, out=np.zeros_like(largest), where=largest != 0)
    return unblocked(np.minimum(np.round(values * inverse), np.float32(127)) * scale, x)


def linear(activations: Rounding = nothing, weights: Rounding = nothing, routers: bool = True) -> Plant:
    """Rounds what goes into the products with weights, those of experts too, and of `routers` or not."""

    def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return nn.functional.linear(activations(x), weights(weight), bias)

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        for module in layer.modules():
            if isinstance(module, nn.Linear):

                def forward(x: torch.Tensor, module: nn.Linear = module) -> torch.Tensor:
                    return product(x, module.weight, module.bias)

                yield module, "forward", forward
        if isinstance(layer.mlp, Block):
            if routers:
                yield layer.mlp.gate, "forward", routed(layer.mlp.gate, product)
            yield layer.mlp.experts, "forward", expert_by_expert(layer.mlp.experts, product)

    return layers_changed(changes)


Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def routed(gate: nn.Module, product: Product) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """`Qwen3MoeTopKRouter.forward` with another product."""

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = product(x.reshape(-1, gate.hidden_dim), gate.weight)
        chosen, experts = logits.softmax(-1, dtype=torch.float).topk(gate.top_k, dim=-1)
        if gate.norm_topk_prob:
            chosen = chosen / chosen.sum(-1, keepdim=True)
        return logits, chosen.to(logits.dtype), experts

    return forward


def expert_by_expert(experts: nn.Module, product: Product) -> Callable[..., torch.Tensor]:
    """`Qwen3MoeExperts.forward` with another product."""

    def forward(x: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        result = torch.zeros_like(x)
        for expert in indices.unique():
            tokens, places = torch.where(indices == expert)
            gate, up = product(x[tokens], experts.gate_up_proj[expert]).chunk(2, dim=-1)
            given = product(experts.act_fn(gate) * up, experts.down_proj[expert])
            result.index_add_(0, tokens, given * weights[tokens, places, None])
        return result

    return forward


def attention(
    cache: Rounding = nothing, inputs: Rounding = nothing, scores: Rounding = nothing, softmax: Rounding = nothing
) -> Plant:
    """Rounds keys and values, what meets them in products, and what goes into and comes out of the softmax."""

    def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, **options):
        repeat = modeling_qwen3.repeat_kv
        key, value = (repeat(cache(states), module.num_key_value_groups) for states in (key, value))
        products = scores(inputs(query) @ key.transpose(2, 3) * scaling)
        weights = products if attention_mask is None else products + attention_mask
        weights = inputs(softmax(weights.softmax(-1)))
        return (weights @ value).transpose(1, 2).contiguous(), weights

    def plant(subject: Subject) -> AbstractContextManager[None]:
        return patched(subject, lambda: replaced(modeling_qwen3, "eager_attention_forward", attend))

    return plant


def together(*plants: Plant) -> Plant:
    """All of them."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for part in plants:
                stack.enter_context(part(subject))
            yield

    return plant


def products(rounding: Rounding) -> Plant:
    """Rounds the inputs of every product."""
    return together(linear(rounding, rounding), attention(cache=rounding, inputs=rounding))


def tables(rounding: Rounding) -> Plant:
    """Rounds cosines and sines."""
    published = modeling_qwen3.Qwen3RotaryEmbedding.forward

    def rounded(self: modeling_qwen3.Qwen3RotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor) -> Pair:
        cos, sin = published(self, x, position_ids)
        return rounding(cos), rounding(sin)

    return lambda subject: rope_tables(subject, rounded)


def rotated(rounding: Rounding) -> Plant:
    """Rounds queries and keys behind RoPE."""
    rotate = modeling_qwen3.apply_rotary_pos_emb

    def apply(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
        q, k = rotate(q, k, cos, sin)
        return rounding(q), rounding(k)

    return lambda subject: rope_replaced(subject, apply)


def residual(rounding: Rounding) -> Plant:
    """Rounds what goes on from each addition."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        def forward(x: torch.Tensor, **options: object) -> torch.Tensor:
            attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(x), **options)
            x = rounding(x + attended)
            return rounding(x + layer.mlp(layer.post_attention_layernorm(x)))

        return [(layer, "forward", forward)]

    return layers_changed(changes)
