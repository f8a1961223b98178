"""Mistakes planted into attention alone, prefills in chunks, RoPE at far positions and the backward pass.

Unlike those of `faults`, which have to show in one case of a checkpoint, each must show in every case it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from transformers import DynamicCache
from transformers.models.qwen3 import modeling_qwen3

from . import attention_cases, faults, gradient_cases, layer_runs, prefill_cases, reference
from .cases import Case, Tensors
from .checkpoint import load_layer, load_model
from .errors import CheckError
from .precise import replaced
from .sensitivity import CLEAR, ratios

Plant = Callable[[Case], AbstractContextManager[object]]
FAR = 30_000


@dataclass(frozen=True)
class CaseFault:
    """A mistake: how to plant it for a case, which cases it concerns, and how the tensors begin that show it."""

    name: str
    plant: Plant
    concerns: Callable[[Case], bool]
    shows_in: str


class ShiftedCache(DynamicCache):
    """Writes new keys and values one slot too early: the last cached slot is lost, the last read one is empty."""

    def update(self, key_states, value_states, *args, **options):
        before = self.get_seq_length()
        keys, values = super().update(key_states, value_states, *args, **options)
        if before == 0:
            return keys, values
        return tuple(
            nn.functional.pad(torch.cat((rows[:, :, : before - 1], rows[:, :, before:]), dim=2), (0, 0, 0, 1))
            for rows in (keys, values)
        )


def inputs_changed(change: Callable[[Tensors], Tensors]) -> Plant:
    """Gives the case other inputs."""
    return lambda case: replaced(case, "inputs", case.inputs | change(case.inputs))


@contextmanager
def dropout_in_evaluation(case: Case) -> Iterator[None]:
    """Drops weights in evaluation too."""
    attend = attention_cases.attend

    def dropping(*args: object, training: bool = True) -> torch.Tensor:
        return attend(*args, training=True)

    with ExitStack() as stack:
        stack.enter_context(attention_cases.given_dropout(case.inputs["dropout_mask"]))
        stack.enter_context(replaced(attention_cases, "attend", dropping))
        yield


def rotary_changed(change: Callable[[torch.Tensor, float], tuple[torch.Tensor, float]]) -> Plant:
    """Computes RoPE in float64, for what `change` makes of the position ids and theta."""

    def forward(self, x, position_ids):
        position_ids, theta = change(position_ids.double(), self.config.rope_parameters["rope_theta"])
        exponents = torch.arange(0, self.config.head_dim, 2, dtype=torch.float64) / self.config.head_dim
        freqs = position_ids[..., None] / theta**exponents
        emb = torch.cat((freqs, freqs), dim=-1)
        return emb.cos().to(x.dtype), emb.sin().to(x.dtype)

    return lambda case: replaced(modeling_qwen3.Qwen3RotaryEmbedding, "forward", forward)


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


def published(plant: faults.Plant) -> Plant:
    """A fault of the published code that touches no module."""
    return lambda case: plant(faults.Subject(config=None, layers=[]))


def is_attention(case: Case) -> bool:
    """Whether the case is attention alone."""
    return case.kind == attention_cases.KIND


def is_causal(case: Case) -> bool:
    """Whether it is attention alone with a causal mask."""
    return is_attention(case) and case.attention["causal"]


def is_grouped(case: Case) -> bool:
    """Whether it is attention alone with several query heads to each of several key heads."""
    if not is_attention(case):
        return False
    return 1 < case.attention["num_key_value_heads"] < case.attention["num_attention_heads"]


def is_prefill(case: Case) -> bool:
    """Whether it is a prefill of several tokens."""
    return case.kind == prefill_cases.KIND and case.inputs["input_ids"].shape[1] > 1


def is_backward(case: Case) -> bool:
    """Whether it is a backward pass."""
    return case.kind == gradient_cases.KIND


def is_grouped_backward(case: Case) -> bool:
    """Whether it is a backward pass with several query heads to a key head."""
    if not is_backward(case):
        return False
    queries, keys = (case.expected[f"gradient.model.layers.0.self_attn.{name}.weight"] for name in ("q_proj", "k_proj"))
    return len(queries) > len(keys)


def is_tied_backward(case: Case) -> bool:
    """Whether it is a backward pass with one matrix for embedding and head."""
    return is_backward(case) and f"{gradient_cases.PREFIX}lm_head.weight" not in case.expected


def has_chunks(case: Case) -> bool:
    """Whether it is a prefill in more than one chunk."""
    return is_prefill(case) and case.inputs["input_ids"].shape[1] > case.chunk_size


def is_padded(case: Case) -> bool:
    """Whether it is a prefill of rows of unequal length."""
    return is_prefill(case) and "attention_mask" in case.inputs


def is_far(case: Case) -> bool:
    """Whether it is a layer's attention at far positions."""
    return case.kind == "attention" and case.inputs["position_ids"].max() > FAR


def same_width(case: Case) -> bool:
    """Whether it is attention alone whose keys and values have the same shape."""
    return is_attention(case) and case.inputs["k_proj"].shape == case.inputs["v_proj"].shape


def has_dropout(case: Case) -> bool:
    """Whether it is attention with a mask for dropout."""
    return "dropout_mask" in case.inputs


