"""Writes a checkpoint as a GGUF file, in one dtype and without a tokenizer, for llama.cpp."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import common
import gguf
import numpy as np

FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
}
STORED = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


@dataclass
class Tensor:
    """A tensor of a safetensors file, not read yet."""

    key: str
    file: Path
    dtype: str
    shape: list[int]
    start: int

    def read(self) -> np.ndarray:
        """Its values as float32, in its shape."""
        stored = np.memmap(self.file, STORED[self.dtype], "r", self.start, tuple(self.shape))
        if self.dtype == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)


def tensors(file: Path) -> Iterator[Tensor]:
    """The tensors of a safetensors file."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        for key, entry in header.items():
            if key != "__metadata__":
                start, end = entry["data_offsets"]
                if entry["dtype"] not in STORED or 8 + length + end > file.stat().st_size:
                    raise ValueError(f"{key}: {entry['dtype']} up to byte {end}")
                yield Tensor(key, file, entry["dtype"], entry["shape"], 8 + length + start)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise common.InputError(f"{file} is not a safetensors file of floats: {common.one_line(error)}") from error


def kind(tensor: Tensor, dtype: str) -> gguf.GGMLQuantizationType:
    """What a tensor is stored as: vectors stay float32, as llama.cpp wants them."""
    return gguf.GGMLQuantizationType[dtype.upper() if len(tensor.shape) > 1 else "F32"]


def named(checkpoint: common.Checkpoint) -> dict[str, Tensor]:
    """The tensors by their names in GGUF."""
    config = checkpoint.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    result = {}
    for tensor in (tensor for file in checkpoint.files for tensor in tensors(file)):
        name = names.get_name(tensor.key, (".weight", ".bias"))
        if name is None:
            raise common.InputError(f"{tensor.file}: {tensor.key} is no tensor of a Qwen3")
        # llama.cpp takes the embedding where there is no output.
        if name != "output.weight" or not config.get("tie_word_embeddings"):
            result[name] = tensor
    return result


def write(checkpoint: common.Checkpoint, dtype: str, path: Path) -> None:
    """Writes the whole file; one tensor is in memory at a time."""
    config = checkpoint.config
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.QWEN3])
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(common.rope_theta(config))
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    every = named(checkpoint)
    for name, tensor in every.items():
        stored = kind(tensor, dtype)
        size = math.prod(tensor.shape) * (4 if stored == gguf.GGMLQuantizationType.F32 else 2)
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, raw_dtype=stored)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in every.values():
        writer.write_tensor_data(gguf.quantize(tensor.read(), kind(tensor, dtype)))
    writer.close()


def digest(checkpoint: common.Checkpoint) -> str:
    """Of the configuration, and of the weight files' names, sizes and times."""
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in checkpoint.files]
    return hashlib.sha256(json.dumps([checkpoint.config, stats]).encode()).hexdigest()[:16]


def cached(checkpoint: common.Checkpoint, dtype: str, folder: Path) -> Path:
    """The checkpoint's GGUF file in `folder`; written by another process when missing, whose memory is not ours."""
    path = folder / f"{checkpoint.path.resolve().name}-{digest(checkpoint)}-{dtype}.gguf"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as other:
                other.submit(write, checkpoint, dtype, part).result()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path
