"""What Transformers' logits processors make of random logits, in the order in which `generate` applies them.

The order is that of `GenerationMixin._get_logits_processor`, which is called here: repetition penalty, then the
processors that a caller adds, then temperature, top-k, top-p and min-p. Transformers has no presence penalty; the one
here is added by its definition in the API of OpenAI.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, Qwen3ForCausalLM

from . import draws
from .errors import CheckError

SEED = 42
VOCAB = 560
PROMPT, PREVIOUS = 10, 24
TRANSFORMERS, DEFINITION = "transformers", "definition"
GAP = 1e-5


class PresencePenalty(LogitsProcessor):
    """Subtracts the penalty once from each token that occurs in the generated text, in float64."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids [batch, PREVIOUS], scores [batch, vocab] -> [batch, vocab]."""
        present = torch.zeros_like(scores, dtype=torch.float64).scatter(1, input_ids[:, PROMPT:], 1.0)
        return (scores.double() - self.penalty * present).float()


@dataclass(frozen=True)
class Parameters:
    """One combination; None leaves a processor out. `logits` names the way in which its row is drawn."""

    logits: str = "wide"
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None


QWEN = {"temperature": 0.6, "top_k": 20, "top_p": 0.95}
COMBINATIONS = [
    Parameters(),
    Parameters(repetition_penalty=1.1),
    Parameters(repetition_penalty=1.5, logits="negative"),
    Parameters(repetition_penalty=0.8),
    Parameters(repetition_penalty=1.3, logits="tied"),
    Parameters(presence_penalty=1.5),
    Parameters(presence_penalty=-0.7),
    Parameters(presence_penalty=2.0, logits="negative"),
    Parameters(temperature=0.6),
    Parameters(temperature=1.7),
    Parameters(temperature=0.01),
    Parameters(temperature=1.0),
    Parameters(top_k=1),
    Parameters(top_k=20),
    Parameters(top_k=5, logits="tied"),
    Parameters(top_k=VOCAB),
    Parameters(top_k=10 * VOCAB),
    Parameters(top_p=0.95),
    Parameters(top_p=0.5, logits="flat"),
    Parameters(top_p=0.9, logits="peaked"),
    Parameters(top_p=1e-6),
    Parameters(top_p=1.0),
    Parameters(min_p=0.05),
    Parameters(min_p=0.86, logits="flat"),
    Parameters(min_p=0.0),
    Parameters(min_p=1.0),
    Parameters(min_p=0.2, logits="tied"),
    Parameters(temperature=0.7, top_k=20),
    Parameters(temperature=0.7, top_p=0.8),
    Parameters(temperature=1.5, min_p=0.1),
    Parameters(top_k=3, top_p=0.6, logits="tied-below"),
    Parameters(top_k=50, min_p=0.3),
    Parameters(**QWEN),
    Parameters(**QWEN, logits="flat"),
    Parameters(**QWEN, logits="peaked"),
    Parameters(repetition_penalty=1.2, **QWEN),
    Parameters(presence_penalty=1.5, temperature=0.7, top_k=20, top_p=0.8),
    Parameters(repetition_penalty=1.05, **QWEN, min_p=0.02),
    Parameters(repetition_penalty=1.1, presence_penalty=0.5, temperature=0.9, top_k=40, top_p=0.9, min_p=0.05),
    Parameters(repetition_penalty=1.4, temperature=1.3, top_k=100, top_p=0.99, min_p=0.01, logits="negative"),
]


def logits(kind: str, name: str) -> torch.Tensor:
    """A row [VOCAB] of float32 logits."""
    values = draws.normal(SEED, name, (VOCAB,))
    if kind == "tied":
        # Quarters: many tokens share a logit, also the one at which top-k cuts.
        return (values * 4).round() / 4
    if kind == "tied-below":
        # The three best are apart, the others all the same.
        return torch.full((VOCAB,), -2.0).index_put((torch.tensor([7, 300, 559]),), torch.tensor([3.0, 1.0, 2.0]))
    return {"wide": 3 * values, "flat": 0.05 * values, "peaked": 8 * values, "negative": values - 9}[kind]


def previous(row: torch.Tensor, name: str) -> torch.Tensor:
    """Tokens [PREVIOUS] before: some of the likeliest, which a penalty has to reach, and some drawn, with repeats."""
    stream = draws.generator(SEED, f"{name} previous")
    best = row.argsort(descending=True, stable=True)[:12].numpy()
    return torch.from_numpy(
        np.where(stream.random(PREVIOUS) < 0.5, stream.choice(best, PREVIOUS), stream.integers(VOCAB, size=PREVIOUS))
    )


def processors(model: Qwen3ForCausalLM, parameters: Parameters) -> list[LogitsProcessor]:
    """The processors that `generate` makes of the parameters, in its order."""
    given = {name: value for name, value in asdict(parameters).items() if value is not None}
    presence = given.pop("presence_penalty", None)
    del given["logits"]
    # None, for these have defaults of their own.
    config = GenerationConfig(**{"top_k": None, "top_p": None, "temperature": None} | given | {"do_sample": True})
    added = [PresencePenalty(presence)] if presence is not None else []
    return list(model._get_logits_processor(config, input_ids_seq_length=PROMPT, logits_processor=added))


def check_clear(parameters: Parameters, before: torch.Tensor, name: str) -> None:
    """Fails when roundings could decide whether a token of `before` [VOCAB] passes top-p or min-p."""
    ordered = before.double().softmax(-1).sort().values
    gaps = []
    if name == "TopPLogitsWarper":
        gaps.append((ordered.cumsum(-1)[:-1] - (1 - parameters.top_p)).abs().min().item())
    if name == "MinPLogitsWarper" and parameters.min_p:
        ratio = ordered / ordered[-1]
        gaps.append((ratio[ratio < 1] - parameters.min_p).abs().min().item())
    if gaps and min(gaps) < GAP:
        raise CheckError(f"{parameters}: {name} cuts within {min(gaps):.3g} of a token")


def make(model: Qwen3ForCausalLM) -> tuple[dict[str, np.ndarray], list[dict[str, object]]]:
    """The arrays of `sampling.npz`, and the parameters of each of their rows."""
    rows: dict[str, list[torch.Tensor]] = {"logits": [], "previous_ids": [], "scores": [], "probabilities": []}
    entries = []
    for index, parameters in enumerate(COMBINATIONS):
        name = f"sampling-{index:02}"
        row = logits(parameters.logits, name)
        ids = previous(row, name)
        scores = row[None]
        steps = processors(model, parameters)
        for step in steps:
            check_clear(parameters, scores[0], type(step).__name__)
            scores = step(ids[None], scores)
        values = [row, ids, scores[0], scores[0].double().softmax(-1)]
        for array, value in zip(rows.values(), values, strict=True):
            array.append(value)
        entries.append(
            {
                "id": name,
                "prompt_length": PROMPT,
                **asdict(parameters),
                "order": [type(step).__name__ for step in steps],
                "source": TRANSFORMERS if parameters.presence_penalty is None else DEFINITION,
            }
        )
    return {name: torch.stack(row).numpy() for name, row in rows.items()}, entries
