"""Reading of checkpoint directories: configuration, tensors, whole models and single layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3Model
from transformers.models.qwen3 import modeling_qwen3

from . import dtypes, fp8, rope, sparse
from .errors import InputError
from .files import read_json

DTYPES = {short: getattr(torch, name) for short, name in dtypes.NAMES.items()}
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass
class Layer:
    """One decoder layer with what it needs to run without its model."""

    config: Qwen3Config
    index: int
    module: modeling_qwen3.Qwen3DecoderLayer
    rotary_emb: modeling_qwen3.Qwen3RotaryEmbedding


def read_config(path: Path) -> Qwen3Config:
    """Reads the configuration of a Qwen3, dense or with experts, from `config.json` itself or the directory it is in."""
    file = path / "config.json" if path.is_dir() else path
    values = read_json(file)
    model_type = values.get("model_type") if isinstance(values, dict) else None
    if model_type not in ("qwen3", sparse.MODEL_TYPE):
        raise InputError(f"{file} is no Qwen3 configuration: model_type is {model_type!r}")
    fp8.block_size(values)
    try:
        # How weights are stored is no part of the model.
        make = Qwen3Config.from_dict if model_type == "qwen3" else sparse.config_of
        config = make({name: value for name, value in values.items() if name != "quantization_config"})
    except Exception as error:
        raise InputError(f"{file}: {str(error).splitlines()[0]}") from error
    if config.rope_parameters["rope_type"] not in rope.TYPES:
        raise InputError(f"{file}: rope_type {config.rope_parameters['rope_type']!r} is not supported")
    rope.check(config)
    config._attn_implementation = "eager"
    return config


def weight_files(path: Path) -> dict[str, Path]:
    """The file of each tensor of a checkpoint directory, by the index where there is one."""
    index = path / INDEX_FILE
    if index.is_file():
        files = {key: path / name for key, name in read_json(index)["weight_map"].items()}
    elif (path / SINGLE_FILE).is_file():
        try:
            with safe_open(path / SINGLE_FILE, "pt") as file:
                files = {key: path / SINGLE_FILE for key in file.keys()}
        except SafetensorError as error:
            raise InputError(f"{path / SINGLE_FILE}: {error}") from error
    else:
        raise InputError(f"{path} has neither {SINGLE_FILE} nor {INDEX_FILE}")
    for file in set(files.values()):
        if not file.is_file():
            raise InputError(f"{file} not found, though {INDEX_FILE} names it")
    return files


def checkpoint_files(path: Path) -> list[str]:
    """The names of the files that make a checkpoint: configurations, index, weights, tokenizer."""
    weights = {file.name for file in weight_files(path).values()}
    others = {INDEX_FILE, "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    return ["config.json", *sorted(weights | {name for name in others if (path / name).is_file()})]


def fp8_blocks(path: Path) -> tuple[int, int] | None:
    """The blocks of a checkpoint whose matrices are stored as eight bits; None for any other."""
    return fp8.block_size(read_json(path / "config.json"))


def plain(path: Path, stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint as they are used."""
    blocks = fp8_blocks(path)
    return stored if blocks is None else fp8.dequantised(stored, blocks)


def layer_weights(path: Path, index: int) -> dict[str, torch.Tensor]:
    """The tensors of layer `index` as stored, by their keys inside the layer; those of eight bits in float32."""
    config = read_config(path)
    if not 0 <= index < config.num_hidden_layers:
        raise InputError(f"layer {index} is out of range: {path} has {config.num_hidden_layers} layers")
    prefix = f"layers.{index}."
    weights = {}
    for key, file in weight_files(path).items():
        # Keys of a decoder without its head do not begin with `model.`.
        inside = key.removeprefix("model.")
        if inside.startswith(prefix):
            with safe_open(file, "pt") as tensors:
                weights[inside.removeprefix(prefix)] = tensors.get_tensor(key)
    return plain(path, weights)


def load_layer(path: Path, index: int, dtype: torch.dtype) -> Layer:
    """`Qwen3DecoderLayer` number `index` of a checkpoint, with its weights in `dtype`."""
    config = read_config(path)
    weights = layer_weights(path, index)
    with torch.device("meta"):
        module = sparse.build_layer(config, index)
    cast = {key: tensor.to(dtype) for key, tensor in sparse.fused(weights).items()}
    try:
        module.load_state_dict(cast, assign=True)
    except RuntimeError as error:
        raise InputError(f"{path}: layer {index}: {' '.join(str(error).split())}") from error
    return Layer(config, index, module.eval(), modeling_qwen3.Qwen3RotaryEmbedding(config))


def load_model(path: Path, dtype: torch.dtype) -> Qwen3ForCausalLM:
    """`Qwen3ForCausalLM` with eager attention, offline; every key must be there and be used."""
    config = read_config(path)
    files = weight_files(path)
    if fp8_blocks(path) is not None or hasattr(config, "sparse"):
        return load_made(path, config, files, dtype)
    return load_as(Qwen3ForCausalLM, path, config, dtype)


def load_encoder(path: Path, dtype: torch.dtype) -> Qwen3Model:
    """`Qwen3Model`, the decoder without its head, of a checkpoint with or without one; else as `load_model`."""
    return load_as(Qwen3Model, path, read_config(path), dtype)


def load_as(kind: type[PreTrainedModel], path: Path, config: Qwen3Config, dtype: torch.dtype) -> PreTrainedModel:
    """A model of this class with eager attention, offline; every key must be there and be used."""
    try:
        model, info = kind.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(problem):
            raise InputError(f"{path}: {problem.replace('_', ' ')}: {sorted(info[problem])}")
    return model.eval()


def load_made(path: Path, config: Qwen3Config, files: dict[str, Path], dtype: torch.dtype) -> Qwen3ForCausalLM:
    """`load_model` of a checkpoint whose matrices are stored as eight bits, or which has experts."""
    stored = {}
    for key, file in files.items():
        with safe_open(file, "pt") as tensors:
            stored[key] = tensors.get_tensor(key)
    fused = sparse.fused(plain(path, stored))
    del stored
    # One tensor after the other, for they may be most of what memory there is.
    weights = {key: fused.pop(key).to(dtype) for key in list(fused)}
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = sparse.build(config)
    # Its frequencies are in no checkpoint.
    model.model.rotary_emb = modeling_qwen3.Qwen3RotaryEmbedding(config)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    model.tie_weights()
    return model.eval()
