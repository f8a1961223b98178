"""All known mistakes: those that `cargo xtask verify` explains, then those that only cases show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from .. import attention_cases, gradient_cases, sparse
from ..cases import Case, Tensors
from . import arithmetic, attention, cached, experts, habits, layers, passes, where, wiring
from .planting import Plant, code_changed


@dataclass(frozen=True)
class Mistake:
    """A mistake: its id, what an implementation with it does, how to plant it, and where it is one.

    `id` is that of its cause, followed by `-` and a word when it is another form of the same mistake. Several
    mistakes may share an id: the first that is one in a checkpoint and shows clearly stands for all.
    `applies` are the configurations in which it is a mistake; `unless` says why it is none in the others.

    `one_of` are cases of which one in each checkpoint has to show it, `each_of` those that all have to, in a tensor
    whose name begins with `shows_in`. `only_rounding`: `one_of` only show it in how many elements of a half
    precision output differ.

    `explained`: activations with it are observed and explained. `in_layers`: it lies inside the layers, so that a
    single one may have it. `in_steps`: cached steps alone make it. `after` changes the recorded tensors. `causes` are the ids of its parts when it has several.
    """

    id: str
    description: str
    plant: Plant
    applies: Callable[[Qwen3Config], bool] = lambda config: True
    unless: str = ""
    one_of: Callable[[Case], bool] = where.no_case
    each_of: Callable[[Case], bool] = where.no_case
    shows_in: tuple[str, ...] = ("output", "logits", "gradient.")
    only_rounding: bool = False
    explained: bool = True
    in_layers: bool = True
    in_steps: bool = False
    after: Callable[[Tensors], Tensors] = lambda tensors: tensors
    causes: tuple[str, ...] = ()

    def all_causes(self) -> list[str]:
        """The ids of the mistakes that an explanation has to name."""
        return list(self.causes) or [self.id.partition("-")[0]]


Shown = partial(Mistake, one_of=where.every_case)
Outside = partial(Mistake, in_layers=False)
Unexplained = partial(Mistake, explained=False)
InSteps = partial(
    Mistake, in_layers=False, in_steps=True, applies=where.sees_everything, unless="a layer looks back over a window"
)
OfExperts = partial(Shown, applies=where.has_experts, unless="there are no experts")

MISTAKES = [
    Shown("rope_interleaved", "RoPE rotates the pairs (2i, 2i + 1)", attention.interleaved_rope),
    Shown(
        "rope_theta",
        "RoPE's theta is 10,000",
        attention.other_theta(lambda theta: 1e4),
        applies=lambda config: where.theta(config) != 1e4,
    ),
    Mistake(
        "rope_theta",
        "RoPE's theta is 1,000,000",
        attention.other_theta(lambda theta: 1e6),
        applies=lambda config: where.theta(config) != 1e6,
    ),
    Mistake("rope_theta-fitted", "RoPE's theta is 23,456", attention.other_theta(lambda theta: 23456.0)),
    Mistake(
        "rope_position_offset",
        "queries have positions one too far",
        attention.other_positions(lambda ids: ids + 1, queries_only=True),
        each_of=where.is_far,
        shows_in=("query_states",),
    ),
    Outside(
        "rope_position_offset-cached_steps",
        "generated tokens have positions one too far against the prompt's",
        attention.new_positions_off_by_one,
        one_of=where.is_full_model,
        each_of=where.has_chunks,
    ),
    Mistake("rope_missing", "RoPE is left out", attention.rope_missing),
    Mistake(
        "yarn_missing",
        "RoPE's frequencies are not scaled",
        attention.other_rope(lambda values: {"rope_type": "default", "factor": 1.0, "attention_factor": 1.0}),
        applies=where.has_yarn,
        unless="RoPE has no YaRN",
        one_of=where.every_case,
    ),
    Mistake(
        "yarn_attention_factor_missing",
        "YaRN's attention_factor is left out",
        attention.other_rope(lambda values: {"attention_factor": 1.0}),
        applies=where.has_yarn,
        unless="RoPE has no YaRN",
        one_of=where.every_case,
    ),
    Mistake(
        "yarn_ramp",
        "YaRN's beta_fast and beta_slow are swapped",
        attention.other_rope(lambda values: {"beta_fast": values["beta_slow"], "beta_slow": values["beta_fast"]}),
        applies=where.has_yarn,
        unless="RoPE has no YaRN",
        one_of=where.every_case,
    ),
    Mistake(
        "yarn_ramp-truncation",
        "YaRN's ramp is not truncated to whole pairs",
        attention.other_rope(lambda values: {"truncate": False}),
        applies=where.truncates,
        unless="RoPE has no YaRN with truncation",
        one_of=where.every_case,
    ),
    Shown("q_norm_missing", "q_norm is left out", attention.without_head_norms("q_norm")),
    Shown("k_norm_missing", "k_norm is left out", attention.without_head_norms("k_norm")),
    Mistake("qk_norm_after_rope", "q_norm and k_norm come after RoPE", attention.head_norms_after_rope),
    Mistake("qk_norm_over_hidden", "q_norm and k_norm average over all heads", attention.head_norms_over_all_heads),
    Shown("kv_swapped", "k_proj and v_proj are swapped", layers.kv_swapped, each_of=where.has_equal_kv),
    Shown("k_transposed", "k_proj's weight is transposed and read as [out, in]", layers.transposed("k_proj")),
    Shown("v_transposed", "v_proj's weight is transposed and read as [out, in]", layers.transposed("v_proj")),
    Shown(
        "gate_up_swapped",
        "gate_proj and up_proj are swapped",
        layers.gate_up_swapped,
        applies=where.has_one_block,
        unless="every layer has experts",
    ),
    OfExperts(
        "router_not_renormalised",
        "the weights of a token's experts are not divided by their sum",
        experts.renormalised(False),
        applies=where.normalises_experts,
        unless="they are not, there or without experts",
    ),
    OfExperts(
        "router_renormalised",
        "the weights of a token's experts are divided by their sum",
        experts.renormalised(True),
        applies=lambda config: where.has_experts(config) and not where.normalises_experts(config),
        unless="they are, or there are no experts",
    ),
    OfExperts(
        "router_softmax_after_topk",
        "the probabilities of a token's experts go through a softmax of their own",
        experts.softmax_after_topk,
    ),
    OfExperts("experts_permuted", "every expert has the weights of the next", experts.rotated),
    OfExperts(
        "experts_permuted-two",
        "the first and the last expert have each other's weights",
        experts.first_and_last_exchanged,
    ),
    OfExperts("expert_gate_up_swapped", "in every expert gate_proj and up_proj are swapped", experts.gate_up_swapped),
    OfExperts("top_k_off", "a token is sent to one expert too few", experts.top_k(-1)),
    OfExperts("top_k_off-more", "a token is sent to one expert too many", experts.top_k(1)),
    Mistake("activation_gelu", "the activation is GELU, tanh form", layers.gelu("tanh")),
    Mistake("activation_gelu-erf", "the activation is GELU, erf form", layers.gelu("none")),
    Shown("eps", "eps is 1e-5", layers.other_eps(1e-5), applies=lambda config: config.rms_norm_eps != 1e-5),
    Mistake("eps", "eps is 1e-6", layers.other_eps(1e-6), applies=lambda config: config.rms_norm_eps != 1e-6),
    Mistake("eps", "eps is 1e-3", layers.other_eps(1e-3)),
    Mistake("eps", "eps is 1e-2", layers.other_eps(1e-2)),
    Mistake("eps-fitted", "eps is 0.0037", layers.other_eps(3.7e-3)),
    Mistake("eps-of_head_norms", "eps is 0.01 in q_norm and k_norm", layers.other_eps(1e-2, of_heads=True)),
    Mistake("eps-of_hidden_norms", "eps is 0.01 in all other norms", layers.other_eps(1e-2, of_heads=False)),
    Mistake("rms_weight_offset_one", "norms multiply by 1 + weight", layers.norm_weights_plus_one),
    Shown(
        "gqa_interleaved_groups",
        "query head h reads key/value head h % kv_heads",
        attention.interleaved_groups,
        applies=where.has_groups,
        unless="every order of the query heads is the same",
        each_of=where.is_grouped,
    ),
    Mistake("attention_scale_missing", "scores are not scaled", attention.other_scale(lambda config: 1.0)),
    Shown(
        "attention_scale_hidden",
        "scores are scaled by hidden_size / heads",
        attention.other_scale(lambda config: (config.hidden_size / config.num_attention_heads) ** -0.5),
        applies=where.scale_differs,
        unless="head_dim is hidden_size / heads",
    ),
    Mistake("causal_mask_missing", "every query sees every key", attention.mask_missing, each_of=where.is_causal),
    Shown(
        "causal_mask_off_by_one",
        "queries see the next token",
        attention.mask_changed(1, visible=True),
        each_of=where.hides_tokens,
    ),
    Shown(
        "causal_mask_off_by_one-hides_itself",
        "queries do not see themselves",
        attention.mask_changed(0, visible=False),
        each_of=where.is_prefill,
    ),
    Mistake(
        "causal_mask_off_by_one-first_sees_itself",
        "queries do not see themselves, but for the first",
        attention.mask_changed(0, visible=False, blind_see="own"),
    ),
    Mistake(
        "causal_mask_off_by_one-first_sees_all",
        "queries do not see themselves, and the first sees every key",
        attention.mask_changed(0, visible=False, blind_see="all"),
    ),
    Outside(
        "cached_mask_off_by_one",
        "cached steps do not see their own token",
        attention.cached_steps_hide_themselves,
        one_of=where.is_full_model,
    ),
    Mistake(
        "window_missing",
        "queries look back over everything, windows or not",
        attention.window_missing,
        applies=where.has_windows,
        unless="no layer has a window",
        one_of=where.every_case,
    ),
    Outside(
        "window_off_by_one",
        "windows are one token too long",
        attention.window_longer(1),
        applies=where.has_windows,
        unless="no layer has a window",
        one_of=where.every_case,
    ),
    Outside(
        "window_off_by_one-short",
        "windows are one token too short",
        attention.window_longer(-1),
        applies=where.has_windows,
        unless="no layer has a window",
        one_of=where.every_case,
    ),
    Outside(
        "window_in_wrong_layers",
        "the layers with windows and those without are exchanged",
        attention.windows_exchanged,
        applies=where.has_both_reaches,
        unless="all layers look back alike",
        one_of=where.every_case,
    ),
    Mistake(
        "residual_missing_attention", "attention has no residual", layers.residual_missing(attention=True, mlp=False)
    ),
    Mistake("residual_missing_mlp", "the MLP has no residual", layers.residual_missing(attention=False, mlp=True)),
    Mistake("post_norm_is_input_norm", "the second norm has the first one's weight", layers.post_norm_is_input_norm),
    Outside("final_norm_missing", "the final norm is left out", layers.final_norm_missing),
    Outside("final_norm_twice", "the final norm is applied twice", layers.final_norm_twice, one_of=where.is_full_model),
    Outside(
        "head_untied",
        "the head has random weights, though it is tied to the embedding",
        layers.random_head,
        applies=lambda config: config.tie_word_embeddings,
        unless="the head is not tied to the embedding",
    ),
    Outside(
        "head_tied",
        "the embedding is the head, though it is not tied",
        layers.embedding_as_head,
        applies=lambda config: not config.tie_word_embeddings,
        unless="the head is tied to the embedding",
    ),
    Outside("embedding_scaled", "embeddings are multiplied by sqrt(hidden_size)", layers.embedding_scaled),
    Outside(
        "dtype_rounding",
        "no mistake, but every tensor is rounded to bfloat16",
        layers.nothing,
        after=layers.rounded_to(torch.bfloat16),
    ),
    Outside(
        "dtype_rounding-f16",
        "no mistake, but every tensor is rounded to float16",
        layers.nothing,
        after=layers.rounded_to(torch.float16),
    ),
    *(
        Mistake(f"{id}{form}", f"no mistake, but {what} {name}", plant(rounding))
        for name, rounding, form in (
            ("float16", arithmetic.to(torch.float16), ""),
            ("bfloat16", arithmetic.to(torch.bfloat16), "-bf16"),
        )
        for id, what, plant in (
            ("softmax_half", "attention's weights are rounded to", lambda to: arithmetic.attention(softmax=to)),
            ("rope_half", "cosines and sines are rounded to", arithmetic.tables),
            ("rope_half-rotated", "queries and keys behind RoPE are rounded to", arithmetic.rotated),
            ("residual_half", "what goes on from each addition is rounded to", arithmetic.residual),
        )
    ),
    *(
        Mistake(f"{id}_{short}{form}", f"no mistake, but {what} {name}", plant(rounding))
        for name, short, rounding in (
            ("float16", "f16", arithmetic.to(torch.float16)),
            ("bfloat16", "bf16", arithmetic.to(torch.bfloat16)),
        )
        for id, form, what, plant in (
            ("arithmetic", "", "the inputs of every product are in", arithmetic.products),
            ("arithmetic", "-weights", "products with weights are in", lambda to: arithmetic.linear(to, to)),
            ("kv_cache", "", "keys and values are kept in", lambda to: arithmetic.attention(cache=to)),
            (
                "kv_cache",
                "-products",
                "attention's products are in",
                lambda to: arithmetic.attention(cache=to, inputs=to),
            ),
        )
    ),
    Mistake(
        "kv_cache_q8_0",
        "no mistake, but keys and values are kept in q8_0",
        arithmetic.attention(cache=arithmetic.q8_0),
    ),
    *(
        Mistake(
            f"activations_{name}",
            f"no mistake, but what goes into products with weights is rounded to {name}",
            arithmetic.linear(activations=to),
        )
        for name, to in (("q8_0", arithmetic.q8_0), ("q8_k", arithmetic.q8_k))
    ),
    *(
        Mistake(f"weights_{name}", f"no mistake, but weights are rounded to {name}", arithmetic.linear(weights=to))
        for name, to in (("q8_0", arithmetic.q8_0), ("q4_0", arithmetic.q4_0))
    ),
    Mistake(
        "weights_f16",
        "no mistake, but weights are rounded to f16",
        arithmetic.linear(weights=arithmetic.to(torch.float16)),
        applies=where.is_wide,
        unless="the weights are in half precision",
    ),
    *(
        Mistake(
            f"{id}-but_for_routers",
            f"no mistake, but {words}, but for routers",
            arithmetic.linear(activations, weights, routers=False),
            applies=where.has_experts,
            unless="there are no experts",
        )
        for id, words, activations, weights in (
            ("activations_q8_k", "what goes into products is rounded to q8_k", arithmetic.q8_k, arithmetic.nothing),
            (
                "arithmetic_bf16",
                "products with weights are in bfloat16",
                arithmetic.to(torch.bfloat16),
                arithmetic.to(torch.bfloat16),
            ),
        )
    ),
    Mistake(
        "activations_q8_0-and_weights",
        "no mistake, but the inputs of products with weights are rounded to q8_0",
        arithmetic.linear(arithmetic.q8_0, arithmetic.q8_0),
        causes=("activations_q8_0", "weights_q8_0"),
    ),
    Mistake(
        "weights_q8_0-and_activations_and_cache",
        "no mistake, but the inputs of products with weights are rounded to q8_0, and keys and values are kept in float16",
        arithmetic.together(
            arithmetic.linear(arithmetic.q8_0, arithmetic.q8_0),
            arithmetic.attention(cache=arithmetic.to(torch.float16)),
        ),
        causes=("kv_cache_f16", "activations_q8_0", "weights_q8_0"),
    ),
    Mistake(
        "arithmetic_bf16-and_cache",
        "no mistake, but products with weights are in bfloat16, and keys and values are kept in float16",
        arithmetic.together(
            arithmetic.linear(arithmetic.to(torch.bfloat16), arithmetic.to(torch.bfloat16)),
            arithmetic.attention(cache=arithmetic.to(torch.float16)),
        ),
        causes=("kv_cache_f16", "arithmetic_bf16"),
    ),
    InSteps(
        "cache_slot_off_by_one", "cached steps are written over the prompt's last token", cached.cache(cached.early)
    ),
    InSteps(
        "cache_slot_off_by_one-each", "each step is written over the token before it", cached.cache(cached.each_early)
    ),
    InSteps("cache_slot_off_by_one-late", "cached steps are written one slot late", cached.cache(cached.late)),
    InSteps(
        "cache_not_written",
        "earlier steps are not in the cache",
        cached.hidden(lambda slots, count, prompt: (slots >= prompt) & (slots < count - 1)),
    ),
    InSteps("cache_not_written-empty", "the slots of earlier steps are empty", cached.cache(cached.empty(own=True))),
    InSteps("cache_not_written-all", "the slots of steps are empty", cached.cache(cached.empty(own=False))),
    InSteps(
        "cache_overwritten",
        "the cache has 6 slots",
        cached.hidden(lambda slots, count, prompt: slots < count - 6),
    ),
    InSteps(
        "cache_overwritten-last",
        "the cache has three slots for steps, the last of which is overwritten",
        cached.hidden(lambda slots, count, prompt: (slots >= prompt + 2) & (slots < count - 1)),
    ),
    InSteps(
        "cache_of_other_sequence",
        "cached steps read the next sequence's cache",
        cached.cache(cached.other_sequence),
    ),
    InSteps(
        "cache_of_other_sequence-first",
        "cached steps read the first sequence's cache",
        cached.cache(cached.first_sequence),
    ),
    InSteps(
        "position_restarts",
        "cached steps count positions from 0",
        cached.positions(lambda ids, count, prompt: torch.full_like(ids, count - prompt)),
    ),
    InSteps(
        "position_restarts-still",
        "every cached step stands at position 0",
        cached.positions(lambda ids, count, prompt: torch.zeros_like(ids)),
    ),
    InSteps(
        "position_counts_padding",
        "positions of cached steps count padding",
        cached.positions(lambda ids, count, prompt: torch.full_like(ids, count)),
    ),
    InSteps("padding_visible", "cached steps see padding", cached.padding_visible),
    InSteps("keys_cached_before_rope", "cached keys are not rotated", cached.keys_turned(twice=False)),
    InSteps("keys_rotated_twice", "cached keys are rotated twice", cached.keys_turned(twice=True)),
    Outside("chunk_mask", "chunks of 4 tokens do not see those before them", cached.chunks(4)),
    Mistake("rope_sign", "RoPE turns the other way", habits.sine_negated),
    Mistake(
        "rope_partial",
        "RoPE turns half of each head's features",
        habits.partial_rotary(2),
        applies=lambda config: not where.has_yarn(config),
        unless="RoPE has YaRN",
    ),
    Mistake(
        "softmax_not_normalised",
        "attention's weights are not divided by their sum",
        habits.attention(weights=habits.not_normalised),
    ),
    Mistake("attention_sink", "the softmax has one more term, of score 0", habits.attention(weights=habits.with_sink)),
    Mistake(
        "attention_sink-learned",
        "the softmax of each head has one more term, of a score of its own",
        habits.attended(habits.learned_sinks),
    ),
    Mistake("attention_softcap", "scores are capped at 50", habits.attention(scores=habits.capped(50.0))),
    Mistake("attention_scale_twice", "scores are scaled twice", habits.scaled_twice),
    Mistake("layer_norm", "every norm subtracts the mean", habits.layer_norm),
    Mistake("layer_norm-of_heads", "q_norm and k_norm subtract the mean", habits.layer_norm_of_heads),
    Mistake(
        "silu_on_product",
        "the activation is applied to gate * up",
        habits.silu_on_product,
        applies=where.is_dense,
        unless="there are experts",
    ),
    *(
        Mistake(
            f"bias_missing{form}",
            f"{name}'s bias is left out",
            habits.bias_missing(name),
            applies=lambda config: config.attention_bias,
            unless="attention has no biases",
        )
        for name, form in (("q_proj", ""), ("k_proj", "-keys"), ("v_proj", "-values"), ("o_proj", "-output"))
    ),
    *(
        Mistake(f"norm_missing{form}", f"{' and '.join(names)} left out", wiring.norms_missing(*names))
        for form, names in (
            ("", ("input_layernorm",)),
            ("-second", ("post_attention_layernorm",)),
            ("-both", ("input_layernorm", "post_attention_layernorm")),
        )
    ),
    Mistake("norm_behind_sublayer", "norms are applied to what attention and MLP give", wiring.behind_sublayers),
    Mistake(
        "norm_behind_sublayer-second",
        "post_attention_layernorm is applied to attention's output",
        wiring.second_on_attention,
    ),
    Mistake("norm_behind_residual", "norms are applied to the sum with the residual", wiring.behind_residuals),
    *(
        Mistake(f"residual_of_normed{form}", f"what {what} reads is added behind it", wiring.residual_of_normed(*which))
        for form, what, which in (
            ("", "the MLP", (False, True)),
            ("-attention", "attention", (True, False)),
            ("-both", "each of attention and MLP", (True, True)),
        )
    ),
    Mistake("parallel_mlp", "the MLP reads what attention reads", wiring.parallel),
    Mistake("parallel_mlp-two_norms", "the MLP reads the layer's input behind its norm", wiring.parallel_with_norms),
    Mistake("head_zeroed", "the second head gives zeros", habits.attention(heads=habits.head_zero(1))),
    Mistake(
        "heads_exchanged",
        "the first and the third head have each other's place",
        habits.attention(heads=habits.heads_exchanged(0, 2)),
    ),
    Mistake(
        "expert_zeroed",
        "the third expert gives zeros",
        experts.of_experts(habits.expert_zero(2)),
        applies=where.has_experts,
        unless="there are no experts",
    ),
    Outside("logits_softcap", "logits are capped at 30", habits.logits(habits.capped(30.0))),
    Outside("vocabulary_shifted", "each token has the embedding of the next id", habits.rows_shifted),
    Outside(
        "vocabulary_shifted-logits",
        "logits are those of the next id",
        habits.logits(lambda x: x.roll(-1, -1)),
    ),
    *(
        Outside(f"taps_shifted{form}", f"no mistake, but {words}", layers.nothing, after=change)
        for form, words, change in (
            ("", "each layer's output has the name of the next", layers.names_shifted(1)),
            ("-early", "each layer's output has the name of the one before", layers.names_shifted(-1)),
            ("-early_repeated", "the same, the last one twice", layers.names_shifted(-1, "last")),
            ("-early_missing", "the same, without a last one", layers.names_shifted(-1, "missing")),
            ("-some", "the first output has the second's name, alone", layers.names_shifted(1, only=lambda n: n == 1)),
            (
                "-early_some",
                "the second output has the first's name, alone",
                layers.names_shifted(-1, only=lambda n: n == 0),
            ),
        )
    ),
    Outside(
        "layer_permuted",
        "the last two layers are exchanged",
        layers.last_layers_exchanged,
        applies=lambda config: config.num_hidden_layers >= 2,
        unless="there is one layer only",
    ),
    Mistake("non_finite", "one element of a layer's output is not a number", layers.one_value(math.nan)),
    Mistake("non_finite-inf", "one element of a layer's output is infinite", layers.one_value(math.inf)),
    Outside(
        "two_faults",
        "gate_proj and up_proj are swapped in layer 0, k_proj and v_proj in layer 2",
        layers.two_mistakes,
        applies=lambda config: config.num_hidden_layers >= 3 and not sparse.is_sparse(config, 0),
        unless="there are less than three layers, or the first has experts",
        causes=("gate_up_swapped", "kv_swapped"),
    ),
    Unexplained(
        "rms_weight_before_cast",
        "norms multiply by their weight before they cast to half precision",
        code_changed(modeling_qwen3.Qwen3RMSNorm, "forward", layers.weight_before_cast),
        one_of=where.is_rms_norm,
        only_rounding=True,
    ),
    Unexplained(
        "biases_missing",
        "attention's biases are left out",
        layers.biases_missing,
        applies=lambda config: config.attention_bias,
        one_of=where.every_case,
    ),
    Unexplained(
        "padding_attended_to",
        "left padding is attended to",
        attention.padding_attended_to,
        one_of=where.is_padded,
        each_of=where.is_padded_prefill,
    ),
    Unexplained(
        "rope_theta-one_percent",
        "RoPE's theta is off by 1 %",
        attention.other_theta(lambda theta: 1.01 * theta),
        each_of=where.is_far,
        shows_in=("query_states",),
    ),
    Unexplained(
        "rope_positions_rounded",
        "positions are rounded to bfloat16",
        attention.other_positions(lambda ids: ids.bfloat16()),
        each_of=where.is_far,
        shows_in=("query_states",),
    ),
    Unexplained(
        "attention_scale_no_root",
        "scores are scaled by head_dim",
        code_changed(attention_cases, "scaling", lambda head_dim: 1 / head_dim),
        each_of=where.is_attention,
    ),
    Unexplained("cache_slot_off", "caches are one slot off", passes.cache_slot_off, each_of=where.has_cache),
    Unexplained(
        "dropout_missing",
        "training drops no weights",
        passes.dropout_mask_changed(torch.ones_like),
        each_of=where.has_dropout,
        shows_in=("output_training",),
    ),
    Unexplained(
        "dropout_not_scaled",
        "the weights that dropout keeps are not scaled up",
        passes.dropout_mask_changed(lambda mask: mask.clamp(max=1)),
        each_of=where.has_dropout,
        shows_in=("output_training",),
    ),
    Unexplained(
        "dropout_in_evaluation",
        "evaluation drops weights",
        passes.dropout_in_evaluation,
        each_of=where.has_dropout,
    ),
    Unexplained(
        "loss_not_shifted",
        "the loss is that of the tokens themselves",
        code_changed(gradient_cases, "targets", passes.next_token_not_shifted),
        each_of=where.is_backward,
        shows_in=("loss",),
    ),
    Unexplained(
        "loss_of_padding",
        "padding counts in the loss",
        code_changed(gradient_cases, "targets", passes.padding_in_the_loss),
        each_of=where.is_backward,
        shows_in=("loss",),
    ),
    Unexplained(
        "rms_root_constant",
        "the gradient takes a norm's root for a constant",
        code_changed(modeling_qwen3.Qwen3RMSNorm, "forward", passes.root_without_gradient),
        each_of=where.is_backward,
    ),
    Unexplained(
        "gqa_gradient_of_one_head",
        "keys and values have the gradient of one query head of their group",
        code_changed(modeling_qwen3, "repeat_kv", passes.one_head_of_each_group),
        each_of=where.is_grouped_backward,
    ),
    Unexplained(
        "head_tied_without_gradient",
        "the embedding has no gradient from the head that it is tied to",
        code_changed(nn.Linear, "forward", passes.head_without_gradient),
        each_of=where.is_tied_backward,
        shows_in=("gradient.model.embed_tokens",),
    ),
]
