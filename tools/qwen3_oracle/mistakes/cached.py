"""Mistakes in how steps behind a prompt use the cache: the prompt itself is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from transformers import DynamicCache
from transformers.models.qwen3 import modeling_qwen3

from .. import reference
from ..precise import replaced
from .planting import Pair, Plant, Subject, changed, mask_replaced

# What a step reads of a layer's cache, [batch, kv_heads, tokens, head_dim], and how many tokens the prompt has.
Read = Callable[[torch.Tensor, int], torch.Tensor]


def cache(read: Read) -> Plant:
    """Gives steps behind the prompt `read` of the keys and values that they should have."""

    class Mistaken(DynamicCache):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            self.prompt: dict[int, int] = {}

        def update(self, key_states, value_states, layer_idx, *arguments, **options) -> Pair:
            keys, values = super().update(key_states, value_states, layer_idx, *arguments, **options)
            if layer_idx not in self.prompt:
                self.prompt[layer_idx] = keys.shape[2]
                return keys, values
            return read(keys, self.prompt[layer_idx]), read(values, self.prompt[layer_idx])

    return changed(lambda subject: [(reference, "DynamicCache", Mistaken)])


def with_empty_slot(x: torch.Tensor) -> torch.Tensor:
    """The same tokens, and one behind them that nothing was written to."""
    return nn.functional.pad(x, (0, 0, 0, 1))


def early(x: torch.Tensor, prompt: int) -> torch.Tensor:
    """Steps are written one slot early and stay there: the prompt's last token is lost."""
    return with_empty_slot(torch.cat((x[:, :, : prompt - 1], x[:, :, prompt:]), dim=2))


def each_early(x: torch.Tensor, prompt: int) -> torch.Tensor:
    """Each step is written one slot early, over the token before it."""
    return with_empty_slot(torch.cat((x[:, :, :-2], x[:, :, -1:]), dim=2))


def late(x: torch.Tensor, prompt: int) -> torch.Tensor:
    """Steps are written one slot late, behind what they see."""
    return torch.cat((x[:, :, :prompt], torch.zeros_like(x[:, :, :1]), x[:, :, prompt:-1]), dim=2)


def empty(own: bool) -> Read:
    """The slots of earlier steps are empty, and its own if not `own`."""

    def read(x: torch.Tensor, prompt: int) -> torch.Tensor:
        x = x.clone()
        x[:, :, prompt : x.shape[2] - own] = 0
        return x

    return read


def other_sequence(x: torch.Tensor, prompt: int) -> torch.Tensor:
    """Cached tokens are those of the next sequence."""
    return torch.cat((x[:, :, :-1].roll(-1, 0), x[:, :, -1:]), dim=2)


def first_sequence(x: torch.Tensor, prompt: int) -> torch.Tensor:
    """Cached tokens are those of the first sequence."""
    return torch.cat((x[:1, :, :-1].expand_as(x[:, :, :-1]), x[:, :, -1:]), dim=2)


def hidden(columns: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Plant:
    """Hides `columns` of slots, how many there are and how many the prompt has, from steps behind the prompt."""

    def plant(subject: Subject) -> AbstractContextManager[None]:
        prompt = 0

        def change(mask: torch.Tensor) -> torch.Tensor:
            nonlocal prompt
            queries, keys = mask.shape[-2:]
            if queries == keys:
                prompt = keys
                return mask
            mask = mask.clone()
            mask[..., columns(torch.arange(keys), keys, prompt)] = torch.finfo(mask.dtype).min
            return mask

        return mask_replaced(subject, change)

    return plant


def chunks(size: int) -> Plant:
    """Hides earlier chunks of `size` tokens from the prompt's tokens."""

    def change(mask: torch.Tensor) -> torch.Tensor:
        queries, keys = mask.shape[-2:]
        if queries != keys:
            return mask
        start = torch.arange(queries)[:, None] // size * size
        return mask.masked_fill(torch.arange(keys)[None] < start, torch.finfo(mask.dtype).min)

    return lambda subject: mask_replaced(subject, change)


def padding_visible(subject: Subject) -> AbstractContextManager[None]:
    """Shows everything to steps behind the prompt."""
    return mask_replaced(subject, lambda mask: torch.zeros_like(mask) if mask.shape[-2] < mask.shape[-1] else mask)


def positions(change: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Plant:
    """Rotates steps by `change` of their positions, how many tokens are cached and how many the prompt has."""

    def plant(subject: Subject) -> AbstractContextManager[None]:
        forward, prompt = modeling_qwen3.Qwen3Model.forward, 0

        def shifted(self, *arguments, position_ids=None, past_key_values=None, **options):
            nonlocal prompt
            cached = past_key_values.get_seq_length() if past_key_values is not None else 0
            if cached == 0:
                prompt = position_ids.shape[1]
            else:
                position_ids = change(position_ids, cached, prompt)
            return forward(self, *arguments, position_ids=position_ids, past_key_values=past_key_values, **options)

        return replaced(modeling_qwen3.Qwen3Model, "forward", shifted)

    return plant


def keys_turned(twice: bool) -> Plant:
    """Gives steps cached keys that are rotated twice, or not at all."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        rotate, latest = modeling_qwen3.apply_rotary_pos_emb, None

        class Turned(DynamicCache):
            def __init__(self, *arguments: object, **options: object) -> None:
                super().__init__(*arguments, **options)
                self.turned: dict[int, torch.Tensor] = {}

            def update(self, key_states, value_states, layer_idx, *arguments, **options) -> Pair:
                keys, values = super().update(key_states, value_states, layer_idx, *arguments, **options)
                before = self.turned.get(layer_idx)
                self.turned[layer_idx] = latest if before is None else torch.cat((before, latest), dim=2)
                return (keys if before is None else torch.cat((before, keys[:, :, -1:]), dim=2)), values

        def apply(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
            nonlocal latest
            queries, keys = rotate(q, k, cos, sin)
            latest = rotate(q, keys, cos, sin)[1] if twice else k
            return queries, keys

        with replaced(modeling_qwen3, "apply_rotary_pos_emb", apply), replaced(reference, "DynamicCache", Turned):
            yield

    return plant