FAULTS = [
    CaseFault(
        "scale 1 / head_dim",
        lambda case: replaced(attention_cases, "scaling", lambda head_dim: 1 / head_dim),
        is_attention,
        "output",
    ),
    CaseFault("GQA groups interleaved", published(faults.interleaved_groups), is_grouped, "output"),
    CaseFault(
        "k and v weights swapped",
        inputs_changed(lambda inputs: {"k_proj": inputs["v_proj"], "v_proj": inputs["k_proj"]}),
        same_width,
        "output",
    ),
    CaseFault(
        "no causal mask",
        lambda case: replaced(modeling_qwen3, "create_causal_mask", lambda **_: None),
        is_causal,
        "output",
    ),
    CaseFault("mask shows the next token", published(faults.mask_changed(1, visible=True)), is_causal, "output"),
    CaseFault(
        "cache one slot off",
        lambda case: replaced(attention_cases, "new_cache", ShiftedCache),
        lambda case: is_attention(case) and attention_cases.has_cache(case),
        "output",
    ),
    CaseFault(
        "no dropout in training",
        inputs_changed(lambda inputs: {"dropout_mask": torch.ones_like(inputs["dropout_mask"])}),
        has_dropout,
        "output_training",
    ),
    CaseFault(
        "kept weights not scaled up",
        inputs_changed(lambda inputs: {"dropout_mask": inputs["dropout_mask"].clamp(max=1)}),
        has_dropout,
        "output_training",
    ),
    CaseFault("dropout in evaluation", dropout_in_evaluation, has_dropout, "output"),
    CaseFault(
        "mask shows the next token",
        published(faults.mask_changed(1, visible=True)),
        lambda case: is_prefill(case) and case.chunk_size > 1,
        "logits",
    ),
    CaseFault("mask hides the token itself", published(faults.mask_changed(0, visible=False)), is_prefill, "logits"),
    CaseFault("left padding attended to", published(faults.padding_ignored), is_padded, "logits"),
    CaseFault("later chunks one position off", published(faults.decode_position_off_by_one), has_chunks, "logits"),
    CaseFault(
        "cache one slot off",
        lambda case: replaced(prefill_cases, "DynamicCache", ShiftedCache),
        has_chunks,
        "logits",
    ),
    CaseFault("positions off by one", rotary_changed(lambda ids, theta: (ids + 1, theta)), is_far, "query_states"),
    CaseFault("theta off by 1 %", rotary_changed(lambda ids, theta: (ids, 1.01 * theta)), is_far, "query_states"),
    CaseFault(
        "positions in bfloat16",
        rotary_changed(lambda ids, theta: (ids.bfloat16().double(), theta)),
        is_far,
        "query_states",
    ),
    CaseFault(
        "loss of the tokens themselves",
        lambda case: replaced(gradient_cases, "targets", next_token_not_shifted),
        is_backward,
        "loss",
    ),
    CaseFault(
        "padding in the loss",
        lambda case: replaced(gradient_cases, "targets", padding_in_the_loss),
        is_backward,
        "loss",
    ),
    CaseFault(
        "norm's root taken for a constant",
        lambda case: replaced(modeling_qwen3.Qwen3RMSNorm, "forward", root_without_gradient),
        is_backward,
        "gradient.",
    ),
    CaseFault(
        "gradient of one head of a group",
        lambda case: replaced(modeling_qwen3, "repeat_kv", one_head_of_each_group),
        is_grouped_backward,
        "gradient.",
    ),
    CaseFault(
        "tied head without gradient",
        lambda case: replaced(nn.Linear, "forward", head_without_gradient),
        is_tied_backward,
        "gradient.model.embed_tokens",
    ),
]


class Runs:
    """Runs cases in float32, with the models and layers of their checkpoints."""

    def __init__(self, checkpoints: dict[str, Path]) -> None:
        self.checkpoints = checkpoints
        self.model = cache(lambda name: load_model(checkpoints[name], torch.float32))
        self.layer = cache(lambda name, index: load_layer(checkpoints[name], index, torch.float32))

    def run(self, case: Case) -> Tensors:
        """What the case's tensors are with whatever fault is planted now."""
        if is_attention(case):
            return attention_cases.run(case, torch.float32)
        if case.kind == prefill_cases.KIND:
            return prefill_cases.run(case, self.model(case.checkpoint))
        if is_backward(case):
            return gradient_cases.run(case, self.model(case.checkpoint))
        return layer_runs.run(case, self.layer(case.checkpoint, case.layer), torch.float32)

    def ratio(self, fault: CaseFault, case: Case) -> float:
        """The largest ratio of error to tolerance in the tensors that show the fault."""
        with fault.plant(case):
            observed = self.run(case)
        found = ratios(case, observed, "f32")
        return max(ratio for name, ratio in found.items() if name.startswith(fault.shows_in))


def check(checkpoints: dict[str, Path], cases: list[Case]) -> None:
    """Prints of each fault the case that shows it least; fails unless it is clear there.

    Also fails when Transformers itself does not pass one of the cases.
    """
    runs = Runs(checkpoints)
    concerned = {case.id: case for fault in FAULTS for case in cases if fault.concerns(case)}
    if not concerned:
        return
    for case in concerned.values():
        for name, ratio in ratios(case, runs.run(case), "f32").items():
            if not ratio <= 1:
                raise CheckError(f"{case.id}: {name}: Transformers itself is at {ratio:.3g} of the tolerance")
    unclear = []
    print(f"\n{'fault':32} {'cases':>5} {'f32':>8}  least clear case")
    for fault in FAULTS:
        found = {case.id: runs.ratio(fault, case) for case in concerned.values() if fault.concerns(case)}
        if not found:
            continue
        least = min(found, key=found.get)
        print(f"{fault.name:32} {len(found):5} {found[least]:8.2g}  {least}", flush=True)
        unclear += [f"{fault.name} in {name}" for name, ratio in found.items() if not ratio > CLEAR]
    if unclear:
        raise CheckError(f"not clear: {'; '.join(unclear)}")
