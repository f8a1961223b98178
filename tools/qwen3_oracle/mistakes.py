"""The mistakes that `cargo xtask verify` explains observed activations by, each under the id it has there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import Qwen3Config

from . import faults, planting, plants
from .cases import Tensors
from .planting import Plant


@dataclass(frozen=True)
class Mistake:
    """A mistake: its id, what an implementation with it does, how to plant it, and where it is one.

    `id` is that of its cause, followed by `-` and a word when it is another form of the same mistake. Several
    mistakes may share an id: the first that is one in a checkpoint and shows clearly stands for all.
    `applies` are the configurations in which it is a mistake; `unless` says why it is none in the others.
    `in_layers`: it lies inside the layers, so that a single one may have it. `after` changes the recorded tensors.
    `causes` are the ids of its parts when it has several.
    """

    id: str
    description: str
    plant: Plant
    in_layers: bool = True
    applies: Callable[[Qwen3Config], bool] = lambda config: True
    unless: str = ""
    after: Callable[[Tensors], Tensors] = lambda tensors: tensors
    causes: tuple[str, ...] = ()

    def all_causes(self) -> list[str]:
        """The ids of the mistakes that an explanation has to name."""
        return list(self.causes) or [self.id.partition("-")[0]]


def theta(config: Qwen3Config) -> float:
    """The configuration's RoPE base."""
    return config.rope_parameters["rope_theta"]


