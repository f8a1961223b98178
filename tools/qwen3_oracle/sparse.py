"""Layers with experts: `Qwen3MoeSparseMoeBlock` in the decoder of `modeling_qwen3`, which is that of
`modeling_qwen3_moe` otherwise; `check_published` compares the two bit by bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3_moe import modeling_qwen3_moe

from .errors import CheckError
from .taps import ROUTER

MODEL_TYPE = "qwen3_moe"
# What both configurations call the same.
SHARED = (
    "attention_bias", "head_dim", "hidden_act", "hidden_size", "intermediate_size", "max_position_embeddings",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "rope_parameters",
    "tie_word_embeddings", "vocab_size",
)  # fmt: skip
EXPERT = re.compile(r"^(?P<block>.*mlp\.experts)\.(?P<expert>\d+)\.(?P<name>gate|up|down)_proj\.weight$")
FUSED = re.compile(r"^(?P<block>.*mlp\.experts)\.(?P<name>gate_up|down)_proj$")

Block = modeling_qwen3_moe.Qwen3MoeSparseMoeBlock


def config_of(values: dict[str, object]) -> Qwen3Config:
    """The configuration of the dense decoder, with that of the experts as its `sparse`.

    The head size is that of `Qwen3MoeAttention`, and a window is in every layer, as in `Qwen3MoeModel`.
    """
    sparse = Qwen3MoeConfig.from_dict(values)
    sparse._experts_implementation = "eager"
    head_dim = getattr(sparse, "head_dim", sparse.hidden_size // sparse.num_attention_heads)
    shared = {name: getattr(sparse, name, None) for name in SHARED} | {"head_dim": head_dim}
    kind = "full_attention" if sparse.sliding_window is None else "sliding_attention"
    config = Qwen3Config(
        **shared,
        use_sliding_window=sparse.sliding_window is not None,
        sliding_window=sparse.sliding_window,
        layer_types=[kind] * sparse.num_hidden_layers,
    )
    config.sparse = sparse
    return config


def is_sparse(config: Qwen3Config, index: int) -> bool:
    """Whether layer `index` has experts, as `Qwen3MoeDecoderLayer` decides it."""
    sparse = getattr(config, "sparse", None)
    if sparse is None or index in sparse.mlp_only_layers:
        return False
    return sparse.num_experts > 0 and (index + 1) % sparse.decoder_sparse_step == 0


def install(layers: nn.ModuleList | list[nn.Module], config: Qwen3Config, first: int = 0) -> None:
    """Gives the layers from number `first` on their experts, where they have any."""
    for index, layer in enumerate(layers, first):
        if is_sparse(config, index):
            layer.mlp = Block(config.sparse)


def build(config: Qwen3Config) -> Qwen3ForCausalLM:
    """`Qwen3ForCausalLM` with its experts."""
    model = Qwen3ForCausalLM(config)
    install(model.model.layers, config)
    return model


def build_layer(config: Qwen3Config, index: int) -> modeling_qwen3.Qwen3DecoderLayer:
    """`Qwen3DecoderLayer` with its experts."""
    layer = modeling_qwen3.Qwen3DecoderLayer(config, index)
    install([layer], config, index)
    return layer


def split(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With a tensor for each expert, as checkpoints are published; names may have a prefix."""
    result = {}
    for key, tensor in tensors.items():
        found = FUSED.match(key)
        if found is None:
            result[key] = tensor
            continue
        parts = tensor.chunk(2, dim=1) if found["name"] == "gate_up" else [tensor]
        names = found["name"].split("_")
        for expert in range(len(tensor)):
            for name, part in zip(names, parts, strict=True):
                result[f"{found['block']}.{expert}.{name}_proj.weight"] = part[expert]
    return result


