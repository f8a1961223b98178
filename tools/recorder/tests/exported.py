"""Writes checkpoints of the fixtures as ONNX and GGUF files."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import support
import torch
from safetensors.torch import load_file
from torch import nn

# The modules of the benchmark's peers, which write GGUF files.
PEERS = support.TOOLS / "peers"


class Logits(nn.Module):
    """A model without a cache, as exporters want it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.model
        self.lm_head = model.lm_head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return self.lm_head(hidden)


def onnx(name: str, newer: bool, path: Path) -> Path:
    """An ONNX file by the TorchScript exporter, or the newer one, for prompts of any length."""
    # The default for experts has no operator in ONNX.
    experts = {"experts_implementation": "batched_mm"} if "experts" in name else {}
    model = Logits(support.load(name, **experts))
    ids = torch.arange(5)[None]
    names = ["input_ids", "attention_mask"]
    options = {"input_names": names, "output_names": ["logits"], "dynamo": newer}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if newer:
            length = {1: torch.export.Dim("seq")}
            torch.onnx.export(model, (ids, torch.ones_like(ids)), path, dynamic_shapes=(length, length), **options)
        else:
            axes = {key: {0: "batch", 1: "seq"} for key in (*names, "logits")}
            torch.onnx.export(model, (ids, torch.ones_like(ids)), path, dynamic_axes=axes, opset_version=17, **options)
    return path


def gguf(name: str, dtype: str, path: Path) -> Path:
    """A GGUF file of a dense checkpoint."""
    if str(PEERS) not in sys.path:
        sys.path.insert(0, str(PEERS))
    import common
    import gguf_file

    gguf_file.write(common.read_checkpoint(support.CHECKPOINTS / name), dtype, path)
    return path


def gguf_experts(name: str, path: Path) -> Path:
    """A GGUF file in float32 of a checkpoint with experts in every layer."""
    import gguf

    folder = support.CHECKPOINTS / name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers, count = config["num_hidden_layers"], config["num_experts"]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.QWEN3MOE])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(layers)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_count(count)
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    for key, tensor in stacked(tensors(folder / "model.safetensors"), layers, count).items():
        writer.add_tensor(key, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(file: Path) -> dict[str, np.ndarray]:
    """A safetensors file in float32."""
    return {key: tensor.float().numpy() for key, tensor in load_file(file).items()}


def stacked(found: dict[str, np.ndarray], layers: int, count: int) -> dict[str, np.ndarray]:
    """The tensors by their names in GGUF, one for all experts of a layer."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3MOE, layers)
    result = {}
    for key, tensor in found.items():
        if ".experts." not in key and key != "lm_head.weight":
            result[names.get_name(key, (".weight",))] = tensor
    for layer in range(layers):
        for part in ("gate", "up", "down"):
            path = f"model.layers.{layer}.mlp.experts"
            experts = [found[f"{path}.{expert}.{part}_proj.weight"] for expert in range(count)]
            result[f"blk.{layer}.ffn_{part}_exps.weight"] = np.stack(experts)
    return result
