"""Sees what `apply_rotary_pos_emb` gives, the function that the attention of Transformers and of its copies calls."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import layouts

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

NAME = "apply_rotary_pos_emb"


@contextmanager
def watched(attentions: Iterable[Module], keep: Callable[[Any, Any, int], None]) -> Iterator[None]:
    """Calls `keep(queries, keys, unsqueeze_dim)` after each call, in the modules that define these attentions."""
    spaces = {id(space): space for space in (vars(sys.modules[type(part).__module__]) for part in attentions)}
    originals = [(space, space[NAME]) for space in spaces.values() if callable(space.get(NAME))]

    def watching(apply: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(apply)
        def watched_apply(*args: Any, **options: Any) -> Any:
            result = apply(*args, **options)
            if isinstance(result, tuple) and len(result) == 2:
                # The last of the parameters q, k, cos, sin, position_ids, unsqueeze_dim.
                given = args[5] if len(args) > 5 else 1
                keep(*result, options.get("unsqueeze_dim", given))
            return result

        return watched_apply

    for space, apply in originals:
        space[NAME] = watching(apply)
    try:
        yield
    finally:
        for space, apply in originals:
            space[NAME] = apply


def heads_first(value: Any, batch: int, length: int, width: int | None, head_dim: int, unsqueeze_dim: int) -> Any:
    """Rotated queries or keys as [batch, heads, length, head_dim]; None where their layout is not certain.

    `width` is heads * head_dim, by the projection.
    """
    tensor = layouts.first_tensor(value)
    if tensor is None or width is None or tensor.ndim != 4:
        return None
    heads = width // head_dim
    shape = tuple(tensor.shape)
    first, second = (batch, heads, length, head_dim), (batch, length, heads, head_dim)
    if shape not in (first, second):
        return None
    array: np.ndarray = layouts.copied(tensor)
    # Where both fit, what the cosines were broadcast over decides.
    is_first = unsqueeze_dim == 1 if first == second else shape == first
    return array if is_first else array.swapaxes(1, 2)
