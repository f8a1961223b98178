"""Checkpoints that are less tame than the fixtures, as real ones are, and honest runs of Transformers on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import torch
from transformers import DynamicCache, Qwen3Config

from . import draws, honest, reference, sized, synthetic
from .cases import Case, Tensors, without_padding
from .checkpoint import DTYPES, SINGLE_FILE, load_model
from .errors import CheckError
from .files import write_json, write_npz, write_safetensors
from .tiny import config_5

LENGTH = 10
# Those of the repository.
COUNT, SEED = 8, 1
# The first token of every prompt, which becomes the sink.
SINK = 9


def scaled_head_norms(factor: float) -> Callable[[Tensors], None]:
    """Attention sharper by `factor` squared."""

    def change(tensors: Tensors) -> None:
        for key, tensor in tensors.items():
            if key.endswith(("q_norm.weight", "k_norm.weight")):
                tensor.mul_(factor)

    return change


def outlier_channels(tensors: Tensors) -> None:
    """Two channels of the residual stream three hundred times the others."""
    tensors["model.embed_tokens.weight"][:, [7, 21]] *= 300


def attention_sink(tensors: Tensors) -> None:
    """Layer 1 lifts the first token to 10^4 in two channels; the others stay as they are.

    One inner feature of its MLP answers to a channel that only that token has.
    """
    channel = 3
    for key, tensor in tensors.items():
        if key.endswith(("o_proj.weight", "down_proj.weight")):
            tensor[channel] = 0
    embedding = tensors["model.embed_tokens.weight"]
    embedding[:, channel] = 0
    embedding[SINK] *= 0.1
    embedding[SINK, channel] = 6
    layer = "model.layers.1."
    tensors[layer + "post_attention_layernorm.weight"][channel] = 1
    for name in ("gate_proj", "up_proj"):
        weight = tensors[f"{layer}mlp.{name}.weight"]
        weight[0] = 0
        weight[0, channel] = 3
    down = tensors[layer + "mlp.down_proj.weight"]
    down[:, 0] = 0
    down[[5, 20], 0] = torch.tensor([90.0, -40.0], dtype=down.dtype)


def sharp_and_flat_heads(tensors: Tensors) -> None:
    """Some features of queries count fifty times, others hardly."""
    for key, tensor in tensors.items():
        if key.endswith("q_norm.weight"):
            tensor[: len(tensor) // 4] *= 50
            tensor[len(tensor) // 4 :] *= 0.05


def tame(_: Tensors) -> None:
    """As the fixtures are."""


# How many layers, and what makes the checkpoint wild.
KINDS: dict[str, tuple[int, Callable[[Tensors], None]]] = {
    "head-norms-2": (3, scaled_head_norms(2)),
    "head-norms-5": (3, scaled_head_norms(5)),
    "head-norms-50": (2, scaled_head_norms(50)),
    "outliers": (12, outlier_channels),
    "sink": (6, attention_sink),
    "sink-24-layers": (24, attention_sink),
    "sharp-and-flat": (4, sharp_and_flat_heads),
    "tame": (12, tame),
}
# Query heads, key heads and their size; each checkpoint in the next dtype on disk.
HEADS = [(4, 2, 16), (4, 4, 24), (6, 2, 32)]
STORED = ["bf16", "f32", "f16"]
# A small mistake: one row of `down_proj` of one layer.
PLANTED_LAYER, PLANTED_ROW, PLANTED_FACTOR = 3, 11, 1.01


def make(output: Path, count: int, seed: int, taps: bool, sized_on: int, progress: Callable[[str], None]) -> None:
    """Writes `count` checkpoints, the kinds in turn, each with a reference and what honest runs give.

    `<n>-<kind>/` holds the checkpoint, `reference.npz` and `honest-<dtype>-<variant>.npz`, one for each of
    `honest.VARIANTS` in a dtype in which eager attention is finite, but for permuted sums that change nothing; with
    `taps`, theirs are stored too. `planted-layer-<n>.npz` is a float32 run with one row of that layer's `down_proj` a
    hundredth too large. The first `sized_on` checkpoints get runs with mistakes of many sizes in the middle layer, too:
    `sized-<dtype>-<kind>-<size>.npz`.
    """
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        layers, change = KINDS[kind]
        form = (number + number // len(KINDS)) % len(STORED)
        folder = output / f"{number:03}-{kind}"
        write_checkpoint(
            folder, config(STORED[form], layers, *HEADS[form]), DTYPES[STORED[form]], seed + number, change
        )
        case = make_runs(folder, seed + number, taps)
        if number < sized_on:
            make_sized(folder, case, seed + number)
        progress(str(folder))


def config(stored: str, layers: int, heads: int, kv_heads: int, head_dim: int) -> dict[str, object]:
    """A small config of these heads."""
    return config_5(
        stored, 1000000.0, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=head_dim, vocab_size=96, rms_norm_eps=1e-6, tie_word_embeddings=False,
    )  # fmt: skip


def write_checkpoint(
    folder: Path, config: dict[str, object], dtype: torch.dtype, seed: int, change: Callable[[Tensors], None]
) -> None:
    """Writes a random checkpoint, changed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    tensors = {
        key: torch.cat(list(synthetic.values(seed, key, shape, torch.float32))).reshape(shape)
        for key, shape in synthetic.shapes(Qwen3Config.from_dict(config)).items()
    }
    change(tensors)
    write_safetensors(
        folder / SINGLE_FILE, {key: tensor.to(dtype) for key, tensor in tensors.items()}, {"format": "pt"}
    )


