"""What the tests share: checkpoints, references, and how far a float32 run may be off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from qwen3_recorder import record

TOOLS = Path(__file__).resolve().parents[2]
FIXTURES = TOOLS.parent / "fixtures"
CHECKPOINTS = FIXTURES / "checkpoints"
# As in the accuracy policy: so many floors, and units in the last place of the largest value.
FLOORS = 4
ULPS = 4

Arrays = dict[str, np.ndarray]


def reference(name: str, case: str = "prompt1") -> Arrays:
    """A reference of the fixtures."""
    with np.load(FIXTURES / name / case / "reference.npz") as archive:
        return dict(archive)


def load(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> torch.nn.Module:
    """A checkpoint of the fixtures, by Transformers."""
    path = CHECKPOINTS / name
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True, **options).eval()


def read(path: Path) -> Arrays:
    """A file of activations."""
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def recorded(model: torch.nn.Module, out: Path, run: Callable[[], Any], **options: Any) -> Arrays:
    """What is recorded while `run` runs."""
    with record(model, out, **options), torch.no_grad():
        run()
    return read(out)


def greedy(
    model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, passes: int, chunk: int | None = None
) -> None:
    """A prompt in chunks, then `passes` cached passes of one token each, chosen by the logits before."""
    cache = None
    length = ids.shape[1]
    for start in range(0, length, chunk or length):
        end = min(length, start + (chunk or length))
        cache, logits = forward(model, ids[:, start:end], mask[:, :end], cache)
    for _ in range(passes):
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), 1)
        cache, logits = forward(model, logits[:, -1:].argmax(-1), mask, cache)


def forward(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> tuple[Any, torch.Tensor]:
    """One pass: the cache and the logits."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    made = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    return made.past_key_values, made.logits


def worst(found: Arrays, expected: Arrays, names: list[str], mask: np.ndarray | None = None) -> tuple[float, str]:
    """The largest error over what a float32 run may be off by, and where; at most 1 is sound."""
    ratios = []
    for name in names:
        right = expected[name].astype(np.float64)
        assert found[name].shape == right.shape, f"{name}: {found[name].shape} in place of {right.shape}"
        error = np.abs(found[name] - right)
        if mask is not None and error.ndim == 3 and error.shape[:2] == mask.shape:
            error = error[mask != 0]
        limit = FLOORS * expected[f"noise_floor.f32.{name}"][0] + ULPS * np.finfo(np.float32).eps * np.abs(right).max()
        ratios.append((float(error.max() / limit), name))
    return max(ratios)


def outputs(layers: int, *more: str) -> list[str]:
    """The keys around layers, without logits."""
    return ["embedding_output", *(f"layer_{layer:02}_output" for layer in range(layers)), "final_norm_output", *more]
