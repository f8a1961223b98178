"""The fixtures about text, made with the trained checkpoint: chat template, tokenizer, sampling, greedy texts."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from . import conversations, greedy_cases, sampling_cases, trained, unicode_strings
from .cases import Case
from .checkpoint import load_model
from .errors import CheckError, InputError
from .files import write_json, write_npz

CHECKPOINT = trained.NAME
FOLDER = PurePosixPath("fixtures") / "text"
STRINGS = FOLDER / "strings.npz"
DIGEST = "official_digest"
Entry = dict[str, object]


def read_tokenizer(directory: Path) -> Tokenizer:
    """The `tokenizer.json` of a directory."""
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{file} not found")
    return Tokenizer.from_file(str(file))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text, nothing added."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def rendered(chat: PreTrainedTokenizerBase, conversation: conversations.Conversation) -> str:
    """The conversation as the checkpoint's template writes it."""
    options = {} if conversation.enable_thinking is None else {"enable_thinking": conversation.enable_thinking}
    return chat.apply_chat_template(
        conversation.messages,
        tools=conversation.tools,
        add_generation_prompt=conversation.add_generation_prompt,
        tokenize=False,
        **options,
    )


def chat_template(chat: PreTrainedTokenizerBase, tokenizer: Tokenizer, official: Path | None) -> list[Entry]:
    """`conversations.json`; with the official tokenizer's directory, fails unless its template writes the same."""
    theirs = AutoTokenizer.from_pretrained(official, local_files_only=True) if official else None
    entries = []
    for conversation in conversations.CONVERSATIONS:
        text = rendered(chat, conversation)
        if theirs and rendered(theirs, conversation) != text:
            raise CheckError(f"conversation {conversation.id}: the official template writes something else")
        ids = encode(tokenizer, text)
        if chat.encode(text, add_special_tokens=False) != ids:
            raise CheckError(f"conversation {conversation.id}: Transformers' tokenizer gives other tokens")
        entries.append(
            {
                "id": conversation.id,
                "messages": conversation.messages,
                "tools": conversation.tools,
                "enable_thinking": conversation.enable_thinking,
                "add_generation_prompt": conversation.add_generation_prompt,
                "rendered": text,
                "ids": ids,
            }
        )
    return entries


def joined(name: str, parts: list[bytes] | list[list[int]], dtype: type) -> dict[str, np.ndarray]:
    """All parts one after the other, and where each begins, with the end: int64 [n + 1]."""
    flat = [np.frombuffer(part, np.uint8) if isinstance(part, bytes) else np.array(part, dtype) for part in parts]
    offsets = np.cumsum([0, *map(len, flat)], dtype=np.int64)
    return {name: np.concatenate(flat).astype(dtype), f"{name}_offsets": offsets}


def digest(ids: list[int]) -> int:
    """The first 8 bytes, little-endian, of the SHA-256 of token ids as little-endian u32."""
    return int.from_bytes(hashlib.sha256(np.array(ids, "<u4").tobytes()).digest()[:8], "little")


def tokenizer_strings(tokenizer: Tokenizer, official: Path | None, before: Path) -> dict[str, np.ndarray]:
    """The arrays of `strings.npz`; without the official tokenizer, its digests are those of the file `before`."""
    strings = unicode_strings.strings()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(strings, add_special_tokens=False)]
    arrays = (
        joined("text", [string.encode() for string in strings], np.uint8)
        | joined("ids", ids, np.uint16)
        | joined("decoded", [tokenizer.decode(row, skip_special_tokens=False).encode() for row in ids], np.uint8)
        | joined(
            "decoded_skipping", [tokenizer.decode(row, skip_special_tokens=True).encode() for row in ids], np.uint8
        )
    )
    if official:
        theirs = read_tokenizer(official)
        arrays[DIGEST] = np.array([digest(encode(theirs, string)) for string in strings], np.uint64)
    elif before.is_file():
        with np.load(before) as old:
            same = all(np.array_equal(old[name], arrays[name]) for name in ("text", "text_offsets"))
            if same and DIGEST in old.files:
                arrays[DIGEST] = old[DIGEST]
    return arrays


def entry(name: str, kind: str, file: PurePosixPath, description: str, **more: object) -> Entry:
    """A fixture as the manifest lists it."""
    return {
        "id": f"{CHECKPOINT}/{name}",
        "kind": kind,
        "checkpoint": CHECKPOINT,
        "file": file.as_posix(),
        **more,
        "description": description,
    }


def make(path: Path, root: Path, before: Path, official: Path | None) -> tuple[list[Case], list[Entry]]:
    """Writes fixtures/text and the greedy case below `root`; `before` has the fixtures that these will replace."""
    tokenizer = read_tokenizer(path)
    chat = AutoTokenizer.from_pretrained(path, local_files_only=True)

    talks = chat_template(chat, tokenizer, official)
    write_json(root / FOLDER / "conversations.json", talks)
    write_npz(root / STRINGS, tokenizer_strings(tokenizer, official, before / STRINGS))
    arrays, parameters = sampling_cases.make(load_model(path, torch.float32))
    write_npz(root / FOLDER / "sampling.npz", arrays)
    write_json(root / FOLDER / "sampling.json", parameters)

    def render(messages: list[dict[str, str]], thinking: bool) -> str:
        return chat.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=thinking, tokenize=False)

    case, texts = greedy_cases.make(path, CHECKPOINT, PurePosixPath("fixtures") / CHECKPOINT, tokenizer, render)
    greedy_cases.write(case, root / case.file)
    write_json(root / FOLDER / "greedy.json", texts)
    entries = [
        entry(
            "chat-template",
            "chat_template",
            FOLDER / "conversations.json",
            f"{len(talks)} conversations as the chat template writes them",
        ),
        entry(
            "strings", "tokenizer", STRINGS, f"{unicode_strings.COUNT} strings, their tokens and what these decode to"
        ),
        entry(
            "sampling",
            "logits_processors",
            FOLDER / "sampling.npz",
            f"{len(parameters)} combinations of penalties, temperature, top-k, top-p and min-p",
            parameters=(FOLDER / "sampling.json").as_posix(),
        ),
        entry(
            "greedy", "generation", FOLDER / "greedy.json", f"{len(texts)} greedy texts, with the end that stops them"
        ),
    ]
    return [case], entries
