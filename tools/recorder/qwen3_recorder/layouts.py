"""Brings what modules give into the layouts of a file of activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module returned, or the first one of several."""
    import torch

    if isinstance(value, (tuple, list)):
        value = next((part for part in value if isinstance(part, torch.Tensor)), None)
    return value if isinstance(value, torch.Tensor) else None


def stream(value: Any) -> Tensor | None:
    """What goes on from a decoder layer: what it returned, or the sum of the two halves of it that vLLM's layers return.

    Those are what the feed-forward block gave and the residual stream that it is yet to be added to.
    """
    import torch

    halves = value if isinstance(value, (tuple, list)) else ()
    if len(halves) == 2 and all(isinstance(half, torch.Tensor) and half.is_floating_point() for half in halves):
        added, residual = halves
        if added.shape == residual.shape:
            wide = torch.float64 if added.dtype == torch.float64 else torch.float32
            return added.detach().to(wide) + residual.detach().to(wide)
    return first_tensor(value)


def copied(tensor: Tensor) -> np.ndarray:
    """A copy on the CPU that nothing overwrites: floats as float32, or float64 where they are; integers as int64."""
    import torch

    if hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    if tensor.is_floating_point():
        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    else:
        dtype = torch.int64
    return tensor.detach().to("cpu", dtype, copy=True).contiguous().numpy()


def token_rows(array: np.ndarray, batch: int, length: int, mask: np.ndarray | None) -> np.ndarray | None:
    """`[batch, length, width]`, `[length, batch, width]` or flattened tokens -> [batch, length, width].

    Tokens without padding go where `mask` [batch, length] has them. None: neither fits.
    """
    if array.ndim < 2:
        return None
    width = array.shape[-1]
    if array.shape[:2] == (length, batch) and array.ndim == 3 and batch > 1 and length != batch:
        return array.swapaxes(0, 1)
    if array.size == batch * length * width:
        return array.reshape(batch, length, width)
    if mask is not None and array.size == np.count_nonzero(mask) * width:
        result = np.zeros((batch, length, width), array.dtype)
        result[mask != 0] = array.reshape(-1, width)
        return result
    return None


def head_rows(array: np.ndarray, batch: int, length: int, mask: np.ndarray | None) -> np.ndarray | None:
    """`[batch, length, heads, head_dim]`, heads before the tokens, or flattened tokens -> the first; None: no fit."""
    if array.ndim == 4 and array.shape[0] == batch and array.shape[1] != length and array.shape[2] == length:
        return array.swapaxes(1, 2)
    if array.ndim not in (3, 4):
        return None
    heads, head_dim = array.shape[-2:]
    rows = token_rows(array.reshape(*array.shape[:-2], heads * head_dim), batch, length, mask)
    return None if rows is None else rows.reshape(batch, length, heads, head_dim)


def dense(values: np.ndarray, experts: np.ndarray, num_experts: int) -> np.ndarray:
    """What is known of the chosen experts, [tokens, chosen], as [tokens, num_experts] with 0 elsewhere."""
    result = np.zeros((len(experts), num_experts), values.dtype)
    np.put_along_axis(result, experts, values, axis=1)
    return result


def routing(output: Any) -> dict[str, np.ndarray]:
    """What a router returned: its `logits` alone, or with the `weights` and the indices of the chosen `experts`.

    Each [tokens, ..]; empty where it is neither.
    """
    import torch

    parts = [part for part in (output if isinstance(output, (tuple, list)) else (output,))
             if isinstance(part, torch.Tensor)]  # fmt: skip
    floats = [copied(part) for part in parts if part.is_floating_point()]
    indices = [copied(part) for part in parts if not part.is_floating_point()]
    if not floats:
        return {}
    floats = [part.reshape(-1, part.shape[-1]) for part in floats]
    result = {"logits": floats[0]}
    if len(floats) == 2 and len(indices) == 1:
        experts = indices[0].reshape(-1, indices[0].shape[-1])
        weights = floats[1]
        # Some have zeros for all that are not chosen.
        if weights.shape[1] == floats[0].shape[1] != experts.shape[1]:
            weights = np.take_along_axis(weights, experts, axis=1)
        if weights.shape == experts.shape:
            result |= {"weights": weights, "experts": experts}
    return result
