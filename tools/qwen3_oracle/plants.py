"""The mistakes of `mistakes` that `faults` lacks, each planted for the time of a `with` block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3

from . import draws, faults
from .cases import Tensors
from .planting import (
    Pair,
    Plant,
    Subject,
    mask_replaced,
    norms,
    rope_replaced,
    rope_tables,
    weights_changed,
    while_running,
)
from .precise import replaced

SEED = 42
HEAD_STD = 0.05


def single(subject: Subject, index: int) -> Subject:
    """The part of a whole model that is one layer."""
    return replace(subject, layers=[subject.layers[index]])


def position_offset(subject: Subject) -> AbstractContextManager[None]:
    """Rotates queries as if they were one token further on."""
    published = modeling_qwen3.Qwen3RotaryEmbedding.forward

    def tables(self: modeling_qwen3.Qwen3RotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor) -> Pair:
        return published(self, x, position_ids + 1)

    return rope_tables(subject, tables, queries_only=True)


def rope_missing(subject: Subject) -> AbstractContextManager[None]:
    """Rotates nothing."""
    return rope_replaced(subject, lambda q, k, cos, sin: (q, k))


@contextmanager
def head_norms_after_rope(subject: Subject) -> Iterator[None]:
    """Normalises queries and keys after rotating them."""
    rotate = modeling_qwen3.apply_rotary_pos_emb
    with ExitStack() as stack:
        for layer in subject.layers:
            q_norm, k_norm = layer.self_attn.q_norm.forward, layer.self_attn.k_norm.forward

            def apply(q, k, cos, sin, q_norm=q_norm, k_norm=k_norm) -> Pair:
                q, k = rotate(q, k, cos, sin)
                return q_norm(q), k_norm(k)

            def patch(apply=apply) -> AbstractContextManager[None]:
                return replaced(modeling_qwen3, "apply_rotary_pos_emb", apply)

            stack.enter_context(while_running(layer, patch))
        stack.enter_context(faults.without_head_norm("q_norm")(subject))
        stack.enter_context(faults.without_head_norm("k_norm")(subject))
        yield


@contextmanager
def head_norms_over_all_heads(subject: Subject) -> Iterator[None]:
    """Divides queries and keys by the root mean square over all heads, in place of each head's own."""
    with ExitStack() as stack:
        for layer in subject.layers:
            for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):

                def forward(x: torch.Tensor, norm: modeling_qwen3.Qwen3RMSNorm = norm) -> torch.Tensor:
                    wide = x.float()  # [batch, seq, heads, head_dim]
                    wide = wide * torch.rsqrt(wide.pow(2).mean((-2, -1), keepdim=True) + norm.variance_epsilon)
                    return norm.weight * wide.to(x.dtype)

                stack.enter_context(replaced(norm, "forward", forward))
        yield


def gelu(approximate: str) -> Plant:
    """Activates by GELU."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in subject.layers:
                stack.enter_context(replaced(layer.mlp, "act_fn", nn.GELU(approximate=approximate)))
            yield

    return plant


@contextmanager
def norm_weights_plus_one(subject: Subject) -> Iterator[None]:
    """Multiplies by 1 + weight in every norm."""
    with ExitStack() as stack:
        for norm in norms(subject):
            stack.enter_context(replaced(norm.weight, "data", 1 + norm.weight.data))
        yield


def mask_missing(subject: Subject) -> AbstractContextManager[None]:
    """Shows every key that is no padding to every query."""
    return mask_replaced(subject, lambda mask: mask[:, :, -1:].expand_as(mask))


def residual_missing(attention: bool, mlp: bool) -> Plant:
    """Leaves out the residual around attention or the MLP."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in subject.layers:

                def forward(
                    x: torch.Tensor, layer: modeling_qwen3.Qwen3DecoderLayer = layer, **options: object
                ) -> torch.Tensor:
                    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(x), **options)
                    x = attended if attention else x + attended
                    y = layer.mlp(layer.post_attention_layernorm(x))
                    return y if mlp else x + y

                stack.enter_context(replaced(layer, "forward", forward))
            yield

    return plant


post_norm_is_input_norm = weights_changed(
    lambda layer: [(layer.post_attention_layernorm, "weight", layer.input_layernorm.weight.data)]
)


def final_norm_missing(subject: Subject) -> AbstractContextManager[None]:
    """Gives the last layer's output to the head."""
    return replaced(subject.model.norm, "forward", lambda hidden_states: hidden_states)


def random_head(subject: Subject) -> AbstractContextManager[None]:
    """Makes logits with random weights [vocab, hidden] in place of the embedding."""
    weight = subject.model.embed_tokens.weight
    values = HEAD_STD * draws.normal(SEED, "lm_head.weight", tuple(weight.shape))
    return replaced(subject.head, "weight", nn.Parameter(values.to(weight.dtype), requires_grad=False))


def embedding_as_head(subject: Subject) -> AbstractContextManager[None]:
    """Makes logits with the embedding in place of the head's own weights."""
    return replaced(subject.head, "weight", subject.model.embed_tokens.weight)


def embedding_scaled(subject: Subject) -> AbstractContextManager[None]:
    """Multiplies embeddings by the square root of hidden_size."""
    forward = subject.model.embed_tokens.forward
    return replaced(
        subject.model.embed_tokens, "forward", lambda ids: forward(ids) * math.sqrt(subject.config.hidden_size)
    )


def rounded_to(dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    """Rounds the tensors, which are of the same dtype afterwards."""
    return lambda tensors: {
        name: tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


@contextmanager
def last_layers_exchanged(subject: Subject) -> Iterator[None]:
    """Runs the last two layers in the other order."""
    layers = subject.model.layers
    layers[-2], layers[-1] = layers[-1], layers[-2]
    try:
        yield
    finally:
        layers[-2], layers[-1] = layers[-1], layers[-2]


def one_value(value: float) -> Plant:
    """Puts `value` into the output of the subject's middle layer, in the middle of the sequence and the features."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        layer = subject.layers[len(subject.layers) // 2]
        forward = layer.forward

        def changed(*args: object, **options: object) -> torch.Tensor:
            output = forward(*args, **options).clone()
            output[0, output.shape[1] // 2, output.shape[2] // 2] = value
            return output

        with replaced(layer, "forward", changed):
            yield

    return plant


@contextmanager
def two_faults(subject: Subject) -> Iterator[None]:
    """Swaps gate and up in layer 0, k and v in layer 2."""
    with faults.gate_up_swapped(single(subject, 0)), faults.kv_swapped(single(subject, 2)):
        yield


def nothing(subject: Subject) -> AbstractContextManager[None]:
    """Leaves the model as it is."""
    return nullcontext()
