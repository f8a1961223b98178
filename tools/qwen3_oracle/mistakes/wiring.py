"""Layers whose norms, attention, MLP and residuals are put together as elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers.models.qwen3 import modeling_qwen3

from .planting import Changes, Plant, layers_changed

Block = Callable[[torch.Tensor], torch.Tensor]
# Of a layer's input, by attention, MLP and the layer's two norms.
Assembly = Callable[[torch.Tensor, Block, Block, Block, Block], torch.Tensor]


def assembled(assembly: Assembly) -> Plant:
    """Has `assembly` of the parts of each layer."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        def forward(x: torch.Tensor, **options: object) -> torch.Tensor:
            def attention(read: torch.Tensor) -> torch.Tensor:
                return layer.self_attn(hidden_states=read, **options)[0]

            return assembly(x, attention, layer.mlp, layer.input_layernorm, layer.post_attention_layernorm)

        return [(layer, "forward", forward)]

    return layers_changed(changes)


def of_sublayers(sublayer: Callable[[torch.Tensor, Block, Block], torch.Tensor]) -> Plant:
    """Has `sublayer` of its input, attention and its norm, then of that, the MLP and its norm."""
    return assembled(lambda x, attention, mlp, first, second: sublayer(sublayer(x, attention, first), mlp, second))


def norms_missing(*names: str) -> Plant:
    """Leaves out a layer's norms."""
    return layers_changed(lambda layer: [(getattr(layer, name), "forward", lambda x: x) for name in names])


behind_sublayers = of_sublayers(lambda x, block, norm: x + norm(block(x)))
behind_residuals = of_sublayers(lambda x, block, norm: norm(x + block(x)))


@assembled
def second_on_attention(x: torch.Tensor, attention: Block, mlp: Block, first: Block, second: Block) -> torch.Tensor:
    """Applies the second norm to attention's output, as its name says."""
    x = x + second(attention(first(x)))
    return x + mlp(x)


def residual_of_normed(of_attention: bool, of_mlp: bool) -> Plant:
    """Adds the normed input of attention, or of the MLP, to its output."""

    @assembled
    def plant(x: torch.Tensor, attention: Block, mlp: Block, first: Block, second: Block) -> torch.Tensor:
        read = first(x)
        x = (read if of_attention else x) + attention(read)
        read = second(x)
        return (read if of_mlp else x) + mlp(read)

    return plant


@assembled
def parallel(x: torch.Tensor, attention: Block, mlp: Block, first: Block, second: Block) -> torch.Tensor:
    """Gives the MLP what attention reads."""
    read = first(x)
    return x + attention(read) + mlp(read)


@assembled
def parallel_with_norms(x: torch.Tensor, attention: Block, mlp: Block, first: Block, second: Block) -> torch.Tensor:
    """Gives the MLP the layer's input behind the second norm."""
    return x + attention(first(x)) + mlp(second(x))
