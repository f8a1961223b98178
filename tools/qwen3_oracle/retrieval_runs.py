"""How embeddings and scores are computed with Transformers: as the model cards of Qwen3-Embedding and Qwen3-Reranker
do, and in the ways in which implementations are known to get them wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM, Qwen3Model

INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def padded(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [batch, longest]; padding is token 0."""
    longest = max(map(len, rows))

    def filled(row: list[int], by: list[int]) -> list[int]:
        padding = [0] * (longest - len(row))
        return padding + by if side == "left" else by + padding

    return (
        torch.tensor([filled(row, row) for row in rows]),
        torch.tensor([filled(row, [1] * len(row)) for row in rows]),
    )


def last_token_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The model card's: states [batch, seq, hidden] of the last token of each row -> [batch, hidden]."""
    if mask[:, -1].sum() == mask.shape[0]:
        return states[:, -1]
    lengths = mask.sum(dim=1) - 1
    return states[torch.arange(states.shape[0]), lengths]


@dataclass(frozen=True)
class Embedding:
    """How texts are embedded; the defaults are right."""

    instruct: str = "Instruct: {task}\nQuery:{query}"
    special: bool = True
    side: str = "left"
    mask: bool = True
    pool: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = last_token_pool
    state: Callable[[object], torch.Tensor] = lambda run: run.last_hidden_state
    finish: Callable[[torch.Tensor, int], torch.Tensor] = lambda pooled, size: nn.functional.normalize(
        pooled[:, :size], p=2, dim=1
    )

    def texts(self, task: str | None, texts: list[str]) -> list[str]:
        """What is turned into tokens."""
        if task is None:
            return texts
        return [self.instruct.format(task=task, query=text) for text in texts]

    def ids(self, tokenizer: PreTrainedTokenizerBase, texts: list[str], most: int) -> list[list[int]]:
        """The tokens of each text."""
        return tokenizer(texts, truncation=True, max_length=most, add_special_tokens=self.special)["input_ids"]

    def run(self, model: Qwen3Model, rows: list[list[int]], size: int) -> torch.Tensor:
        """The vectors [texts, size], all texts in one batch."""
        ids, mask = padded(rows, self.side)
        run = model(ids, attention_mask=mask if self.mask else None, output_hidden_states=True, use_cache=False)
        return self.finish(self.pool(self.state(run), mask), size)


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over a row's tokens."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def last_slot(states: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The last column, token or not."""
    return states[:, -1]


def first_token(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The first token of each row."""
    return states[torch.arange(states.shape[0]), mask.argmax(dim=1)]


EMBEDDING = Embedding()
WRONG_EMBEDDINGS = {
    "no end token": replace(EMBEDDING, special=False),
    "mean pooled": replace(EMBEDDING, pool=mean_pool),
    "first token pooled": replace(EMBEDDING, pool=first_token),
    "right padding, last slot": replace(EMBEDDING, side="right", pool=last_slot),
    "padding attended": replace(EMBEDDING, mask=False),
    "a layer before the last": replace(EMBEDDING, state=lambda run: run.hidden_states[-2]),
    "a space before the query": replace(EMBEDDING, instruct="Instruct: {task}\nQuery: {query}"),
    "no instruction": replace(EMBEDDING, instruct="{query}"),
    "not normalised": replace(EMBEDDING, finish=lambda pooled, size: pooled[:, :size]),
    "normalised before the cut": replace(
        EMBEDDING, finish=lambda pooled, size: nn.functional.normalize(pooled, p=2, dim=1)[:, :size]
    ),
}


@dataclass(frozen=True)
class Reranking:
    """How documents are scored; the defaults are right. `score` gets logits [batch, vocab], the ids of no and yes."""

    body: str = "<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}"
    suffix: str = SUFFIX
    side: str = "left"
    pool: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = last_token_pool
    score: Callable[[torch.Tensor, int, int], torch.Tensor] = lambda logits, no, yes: (
        torch.stack([logits[:, no], logits[:, yes]], dim=1).log_softmax(1)[:, 1].exp()
    )
    whole_cut: bool = False

    def texts(self, instruct: str | None, query: str, documents: list[str]) -> list[str]:
        """What stands between prefix and suffix, as text."""
        instruct = INSTRUCT if instruct is None else instruct
        return [self.body.format(instruct=instruct, query=query, document=document) for document in documents]

    def ids(self, tokenizer: PreTrainedTokenizerBase, bodies: list[str], most: int) -> list[list[int]]:
        """The tokens of each prompt."""
        prefix = tokenizer.encode(PREFIX, add_special_tokens=False)
        suffix = tokenizer.encode(self.suffix, add_special_tokens=False)
        if self.whole_cut:
            rows = tokenizer(bodies)["input_ids"]
            return [(prefix + row + suffix)[:most] for row in rows]
        room = most - len(prefix) - len(suffix)
        rows = tokenizer(bodies, padding=False, truncation="longest_first", max_length=room)["input_ids"]
        return [prefix + row + suffix for row in rows]

    def logits(self, model: Qwen3ForCausalLM, rows: list[list[int]]) -> torch.Tensor:
        """The logits [prompts, vocab] of the last token, all prompts in one batch."""
        ids, mask = padded(rows, self.side)
        states = model.model(ids, attention_mask=mask, use_cache=False).last_hidden_state
        return model.lm_head(self.pool(states, mask))

    def run(self, model: Qwen3ForCausalLM, rows: list[list[int]], answers: list[int]) -> torch.Tensor:
        """The scores [prompts]; `answers` are the ids of no and yes."""
        return self.score(self.logits(model, rows), *answers)


RERANKING = Reranking()
WRONG_RERANKINGS = {
    "raw logit": replace(RERANKING, score=lambda logits, no, yes: logits[:, yes]),
    "sigmoid of one logit": replace(RERANKING, score=lambda logits, no, yes: logits[:, yes].sigmoid()),
    "softmax of the vocabulary": replace(RERANKING, score=lambda logits, no, yes: logits.softmax(1)[:, yes]),
    "yes and no swapped": replace(RERANKING, score=lambda logits, no, yes: RERANKING.score(logits, yes, no)),
    "no think block": replace(RERANKING, suffix=SUFFIX.partition("<think>")[0]),
    "no instruction": replace(RERANKING, body="<Query>: {query}\n<Document>: {document}"),
    "pooled head": replace(RERANKING, pool=mean_pool),
    "right padding, last slot": replace(RERANKING, side="right", pool=last_slot),
    "the end of the prompt cut": replace(RERANKING, whole_cut=True),
}
