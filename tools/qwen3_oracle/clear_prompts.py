"""Prompts whose tokens are sent to the same experts in every dtype, and not by luck.

A token that rounding sends elsewhere is off by far more than rounding: a floor with such tokens would let anything pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from transformers import Qwen3ForCausalLM

from . import reference, sparse
from .cases import Case
from .checkpoint import DTYPES, load_model
from .errors import CheckError
from .precise import float64_inside

# Between the logits of experts that are chosen and those that are not: several times what half precisions are off by.
GAP = 0.35
ATTEMPTS = 200


@dataclass
class Maker:
    """Makes prompts for one checkpoint."""

    exact: Qwen3ForCausalLM
    others: dict[str, Qwen3ForCausalLM]
    draws: torch.Generator

    @classmethod
    def of(cls, path: Path, seed: int) -> Maker:
        """For the checkpoint in `path`."""
        others = {name: load_model(path, dtype) for name, dtype in DTYPES.items()}
        return cls(load_model(path, torch.float64), others, torch.Generator().manual_seed(seed))

    def top_k(self) -> int:
        """How many experts a token is sent to."""
        return self.exact.config.sparse.num_experts_per_tok

    def extended(self, ids: list[int]) -> int | None:
        """A next token that every layer is sure of; None when there is none."""
        tokens = torch.randperm(self.exact.config.vocab_size, generator=self.draws)
        rows = torch.cat((torch.tensor([ids] * len(tokens), dtype=torch.int64), tokens[:, None]), dim=1)
        with float64_inside(), sparse.recorded_scores(self.exact) as scores:
            self.exact(rows)
        last = [layer.reshape(*rows.shape, -1)[:, -1] for layer in scores]
        gaps = torch.stack([sparse.gap(layer, self.top_k()) for layer in last]).amin(0)
        found = (gaps > GAP).nonzero()
        return int(tokens[found[0, 0]]) if len(found) else None

    def attempt(self, length: int) -> list[int] | None:
        """So many such tokens."""
        ids: list[int] = []
        while len(ids) < length:
            token = self.extended(ids)
            if token is None:
                return None
            ids.append(token)
        return ids

    def check(self, case: Case) -> None:
        """Fails unless the experts of the prompt and of what is generated from it are the same in every dtype."""
        with float64_inside(), sparse.recorded_scores(self.exact) as right:
            case.expected = {"generated_ids": reference.run(case, self.exact)["generated_ids"]}
        for name, model in self.others.items():
            with sparse.recorded_scores(model) as found:
                reference.run(case, model)
            sparse.check_choices(f"{case.id} in {name}", right, found, self.top_k())

    def prompt(self, length: int, new_tokens: int) -> list[int]:
        """Token ids of such a prompt, of which `new_tokens` can be generated."""
        for _ in range(ATTEMPTS):
            ids = self.attempt(length)
            if ids is None:
                continue
            inputs = {"input_ids": torch.tensor([ids])}
            case = Case("prompt", "full_model", "", "", PurePosixPath("."), inputs, new_tokens=new_tokens)
            try:
                self.check(case)
            except CheckError:
                continue
            return ids
        raise CheckError(f"no prompt of {length} tokens is sure of its experts after {ATTEMPTS} attempts")
