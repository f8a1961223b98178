"""Mistakes in attention: RoPE, the norms of heads, grouped heads, scale, mask and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from .. import rope
from ..precise import replaced
from .planting import (
    Changes,
    Pair,
    Plant,
    Subject,
    changed,
    layers_changed,
    mask_replaced,
    patched,
    rope_replaced,
    rope_tables,
    while_running,
)


def interleaved_rope(subject: Subject) -> AbstractContextManager[None]:
    """Rotates the pairs (2i, 2i + 1) in place of (i, i + head_dim / 2)."""

    def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)

    return rope_replaced(subject, lambda q, k, cos, sin: (rotate(q, cos, sin), rotate(k, cos, sin)))


def rope_missing(subject: Subject) -> AbstractContextManager[None]:
    """Rotates nothing."""
    return rope_replaced(subject, lambda q, k, cos, sin: (q, k))


def other_theta(change: Callable[[float], float]) -> Plant:
    """Has `change` of the configuration's theta in its place."""

    return other_rope(lambda values: {"rope_theta": change(values["rope_theta"])})


def other_rope(changes: Callable[[dict[str, object]], dict[str, object]]) -> Plant:
    """Has `changes` of RoPE's parameters."""

    def tables(self: modeling_qwen3.Qwen3RotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor) -> Pair:
        return rope.tables(self.config, position_ids, x.dtype, **changes(rope.parameters(self.config)))

    return lambda subject: rope_tables(subject, tables)


def other_positions(change: Callable[[torch.Tensor], torch.Tensor], queries_only: bool = False) -> Plant:
    """Rotates queries and keys, or queries only, by `change` of their positions."""
    published = modeling_qwen3.Qwen3RotaryEmbedding.forward
    return lambda subject: rope_tables(
        subject, lambda self, x, position_ids: published(self, x, change(position_ids)), queries_only
    )


def without_head_norms(*names: str) -> Plant:
    """Leaves out q_norm or k_norm, or both."""
    return layers_changed(
        lambda layer: [
            (getattr(layer.self_attn, name), "forward", lambda hidden_states: hidden_states) for name in names
        ]
    )


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
        stack.enter_context(without_head_norms("q_norm", "k_norm")(subject))
        yield


def over_all_heads(norm: modeling_qwen3.Qwen3RMSNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    """The norm of queries or keys [batch, seq, heads, head_dim], but by the root mean square over all heads."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean((-2, -1), keepdim=True) + norm.variance_epsilon)
        return norm.weight * wide.to(x.dtype)

    return forward


head_norms_over_all_heads = layers_changed(
    lambda layer: [(norm, "forward", over_all_heads(norm)) for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)]
)


def interleaved_groups(subject: Subject) -> AbstractContextManager[None]:
    """Gives query head h the key/value head h % kv_heads in place of h // groups."""

    def repeat(hidden_states: torch.Tensor, n_rep: int) -> torch.Tensor:
        return hidden_states.repeat(1, n_rep, 1, 1)

    return patched(subject, lambda: replaced(modeling_qwen3, "repeat_kv", repeat))


def other_scale(scale: Callable[[Qwen3Config], float]) -> Plant:
    """Scales scores by `scale` of the configuration."""
    return changed(lambda subject: [(layer.self_attn, "scaling", scale(subject.config)) for layer in subject.layers])


def mask_missing(subject: Subject) -> AbstractContextManager[None]:
    """Shows every query the keys behind its own that are no padding."""

    def change(mask: torch.Tensor) -> torch.Tensor:
        queries, keys = mask.shape[-2:]
        behind = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
        # A key that its own query sees is no padding.
        return torch.where(behind, mask.amax(-2, keepdim=True), mask)

    return mask_replaced(subject, change)


def other_windows(change: Callable[[str], str]) -> Plant:
    """Has `change` of the kind of attention in each layer, in its mask and in its cache."""

    def changes(subject: Subject) -> Changes:
        kinds = list(subject.config.layer_types)
        for layer in subject.layers:
            index = layer.self_attn.layer_idx
            kinds[index] = change(kinds[index])
        return [(subject.config, "layer_types", kinds)]

    return changed(changes)


window_missing = other_windows(lambda kind: "full_attention")
windows_exchanged = other_windows(lambda kind: "full_attention" if kind == "sliding_attention" else "sliding_attention")


def window_longer(by: int) -> Plant:
    """Has windows of so many more tokens."""
    return changed(lambda subject: [(subject.config, "sliding_window", subject.config.sliding_window + by)])


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


def cached_steps_hide_themselves(subject: Subject) -> AbstractContextManager[None]:
    """Hides the key of its own position from each query that comes alone after cached ones."""

    def change(mask: torch.Tensor) -> torch.Tensor:
        queries, keys = mask.shape[-2:]
        if queries > 1 or keys == 1:
            return mask
        mask = mask.clone()
        mask[..., -1] = torch.finfo(mask.dtype).min
        return mask

    return mask_replaced(subject, change)


def padding_attended_to(subject: Subject) -> AbstractContextManager[None]:
    """Shows left padding."""

    def changes(_: Subject) -> Changes:
        for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
            create = getattr(modeling_qwen3, name)

            def blind(create=create, **arguments) -> torch.Tensor:
                return create(**arguments | {"attention_mask": None})

            yield modeling_qwen3, name, blind

    return changed(changes)(subject)


def new_positions_off_by_one(subject: Subject) -> AbstractContextManager[None]:
    """Counts new tokens one too far against the cached keys."""
    forward = modeling_qwen3.Qwen3Model.forward

    def shifted(self, *args, position_ids=None, past_key_values=None, **options):
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            position_ids = position_ids + 1
        return forward(self, *args, position_ids=position_ids, past_key_values=past_key_values, **options)

    return replaced(modeling_qwen3.Qwen3Model, "forward", shifted)
