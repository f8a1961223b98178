"""Mistakes outside the forward pass of a prompt: in what a cache holds, in dropout, loss and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import DynamicCache
from transformers.models.qwen3 import modeling_qwen3

from .. import attention_cases, gradient_cases, prefill_cases, reference
from ..cases import Case, Tensors
from ..precise import replaced
from .planting import Plant, Subject, changed


class ShiftedCache(DynamicCache):
    """Writes new keys and values one slot too early: the last cached slot is lost, the last read one is empty."""

    def update(self, key_states, value_states, *args, **options):
        keys, values = super().update(key_states, value_states, *args, **options)
        # A layer with a window has forgotten the others.
        before = keys.shape[2] - key_states.shape[2]
        if before == 0:
            return keys, values
        return tuple(
            nn.functional.pad(torch.cat((rows[:, :, : before - 1], rows[:, :, before:]), dim=2), (0, 0, 0, 1))
            for rows in (keys, values)
        )


cache_slot_off = changed(
    lambda subject: [(attention_cases, "new_cache", ShiftedCache), (prefill_cases, "DynamicCache", ShiftedCache)]
)


def inputs_changed(change: Callable[[Tensors], Tensors]) -> Plant:
    """Gives the case other inputs."""
    return changed(lambda subject: [(subject.case, "inputs", subject.case.inputs | change(subject.case.inputs))])


def dropout_mask_changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Plant:
    """Drops weights by `change` of the case's mask."""
    return inputs_changed(lambda inputs: {"dropout_mask": change(inputs["dropout_mask"])})


@contextmanager
def dropout_in_evaluation(subject: Subject) -> Iterator[None]:
    """Drops weights in evaluation too."""
    attend = attention_cases.attend

    def dropping(*args: object, training: bool = True) -> torch.Tensor:
        return attend(*args, training=True)

    mask = subject.case.inputs["dropout_mask"]
    with attention_cases.given_dropout(mask), replaced(attention_cases, "attend", dropping):
        yield


def next_token_not_shifted(case: Case) -> torch.Tensor:
    """The tokens themselves in place of those that follow."""
    ids, mask = case.inputs["input_ids"], reference.full_mask(case)
    return ids[:, :-1].masked_fill(mask[:, :-1] == 0, gradient_cases.IGNORED)


def padding_in_the_loss(case: Case) -> torch.Tensor:
    """Every token that follows another, padding too."""
    return case.inputs["input_ids"][:, 1:]


def root_without_gradient(self: modeling_qwen3.Qwen3RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """RMSNorm that takes its root for a constant."""
    root = (x.float().pow(2).mean(-1, keepdim=True) + self.variance_epsilon).sqrt()
    return self.weight * (x.float() / root.detach()).to(x.dtype)


def one_head_of_each_group(states: torch.Tensor, groups: int) -> torch.Tensor:
    """`repeat_kv` that gives keys and values the gradient of their first query head only."""
    copies = torch.stack([states, *[states.detach()] * (groups - 1)], dim=2)
    return copies.flatten(1, 2)


def head_without_gradient(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A projection whose weight gets no gradient if it is the output head's, the one that is by far wider than its input."""
    weight = self.weight.detach() if self.out_features > 2 * self.in_features else self.weight
    return nn.functional.linear(x, weight, self.bias)
