"""Known mistakes in Qwen3 implementations, planted into Transformers for the time of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from .cases import Case
from .planting import (
    Pair,
    Plant,
    Subject,
    mask_replaced,
    norms,
    patched,
    rope_replaced,
    rope_tables,
    scale_replaced,
    swapped,
    together,
    transposed,
    weights_changed,
)
from .precise import replaced


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, how to plant it, and the configurations and cases in which it is one.

    `only_rounding`: it only shows in how many elements of a half precision output differ.
    """

    name: str
    plant: Plant
    applies: Callable[[Qwen3Config], bool] = lambda config: True
    concerns: Callable[[Case], bool] = lambda case: True
    only_rounding: bool = False


@contextmanager
def interleaved_rope(subject: Subject) -> Iterator[None]:
    """Rotates the pairs (2i, 2i + 1) in place of (i, i + head_dim / 2)."""

    def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)

    def apply(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
        return rotate(q, cos, sin), rotate(k, cos, sin)

    with rope_replaced(subject, apply):
        yield


def other_theta(theta: float) -> Plant:
    """Ignores the configuration's theta."""

    def tables(self: modeling_qwen3.Qwen3RotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor) -> Pair:
        exponents = torch.arange(0, self.config.head_dim, 2, dtype=torch.float) / self.config.head_dim
        freqs = position_ids[..., None].float() / theta**exponents
        emb = torch.cat((freqs, freqs), dim=-1)
        return emb.cos().to(x.dtype), emb.sin().to(x.dtype)

    return lambda subject: rope_tables(subject, tables)


def without_head_norm(name: str) -> Plant:
    """Leaves out q_norm or k_norm."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in subject.layers:
                norm = getattr(layer.self_attn, name)
                stack.enter_context(replaced(norm, "forward", lambda hidden_states: hidden_states))
            yield

    return plant


def other_eps(eps: float, of_heads: bool | None = None) -> Plant:
    """Ignores the configuration's rms_norm_eps, in all norms or in those (not) of queries and keys."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        heads = [norm for layer in subject.layers for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)]
        with ExitStack() as stack:
            for norm in norms(subject):
                if of_heads is None or of_heads == any(norm is head for head in heads):
                    stack.enter_context(replaced(norm, "variance_epsilon", eps))
            yield

    return plant


@contextmanager
def norm_weight_before_cast(subject: Subject) -> Iterator[None]:
    """Multiplies by the norm's weight in float32, and casts afterwards: one rounding less in half precision."""

    def forward(self, hidden_states):
        wide = hidden_states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.weight.float() * wide).to(hidden_states.dtype)

    with replaced(modeling_qwen3.Qwen3RMSNorm, "forward", forward):
        yield


@contextmanager
def interleaved_groups(subject: Subject) -> Iterator[None]:
    """Gives query head h the key/value head h % kv_heads in place of h // groups."""

    def repeat(hidden_states: torch.Tensor, n_rep: int) -> torch.Tensor:
        return hidden_states.repeat(1, n_rep, 1, 1)

    with patched(subject, lambda: replaced(modeling_qwen3, "repeat_kv", repeat)):
        yield


def mask_changed(ahead: int, visible: bool, blind_see: str | None = None) -> Plant:
    """Shows or hides the key `ahead` of each query's own position.

    What a query that is left with no key sees: each alike, or its `own`, or `all` as without a mask.
    """

    def change(mask: torch.Tensor) -> torch.Tensor:
        published, mask = mask, mask.clone()
        queries, keys = mask.shape[-2:]
        hidden = torch.finfo(mask.dtype).min
        mask.diagonal(keys - queries + ahead, dim1=-2, dim2=-1).fill_(0 if visible else hidden)
        if blind_see:
            blind = (mask != 0).all(-1, keepdim=True)
            instead = published if blind_see == "own" else torch.zeros_like(mask)
            mask = torch.where(blind, instead, mask)
        return mask

    return lambda subject: mask_replaced(subject, change)


