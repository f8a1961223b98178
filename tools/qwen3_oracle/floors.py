"""Noise floors: how far Transformers' own runs are from the float64 run."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable

import torch

from .cases import Case, Tensors, errors, floating
from .errors import CheckError
from .files import rounded


def add_floors(case: Case, dtype: str, observed: Tensors) -> None:
    """Notes the errors of Transformers' run in `dtype` as the case's floors in it.

    A tensor that overflows in `dtype`, as large models do in float16, gets no floor there.
    """
    for name, (max_abs, rms) in errors(case, observed).items():
        floors = case.floors.setdefault(name, {})
        if math.isfinite(max_abs):
            floors[dtype] = {"max_abs": rounded(max_abs), "rms": rounded(rms)}
        else:
            print(f"{case.id}: {name} is not finite in {dtype}, so it has no floor there", file=sys.stderr)


def require(case: Case, dtypes: Iterable[str]) -> None:
    """Fails unless each tensor of the case that can have a floor has one in each of `dtypes`."""
    for name in floating(case.expected):
        missing = [dtype for dtype in dtypes if dtype not in case.floors.get(name, {})]
        if missing:
            raise CheckError(f"{case.id}: {name} has no floor in {', '.join(missing)}")


def unequal_share(first: torch.Tensor, second: torch.Tensor) -> float:
    """The share of elements that differ."""
    return (first != second).double().mean().item()


def add_same_dtype(case: Case, dtype: str, published: torch.Tensor, exact_inside: torch.Tensor) -> None:
    """Stores the published output in `dtype` beside its distance from a run that rounds at the same points only."""
    tensor = f"output_{dtype}"
    case.extra[tensor] = published
    unequal = rounded(unequal_share(published, exact_inside))
    case.same_dtype.setdefault("output", {})[dtype] = {"tensor": tensor, "unequal": unequal}
