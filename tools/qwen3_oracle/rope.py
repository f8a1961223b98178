"""RoPE's frequencies in any precision, after `modeling_rope_utils.py`, whose own are float32."""

from __future__ import annotations

import math

import torch
from transformers import Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.qwen3 import modeling_qwen3

from .errors import CheckError, InputError

TYPES = ("default", "linear", "yarn")


def parameters(config: Qwen3Config) -> dict[str, object]:
    """`rope_parameters`, with YaRN's defaults filled in."""
    given = {name: value for name, value in config.rope_parameters.items() if value is not None}
    if given["rope_type"] not in TYPES:
        raise InputError(f"rope_type {given['rope_type']!r} is not supported, only {', '.join(TYPES)}")
    if given["rope_type"] != "yarn":
        return {"factor": 1.0, "attention_factor": 1.0} | given
    stretched = {"attention_factor": 0.1 * math.log(given["factor"]) + 1}
    return {"beta_fast": 32, "beta_slow": 1, "truncate": True} | stretched | given


def frequencies(head_dim: int, values: dict[str, object]) -> torch.Tensor:
    """Radians per token of each pair, float64 [head_dim / 2], by such `parameters`."""
    theta, factor = values["rope_theta"], values["factor"]
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    plain = 1.0 / torch.tensor(theta, dtype=torch.float64) ** exponents
    if values["rope_type"] != "yarn":
        return plain / factor

    def pair(turns: float) -> float:
        tokens = values["original_max_position_embeddings"]
        return head_dim * math.log(tokens / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(values["beta_fast"]), pair(values["beta_slow"])
    if values["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    pairs = torch.arange(head_dim // 2, dtype=torch.float64)
    stretched = ((pairs - low) / (high - low if high != low else 1e-3)).clamp(0, 1)
    return plain * (1 - stretched) + plain / factor * stretched


def tables(
    config: Qwen3Config, position_ids: torch.Tensor, dtype: torch.dtype, **changes: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [batch, seq, head_dim] of positions [batch, seq], computed in float64, with other parameters."""
    values = parameters(config) | changes
    freqs = position_ids[..., None].double() * frequencies(config.head_dim, values)
    emb = torch.cat((freqs, freqs), dim=-1)
    factor = values["attention_factor"]
    return (factor * emb.cos()).to(dtype), (factor * emb.sin()).to(dtype)


def check(config: Qwen3Config) -> None:
    """Fails unless these frequencies are Transformers' own up to float32."""
    kind = config.rope_parameters["rope_type"]
    default = modeling_qwen3.Qwen3RotaryEmbedding.compute_default_rope_parameters
    theirs, factor = (default if kind == "default" else ROPE_INIT_FUNCTIONS[kind])(config)
    values = parameters(config)
    difference = (frequencies(config.head_dim, values) / theirs.double() - 1).abs().max().item()
    if difference > 1e-5 or abs(values["attention_factor"] - factor) > 1e-12:
        raise CheckError(f"RoPE's frequencies are off by {difference:.3g}, their factor is {factor}")
