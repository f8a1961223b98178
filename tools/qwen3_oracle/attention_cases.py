"""The cases on attention alone: projections, grouped heads, masks, caches and dropout, without norms and RoPE."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import torch
from torch import nn
from transformers import DynamicCache, Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from . import draws, reference
from .cases import Case, Tensors
from .checkpoint import DTYPES
from .errors import CheckError
from .files import write_npz
from .floors import add_floors
from .precise import float64_inside, replaced

KIND = "scaled_dot_product_attention"
FOLDER = PurePosixPath("fixtures/attention")
SEED = 42
# The probability; 1 / (1 - DROPOUT) is exact in every dtype.
DROPOUT = 0.2
# Larger than 1, so that attention is far from uniform: the scores' standard deviation is its square.
GAIN = 1.5
MASKED = Qwen3Config(num_hidden_layers=1, attn_implementation="eager")


@dataclass(frozen=True)
class Plan:
    """One case: its sizes, whether queries see only what is before them, and in which chunks the keys arrive."""

    name: str
    text: str
    batch: int
    queries: int
    chunks: list[int]
    d_model: int
    heads: int
    kv_heads: int
    d_k: int
    d_v: int
    d_model_kv: int = 0
    causal: bool = False
    past: int = 0
    dropout: bool = False

    def self_attention(self) -> bool:
        """Whether queries and keys come from the same tokens."""
        return self.d_model_kv == 0


PLANS = [
    Plan("basic_self_attn_small", "self-attention, everything visible", 2, 6, [6], 32, 4, 4, 16, 16),
    Plan("cross_attention", "keys from a sequence of other length and width", 2, 5, [9], 32, 4, 2, 16, 16, 24),
    Plan("different_dk_dv", "values narrower than keys", 2, 7, [7], 32, 4, 2, 24, 12, causal=True),
    Plan("kv_sharing", "eight query heads on two key heads", 2, 7, [7], 48, 8, 2, 16, 16, causal=True),
    Plan("with_caching", "six tokens, then three steps", 2, 9, [6, 1, 1, 1], 32, 4, 2, 16, 16, causal=True),
    Plan("use_cached_kv", "five cached tokens, then three new ones", 2, 3, [3], 32, 4, 2, 16, 16, causal=True, past=5),
    Plan("streaming", "keys arrive in chunks, all queries after each", 2, 4, [3, 4, 2], 32, 4, 2, 16, 16, 24),
    Plan(
        "large_batch_dropout", "batch of 16, without and with dropout", 16, 8, [8], 32, 4, 2, 16, 16, causal=True,
        dropout=True,
    ),
]  # fmt: skip


def dropout_mask(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """0 with probability `DROPOUT`, else 1 / (1 - `DROPOUT`)."""
    kept = torch.from_numpy(draws.generator(SEED, name).random(shape) >= DROPOUT)
    return kept.float() / (1 - DROPOUT)


def case(plan: Plan) -> Case:
    """A case without results."""

    def normal(tensor: str, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return draws.exact_in_halves(draws.normal(SEED, f"{plan.name} {tensor}", shape) * scale)

    def weight(tensor: str, out: int, features: int, gain: float) -> torch.Tensor:
        return normal(tensor, out, features, scale=gain / math.sqrt(features))

    d_model_kv = plan.d_model_kv or plan.d_model
    inputs = {"x_q": normal("x_q", plan.batch, plan.queries, plan.d_model)}
    keys = sum(plan.chunks)
    inputs["x_kv"] = inputs["x_q"] if plan.self_attention() else normal("x_kv", plan.batch, keys, d_model_kv)
    inputs |= {
        "q_proj": weight("q_proj", plan.heads * plan.d_k, plan.d_model, GAIN),
        "k_proj": weight("k_proj", plan.kv_heads * plan.d_k, d_model_kv, GAIN),
        "v_proj": weight("v_proj", plan.kv_heads * plan.d_v, d_model_kv, 1.0),
        "o_proj": weight("o_proj", plan.d_model, plan.heads * plan.d_v, 1.0),
    }
    if plan.past:
        inputs["past_key"] = normal("past_key", plan.batch, plan.kv_heads, plan.past, plan.d_k, scale=GAIN)
        inputs["past_value"] = normal("past_value", plan.batch, plan.kv_heads, plan.past, plan.d_v)
    if plan.dropout:
        shape = (plan.batch, plan.heads, plan.queries, keys)
        inputs["dropout_mask"] = dropout_mask(f"{plan.name} dropout_mask", shape)
    return Case(
        id=f"attention/{plan.name}",
        kind=KIND,
        description=plan.text,
        checkpoint="",
        file=FOLDER / f"{plan.name}.npz",
        inputs=inputs,
        attention={
            "num_attention_heads": plan.heads,
            "num_key_value_heads": plan.kv_heads,
            "causal": plan.causal,
            "chunks": plan.chunks,
        },
    )


@contextmanager
def given_dropout(mask: torch.Tensor) -> Iterator[list[dict[str, object]]]:
    """Makes dropout multiply by `mask` in the place of random numbers; records what it is called with."""
    calls = []

    def dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        calls.append({"p": p, "training": training, "shape": x.shape})
        return x * mask.to(x.dtype) if training else x

    with replaced(nn.functional, "dropout", dropout):
        yield calls


def scaling(head_dim: int) -> float:
    """The factor of the scores, as in `Qwen3Attention`."""
    return head_dim**-0.5


def new_cache() -> DynamicCache:
    """An empty cache."""
    return DynamicCache()


def attend(
    case: Case,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    training: bool = False,
) -> torch.Tensor:
    """`eager_attention_forward`; the context as [batch, q_len, heads * d_v]."""
    groups = case.attention["num_attention_heads"] // case.attention["num_key_value_heads"]
    module = SimpleNamespace(num_key_value_groups=groups, training=training)
    context, _ = modeling_qwen3.eager_attention_forward(
        module, query, key, value, mask, scaling=scaling(query.shape[-1]), dropout=DROPOUT if training else 0.0
    )
    return context.flatten(2)


def has_cache(case: Case) -> bool:
    """Whether keys and values are kept between chunks or from before."""
    return len(case.attention["chunks"]) > 1 or "past_key" in case.inputs


def run(case: Case, dtype: torch.dtype, chunks: list[int] | None = None) -> Tensors:
    """Everything the case's file holds beside the inputs.

    A causal case reads the queries in step with the keys, and the outputs of its chunks are joined. In another
    case with several chunks all queries come after each chunk: `context_00`, `output_00` and so on.
    """
    inputs = {name: tensor.to(dtype) for name, tensor in case.inputs.items()}
    causal, chunks = case.attention["causal"], chunks or case.attention["chunks"]

    def heads(x: str, weight: str, count: int) -> torch.Tensor:
        return nn.functional.linear(inputs[x], inputs[weight]).unflatten(-1, (count, -1)).transpose(1, 2)

    query = heads("x_q", "q_proj", case.attention["num_attention_heads"])
    key = heads("x_kv", "k_proj", case.attention["num_key_value_heads"])
    value = heads("x_kv", "v_proj", case.attention["num_key_value_heads"])
    result = {"query_states": query, "key_states": key, "value_states": value}

    cache = new_cache() if has_cache(case) else None
    if "past_key" in inputs:
        cache.update(inputs["past_key"], inputs["past_value"], 0)
    contexts, start = [], 0
    for size in chunks:
        rows = slice(start, start + size)
        start += size
        q, k, v, mask = query, key[:, :, rows], value[:, :, rows], None
        if causal:
            q, x = query[:, :, rows], inputs["x_q"][:, rows]
            mask = modeling_qwen3.create_causal_mask(
                config=MASKED, inputs_embeds=x, attention_mask=None, past_key_values=cache
            )
        if cache is not None:
            k, v = cache.update(k, v, 0)
        contexts.append(attend(case, q, k, v, mask))

    def output(context: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(context, inputs["o_proj"])

    if causal or len(contexts) == 1:
        context = torch.cat(contexts, dim=1)
        result |= {"context": context, "output": output(context)}
    else:
        for number, context in enumerate(contexts):
            result |= {f"context_{number:02}": context, f"output_{number:02}": output(context)}
    if "dropout_mask" in inputs:
        with given_dropout(inputs["dropout_mask"]):
            result["output_training"] = output(attend(case, query, key, value, mask, training=True))
    if cache is not None:
        result |= {"cached_keys": k, "cached_values": v}
    return result


def check_chunks(case: Case) -> None:
    """Fails unless a causal case in chunks, or after a past, equals the whole pass in float64."""
    if not (case.attention["causal"] and has_cache(case)):
        return
    new = sum(case.attention["chunks"])
    for chunks in ([new], [1] * new):
        difference = (run(case, torch.float64, chunks)["output"] - case.expected["output"]).abs().max().item()
        if not difference <= 1e-12:
            raise CheckError(f"{case.id}: chunks of {chunks} differ by {difference:.3g}")


def check_dropout(case: Case) -> None:
    """Fails unless the given mask is one that published dropout makes, where published attention makes it."""
    mask = case.inputs.get("dropout_mask")
    if mask is None:
        return
    torch.manual_seed(SEED)
    drawn = nn.functional.dropout(torch.ones_like(mask), p=DROPOUT, training=True)
    if not torch.equal(drawn.unique(), mask.unique()):
        raise CheckError(f"{case.id}: dropout gives {drawn.unique().tolist()}, the mask has {mask.unique().tolist()}")
    states = [case.expected[name].float() for name in ("query_states", "key_states", "value_states")]
    for training in (True, False):
        with given_dropout(mask) as calls:
            attend(case, *states, None, training)
        expected = [{"p": DROPOUT if training else 0.0, "training": training, "shape": mask.shape}]
        if calls != expected:
            raise CheckError(f"{case.id}: published attention calls dropout with {calls}, expected {expected}")


def check_entropies(case: Case) -> None:
    """Fails unless the rows of attention are far from uniform, and unlike one another."""
    states = (case.expected["query_states"], case.expected["key_states"])
    groups = case.attention["num_attention_heads"] // case.attention["num_key_value_heads"]
    scores = states[0] @ modeling_qwen3.repeat_kv(states[1], groups).transpose(2, 3)
    weights = (scores * scaling(states[0].shape[-1])).softmax(-1)
    entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(weights.shape[-1])
    low, high = entropy.min().item(), entropy.max().item()
    if not (low < 0.45 and high - low > 0.35):
        raise CheckError(f"{case.id}: entropies of {low:.3g} to {high:.3g} of uniform")


def make(floors: list[str]) -> list[Case]:
    """All cases with float64 results and the floors in each dtype of `floors`, checked."""
    cases = [case(plan) for plan in PLANS]
    for one in cases:
        with float64_inside():
            one.expected = run(one, torch.float64)
            check_chunks(one)
        check_entropies(one)
        check_dropout(one)
        for name in floors:
            add_floors(one, name, run(one, DTYPES[name]))
    return cases


def write(case: Case, file: Path) -> None:
    """Writes inputs and results, float32, into one npz."""
    write_npz(file, reference.arrays(case.inputs | case.expected))
