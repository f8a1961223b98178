"""A byte-level BPE tokenizer as Qwen3 has it, with few merges, and the files that go with it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from . import tiny_text
from .files import write_json

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = """
<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>
""".split()
NOT_SPECIAL = """
<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<tool_response> </tool_response> <think> </think>
""".split()
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
SIZE = 512
SAMPLE = 20_000


def texts(seed: int) -> Iterator[str]:
    """The training's text without the added tokens, which are no part of the merges."""
    added = re.compile("|".join(re.escape(token) for token in SPECIAL + NOT_SPECIAL))
    for document in itertools.islice(tiny_text.documents(seed), SAMPLE):
        yield from filter(None, added.split("".join(text for text, _ in document)))


def byte_level(cls: type) -> object:
    """A `ByteLevel` step that neither adds a space nor splits, as in Qwen's tokenizer.json."""
    return cls(add_prefix_space=False, trim_offsets=False, use_regex=False)


def train(seed: int) -> Tokenizer:
    """Trains the merges. The 26 added tokens are Qwen's, in its order, after the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), byte_level(pre_tokenizers.ByteLevel)]
    )
    tokenizer.post_processor = byte_level(processors.ByteLevel)
    tokenizer.decoder = byte_level(decoders.ByteLevel)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIAL + NOT_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(seed), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in NOT_SPECIAL])
    return tokenizer


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, object]:
    """The `tokenizer.json`; where the library writes its defaults in place of unused settings, Qwen's spelling."""
    content = json.loads(tokenizer.to_str())
    content["decoder"] = content["post_processor"]
    content["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    return content


def tokenizer_config(tokenizer: Tokenizer, model_max_length: int) -> dict[str, object]:
    """The `tokenizer_config.json`, with the fields of Qwen3's."""
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL,
        }
        for token in SPECIAL + NOT_SPECIAL
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "chat_template": TEMPLATE.read_text(encoding="utf-8"),
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TURN,
        "errors": "replace",
        "model_max_length": model_max_length,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, object]:
    """The `generation_config.json`, with the values of Qwen3's."""
    end_of_text, end_of_turn = tokenizer.token_to_id(END_OF_TEXT), tokenizer.token_to_id(END_OF_TURN)
    return {
        "bos_token_id": end_of_text,
        "do_sample": True,
        "eos_token_id": [end_of_turn, end_of_text],
        "pad_token_id": end_of_text,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "transformers_version": "4.51.0",
    }


def write(tokenizer: Tokenizer, directory: Path, model_max_length: int) -> None:
    """Writes the tokenizer, its configuration with the chat template, and the generation's configuration."""
    write_json(directory / "tokenizer.json", tokenizer_json(tokenizer))
    write_json(directory / "tokenizer_config.json", tokenizer_config(tokenizer, model_max_length))
    write_json(directory / "generation_config.json", generation_config(tokenizer))