@contextmanager
def padding_ignored(subject: Subject) -> Iterator[None]:
    """Attends to left padding."""
    create = modeling_qwen3.create_causal_mask

    def changed(**arguments: object) -> torch.Tensor:
        return create(**arguments | {"attention_mask": None})

    with replaced(modeling_qwen3, "create_causal_mask", changed):
        yield


@contextmanager
def decode_position_off_by_one(subject: Subject) -> Iterator[None]:
    """Counts new tokens one too far against the cached keys."""
    forward = modeling_qwen3.Qwen3Model.forward

    def shifted(self, *args, position_ids=None, past_key_values=None, **options):
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            position_ids = position_ids + 1
        return forward(self, *args, position_ids=position_ids, past_key_values=past_key_values, **options)

    with replaced(modeling_qwen3.Qwen3Model, "forward", shifted):
        yield


@contextmanager
def second_final_norm(subject: Subject) -> Iterator[None]:
    """Applies the final norm to its own output."""
    norm = subject.model.norm
    once = norm.forward
    with replaced(norm, "forward", lambda hidden_states: once(once(hidden_states))):
        yield


def scale_of_hidden_size(subject: Subject) -> AbstractContextManager[None]:
    """Scales scores by hidden_size / heads in place of head_dim."""
    return scale_replaced(subject, (subject.config.hidden_size / subject.config.num_attention_heads) ** -0.5)


def square_kv(config: Qwen3Config) -> bool:
    """Whether transposed k and v weights keep their shape."""
    return config.num_key_value_heads * config.head_dim == config.hidden_size


def has_groups(config: Qwen3Config) -> bool:
    """Whether interleaving the groups of query heads moves any."""
    return 1 < config.num_key_value_heads < config.num_attention_heads


def scale_differs(config: Qwen3Config) -> bool:
    """Whether hidden_size / heads is not head_dim."""
    return config.head_dim * config.num_attention_heads != config.hidden_size


kv_swapped = weights_changed(lambda layer: swapped(layer.self_attn.k_proj, layer.self_attn.v_proj))
gate_up_swapped = weights_changed(lambda layer: swapped(layer.mlp.gate_proj, layer.mlp.up_proj))

FAULTS = [
    Fault("interleaved RoPE", interleaved_rope),
    Fault("theta 10,000", other_theta(10000.0), lambda config: config.rope_parameters["rope_theta"] != 10000),
    Fault("no q_norm", without_head_norm("q_norm")),
    Fault("no k_norm", without_head_norm("k_norm")),
    Fault("k and v weights swapped", kv_swapped),
    Fault("k and v weights transposed", together(transposed("k_proj"), transposed("v_proj")), square_kv),
    Fault("eps 1e-5", other_eps(1e-5), lambda config: config.rms_norm_eps != 1e-5),
    Fault(
        "norm weight before the cast",
        norm_weight_before_cast,
        concerns=lambda case: case.kind == "rms_norm",
        only_rounding=True,
    ),
    Fault("gate and up swapped", gate_up_swapped),
    Fault("GQA groups interleaved", interleaved_groups, has_groups),
    Fault("mask shows the next token", mask_changed(1, visible=True)),
    Fault("mask hides the token itself", mask_changed(0, visible=False)),
    Fault("left padding attended to", padding_ignored, concerns=lambda case: "attention_mask" in case.inputs),
    Fault("decode position off by one", decode_position_off_by_one, concerns=lambda case: case.kind == "full_model"),
    Fault("second final norm", second_final_norm, concerns=lambda case: case.kind == "full_model"),
    Fault("scale from hidden_size / heads", scale_of_hidden_size, scale_differs),
    Fault(
        "biases left out",
        weights_changed(
            lambda layer: [
                (module, "bias", torch.zeros_like(module.bias.data))
                for module in layer.self_attn.children()
                if isinstance(module, nn.Linear)
            ]
        ),
        lambda config: config.attention_bias,
    ),
]
