"""Mistakes in how a LoRA adapter is used, planted into PEFT's projections."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from peft.tuners.lora import LoraLayer
from transformers.models.qwen3 import modeling_qwen3

from .catalogue import Mistake
from .planting import Changes, Plant, layers_changed

NAME = "default"
Factors = tuple[torch.Tensor, torch.Tensor]


def projections(layer: modeling_qwen3.Qwen3DecoderLayer) -> list[LoraLayer]:
    """The projections that have an adapter."""
    return [module for module in layer.modules() if isinstance(module, LoraLayer)]


def scaled_by(scale: Callable[[LoraLayer], float]) -> Plant:
    """Multiplies what an adapter adds by another number."""
    return layers_changed(lambda layer: [(module, "scaling", {NAME: scale(module)}) for module in projections(layer)])


def factors_changed(change: Callable[[torch.Tensor, torch.Tensor], Factors]) -> Plant:
    """Takes other factors than `lora_A` [r, in] and `lora_B` [out, r]."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        for module in projections(layer):
            first, second = module.lora_A[NAME].weight, module.lora_B[NAME].weight
            for weight, value in zip((first, second), change(first.data, second.data), strict=True):
                yield weight, "data", value.contiguous()

    return layers_changed(changes)


def other_root(module: LoraLayer) -> float:
    """alpha / r in the place of alpha / sqrt(r), or the reverse."""
    root = math.sqrt(module.r[NAME])
    scale, alpha = module.scaling[NAME], module.lora_alpha[NAME]
    return scale / root if math.isclose(scale * root, alpha) else scale * root


def exchanged_where_square(first: torch.Tensor, second: torch.Tensor) -> Factors:
    """Each factor for the other, where what is added is square: that is transposed."""
    return (second.T, first.T) if first.shape[1] == second.shape[0] else (first, second)


def read_as_in_r(first: torch.Tensor, second: torch.Tensor) -> Factors:
    """`lora_A`'s bytes taken for [in, r]."""
    return first.reshape(first.shape[::-1]).T, second


MISTAKES = [
    Mistake("adapter_missing", "the adapter is left out", scaled_by(lambda module: 0.0)),
    Mistake("adapter_not_scaled", "what the adapter adds is not scaled", scaled_by(lambda module: 1.0)),
    Mistake("adapter_rslora", "the scale is alpha / r and not alpha / sqrt(r), or the reverse", scaled_by(other_root)),
    Mistake(
        "adapter_transposed",
        "lora_A and lora_B have each other's place where both fit",
        factors_changed(exchanged_where_square),
    ),
    Mistake("adapter_transposed-read", "lora_A is read as [in, r]", factors_changed(read_as_in_r)),
]
