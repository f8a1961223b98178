"""Mistakes in projections, norms, MLP and residuals, and outside the layers: embedding, final norm and head."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3

from .. import draws
from ..cases import Tensors
from ..precise import replaced
from ..sparse import Block
from .passes import inputs_changed
from .planting import Changes, Plant, Subject, changed, layers_changed, norms, swapped

SEED = 42
HEAD_STD = 0.05


def kv_swapped(subject: Subject) -> AbstractContextManager[None]:
    """Swaps k_proj and v_proj, which attention alone has among its inputs."""
    if not subject.layers:
        return inputs_changed(lambda inputs: {"k_proj": inputs["v_proj"], "v_proj": inputs["k_proj"]})(subject)
    return layers_changed(lambda layer: swapped(layer.self_attn.k_proj, layer.self_attn.v_proj))(subject)


gate_up_swapped = layers_changed(
    lambda layer: [] if isinstance(layer.mlp, Block) else swapped(layer.mlp.gate_proj, layer.mlp.up_proj)
)


@contextmanager
def two_mistakes(subject: Subject) -> Iterator[None]:
    """Swaps gate and up in layer 0, k and v in layer 2."""
    first, third = (replace(subject, layers=[subject.layers[index]]) for index in (0, 2))
    with gate_up_swapped(first), kv_swapped(third):
        yield


def transposed(name: str) -> Plant:
    """Transposes the weight of k_proj or v_proj; one that is not square is read as [out, in] all the same."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        weight = getattr(layer.self_attn, name).weight
        return [(weight, "data", weight.data.T.contiguous().reshape(weight.shape))]

    return layers_changed(changes)


biases_missing = layers_changed(
    lambda layer: [
        (module.bias, "data", torch.zeros_like(module.bias.data))
        for module in layer.self_attn.children()
        if isinstance(module, nn.Linear)
    ]
)


def other_eps(eps: float, of_heads: bool | None = None) -> Plant:
    """Ignores the configuration's rms_norm_eps, in all norms or in those (not) of queries and keys."""

    def changes(subject: Subject) -> Changes:
        heads = [norm for layer in subject.layers for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)]
        for norm in norms(subject):
            if of_heads is None or of_heads == any(norm is head for head in heads):
                yield norm, "variance_epsilon", eps

    return changed(changes)


def weight_before_cast(self: modeling_qwen3.Qwen3RMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
    """RMSNorm that multiplies by its weight in float32, then casts: one rounding less in half precision."""
    wide = hidden_states.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
    return (self.weight.float() * wide).to(hidden_states.dtype)


norm_weights_plus_one = changed(
    lambda subject: [(norm.weight, "data", 1 + norm.weight.data) for norm in norms(subject)]
)
post_norm_is_input_norm = layers_changed(
    lambda layer: [(layer.post_attention_layernorm.weight, "data", layer.input_layernorm.weight.data)]
)


def gelu(approximate: str) -> Plant:
    """Activates by GELU."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        owner = layer.mlp.experts if isinstance(layer.mlp, Block) else layer.mlp
        return [(owner, "act_fn", nn.GELU(approximate=approximate))]

    return layers_changed(changes)


def residual_missing(attention: bool, mlp: bool) -> Plant:
    """Leaves out the residual around attention or the MLP."""

    def changes(layer: modeling_qwen3.Qwen3DecoderLayer) -> Changes:
        def forward(x: torch.Tensor, **options: object) -> torch.Tensor:
            attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(x), **options)
            x = attended if attention else x + attended
            y = layer.mlp(layer.post_attention_layernorm(x))
            return y if mlp else x + y

        return [(layer, "forward", forward)]

    return layers_changed(changes)


def one_value(value: float) -> Plant:
    """Puts `value` into the output of the subject's middle layer, in the middle of the sequence and the features."""

    def changes(subject: Subject) -> Changes:
        layer = subject.layers[len(subject.layers) // 2]
        published = layer.forward

        def forward(*args: object, **options: object) -> torch.Tensor:
            output = published(*args, **options).clone()
            output[0, output.shape[1] // 2, output.shape[2] // 2] = value
            return output

        return [(layer, "forward", forward)]

    return changed(changes)


@contextmanager
def last_layers_exchanged(subject: Subject) -> Iterator[None]:
    """Runs the last two layers in the other order."""
    layers = subject.model.layers
    layers[-2], layers[-1] = layers[-1], layers[-2]
    try:
        yield
    finally:
        layers[-2], layers[-1] = layers[-1], layers[-2]


def embedding_scaled(subject: Subject) -> AbstractContextManager[None]:
    """Multiplies embeddings by the square root of hidden_size."""
    embedding, factor = subject.model.embed_tokens, math.sqrt(subject.config.hidden_size)
    published = embedding.forward
    return replaced(embedding, "forward", lambda ids: published(ids) * factor)


def final_norm_missing(subject: Subject) -> AbstractContextManager[None]:
    """Gives the last layer's output to the head."""
    return replaced(subject.model.norm, "forward", lambda hidden_states: hidden_states)


def final_norm_twice(subject: Subject) -> AbstractContextManager[None]:
    """Applies the final norm to its own output."""
    once = subject.model.norm.forward
    return replaced(subject.model.norm, "forward", lambda hidden_states: once(once(hidden_states)))


def random_head(subject: Subject) -> AbstractContextManager[None]:
    """Makes logits with random weights [vocab, hidden] in place of the embedding."""
    weight = subject.model.embed_tokens.weight
    values = HEAD_STD * draws.normal(SEED, "lm_head.weight", tuple(weight.shape))
    return replaced(subject.head, "weight", nn.Parameter(values.to(weight.dtype), requires_grad=False))


def embedding_as_head(subject: Subject) -> AbstractContextManager[None]:
    """Makes logits with the embedding in place of the head's own weights."""
    return replaced(subject.head, "weight", subject.model.embed_tokens.weight)


def nothing(subject: Subject) -> AbstractContextManager[None]:
    """Leaves the model as it is."""
    return nullcontext()


def rounded_to(dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    """Rounds the tensors, which are of the same dtype afterwards."""
    return lambda tensors: {
        name: tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def names_shifted(
    by: int, last: str = "", only: Callable[[int], bool] = lambda layer: True
) -> Callable[[Tensors], Tensors]:
    """Saves each layer's output under the name of the layer `by` further, of the layers whose number is an `only`.

    Behind the last layer come the final norm's output, or the `last` one again, or none when it is `missing`.
    """

    def change(tensors: Tensors) -> Tensors:
        names = [name for name in tensors if name.startswith("layer_") and name.endswith("_output")]
        outputs = ["embedding_output", *names, {"": "final_norm_output", "last": names[-1]}.get(last)]
        held = {name: outputs[index + 1 - by] for index, name in enumerate(names)}
        kept = {name for index, name in enumerate(names) if only(index) and held[name]}
        return {name: tensors[held.get(name, name)] for name in tensors if name not in held or name in kept}

    return change