def make_runs(folder: Path, seed: int, taps: bool) -> Case:
    """Writes the reference of a prompt, and what Transformers' own runs give; returns the prompt's case."""
    drawn = draws.normal_chunks(seed, "prompt", LENGTH)
    ids = (torch.cat(list(drawn)).abs() * 100).long().remainder(96).tolist()
    cases = reference.FullCases(folder, folder.name, PurePosixPath("."))
    case = cases.token_ids(1, [SINK, *ids[1:]], 6)
    case.taps = taps
    try:
        reference.compute([case], folder, list(DTYPES))
    except CheckError as error:
        # The last check compares with a float32 floor, that of one run, which says little where attention is this sharp.
        print(error, file=sys.stderr)
    reference.write(case, folder / "reference.npz")
    for name, dtype in DTYPES.items():
        for variant, computing in honest.VARIANTS.items():
            model = load_model(folder, dtype)
            with computing(model):
                run = without_padding(case, reference.run(case, model))
            if not all(tensor.isfinite().all() for tensor in run.values()):
                # Where eager attention, which is first, overflows, no other is told from luck.
                break
            if variant == "eager":
                first = run
            # In half precision the order of a sum in float32 seldom matters.
            if variant != "permuted" or not all(tensor.equal(run[key]) for key, tensor in first.items()):
                write_npz(folder / f"honest-{name}-{variant}.npz", reference.arrays(case.inputs | run))
    model = load_model(folder, DTYPES["f32"])
    layer = min(PLANTED_LAYER, len(model.model.layers) - 1)
    model.model.layers[layer].mlp.down_proj.weight[PLANTED_ROW] *= PLANTED_FACTOR
    case.taps = False
    run = without_padding(case, reference.run(case, model))
    write_npz(folder / f"planted-layer-{layer}.npz", reference.arrays(case.inputs | run))
    return case


def make_sized(folder: Path, case: Case, seed: int) -> None:
    """Writes runs with mistakes of many sizes in the middle layer, without generated tokens."""
    case.taps = False
    for name, dtype in DTYPES.items():
        model = load_model(folder, dtype)
        index = len(model.model.layers) // 2
        for kind in sized.KINDS:
            for size in sized.SIZES:
                with torch.no_grad(), sized.planted(model, index, kind, size, seed):
                    cache = DynamicCache(config=model.config)
                    run = without_padding(case, reference.forward_recorded(case, model, cache))
                if all(tensor.isfinite().all() for tensor in run.values()):
                    write_npz(folder / f"sized-{name}-{kind}-{size:.0e}.npz", reference.arrays(case.inputs | run))
