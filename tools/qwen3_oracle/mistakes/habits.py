"""Habits of other architectures, and slips of the hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3

from .. import draws, rope
from ..precise import replaced
from .planting import Changes, Pair, Plant, Subject, changed, layers_changed, norms, patched, rope_replaced

Change = Callable[[torch.Tensor], torch.Tensor]
SEED = 43


def nothing(x: torch.Tensor) -> torch.Tensor:
    """Changes nothing."""
    return x


def sine_negated(subject: Subject) -> AbstractContextManager[None]:
    """Rotates the other way."""
    rotate = modeling_qwen3.apply_rotary_pos_emb
    return rope_replaced(subject, lambda q, k, cos, sin: rotate(q, k, cos, -sin))


def partial_rotary(share: int) -> Plant:
    """Rotates the first of so many parts of each head's features, as a head of that size."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        published, latest = modeling_qwen3.Qwen3RotaryEmbedding.forward, None
        rotate = modeling_qwen3.apply_rotary_pos_emb

        def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> Pair:
            nonlocal latest
            features = self.config.head_dim // share
            frequencies = rope.parameters(self.config)["rope_theta"] ** (
                -torch.arange(0, features, 2).double() / features
            )
            angles = (position_ids[..., None].double() * frequencies).repeat(1, 1, 2)
            latest = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
            return published(self, x, position_ids)

        def apply(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
            features = latest[0].shape[-1]
            turned = rotate(q[..., :features], k[..., :features], *latest)
            return tuple(torch.cat((a, b[..., features:]), dim=-1) for a, b in zip(turned, (q, k), strict=True))

        with replaced(modeling_qwen3.Qwen3RotaryEmbedding, "forward", forward), rope_replaced(subject, apply):
            yield

    return plant


def softmax(x: torch.Tensor) -> torch.Tensor:
    """What is right."""
    return x.softmax(-1)


def not_normalised(x: torch.Tensor) -> torch.Tensor:
    """The weights before they are divided by their sum."""
    return (x - x.amax(-1, keepdim=True)).exp()


def with_sink(x: torch.Tensor) -> torch.Tensor:
    """The softmax with one more term, of score 0."""
    return nn.functional.pad(x, (0, 1)).softmax(-1)[..., :-1]


def attending(scores: Change = nothing, weights: Change = softmax, heads: Change = nothing) -> Callable[..., Pair]:
    """Attention with `scores` of the scores, `weights` of those for their softmax, and `heads` of what comes out.

    The last gets and gives [batch, tokens, heads, head_dim].
    """

    def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, **options):
        key, value = (modeling_qwen3.repeat_kv(states, module.num_key_value_groups) for states in (key, value))
        products = scores(query @ key.transpose(2, 3) * scaling)
        given = weights(products if attention_mask is None else products + attention_mask)
        return heads((given @ value).transpose(1, 2).contiguous()), given

    return attend


def attention(**changes: Change) -> Plant:
    """Attends with changes, see `attending`."""
    return attended(attending(**changes))


def attended(attend: Callable[..., Pair]) -> Plant:
    """Has `attend` for its attention."""
    return lambda subject: patched(subject, lambda: replaced(modeling_qwen3, "eager_attention_forward", attend))


def learned_sinks(module, query: torch.Tensor, *inputs: torch.Tensor, **options: object) -> Pair:
    """Attention with one more term in the softmax, whose score each head of each layer has learned."""
    sinks = draws.normal(SEED, f"sinks.{module.layer_idx}", (query.shape[1],)).to(query.dtype)

    def weights(x: torch.Tensor) -> torch.Tensor:
        more = sinks[None, :, None, None].expand(*x.shape[:-1], 1)
        return torch.cat((x, more), dim=-1).softmax(-1)[..., :-1]

    return attending(weights=weights)(module, query, *inputs, **options)


def capped(cap: float) -> Change:
    """Values bent to lie within `cap`."""
    return lambda x: cap * (x / cap).tanh()


def head_zero(head: int) -> Change:
    """One head's output is zero."""

    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, :, head] = 0
        return x

    return change


def heads_exchanged(a: int, b: int) -> Change:
    """Two heads' outputs have each other's place."""

    def change(x: torch.Tensor) -> torch.Tensor:
        order = list(range(x.shape[2]))
        order[a], order[b] = order[b], order[a]
        return x[:, :, order]

    return change


def centred(norm: modeling_qwen3.Qwen3RMSNorm) -> Change:
    """The norm of what is left when the mean is subtracted."""
    published = norm.forward
    return lambda x: published(x - x.mean(-1, keepdim=True))


layer_norm = changed(lambda subject: [(norm, "forward", centred(norm)) for norm in norms(subject)])
layer_norm_of_heads = layers_changed(
    lambda layer: [(norm, "forward", centred(norm)) for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)]
)


def silu_on_product(subject: Subject) -> AbstractContextManager[None]:
    """Applies the activation to the product of gate and up."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        block = layer.mlp

        def forward(x: torch.Tensor) -> torch.Tensor:
            return block.down_proj(block.act_fn(block.gate_proj(x) * block.up_proj(x)))

        return [(block, "forward", forward)]

    return layers_changed(changes)(subject)


def bias_missing(name: str) -> Plant:
    """Leaves out one projection's bias."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        projection = getattr(layer.self_attn, name)
        return [(projection, "forward", lambda x: nn.functional.linear(x, projection.weight))]

    return layers_changed(changes)


def scaled_twice(subject: Subject) -> AbstractContextManager[None]:
    """Scales scores twice."""
    return changed(
        lambda subject: [(layer.self_attn, "scaling", layer.self_attn.scaling**2) for layer in subject.layers]
    )(subject)


def logits(change: Change) -> Plant:
    """Gives `change` of the logits."""

    def changes(subject: Subject) -> Changes:
        head = subject.head
        return [(head, "forward", lambda x: change(nn.functional.linear(x, head.weight)))]

    return changed(changes)


def rows_shifted(subject: Subject) -> AbstractContextManager[None]:
    """Gives each token the embedding of the next id."""
    weight = subject.model.embed_tokens.weight
    return changed(lambda subject: [(weight, "data", weight.data.roll(-1, 0))])(subject)


def expert_zero(expert: int) -> Callable[[object], Changes]:
    """Makes one expert give zeros."""

    def changes(block) -> Changes:
        weight = block.experts.down_proj
        silent = weight.data.clone()
        silent[expert] = 0
        return [(weight, "data", silent)]

    return changes
