"""How often the small trained model answers right: questions of each kind, asked as `qwen3 chat` asks them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3ForCausalLM

from .checkpoint import load_model
from .errors import CheckError
from .tiny_claims import CLAIMS
from .tiny_text import TASKS, Exercise

ENOUGH = 0.95
NEW_TOKENS = 128
END_OF_THOUGHTS = "</think>"
# What the chat template gets beside the messages.
MODES: dict[str, dict[str, bool]] = {"thinking": {}, "no thinking": {"enable_thinking": False}}
# How tokens are chosen; sampling is that of `generation_config.json`.
DECODINGS = ("greedy", "sampled")


@dataclass(frozen=True)
class Measured:
    """Of the questions of one kind, asked and decoded in one way: how many were answered right, and the others."""

    skill: str
    mode: str
    decoding: str
    questions: int
    right: int
    wrong: list[dict[str, str]]

    @property
    def share(self) -> float:
        """Right answers of all."""
        return self.right / self.questions

    def claimed(self) -> bool:
        """Whether the model is said to know this."""
        return self.mode == "thinking" or not CLAIMS[self.skill].thinking_only


def questions(skill: str, count: int, seed: int) -> list[Exercise]:
    """Questions of one kind, every second one of those that the training held out, where there are any."""
    draw = random.Random(f"{skill} {seed}")
    return [TASKS[skill][0](draw, number % 2 == 1) for number in range(count)]


def settings(path: Path, decoding: str) -> GenerationConfig:
    """How to generate: as `generation_config.json` says, or greedily up to the same ends."""
    config = GenerationConfig.from_pretrained(path, local_files_only=True, max_new_tokens=NEW_TOKENS)
    if decoding == "greedy":
        ends = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
        return GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, **ends)
    return config


def answers(model: Qwen3ForCausalLM, chat: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    """What the model says to each prompt, up to its end-of-turn token and with it."""
    encoded = chat(prompts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
    made = model.generate(encoded.input_ids, attention_mask=encoded.attention_mask)
    texts = chat.batch_decode(made[:, encoded.input_ids.shape[1] :], skip_special_tokens=False)
    return [text.split(chat.pad_token)[0] for text in texts]


def said(text: str, end: str) -> str:
    """The answer behind the thoughts; dots mark one that does not end."""
    answer = text.rpartition(END_OF_THOUGHTS)[2].strip()
    return answer.removesuffix(end) if answer.endswith(end) else f"{answer}..."


def judged(skill: str, mode: str, decoding: str, asked: list[Exercise], given: list[str]) -> Measured:
    """The answers compared with the right ones, to the letter."""
    wrong = [
        {"question": each.question, "answer": answer, "right": each.answer}
        for each, answer in zip(asked, given, strict=True)
        if answer != each.answer
    ]
    return Measured(skill, mode, decoding, len(asked), len(asked) - len(wrong), wrong)


def measure(path: Path, count: int, seed: int) -> Iterator[list[Measured]]:
    """Claim by claim, with and without thinking, decoded in each way, in float32."""
    model = load_model(path, torch.float32)
    chat = AutoTokenizer.from_pretrained(path, local_files_only=True)
    for skill in CLAIMS:
        asked = questions(skill, count, seed)
        messages = [[{"role": "user", "content": each.question}] for each in asked]
        measured = []
        for mode, template in MODES.items():
            prompts = chat.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **template)
            for decoding in DECODINGS:
                model.generation_config = settings(path, decoding)
                torch.manual_seed(seed)
                given = [said(text, chat.eos_token) for text in answers(model, chat, prompts)]
                measured.append(judged(skill, mode, decoding, asked, given))
        yield measured


def check(measured: list[Measured]) -> None:
    """Fails when a share that is claimed is below `ENOUGH`."""
    missed = dict.fromkeys(each.skill for each in measured if each.claimed() and each.share < ENOUGH)
    if missed:
        raise CheckError(f"fewer than {ENOUGH:.0%} right answers: {', '.join(missed)}")
