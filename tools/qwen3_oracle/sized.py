"""Mistakes of a given size, for telling how small a mistake can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import Qwen3ForCausalLM

from . import draws

SIZES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# The row, the channel and the token that a mistake is in.
ROW, TOKEN = 11, 5

# Plants a mistake of a size into the decoder layer; undone by whoever planted it, through the state dict.
Mistake = Callable[[nn.Module, float, int], None]


def down_proj_row(layer: nn.Module, size: float, _: int) -> None:
    """One row of `down_proj` is too large by this share."""
    layer.mlp.down_proj.weight[ROW] *= 1 + size


def q_proj_weights(layer: nn.Module, size: float, seed: int) -> None:
    """Every weight of `q_proj` is off by about this share, each in its own way, as quantised ones are."""
    weight = layer.self_attn.q_proj.weight
    noise = torch.cat(list(draws.normal_chunks(seed, "q_proj", weight.numel()))).reshape(weight.shape)
    weight *= 1 + size * noise.to(weight.dtype)


def norm_channel(layer: nn.Module, size: float, _: int) -> None:
    """One weight of `input_layernorm` is too large by this share."""
    layer.input_layernorm.weight[ROW] *= 1 + size


def attention_scale(layer: nn.Module, size: float, _: int) -> None:
    """The scores are too large by this share."""
    layer.self_attn.scaling *= 1 + size


def one_value(layer: nn.Module, size: float, _: int) -> None:
    """One value of the layer's output is off by this share of its token's rms."""

    def change(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if output.shape[1] > TOKEN:
            token = output[0, TOKEN]
            token[ROW] += size * token.double().pow(2).mean().sqrt().to(token.dtype)
        return output

    layer.register_forward_hook(change)


KINDS: dict[str, Mistake] = {
    "down_proj-row": down_proj_row,
    "q_proj-weights": q_proj_weights,
    "norm-channel": norm_channel,
    "attention-scale": attention_scale,
    "one-value": one_value,
}


@contextmanager
def planted(model: Qwen3ForCausalLM, index: int, kind: str, size: float, seed: int) -> Iterator[None]:
    """Inside the block, decoder layer `index` has the mistake."""
    layer = model.model.layers[index]
    kept = {key: tensor.clone() for key, tensor in layer.state_dict().items()}
    scaling = layer.self_attn.scaling
    KINDS[kind](layer, size, seed)
    try:
        yield
    finally:
        layer.load_state_dict(kept)
        layer.self_attn.scaling = scaling
        layer._forward_hooks.clear()
