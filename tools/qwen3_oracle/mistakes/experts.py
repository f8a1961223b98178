"""Mistakes in layers with experts: in the router, and in the order of experts and of their halves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3

from ..sparse import Block
from .planting import Changes, Plant, layers_changed


def of_experts(change: Callable[[Block], Changes]) -> Plant:
    """`change` of the layers that have experts."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        return change(layer.mlp) if isinstance(layer.mlp, Block) else []

    return layers_changed(changes)


def renormalised(on: bool) -> Plant:
    """Divides the weights of a token's experts by their sum, or does not."""
    return of_experts(lambda block: [(block.gate, "norm_topk_prob", on)])


def top_k(change: int) -> Plant:
    """Sends tokens to so many more experts."""
    return of_experts(lambda block: [(block.gate, "top_k", block.gate.top_k + change)])


def _softmax_twice(block: Block) -> Changes:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = nn.functional.linear(x, block.gate.weight)
        chosen, experts = logits.softmax(-1, dtype=torch.float).topk(block.gate.top_k, dim=-1)
        return logits, chosen.softmax(-1).to(logits.dtype), experts

    return [(block.gate, "forward", forward)]


softmax_after_topk = of_experts(_softmax_twice)


def in_order(order: Callable[[int], list[int]]) -> Plant:
    """Gives experts each other's weights: `order` makes the list of whose each has of their number."""

    def changes(block: Block) -> Changes:
        whose = order(block.experts.num_experts)
        parameters = (block.experts.gate_up_proj, block.experts.down_proj)
        return [(parameter, "data", parameter.data[whose]) for parameter in parameters]

    return of_experts(changes)


rotated = in_order(lambda count: [(expert + 1) % count for expert in range(count)])
first_and_last_exchanged = in_order(lambda count: [count - 1, *range(1, count - 1), 0])


def _halves_exchanged(block: Block) -> Changes:
    weight = block.experts.gate_up_proj
    return [(weight, "data", torch.cat(weight.data.chunk(2, dim=1)[::-1], dim=1))]


gate_up_swapped = of_experts(_halves_exchanged)
