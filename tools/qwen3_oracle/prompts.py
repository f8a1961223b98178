"""Token ids of prompts."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer

from .errors import InputError

DEFAULT_PROMPTS = ["Hello", "The capital of France is", "What is 2+2?"]
FROM_TOKENIZER = "tokenizer.json"
FROM_BYTES = "UTF-8 bytes modulo vocab_size"


def origin(path: Path) -> str:
    """Where a checkpoint's token ids come from."""
    return FROM_TOKENIZER if (path / "tokenizer.json").is_file() else FROM_BYTES


def encode(path: Path, vocab_size: int, prompt: str) -> list[int]:
    """The prompt's token ids, by the checkpoint's tokenizer or, without one, from its bytes."""
    if origin(path) == FROM_BYTES:
        ids = [byte % vocab_size for byte in prompt.encode()]
    else:
        ids = Tokenizer.from_file(str(path / "tokenizer.json")).encode(prompt).ids
    if not ids:
        raise InputError(f"prompt {prompt!r} has no tokens")
    if max(ids) >= vocab_size:
        raise InputError(f"{path}: the tokenizer gives token {max(ids)}, the vocabulary has {vocab_size}")
    return ids


def left_padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` [batch, longest], int64; padding is token 0 on the left."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}
