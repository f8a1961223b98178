"""What the arguments of a model's call tell: tokens, mask, and how many tokens its cache holds."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from . import layouts

if TYPE_CHECKING:
    from torch.nn import Module


# Among the arguments of a call: its module can be given a cache.
TAKES_CACHE = "takes_cache"


def arguments(module: Module, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names; positional ones without a name are left out."""
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    given = dict(zip(names, args, strict=False)) | options
    if "past_key_values" in names:
        given[TAKES_CACHE] = True
    return {name: value for name, value in given.items() if value is not None}


def grid(value: Any) -> np.ndarray | None:
    """Integers [batch, n], or [n] of one sequence, as int64 [batch, n]; None for anything else."""
    tensor = layouts.first_tensor(value)
    if tensor is None or tensor.is_floating_point() or tensor.ndim not in (1, 2):
        return None
    return np.atleast_2d(layouts.copied(tensor))


def dims(call: dict[str, Any]) -> tuple[int, int] | None:
    """Batch and new tokens of a call; None where nothing tells."""
    ids = grid(call.get("input_ids"))
    if ids is not None:
        return ids.shape
    embedded = layouts.first_tensor(call.get("inputs_embeds"))
    if embedded is None or embedded.ndim not in (2, 3):
        return None
    return (1, len(embedded)) if embedded.ndim == 2 else tuple(embedded.shape[:2])


def cached(cache: Any) -> int | None:
    """How many tokens a cache holds: a `Cache` of Transformers, or keys and values of each layer."""
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    if isinstance(cache, (tuple, list)):
        first = layouts.first_tensor(cache[0]) if cache else None
        return 0 if first is None else first.shape[-2]
    return None


def past(call: dict[str, Any], length: int) -> int | None:
    """How many tokens came before the new ones; None where nothing tells."""
    if "past_key_values" in call and (found := cached(call["past_key_values"])) is not None:
        return found
    for name in ("cache_position", "positions"):
        if (positions := grid(call.get(name))) is not None:
            return int(positions[0, 0])
    mask = grid(call.get("attention_mask"))
    if mask is not None and mask.shape[1] > length:
        return mask.shape[1] - length
    positions = grid(call.get("position_ids"))
    if positions is not None and mask is None and positions.shape[1] == length:
        return max(0, int(positions.max()) + 1 - length)
    # None was given where one could have been.
    return 0 if TAKES_CACHE in call else None
