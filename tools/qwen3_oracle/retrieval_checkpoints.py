"""The checkpoints of the fixtures about retrieval: one that embeds and has no head, one that judges documents.

Their weights are random; their tokenizers are the trained checkpoint's with what each needs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from . import synthetic, tiny
from .checkpoint import DTYPES, SINGLE_FILE, load_encoder, read_config
from .files import read_json, write_json, write_safetensors
from .tiny_tokenizer import END_OF_TEXT, generation_config

Json = dict[str, Any]

EMBEDDER = tiny.Tiny(
    "embedding-headless",
    tiny.config_5(
        "bf16", 1000000.0, architectures=["Qwen3Model"], hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=8, num_key_value_heads=2, head_dim=16, vocab_size=528, rms_norm_eps=1e-6,
        tie_word_embeddings=False,
    ),
    dtype="bf16",
    seed=33,
)  # fmt: skip
RERANKER = tiny.Tiny(
    "reranker-tied",
    tiny.config_4(
        "bf16", 1000000.0, positions=512, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=8, num_key_value_heads=2, head_dim=16, vocab_size=528, rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    ),
    dtype="bf16",
    seed=32,
)  # fmt: skip
ANSWERS = ("no", "yes")
NEW_MERGES = (("n", "o"), ("y", "es"))


def with_end_token(tokenizer: Json) -> Json:
    """The `tokenizer.json` with the post-processor of Qwen3-Embedding's: an end token behind every text."""
    end = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == END_OF_TEXT)
    piece = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [first, piece],
        "pair": [first, piece, second, piece],
        "special_tokens": {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [end], "tokens": [END_OF_TEXT]}},
    }
    return tokenizer | {"post_processor": {"type": "Sequence", "processors": [tokenizer["post_processor"], template]}}


def with_answers(tokenizer: Json) -> Json:
    """The `tokenizer.json` with a token for each answer, after the others of the vocabulary."""
    tokenizer = copy.deepcopy(tokenizer)
    vocab, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    for answer, (left, right) in zip(ANSWERS, NEW_MERGES, strict=True):
        vocab[answer] = len(vocab)
        merges.append([left, right] if isinstance(merges[0], list) else f"{left} {right}")
    for token in tokenizer["added_tokens"]:
        token["id"] += len(ANSWERS)
    return tokenizer


def tokenizer_config(trained: Path, tokenizer: Json, model_max_length: int) -> Json:
    """The `tokenizer_config.json` of a changed tokenizer, padding on the left as in the published ones.

    Without `add_bos_token`, for which Transformers 5 would put a post-processor of its own in place of the file's.
    """
    config = read_json(trained / "tokenizer_config.json")
    del config["add_bos_token"]
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer["added_tokens"]
    }
    changed = {"added_tokens_decoder": added, "model_max_length": model_max_length, "padding_side": "left"}
    return dict(sorted((config | changed).items()))


def write_texts(trained: Path, directory: Path, tokenizer: Json, positions: int) -> None:
    """Writes a changed tokenizer and what goes with it."""
    write_json(directory / "tokenizer.json", tokenizer)
    write_json(directory / "tokenizer_config.json", tokenizer_config(trained, tokenizer, positions))
    made = Tokenizer.from_file(str(directory / "tokenizer.json"))
    write_json(directory / "generation_config.json", generation_config(made))


def write_headless(checkpoint: tiny.Tiny, directory: Path) -> None:
    """Writes a checkpoint as `Qwen3Model` is saved: no head, and keys that do not begin with `model.`."""
    write_json(directory / "config.json", checkpoint.config)
    config = read_config(directory)
    dtype = DTYPES[checkpoint.dtype]
    weights = {
        key.removeprefix("model."): torch.cat(list(synthetic.values(checkpoint.seed, key, shape, dtype))).reshape(shape)
        for key, shape in synthetic.shapes(config).items()
        if key != "lm_head.weight"
    }
    write_safetensors(directory / SINGLE_FILE, weights, {"format": "pt"})
    tiny.check(directory, load_encoder)


def make(trained: Path, root: Path) -> dict[str, Path]:
    """Writes both below `root`/fixtures/checkpoints; their folders by name."""
    tokenizer = read_json(trained / "tokenizer.json")
    folders = {each.name: root / "fixtures" / "checkpoints" / each.name for each in (EMBEDDER, RERANKER)}
    embedder, reranker = folders.values()
    write_headless(EMBEDDER, embedder)
    write_texts(trained, embedder, with_end_token(tokenizer), EMBEDDER.config["max_position_embeddings"])
    tiny.write(RERANKER, reranker)
    write_texts(trained, reranker, with_answers(tokenizer), RERANKER.config["max_position_embeddings"])
    return folders
