"""Seeded random Qwen3 checkpoints whose activations behave like a trained model's.

Weights drawn with the usual standard deviation of 0.02 make attention uniform and logits near zero; a wrong
RoPE or a missing q_norm would not show. Here each projection keeps the scale of its input and every norm has
weights of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import Qwen3Config

from . import draws, fp8, sparse
from .checkpoint import INDEX_FILE, SINGLE_FILE
from .files import write_json, write_safetensors, write_safetensors_stream

Shapes = dict[str, tuple[int, ...]]


def shapes(config: Qwen3Config) -> Shapes:
    """Key and shape of each tensor of the `state_dict`, one for each expert; no `lm_head.weight` when it is tied."""
    with torch.device("meta"):
        state = sparse.split(sparse.build(config).state_dict())
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def from_normal(key: str, shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The map from standard normal draws to the values of tensor `key`.

    The final norm has weights of both signs: with tied embeddings, positive ones would make every token
    predict itself.
    """
    if key == "model.norm.weight":
        return lambda draw: torch.copysign(0.35 + 0.1 * draw.abs(), draw)
    if key.endswith(("q_norm.weight", "k_norm.weight")):
        return lambda draw: (1.4 + 0.35 * draw).clamp(0.4, 2.4)
    if key.endswith("layernorm.weight"):
        return lambda draw: (1.0 + 0.3 * draw).clamp(0.25, 2.0)
    if key.endswith(".bias"):
        return lambda draw: 0.5 * draw
    if key == "model.embed_tokens.weight":
        return lambda draw: draw
    if key.endswith("mlp.gate.weight"):
        return lambda draw: draw * 3 / math.sqrt(shape[1])
    scale = (6 if key == "lm_head.weight" else 1) / math.sqrt(shape[1])
    return lambda draw: draw * scale


def values(seed: int, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """The values of one tensor, in flat pieces."""
    convert = from_normal(key, shape)
    for piece in draws.normal_chunks(seed, key, math.prod(shape)):
        yield convert(piece).to(dtype)


def split(tensors: Shapes, count: int) -> list[Shapes]:
    """Splits tensors, in their order, into `count` shards of about the same number of elements."""
    total = sum(math.prod(shape) for shape in tensors.values())
    parts: list[Shapes] = [{} for _ in range(count)]
    before = 0
    for key, shape in tensors.items():
        size = math.prod(shape)
        parts[min(count - 1, (2 * before + size) * count // (2 * total))][key] = shape
        before += size
    return parts


def write_weights(
    directory: Path,
    config: Qwen3Config,
    dtype: torch.dtype,
    seed: int,
    shards: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Writes the weights as `save_pretrained` names them, holding no more than a piece of one tensor in memory."""
    tensors = shapes(config)
    parts = split(tensors, shards)
    weight_map = {}
    for number, part in enumerate(parts, 1):
        name = SINGLE_FILE if shards == 1 else f"model-{number:05}-of-{shards:05}.safetensors"
        weight_map |= dict.fromkeys(part, name)

        def pieces(part: Shapes = part, name: str = name) -> Iterator[torch.Tensor]:
            for key, shape in part.items():
                progress(f"{name}: {key} {list(shape)}")
                yield from values(seed, key, shape, dtype)

        entries = [(key, dtype, shape) for key, shape in part.items()]
        write_safetensors_stream(directory / name, entries, pieces(), {"format": "pt"})
    if shards > 1:
        parameters = sum(math.prod(shape) for shape in tensors.values())
        metadata = {"total_parameters": parameters, "total_size": parameters * dtype.itemsize}
        write_json(directory / INDEX_FILE, {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))})


def whole(config: Qwen3Config, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    """The same weights, all in memory."""
    return {
        key: torch.cat(list(values(seed, key, shape, dtype))).reshape(shape) for key, shape in shapes(config).items()
    }


def twins(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with every second expert, and its row of the router, made the one before it: ties everywhere."""
    result = {}
    for key, tensor in tensors.items():
        expert = sparse.EXPERT.match(key)
        if expert:
            first = int(expert["expert"]) // 2 * 2
            tensor = tensors[f"{expert['block']}.{first}.{expert['name']}_proj.weight"].clone()
        elif key.endswith("mlp.gate.weight"):
            tensor = tensor[torch.arange(len(tensor)) // 2 * 2]
        result[key] = tensor
    return result


def write_whole(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes weights into one file."""
    write_safetensors(directory / SINGLE_FILE, tensors, {"format": "pt"})


def write_fp8(directory: Path, config: Qwen3Config, dtype: torch.dtype, seed: int, blocks: tuple[int, int]) -> None:
    """Writes the same weights, projections as eight bits with a scale for each block, into one file."""
    write_whole(directory, fp8.quantised(whole(config, dtype, seed), blocks))
