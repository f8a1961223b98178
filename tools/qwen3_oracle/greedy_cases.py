"""Greedy texts of a trained checkpoint: prompts as text and as conversations, decoded in float64."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import torch
from tokenizers import Tokenizer
from transformers import DynamicCache, Qwen3ForCausalLM

from . import prompts, reference, tiny_text
from .cases import Case
from .checkpoint import load_model
from .errors import CheckError
from .files import read_json, write_npz
from .precise import float64_inside

KIND = "greedy"
COUNT = 50
NEW = 64
SHORTEST, LONGEST = 3, 90
MOST_CANDIDATES = 300
SEED = 50
CLEAR = 50

Render = Callable[[list[dict[str, str]], bool], str]
FIXED = ["Hello", "What is 2+2?", "The capital of France is", "Monday Tuesday", "1 2 3 4", "a b c d e"]


def candidates(render: Render) -> Iterator[str]:
    """Prompts: the fixed ones, then in turn plain text, questions and conversations that the training held out."""
    yield from FIXED
    draw = random.Random(SEED)
    tasks = [task for task, _ in tiny_text.TASKS.values()]
    while True:
        for count in (1, 2, 3, 1, 4):
            exercises = [draw.choice(tasks)(draw, True) for _ in range(count)]
            plain = [f"{each.start}{each.end}\n" for each in exercises[:-1]]
            yield "".join(plain) + exercises[-1].start
            yield f"Question: {exercises[-1].question}\nAnswer:"
            system = draw.choice([None, *tiny_text.SYSTEM_PROMPTS])
            messages = [{"role": "system", "content": system}] if system else []
            for each in exercises[:-1]:
                messages += [{"role": "user", "content": each.question}, {"role": "assistant", "content": each.answer}]
            messages.append({"role": "user", "content": exercises[-1].question})
            yield render(messages, True)
            yield render(messages, False)


def decoded(model: Qwen3ForCausalLM, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy tokens [rows, NEW] and the logits [rows, NEW, vocab] that chose them."""
    inputs = prompts.left_padded(rows)
    case = Case(id=KIND, kind=KIND, description="", checkpoint="", file=PurePosixPath(), inputs=inputs, new_tokens=NEW)
    cache = DynamicCache(config=model.config)
    logits = reference.forward(model, inputs["input_ids"], inputs["attention_mask"], cache)
    decoding = reference.decode(model, case, logits[:, -1], cache)
    return decoding.generated_ids[:, -NEW:], decoding.step_logits


def alone(model: Qwen3ForCausalLM, row: list[int], generated: torch.Tensor) -> torch.Tensor:
    """The logits [NEW, vocab] that choose `generated` [NEW], from one run of one prompt, without padding or a cache."""
    ids = torch.cat((torch.tensor(row), generated[:-1]))[None]
    return model(ids, use_cache=False).logits[0, -NEW:]


@dataclass(frozen=True)
class Greedy:
    """A prompt, its tokens, the NEW that follow, their margins, and the float32 noise of the logits behind them."""

    prompt: str
    ids: list[int]
    generated: torch.Tensor
    margins: torch.Tensor
    noise: float

    def clear(self) -> bool:
        """Whether no sound float32 implementation can choose another token."""
        return self.margins.min().item() >= CLEAR * self.noise


def measured(
    single: Qwen3ForCausalLM, double: Qwen3ForCausalLM, texts: list[str], rows: list[list[int]]
) -> list[Greedy]:
    """Each prompt's greedy tokens in float64, and how far Transformers' float32 logits are from those that chose them.

    Fails when the results of a prompt depend on the others of its batch.
    """
    with float64_inside():
        tokens, logits = decoded(double, rows)
        apart = [alone(double, ids, generated) for ids, generated in zip(rows, tokens, strict=True)]
    result = []
    for text, ids, generated, chosen_by, same in zip(texts, rows, tokens, logits, apart, strict=True):
        difference = (same - chosen_by).abs().max().item()
        if not difference <= 1e-10 * same.abs().max().item():
            raise CheckError(f"{text!r}: alone, its logits differ by {difference:.3g} from those in the batch")
        noise = (alone(single, ids, generated).double() - same).abs().max().item()
        result.append(Greedy(text, ids, generated, reference.margins(same), noise))
    return result


def choose(path: Path, tokenizer: Tokenizer, render: Render) -> list[Greedy]:
    """The first COUNT prompts whose every margin is clear; fails when there are too few."""
    single, double = load_model(path, torch.float32), load_model(path, torch.float64)
    tried = dict.fromkeys(islice(candidates(render), MOST_CANDIDATES))
    encoded = [(text, tokenizer.encode(text, add_special_tokens=False).ids) for text in tried]
    fitting = [(text, ids) for text, ids in encoded if SHORTEST <= len(ids) <= LONGEST]
    chosen: list[Greedy] = []
    for start in range(0, len(fitting), COUNT):
        texts, rows = zip(*fitting[start : start + COUNT], strict=True)
        chosen += [each for each in measured(single, double, texts, rows) if each.clear()]
        if len(chosen) >= COUNT:
            return chosen[:COUNT]
    raise CheckError(f"{path.name}: only {len(chosen)} of {len(fitting)} prompts have clear margins")


def text_entry(each: Greedy, tokenizer: Tokenizer, ends: set[int]) -> dict[str, object]:
    """A greedy text as `greedy.json` has it; `stopped` is what comes before the first token of `ends`."""
    tokens = each.generated.tolist()
    stop = next((index for index, token in enumerate(tokens) if token in ends), None)
    return {
        "prompt": each.prompt,
        "prompt_ids": each.ids,
        "generated_ids": tokens,
        "text": tokenizer.decode(tokens, skip_special_tokens=False),
        "stopped_ids": tokens[:stop],
        "stopped_text": tokenizer.decode(tokens[:stop], skip_special_tokens=False),
        "finish_reason": "length" if stop is None else "stop",
    }


def make(
    path: Path, checkpoint: str, folder: PurePosixPath, tokenizer: Tokenizer, render: Render
) -> tuple[Case, list[dict[str, object]]]:
    """The case `greedy-50`, and its texts; those stop at an end-of-sequence token of `generation_config.json`."""
    chosen = choose(path, tokenizer, render)
    ends = set(read_json(path / "generation_config.json")["eos_token_id"])
    inputs = prompts.left_padded([each.ids for each in chosen])
    generated = torch.stack([each.generated for each in chosen])
    lengths = [len(each.ids) for each in chosen]
    case = Case(
        id=f"{checkpoint}/greedy-{COUNT}",
        kind=KIND,
        description=f"{COUNT} prompts of {min(lengths)} to {max(lengths)} tokens, {NEW} generated",
        checkpoint=checkpoint,
        file=folder / f"greedy-{COUNT}.npz",
        inputs=inputs,
        new_tokens=NEW,
        expected={
            "generated_ids": torch.cat((inputs["input_ids"], generated), dim=1),
            "margins": torch.stack([each.margins for each in chosen]),
        },
    )
    noise = max(each.noise for each in chosen)
    print(f"{case.id}: smallest margin {reference.smallest_margin(case):.3g}; noise of the logits: f32 {noise:.2g}")
    return case, [text_entry(each, tokenizer, ends) for each in chosen]


def write(case: Case, file: Path) -> None:
    """Writes inputs and results, int64 and float32, into one npz."""
    write_npz(file, reference.arrays(case.inputs | case.expected))
