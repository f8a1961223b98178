"""Runs the modules of one decoder layer and records what passes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from . import sparse
from .cases import Case, Tensors
from .checkpoint import Layer
from .precise import replaced
from .taps import FROM_ATTENTION, HOOKED, TAPS

# What an attention returns: the context and the weights, which sdpa does not tell.
Pair = tuple[torch.Tensor, torch.Tensor | None]


@contextmanager
def recorded_attention(attention: modeling_qwen3.Qwen3Attention | None = None) -> Iterator[Tensors]:
    """Records query, key [batch, heads, seq, head_dim] after RoPE, value, and context [batch, seq, heads, head_dim].

    Of the last attention that ran, or of the given one only.
    """
    record: Tensors = {}

    def recording(attend: Callable[..., Pair]) -> Callable[..., Pair]:
        def recorded(module, query, key, value, attention_mask, **options):
            context, weights = attend(module, query, key, value, attention_mask, **options)
            if attention is None or module is attention:
                record.update(query=query, key=key, value=value, context=context)
            return context, weights

        return recorded

    functions = modeling_qwen3.ALL_ATTENTION_FUNCTIONS
    sdpa = functions["sdpa"]
    functions["sdpa"] = recording(sdpa)
    try:
        with replaced(modeling_qwen3, "eager_attention_forward", recording(modeling_qwen3.eager_attention_forward)):
            yield record
    finally:
        functions["sdpa"] = sdpa


@contextmanager
def recorded_outputs(module: torch.nn.Module, names: tuple[str, ...]) -> Iterator[Tensors]:
    """Records what the named submodules return."""
    record: Tensors = {}
    with ExitStack() as hooks:
        for name in names:

            def keep(_module, _inputs, output, name=name):
                record[name] = output

            hooks.callback(module.get_submodule(name).register_forward_hook(keep).remove)
        yield record


def attention_taps(attention: Tensors) -> Tensors:
    """What `recorded_attention` recorded as `FROM_ATTENTION` names it, the context as [batch, seq, heads * head_dim].

    Of the keys those of the new tokens, which are the last that are cached.
    """
    query, context = attention["query"], attention["context"].flatten(2)
    key = attention["key"][:, :, -query.shape[2] :]
    return dict(zip(FROM_ATTENTION, (query, key, context), strict=True))


@contextmanager
def recorded_layer(layer: modeling_qwen3.Qwen3DecoderLayer, taps: bool) -> Iterator[Tensors]:
    """Records the layer's `output`, and with `taps` everything of `taps.TAPS`; complete when the block ends."""
    record: Tensors = {}
    names = (*HOOKED, "") if taps else ("",)
    with (
        recorded_attention(layer.self_attn) as attention,
        sparse.recorded_router(layer) as router,
        recorded_outputs(layer, names) as hooked,
    ):
        yield record
    record |= hooked | {"output": hooked[""]} | (router | attention_taps(attention) if taps else {})


def mask_function(config: Qwen3Config, index: int) -> Callable[..., torch.Tensor]:
    """What makes the mask of layer `index`: `create_causal_mask`, or that of a window."""
    if config.layer_types[index] == "sliding_attention":
        return modeling_qwen3.create_sliding_window_causal_mask
    return modeling_qwen3.create_causal_mask


def causal_mask(layer: Layer, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The layer's mask for a run without a cache: [batch, 1, seq, seq], 0 or the dtype's minimum."""
    make = mask_function(layer.config, layer.index)
    return make(config=layer.config, inputs_embeds=hidden_states, attention_mask=attention_mask, past_key_values=None)


def run_rms_norm(case: Case, layer: Layer, dtype: torch.dtype) -> Tensors:
    """`Qwen3RMSNorm`: input_hidden_states [batch, seq, hidden] -> output, the same shape."""
    norm = layer.module.get_submodule(case.module)
    return {"output": norm(case.inputs["input_hidden_states"].to(dtype))}


def run_mlp(case: Case, layer: Layer, dtype: torch.dtype) -> Tensors:
    """`Qwen3MLP` or `Qwen3MoeSparseMoeBlock`: input_x [batch, seq, hidden] -> output, the same shape."""
    return {"output": layer.module.mlp(case.inputs["input_x"].to(dtype))}


def run_attention(case: Case, layer: Layer, dtype: torch.dtype) -> Tensors:
    """`Qwen3Attention`, causal by index: hidden_states [batch, seq, hidden], position_ids [batch, seq]."""
    hidden_states = case.inputs["hidden_states"].to(dtype)
    cos, sin = layer.rotary_emb(hidden_states, case.inputs["position_ids"])
    with recorded_attention() as record:
        output, _ = layer.module.self_attn(hidden_states, (cos, sin), causal_mask(layer, hidden_states, None))
    return {
        "cos": cos,
        "sin": sin,
        "query_states": record["query"],
        "key_states": record["key"],
        "value_states": record["value"],
        "output": output,
    }


def run_decoder_layer(case: Case, layer: Layer, dtype: torch.dtype) -> Tensors:
    """`Qwen3DecoderLayer` with the output of each of its steps, under the names of its modules."""
    hidden_states = case.inputs["hidden_states"].to(dtype)
    position_ids = case.inputs["position_ids"]
    mask = causal_mask(layer, hidden_states, case.inputs.get("attention_mask"))
    with (
        recorded_attention() as attention,
        sparse.recorded_router(layer.module) as router,
        recorded_outputs(layer.module, HOOKED) as hooked,
    ):
        output = layer.module(
            hidden_states,
            attention_mask=mask,
            position_ids=position_ids,
            position_embeddings=layer.rotary_emb(hidden_states, position_ids),
        )
    found = hooked | router | attention_taps(attention)
    return {name: found[name] for name in TAPS if name in found} | {"output": output}


RUNS = {
    "rms_norm": run_rms_norm,
    "mlp": run_mlp,
    "attention": run_attention,
    "decoder_layer": run_decoder_layer,
}


def run(case: Case, layer: Layer, dtype: torch.dtype) -> Tensors:
    """Runs a case of one of the layer kinds with inputs in `dtype`, which is that of the layer's weights."""
    return RUNS[case.kind](case, layer, dtype)
