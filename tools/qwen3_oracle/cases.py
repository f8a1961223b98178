"""What a parity case is, and which of its elements count."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

import torch

from .taps import HEADS_FIRST

Tensors = dict[str, torch.Tensor]

UNPADDED = ("rope_cos", "rope_sin", "generated_ids", "step_logits", "margins")


@dataclass
class Case:
    """One parity case: inputs, float64 results and how far Transformers itself is from them.

    `checkpoint` is empty where a case needs none. `file` is relative to the manifest. `attention` are the sizes of
    attention on its own, `chunk_size` how many tokens a prefill reads at once. `floors` maps a tensor and a dtype to
    the error of Transformers' own run; `isolated_floors` those of modules that are given the right input.
    `extra` are tensors stored beside inputs and results. `published_difference` is how far published Transformers
    on float64 weights is from the oracle, in the logits. `taps` asks a whole model for what passes through its layers,
    `steps` for what passes through it in each cached step.
    """

    id: str
    kind: str
    description: str
    checkpoint: str
    file: PurePosixPath
    inputs: Tensors
    layer: int | None = None
    module: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    new_tokens: int = 0
    taps: bool = False
    steps: bool = False
    attention: dict[str, object] = field(default_factory=dict)
    chunk_size: int | None = None
    expected: Tensors = field(default_factory=dict)
    floors: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    isolated_floors: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    same_dtype: dict[str, dict[str, dict[str, object]]] = field(default_factory=dict)
    extra: Tensors = field(default_factory=dict)
    published_difference: float | None = None


def counted(case: Case, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Which elements of tensor `name` count: a boolean of its shape, false at left padding."""
    mask = case.inputs.get("attention_mask")
    if mask is None or name in UNPADDED or case.kind == "gradients":
        return torch.ones_like(tensor, dtype=torch.bool)
    if "columns" in case.inputs:
        mask = mask[:, case.inputs["columns"]]
    lead = mask[:, None, :] if name.endswith(HEADS_FIRST) else mask
    return lead.bool().reshape(*lead.shape, *[1] * (tensor.dim() - lead.dim())).expand_as(tensor)


def without_padding(case: Case, tensors: Tensors) -> Tensors:
    """The tensors with 0 at padded positions."""
    return {name: tensor.masked_fill(~counted(case, name, tensor), 0) for name, tensor in tensors.items()}


def floating(tensors: Tensors) -> Tensors:
    """Those of the tensors that have an error: neither token ids nor the margins made from the logits."""
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and name != "margins"}


def activations(tensors: Tensors) -> Tensors:
    """Those of the tensors that come from the forward pass of a prompt, in the order of computation."""
    return {name: tensor for name, tensor in tensors.items() if name not in UNPADDED}


def errors(case: Case, observed: Tensors) -> dict[str, tuple[float, float]]:
    """Largest and root-mean-square error of each floating point tensor, over the elements that count."""
    result = {}
    for name, expected in floating(case.expected).items():
        difference = (observed[name].double() - expected.double())[counted(case, name, expected)]
        result[name] = (difference.abs().max().item(), difference.square().mean().sqrt().item())
    return result
