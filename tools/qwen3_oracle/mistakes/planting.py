"""How a mistake is planted into Transformers for the time of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from ..cases import Case
from ..precise import replaced


@dataclass
class Subject:
    """What a mistake may touch: a layer on its own, or layers of a model with what is around them, or a case.

    A mistake inside layers goes into each of `layers` and into no other layer of the model. A case of attention
    alone has no configuration and no layers.
    """

    config: Qwen3Config | None
    layers: list[modeling_qwen3.Qwen3DecoderLayer]
    model: modeling_qwen3.Qwen3Model | None = None
    head: nn.Linear | None = None
    case: Case | None = None

    def is_part(self) -> bool:
        """Whether the model has layers that must stay sound."""
        return self.model is not None and len(self.layers) < len(self.model.layers)


Pair = tuple[torch.Tensor, torch.Tensor]
Plant = Callable[[Subject], AbstractContextManager[None]]
Patch = Callable[[], AbstractContextManager[None]]
Changes = Iterable[tuple[object, str, object]]


def changed(changes: Callable[[Subject], Changes]) -> Plant:
    """Sets attributes: owner, name and value of each."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, value in changes(subject):
                stack.enter_context(replaced(owner, name, value))
            yield

    return plant


def layers_changed(changes: Callable[[modeling_qwen3.Qwen3DecoderLayer], Changes]) -> Plant:
    """Sets attributes in each layer."""
    return changed(lambda subject: [change for layer in subject.layers for change in changes(layer)])


def code_changed(owner: object, name: str, value: object) -> Plant:
    """Sets an attribute of a module or class, for all layers."""
    return changed(lambda subject: [(owner, name, value)])


@contextmanager
def while_running(layer: modeling_qwen3.Qwen3DecoderLayer, patch: Patch) -> Iterator[None]:
    """Applies `patch` to the published code whenever `layer` runs, and not in between."""
    forward = layer.forward

    def patched(*args: object, **options: object) -> torch.Tensor:
        with patch():
            return forward(*args, **options)

    with replaced(layer, "forward", patched):
        yield


@contextmanager
def patched(subject: Subject, patch: Patch) -> Iterator[None]:
    """Applies `patch`, of code that all layers share, to the subject's layers."""
    with ExitStack() as stack:
        if subject.is_part():
            for layer in subject.layers:
                stack.enter_context(while_running(layer, patch))
        else:
            stack.enter_context(patch())
        yield


def rope_replaced(
    subject: Subject, apply: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], Pair]
) -> AbstractContextManager[None]:
    """Rotates by `apply`: q, k [batch, heads, seq, head_dim], cos, sin [batch, seq, head_dim] -> q, k."""
    return patched(subject, lambda: replaced(modeling_qwen3, "apply_rotary_pos_emb", apply))


@contextmanager
def rope_tables(
    subject: Subject,
    tables: Callable[[modeling_qwen3.Qwen3RotaryEmbedding, torch.Tensor, torch.Tensor], Pair],
    queries_only: bool = False,
) -> Iterator[None]:
    """Rotates by the cos and sin [batch, seq, head_dim] that `tables` makes from position ids [batch, seq]."""
    published, rotate = modeling_qwen3.Qwen3RotaryEmbedding.forward, modeling_qwen3.apply_rotary_pos_emb
    latest: Pair | None = None

    def forward(self: modeling_qwen3.Qwen3RotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor) -> Pair:
        nonlocal latest
        latest = tables(self, x, position_ids)
        return published(self, x, position_ids)

    def apply(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
        others = rotate(q, k, *latest)
        return (others[0], rotate(q, k, cos, sin)[1]) if queries_only else others

    with replaced(modeling_qwen3.Qwen3RotaryEmbedding, "forward", forward), rope_replaced(subject, apply):
        yield


def mask_replaced(subject: Subject, change: Callable[[torch.Tensor], torch.Tensor]) -> AbstractContextManager[None]:
    """Attends under `change` of the mask [batch, 1, q_len, kv_len], where there is one."""

    def patch() -> AbstractContextManager[None]:
        attend = modeling_qwen3.eager_attention_forward

        def attend_changed(module, query, key, value, attention_mask, **options):
            mask = None if attention_mask is None else change(attention_mask)
            return attend(module, query, key, value, mask, **options)

        return replaced(modeling_qwen3, "eager_attention_forward", attend_changed)

    return patched(subject, patch)


def swapped(first: nn.Linear, second: nn.Linear) -> Changes:
    """The changes that swap two projections' weights and biases."""
    names = [name for name, _ in first.named_parameters()]
    pairs = [(first, second), (second, first)]
    return [(getattr(to, name), "data", getattr(source, name).data) for to, source in pairs for name in names]


def norms(subject: Subject) -> list[modeling_qwen3.Qwen3RMSNorm]:
    """All norms of the subject, the final one unless only some layers are meant."""
    modules = [module for layer in subject.layers for module in layer.modules()]
    modules += [subject.model.norm] if subject.model and not subject.is_part() else []
    return [module for module in modules if isinstance(module, modeling_qwen3.Qwen3RMSNorm)]