CATALOGUE = [
    Mistake("rope_interleaved", "RoPE rotates the pairs (2i, 2i + 1)", faults.interleaved_rope),
    Mistake(
        "rope_theta", "RoPE's theta is 10,000", faults.other_theta(1e4), applies=lambda config: theta(config) != 1e4
    ),
    Mistake(
        "rope_theta", "RoPE's theta is 1,000,000", faults.other_theta(1e6), applies=lambda config: theta(config) != 1e6
    ),
    Mistake("rope_theta-fitted", "RoPE's theta is 23,456", faults.other_theta(23456.0)),
    Mistake("rope_position_offset", "queries have positions one too far", plants.position_offset),
    Mistake(
        "rope_position_offset-cached_steps",
        "generated tokens have positions one too far against the prompt's",
        faults.decode_position_off_by_one,
        in_layers=False,
    ),
    Mistake("rope_missing", "RoPE is left out", plants.rope_missing),
    Mistake("q_norm_missing", "q_norm is left out", faults.without_head_norm("q_norm")),
    Mistake("k_norm_missing", "k_norm is left out", faults.without_head_norm("k_norm")),
    Mistake("qk_norm_after_rope", "q_norm and k_norm come after RoPE", plants.head_norms_after_rope),
    Mistake("qk_norm_over_hidden", "q_norm and k_norm average over all heads", plants.head_norms_over_all_heads),
    Mistake("kv_swapped", "k_proj and v_proj are swapped", faults.kv_swapped),
    Mistake(
        "k_transposed",
        "k_proj's weight is transposed and read as [out, in]",
        planting.transposed("k_proj"),
    ),
    Mistake(
        "v_transposed",
        "v_proj's weight is transposed and read as [out, in]",
        planting.transposed("v_proj"),
    ),
    Mistake("gate_up_swapped", "gate_proj and up_proj are swapped", faults.gate_up_swapped),
    Mistake("activation_gelu", "the activation is GELU, tanh form", plants.gelu("tanh")),
    Mistake("activation_gelu-erf", "the activation is GELU, erf form", plants.gelu("none")),
    Mistake("eps", "eps is 1e-5", faults.other_eps(1e-5), applies=lambda config: config.rms_norm_eps != 1e-5),
    Mistake("eps", "eps is 1e-6", faults.other_eps(1e-6), applies=lambda config: config.rms_norm_eps != 1e-6),
    Mistake("eps", "eps is 1e-3", faults.other_eps(1e-3)),
    Mistake("eps", "eps is 1e-2", faults.other_eps(1e-2)),
    Mistake("eps-fitted", "eps is 0.0037", faults.other_eps(3.7e-3)),
    Mistake("eps-of_head_norms", "eps is 0.01 in q_norm and k_norm", faults.other_eps(1e-2, of_heads=True)),
    Mistake("eps-of_hidden_norms", "eps is 0.01 in all other norms", faults.other_eps(1e-2, of_heads=False)),
    Mistake("rms_weight_offset_one", "norms multiply by 1 + weight", plants.norm_weights_plus_one),
    Mistake(
        "gqa_interleaved_groups",
        "query head h reads key/value head h % kv_heads",
        faults.interleaved_groups,
        applies=faults.has_groups,
        unless="every order of the query heads is the same",
    ),
    Mistake("attention_scale_missing", "scores are not scaled", lambda subject: planting.scale_replaced(subject, 1.0)),
    Mistake(
        "attention_scale_hidden",
        "scores are scaled by hidden_size / heads",
        faults.scale_of_hidden_size,
        applies=faults.scale_differs,
        unless="head_dim is hidden_size / heads",
    ),
    Mistake("causal_mask_missing", "every query sees every key", plants.mask_missing),
    Mistake("causal_mask_off_by_one", "queries see the next token", faults.mask_changed(1, visible=True)),
    Mistake(
        "causal_mask_off_by_one-hides_itself", "queries do not see themselves", faults.mask_changed(0, visible=False)
    ),
    Mistake(
        "causal_mask_off_by_one-first_sees_itself",
        "queries do not see themselves, but for the first",
        faults.mask_changed(0, visible=False, blind_see="own"),
    ),
    Mistake(
        "causal_mask_off_by_one-first_sees_all",
        "queries do not see themselves, and the first sees every key",
        faults.mask_changed(0, visible=False, blind_see="all"),
    ),
    Mistake(
        "residual_missing_attention", "attention has no residual", plants.residual_missing(attention=True, mlp=False)
    ),
    Mistake("residual_missing_mlp", "the MLP has no residual", plants.residual_missing(attention=False, mlp=True)),
    Mistake("post_norm_is_input_norm", "the second norm has the first one's weight", plants.post_norm_is_input_norm),
    Mistake("final_norm_missing", "the final norm is left out", plants.final_norm_missing, in_layers=False),
    Mistake("final_norm_twice", "the final norm is applied twice", faults.second_final_norm, in_layers=False),
    Mistake(
        "head_untied",
        "the head has random weights, though it is tied to the embedding",
        plants.random_head,
        in_layers=False,
        applies=lambda config: config.tie_word_embeddings,
        unless="the head is not tied to the embedding",
    ),
    Mistake(
        "head_tied",
        "the embedding is the head, though it is not tied",
        plants.embedding_as_head,
        in_layers=False,
        applies=lambda config: not config.tie_word_embeddings,
        unless="the head is tied to the embedding",
    ),
    Mistake(
        "embedding_scaled", "embeddings are multiplied by sqrt(hidden_size)", plants.embedding_scaled, in_layers=False
    ),
    Mistake(
        "dtype_rounding",
        "no mistake, but every tensor is rounded to bfloat16",
        plants.nothing,
        in_layers=False,
        after=plants.rounded_to(torch.bfloat16),
    ),
    Mistake(
        "dtype_rounding-f16",
        "no mistake, but every tensor is rounded to float16",
        plants.nothing,
        in_layers=False,
        after=plants.rounded_to(torch.float16),
    ),
    Mistake(
        "layer_permuted",
        "the last two layers are exchanged",
        plants.last_layers_exchanged,
        in_layers=False,
        applies=lambda config: config.num_hidden_layers >= 2,
        unless="there is one layer only",
    ),
    Mistake("non_finite", "one element of a layer's output is not a number", plants.one_value(math.nan)),
    Mistake("non_finite-inf", "one element of a layer's output is infinite", plants.one_value(math.inf)),
    Mistake(
        "two_faults",
        "gate_proj and up_proj are swapped in layer 0, k_proj and v_proj in layer 2",
        plants.two_faults,
        in_layers=False,
        applies=lambda config: config.num_hidden_layers >= 3,
        unless="there are less than three layers",
        causes=("gate_up_swapped", "kv_swapped"),
    ),
]
