"""Random numbers that depend on a seed and a name only, not on threads, order or CPU."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import torch


def generator(seed: int, name: str) -> np.random.Generator:
    """The stream of one tensor: PCG64 seeded with `seed` and the name's CRC-32."""
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))


def normal(seed: int, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers, float32, of the given shape."""
    return torch.from_numpy(generator(seed, name).standard_normal(shape, dtype=np.float32))


def normal_chunks(seed: int, name: str, count: int, size: int = 1 << 24) -> Iterator[torch.Tensor]:
    """`count` standard normal numbers, float32, in one-dimensional pieces of at most `size`."""
    stream = generator(seed, name)
    for start in range(0, count, size):
        yield torch.from_numpy(stream.standard_normal(min(size, count - start), dtype=np.float32))


def exact_in_halves(values: torch.Tensor) -> torch.Tensor:
    """Rounds to numbers that float16 and bfloat16 both hold exactly; float32, any shape."""
    return values.to(torch.float16).to(torch.bfloat16).to(torch.float32)
