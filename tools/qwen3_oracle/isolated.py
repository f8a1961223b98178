"""What each module of a whole model makes of the right input: noise floors without inherited errors."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from transformers import Qwen3ForCausalLM

from . import honest, layer_runs, reference
from .cases import Case, Tensors, errors
from .files import rounded


def run(case: Case, model: Qwen3ForCausalLM) -> Tensors:
    """The tensors of a prompt's forward pass in the model's dtype, each module given the reference's own input.

    As a reader of the file gives it: float32, then the model's dtype. The embedding, each layer with its taps as the
    case has them, the final norm, and the head.
    """
    ids, mask = case.inputs["input_ids"], reference.full_mask(case)
    position_ids = reference.positions(mask)

    def given(name: str) -> torch.Tensor:
        return case.expected[name].float().to(model.dtype)

    x = given("embedding_output")

    def seen(index: int) -> torch.Tensor:
        make = layer_runs.mask_function(model.config, index)
        return make(
            config=model.config, inputs_embeds=x, attention_mask=mask, past_key_values=None, position_ids=position_ids
        )

    result = {"embedding_output": model.model.embed_tokens(ids)}
    for index, layer in enumerate(model.model.layers):
        with layer_runs.recorded_layer(layer, case.taps) as record:
            layer(
                x,
                attention_mask=seen(index),
                position_ids=position_ids,
                position_embeddings=model.model.rotary_emb(x, position_ids),
            )
        names = reference.layer_tensors(case, model.config, index)
        result |= {name: record[inside] for inside, name in names.items()}
        x = given(names["output"])
    return result | {
        "final_norm_output": model.model.norm(x),
        "logits": model.lm_head(given("final_norm_output")),
    }


def add_floors(case: Case, dtype: str, model: Qwen3ForCausalLM) -> None:
    """Notes what honest modules in `dtype` are off by, those of `honest.VARIANTS` together.

    The rms error is that of all of them as one; so is the largest. A tensor that overflows has no floor.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for variant in honest.VARIANTS.values():
        with variant(model):
            observed = run(case, model)
            known = replace(case, expected={name: case.expected[name] for name in observed})
            for name, error in errors(known, observed).items():
                found.setdefault(name, []).append(error)
    for name, of_variants in found.items():
        largest = max(largest for largest, _ in of_variants)
        rms = math.sqrt(sum(rms * rms for _, rms in of_variants) / len(of_variants))
        if math.isfinite(largest) and math.isfinite(rms):
            floor = {"max_abs": rounded(largest), "rms": rounded(rms)}
            case.isolated_floors.setdefault(name, {})[dtype] = floor
