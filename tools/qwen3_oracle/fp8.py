"""Matrices stored as `float8_e4m3fn`, with a scale for each block: `FineGrainedFP8Config` of Transformers.

Transformers multiplies such matrices on GPUs alone. Here they are multiplied by their scales when they are read, as
Transformers does it with `dequantize=True`, and the model is an ordinary one.
"""

from __future__ import annotations

import torch

from .errors import InputError

SCALES = "_scale_inv"
LARGEST = torch.finfo(torch.float8_e4m3fn).max


def block_size(values: dict[str, object]) -> tuple[int, int] | None:
    """Rows and columns of a block by a `config.json`; None when its weights are plain."""
    quantization = values.get("quantization_config")
    if quantization is None:
        return None
    size = quantization.get("weight_block_size")
    if quantization.get("quant_method") != "fp8" or not size:
        raise InputError(f"quantization_config {quantization} is not supported, only fp8 in blocks")
    return size[0], size[1]


def spread(scales: torch.Tensor, blocks: tuple[int, int], shape: torch.Size) -> torch.Tensor:
    """The scale of each element of a matrix of `shape`, float32."""
    rows, columns = (torch.arange(length) // size for length, size in zip(shape, blocks, strict=True))
    return scales.float()[rows[:, None], columns[None]]


def quantise(weight: torch.Tensor, blocks: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as eight bits and its scales, float32: the largest number of a block becomes the format's."""
    counts = [-(-length // size) for length, size in zip(weight.shape, blocks, strict=True)]
    scales = torch.empty(counts)
    for row in range(counts[0]):
        for column in range(counts[1]):
            block = weight[row * blocks[0] :, column * blocks[1] :][: blocks[0], : blocks[1]]
            scales[row, column] = block.float().abs().max() / LARGEST
    return (weight.float() / spread(scales, blocks, weight.shape)).to(torch.float8_e4m3fn), scales


def quantised(weights: dict[str, torch.Tensor], blocks: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint whose projections are stored as eight bits."""
    result = {}
    for key, weight in weights.items():
        if key.endswith("_proj.weight"):
            result[key], result[key + SCALES] = quantise(weight, blocks)
        else:
            result[key] = weight
    return result


def dequantised(stored: dict[str, torch.Tensor], blocks: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The tensors multiplied by their scales, those in float32; the others as they are stored."""
    result = {}
    for key, weight in stored.items():
        if weight.dtype == torch.float8_e4m3fn:
            result[key] = weight.float() * spread(stored[key + SCALES], blocks, weight.shape)
        elif not key.endswith(SCALES):
            result[key] = weight
    return result
