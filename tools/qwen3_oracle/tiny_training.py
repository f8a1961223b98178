"""Trains a Qwen3 of 0.7 million parameters on `tiny_text`, in minutes on a CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from . import tiny_text
from .tiny_tokenizer import END_OF_TEXT, END_OF_TURN

LENGTH = 160
ROWS = 16
WARM_UP = 100
PEAK = 4e-3
REPORT = 100


def config(tokenizer: Tokenizer) -> dict[str, object]:
    """The `config.json`, with the fields of Qwen3's. As there, the embedding has more rows than there are tokens."""
    layers = 4
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "eos_token_id": tokenizer.token_to_id(END_OF_TURN),
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 112,
        "initializer_range": 0.02,
        "intermediate_size": 320,
        "max_position_embeddings": 2048,
        "max_window_layers": layers,
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 528,
    }


def encode(tokenizer: Tokenizer, documents: list[tiny_text.Document]) -> Iterator[tuple[list[int], list[float]]]:
    """Tokens of each document and their weights; a token has the weight of the piece that it starts in."""
    encodings = tokenizer.encode_batch(["".join(text for text, _ in document) for document in documents])
    for document, encoding in zip(documents, encodings, strict=True):
        weights = [weight for text, weight in document for _ in text]
        yield encoding.ids, [weights[start] for start, _ in encoding.offsets]


def rows(tokenizer: Tokenizer, seed: int) -> Iterator[tuple[list[int], list[float]]]:
    """Rows of LENGTH + 1 tokens and their weights; each starts with a document, and cuts its last one off."""
    source = tiny_text.documents(seed)
    ids: list[int] = []
    weights: list[float] = []
    while True:
        for more_ids, more_weights in encode(tokenizer, list(islice(source, 512))):
            ids, weights = ids + more_ids, weights + more_weights
            if len(ids) > LENGTH:
                yield ids[: LENGTH + 1], weights[: LENGTH + 1]
                ids, weights = [], []


def batch(source: Iterator[tuple[list[int], list[float]]], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The next `count` rows: tokens and weights, [count, LENGTH + 1]."""
    ids, weights = zip(*islice(source, count), strict=True)
    return torch.tensor(ids), torch.tensor(weights)


def loss(model: Qwen3ForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the next tokens' cross entropies."""
    logits = model(ids[:, :-1], use_cache=False).logits
    each = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (each * weights).sum() / weights.sum()


def rate(step: int, steps: int) -> float:
    """The learning rate's share of its peak: up in WARM_UP steps, then down to 0 in a straight line."""
    return min((step + 1) / WARM_UP, (steps - step) / steps)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Nearly orthogonal matrices with the singular vectors of [count, rows, columns], by five Newton-Schulz steps."""
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Muon as in `torch.optim`, but in float32 and for all matrices of a shape at once: several times faster here."""

    def __init__(self, matrices: list[torch.Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Nesterov's momentum, made orthogonal, with the root mean square of AdamW's updates."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for matrix in group["params"]:
                buffer = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                buffer.lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(buffer, group["momentum"])
                if matrix.shape[0] > matrix.shape[1]:
                    matrix, update = matrix.mT, update.mT
                by_shape.setdefault(tuple(matrix.shape), []).append((matrix, update))
            for (_, longer), pairs in by_shape.items():
                updates = orthogonal(torch.stack([update for _, update in pairs]))
                for (matrix, _), update in zip(pairs, updates, strict=True):
                    matrix.add_(update, alpha=-group["lr"] * 0.2 * longer**0.5)


def optimizers(model: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.dim() == 2]
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [Muon(matrices, PEAK), torch.optim.AdamW(others, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0)]


def train(tokenizer: Tokenizer, seed: int, steps: int) -> Qwen3ForCausalLM:
    """Trains in float32, then rounds to bfloat16."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config.from_dict(config(tokenizer))).float()
    source = rows(tokenizer, seed)
    chosen = optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: rate(step, steps)) for each in chosen]
    start = time.monotonic()
    for step in range(1, steps + 1):
        value = loss(model, *batch(source, ROWS))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in chosen:
            each.step()
            each.zero_grad()
        for schedule in schedules:
            schedule.step()
        if step % REPORT == 0 or step == steps:
            print(f"step {step} of {steps}: loss {value.item():.4f}, {time.monotonic() - start:.0f} s", flush=True)
    return model.to(torch.bfloat16).eval()
