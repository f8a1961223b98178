"""Which tensors of llama.cpp's graph are which of ours.

Names are those of `src/models/qwen3.cpp`, `qwen3moe.cpp` and `src/llama-graph.cpp`, with the layer behind a hyphen.
`Qcur-N` names projection, bias, reshape and the rotated queries; the operation tells the last from the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from . import keys, layouts
from .ggml import Ggml, Node

NAME = re.compile(r"^(?P<name>\w+)-(?P<layer>\d+)$")
OUTSIDE = {
    "embd": keys.EMBEDDING,
    # Before 2026.
    "inp_embd": keys.EMBEDDING,
    "result_norm": keys.FINAL_NORM,
    "result_output": keys.LOGITS,
}
INSIDE = {
    "attn_norm": "input_layernorm",
    "Qcur": "self_attn.q_proj",
    "Kcur": "self_attn.k_proj",
    "Vcur": "self_attn.v_proj",
    "Qcur_normed": "self_attn.q_norm",
    "Kcur_normed": "self_attn.k_norm",
    "kqv_out": keys.CONTEXT,
    "ffn_norm": "post_attention_layernorm",
    "ffn_moe_logits": keys.ROUTER_LOGITS,
    "ffn_out": "mlp",
    "ffn_moe_out": "mlp",
}
ROTATED = {"Qcur": keys.Q_ROPE, "Kcur": keys.K_ROPE}
# The chosen experts' numbers, and their weights, of which the last that is computed counts.
EXPERTS = "ffn_moe_topk"
WEIGHTS = ("ffn_moe_weights", "ffn_moe_weights_norm", "ffn_moe_weights_scaled")
OUTPUT = "l_out"
CONTEXT, RESIDUAL = "kqv_out", "ffn_inp"


@dataclass
class Watch:
    """Copies the tensors of one evaluated graph, by our keys, in ggml's axes reversed."""

    ggml: Ggml
    inside: bool
    found: dict[str, np.ndarray] = field(default_factory=dict)
    experts: dict[int, np.ndarray] = field(default_factory=dict)
    weights: dict[int, np.ndarray] = field(default_factory=dict)
    # Between the context of this layer and its sum with the residual: what comes of the context, by address.
    layer: int | None = None
    behind_context: dict[int, np.ndarray] = field(default_factory=dict)

    def wants(self, node: Node) -> bool:
        """Whether a node's values are to be copied once it is computed; nodes come in the order of computation."""
        name, layer = parts(node.name)
        if not self.inside:
            return name == OUTPUT or name in OUTSIDE
        if name == RESIDUAL and layer == self.layer:
            self.end_of_attention(node)
        if any(source in self.behind_context for source in node.sources):
            return True
        return name in (*OUTSIDE, *INSIDE, OUTPUT, EXPERTS, *WEIGHTS)

    def copy(self, node: Node) -> None:
        """Copies a node that was wanted and is computed."""
        name, layer = parts(node.name)
        values = self.ggml.values(node.address)
        if name in OUTSIDE:
            self.found[OUTSIDE[name]] = values
        elif name == OUTPUT:
            self.found[keys.layer_output(layer)] = values
        elif name == EXPERTS:
            self.experts[layer] = values
        elif name in WEIGHTS:
            self.weights[layer] = values
        elif name in ROTATED and node.op == "ROPE":
            self.found[keys.inside(layer, ROTATED[name])] = values
        elif name in INSIDE:
            self.found[keys.inside(layer, INSIDE[name])] = values
            if name == CONTEXT:
                self.layer, self.behind_context = layer, {}
        if self.layer is not None:
            self.behind_context[node.address] = values

    def end_of_attention(self, node: Node) -> None:
        """`o_proj` has no name: it is what comes of the context and is added to the residual."""
        found = [self.behind_context[source] for source in node.sources if source in self.behind_context]
        if len(found) == 1:
            self.found[keys.inside(self.layer, "self_attn.o_proj")] = found[0]
        self.layer, self.behind_context = None, {}

    def tensors(self, tokens: int) -> dict[str, np.ndarray]:
        """What was copied, in our layouts, with a batch of 1."""
        result = {key: arranged(key, values, tokens) for key, values in self.found.items()}
        for layer, experts in self.experts.items():
            logits = result.get(keys.inside(layer, keys.ROUTER_LOGITS))
            if logits is None or layer not in self.weights:
                continue
            weights = self.weights[layer].reshape(tokens, -1)
            experts, count = experts.reshape(tokens, -1).astype(np.int64), logits.shape[-1]
            dense = {keys.CHOSEN_EXPERTS: np.ones_like(weights), keys.EXPERT_WEIGHTS: weights}
            for name, values in dense.items():
                result[keys.inside(layer, name)] = layouts.dense(values, experts, count)[None]
        return result


def parts(name: str) -> tuple[str, int | None]:
    """`l_out-3` -> (`l_out`, 3); without a layer None."""
    match = NAME.match(name)
    return (match["name"], int(match["layer"])) if match else (name, None)


def arranged(key: str, values: np.ndarray, tokens: int) -> np.ndarray:
    """[1, 1, tokens, width] or [1, tokens, heads, head_dim] -> the layout of `key`, with a batch of 1."""
    if not key.endswith((*keys.HEADS_FIRST, *keys.BY_HEAD)):
        return values.reshape(1, tokens, -1)
    by_head = values.reshape(1, tokens, -1, values.shape[-1])
    return by_head.swapaxes(1, 2) if key.endswith(keys.HEADS_FIRST) else by_head
