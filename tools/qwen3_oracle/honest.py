"""Honest ways to compute the same: the published attentions, and sums taken in another order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace

import torch
from torch import nn
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3_moe import modeling_qwen3_moe

from .precise import replaced


def order(size: int) -> torch.Tensor:
    """A permutation of so many terms, always the same."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(size))


def eager(model: Qwen3ForCausalLM) -> AbstractContextManager[None]:
    """As models are loaded here."""
    return replaced(model.config, "_attn_implementation", "eager")


def sdpa(model: Qwen3ForCausalLM) -> AbstractContextManager[None]:
    """With torch's fused attention."""
    return replaced(model.config, "_attn_implementation", "sdpa")


@contextmanager
def permuted(model: Qwen3ForCausalLM) -> Iterator[None]:
    """With the terms of every sum in another order: of products, norms, scores and weighted values."""
    published_norm = modeling_qwen3.Qwen3RMSNorm.forward
    published_attention = modeling_qwen3.eager_attention_forward
    published_router = modeling_qwen3_moe.Qwen3MoeTopKRouter.forward
    # Without the choice of an implementation that is around it.
    published_experts = inspect.unwrap(modeling_qwen3_moe.Qwen3MoeExperts.forward)

    def linear(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        terms = order(x.shape[-1])
        return nn.functional.linear(x[..., terms], self.weight[:, terms], self.bias)

    def norm(self: modeling_qwen3.Qwen3RMSNorm, x: torch.Tensor) -> torch.Tensor:
        terms = order(x.shape[-1])
        moved = SimpleNamespace(weight=self.weight[terms], variance_epsilon=self.variance_epsilon)
        return published_norm(moved, x[..., terms])[..., terms.argsort()]

    def attention(module, query, key, value, attention_mask, **options):
        terms, keys = order(query.shape[-1]), order(key.shape[-2])
        mask = None if attention_mask is None else attention_mask[..., keys]
        query, key, value = query[..., terms], key[..., keys, :][..., terms], value[..., keys, :]
        context, weights = published_attention(module, query, key, value, mask, **options)
        return context, weights[..., keys.argsort()]

    def router(self: modeling_qwen3_moe.Qwen3MoeTopKRouter, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        terms = order(x.shape[-1])
        moved = SimpleNamespace(**vars(self), weight=self.weight[:, terms])
        return published_router(moved, x[..., terms])

    def experts(self: modeling_qwen3_moe.Qwen3MoeExperts, x: torch.Tensor, *routes: torch.Tensor) -> torch.Tensor:
        outer, inner = order(x.shape[-1]), order(self.intermediate_dim)
        both = torch.cat((inner, inner + self.intermediate_dim))
        moved = SimpleNamespace(
            num_experts=self.num_experts,
            act_fn=self.act_fn,
            gate_up_proj=self.gate_up_proj[:, both][..., outer],
            down_proj=self.down_proj[:, outer][..., inner],
        )
        return published_experts(moved, x[..., outer], *routes)[..., outer.argsort()]

    with ExitStack() as stack:
        stack.enter_context(eager(model))
        stack.enter_context(replaced(modeling_qwen3_moe.Qwen3MoeTopKRouter, "forward", router))
        stack.enter_context(replaced(modeling_qwen3_moe.Qwen3MoeExperts, "forward", experts))
        stack.enter_context(replaced(nn.Linear, "forward", linear))
        stack.enter_context(replaced(modeling_qwen3.Qwen3RMSNorm, "forward", norm))
        stack.enter_context(replaced(modeling_qwen3, "eager_attention_forward", attention))
        yield


# By their names; each is honest while its block lasts.
VARIANTS: dict[str, Callable[[Qwen3ForCausalLM], AbstractContextManager[None]]] = {
    "eager": eager,
    "sdpa": sdpa,
    "permuted": permuted,
}
