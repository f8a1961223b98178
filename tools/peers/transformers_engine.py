"""Transformers as an engine: sdpa attention, and a `StaticCache` as long as needed.

Measured against a `DynamicCache`, the `StaticCache` reads prompts as fast and decodes up to three times as fast behind
long contexts, since it does not copy all keys and values in every step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import common
import torch
import transformers
from transformers import Qwen3ForCausalLM, StaticCache

TORCH_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class Transformers:
    """`Qwen3ForCausalLM` and its cache."""

    def __init__(self, model: Qwen3ForCausalLM) -> None:
        self.model = model
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"

    def reserve(self, batch: int, length: int) -> None:
        """An empty cache; its memory comes with the first tokens, which the warm-up has."""
        self.batch = batch
        self.cache = StaticCache(config=self.model.config, max_cache_len=length)

    def fill(self, length: int, draw: Callable[[int], list[int]]) -> None:
        """Keys and values [batch, kv_heads, length, head_dim] are normal random numbers."""
        config = self.model.config
        generator = torch.Generator().manual_seed(draw(1)[0])
        shape = (self.batch, config.num_key_value_heads, length, config.head_dim)
        with torch.inference_mode():
            for layer in range(config.num_hidden_layers):
                keys, values = (torch.randn(shape, generator=generator, dtype=self.model.dtype) for _ in range(2))
                self.cache.update(keys, values, layer)

    def forward(self, ids: list[list[int]]) -> None:
        """The model's own forward; logits [batch, 1, vocab]."""
        with torch.inference_mode():
            output = self.model(torch.tensor(ids), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            self.logits = output.logits

    def argmax(self) -> list[int]:
        """[batch]."""
        return self.logits[:, -1].argmax(-1).tolist()

    def rewind(self, length: int) -> None:
        """The cache keeps its memory; what is behind `length` is masked until it is written over."""
        with torch.inference_mode():
            for layer in self.cache.layers:
                layer.cumulative_length.fill_(length)


def load(checkpoint: common.Checkpoint, options: argparse.Namespace) -> tuple[Transformers, float]:
    """`from_pretrained` in the dtype."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    try:
        model, info = Qwen3ForCausalLM.from_pretrained(
            checkpoint.path,
            dtype=getattr(torch, TORCH_NAMES[options.dtype]),
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    # A config or file that is none is reported in many ways.
    except Exception as error:
        raise common.InputError(f"{checkpoint.path}: {common.one_line(error)}") from error
    seconds = time.perf_counter() - start
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            raise common.InputError(f"{checkpoint.path}: {kind.replace('_', ' ')}: {sorted(info[kind])}")
    return Transformers(model.eval()), seconds