def fused(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With one tensor for all experts, as Transformers 5 computes."""
    result, blocks = {}, {}
    for key, tensor in tensors.items():
        found = EXPERT.match(key)
        if found is None:
            result[key] = tensor
        else:
            blocks.setdefault(found["block"], {})[int(found["expert"]), found["name"]] = tensor
    for block, parts in blocks.items():
        experts = range(1 + max(expert for expert, _ in parts))
        halves = [torch.cat((parts[expert, "gate"], parts[expert, "up"])) for expert in experts]
        result[f"{block}.gate_up_proj"] = torch.stack(halves)
        result[f"{block}.down_proj"] = torch.stack([parts[expert, "down"] for expert in experts])
    return result


def router(self: modeling_qwen3_moe.Qwen3MoeTopKRouter, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """`Qwen3MoeTopKRouter.forward` with the softmax in float64."""
    logits = nn.functional.linear(hidden_states.reshape(-1, self.hidden_dim), self.weight)
    chosen, experts = nn.functional.softmax(logits, dtype=torch.float64, dim=-1).topk(self.top_k, dim=-1)
    if self.norm_topk_prob:
        chosen = chosen / chosen.sum(dim=-1, keepdim=True)
    return logits, chosen.to(logits.dtype), experts


@contextmanager
def recorded_router(layer: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Records `taps.ROUTER`, each [batch, seq, num_experts]; nothing in a dense layer."""
    record: dict[str, torch.Tensor] = {}
    if not isinstance(layer.mlp, Block):
        yield record
        return
    shape: tuple[int, ...] = ()

    def enter(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal shape
        shape = inputs[0].shape[:2]

    def keep(_module: nn.Module, _inputs: object, output: tuple[torch.Tensor, ...]) -> None:
        logits, weights, experts = output
        nowhere = torch.zeros_like(logits)
        dense = (logits, nowhere.scatter(1, experts, 1), nowhere.scatter(1, experts, weights))
        record.update({name: tensor.reshape(*shape, -1) for name, tensor in zip(ROUTER, dense, strict=True)})

    hooks = [layer.mlp.register_forward_pre_hook(enter), layer.mlp.gate.register_forward_hook(keep)]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recorded_scores(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Records the router's logits [tokens, num_experts] of every sparse layer and pass, in the order of computation."""
    scores: list[torch.Tensor] = []
    gates = [module for module in model.modules() if isinstance(module, modeling_qwen3_moe.Qwen3MoeTopKRouter)]
    hooks = [gate.register_forward_hook(lambda _module, _inputs, output: scores.append(output[0])) for gate in gates]
    try:
        yield scores
    finally:
        for hook in hooks:
            hook.remove()


def gap(scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """By how much the last of each token's experts is ahead of those that are not chosen, ties left out: [tokens]."""
    last = scores.topk(top_k, dim=-1).values[:, -1:]
    behind = scores.masked_fill(scores >= last, -torch.inf)
    return (last - behind.amax(-1, keepdim=True)).squeeze(-1)


def check_choices(name: str, exact: list[torch.Tensor], found: list[torch.Tensor], top_k: int) -> None:
    """Fails unless a run of less precision sends every token to the experts of the float64 run, and not by luck.

    A token that is sent elsewhere is off by far more than rounding; a case with such tokens would let anything pass.
    """
    for number, (right, scores) in enumerate(zip(exact, found, strict=True)):
        noise = (scores.double() - right).abs().amax(-1)
        ratio = (gap(right, top_k) / noise).min().item()
        if not ratio > 2:
            raise CheckError(f"{name}: in pass {number} a token's experts are only {ratio:.3g} times the noise apart")


def check_published(path: Path, model: Qwen3ForCausalLM) -> None:
    """Fails unless `model` gives the very logits of `Qwen3MoeForCausalLM`."""
    published = Qwen3MoeForCausalLM.from_pretrained(
        path, dtype=model.dtype, attn_implementation="eager", experts_implementation="eager", local_files_only=True
    ).eval()
    ids = torch.arange(0, 48).remainder(model.config.vocab_size).reshape(2, -1)
    if not torch.equal(published(ids).logits, model(ids).logits):
        raise CheckError(f"{path}: the decoder with experts does not give the logits of Qwen3MoeForCausalLM")
