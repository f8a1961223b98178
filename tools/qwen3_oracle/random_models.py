"""Many random tiny models of every architecture, each with the logits of two prompts, in one file.

What the file holds of model N: `N.weights`, bfloat16, all tensors of its checkpoint one after the other in the order of
their keys; `N.input_ids` and `N.attention_mask` int64 [2, length], the first row padded on the left; `N.logits` float32
[2, length, vocab], 0 at padding; and in the metadata `N.config`, its `config.json`, and `N.floor`, the largest error of
Transformers' float32 run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import transformers

from . import prompts, reference, sparse, synthetic, tiny
from .cases import Case, without_padding
from .checkpoint import load_model, read_config
from .draws import generator
from .errors import CheckError
from .files import rounded, write_json, write_safetensors
from .precise import float64_inside

FILE = PurePosixPath("fixtures/random/models.safetensors")
COUNT = 200
SEED = 7
LENGTH = 14
# An archive that is read in tests, and stays in the repository.
LARGEST = 3_000_000


def rope(draw: np.random.Generator, theta: float) -> dict[str, object]:
    """`rope_parameters` of any kind that is supported; those of YaRN with some of its defaults left out."""
    kind = draw.choice(["default", "default", "linear", "yarn", "yarn"])
    values = {"rope_theta": theta, "rope_type": str(kind)}
    if kind == "default":
        return values
    values["factor"] = float(draw.choice([1.0, 1.5, 4.0]))
    if kind == "yarn":
        values["original_max_position_embeddings"] = int(draw.choice([6, 8, 32]))
        optional = {
            "attention_factor": float(draw.choice([0.7, 1.3])),
            "beta_fast": float(draw.choice([4.0, 24.0])),
            "beta_slow": float(draw.choice([0.25, 2.0])),
            "truncate": bool(draw.integers(2)),
        }
        values |= {name: value for name, value in optional.items() if draw.integers(2)}
    return values


def experts(draw: np.random.Generator, layers: int) -> dict[str, object]:
    """The fields of experts, in either spelling of their number."""
    count = int(draw.integers(1, 7))
    fields = {
        str(draw.choice(["num_experts", "num_local_experts"])): count,
        "num_experts_per_tok": int(draw.integers(1, count + 1)),
        "moe_intermediate_size": int(draw.integers(2, 9)),
        "decoder_sparse_step": int(draw.integers(1, 3)),
        "mlp_only_layers": [layer for layer in range(layers) if draw.integers(4) == 0],
    }
    return fields | ({"norm_topk_prob": bool(draw.integers(2))} if draw.integers(4) else {})


def windows(draw: np.random.Generator, layers: int, sparse_layers: bool) -> dict[str, object]:
    """The fields of windows, often none."""
    if draw.integers(2):
        return {}
    fields = {"use_sliding_window": True, "sliding_window": int(draw.integers(1, 9))}
    if sparse_layers:
        return fields | {"layer_types": ["sliding_attention"] * layers}
    if draw.integers(2):
        first = int(draw.integers(0, layers + 1))
        types = ["full_attention"] * first + ["sliding_attention"] * (layers - first)
        return fields | {"max_window_layers": first, "layer_types": types}
    kinds = ["full_attention", "sliding_attention"]
    return fields | {"layer_types": [kinds[draw.integers(2)] for _ in range(layers)]}


def config(draw: np.random.Generator) -> dict[str, object]:
    """Any architecture, in the spelling of Transformers 4 or 5."""
    layers, kv_heads = int(draw.integers(1, 4)), int(draw.integers(1, 3))
    theta = float(draw.choice([100.0, 1e4, 1e6]))
    sizes = {
        "attention_bias": bool(draw.integers(2)),
        "head_dim": 2 * int(draw.integers(1, 5)),
        "hidden_size": int(draw.integers(4, 17)),
        "intermediate_size": int(draw.integers(3, 17)),
        "num_attention_heads": kv_heads * int(draw.integers(1, 4)),
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": float(draw.choice([1e-6, 1e-5, 1e-4])),
        "tie_word_embeddings": bool(draw.integers(2)),
        "vocab_size": int(draw.integers(5, 31)),
    }
    sparse_layers = bool(draw.integers(2))
    if sparse_layers:
        sizes |= tiny.EXPERTS | experts(draw, layers)
    sizes |= windows(draw, layers, sparse_layers)
    parameters = rope(draw, theta)
    if draw.integers(2):
        return tiny.config_5("bf16", theta, 64, **sizes, rope_parameters=parameters)
    # Only what is listed says which layers have a window, where they are not those from one on.
    scaling = None if parameters.pop("rope_type") == "default" else parameters
    del parameters["rope_theta"]
    kind = "yarn" if "original_max_position_embeddings" in parameters else "linear"
    return tiny.config_4("bf16", theta, 64, **sizes, rope_scaling=scaling and {"type": kind, **scaling})


def case_of(draw: np.random.Generator, vocab_size: int) -> Case:
    """Two prompts of unequal length, left-padded."""
    lengths = (int(draw.integers(1, LENGTH)), LENGTH)
    rows = [draw.integers(0, vocab_size, length).tolist() for length in lengths]
    return Case("random", "full_model", "", "", PurePosixPath("."), prompts.left_padded(rows))


def logits(case: Case, path: Path, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """The logits without a cache, the router's scores, and how many experts a token is sent to."""
    model = load_model(path, dtype)
    mask = reference.full_mask(case)
    with sparse.recorded_scores(model) as scores:
        found = model(
            case.inputs["input_ids"], attention_mask=mask, position_ids=reference.positions(mask), use_cache=False
        ).logits
    top_k = model.config.sparse.num_experts_per_tok if scores else 0
    return without_padding(case, {"logits": found})["logits"], scores, top_k


def attempt(index: int, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of one model; fails when rounding may choose other experts."""
    draw = generator(SEED, f"random-{index}")
    values = config(draw)
    write_json(path / "config.json", values)
    known = read_config(path)
    weights = synthetic.whole(known, torch.bfloat16, SEED + index)
    synthetic.write_whole(path, weights)
    case = case_of(draw, known.vocab_size)
    with float64_inside():
        exact, right, top_k = logits(case, path, torch.float64)
    single, found, _ = logits(case, path, torch.float32)
    tokens = reference.full_mask(case).bool().flatten()
    sparse.check_choices(str(index), [scores[tokens] for scores in right], [scores[tokens] for scores in found], top_k)
    floor = (single.double() - exact).abs().max().item()
    flat = torch.cat([weights[key].flatten() for key in sorted(weights)])
    tensors = {"weights": flat, "logits": exact.float(), **case.inputs}
    return tensors, {"config": json.dumps(values), "floor": repr(rounded(floor))}


def make(root: Path) -> list[dict[str, object]]:
    """Writes the archive below `root` and gives the manifest's entry."""
    # It has much to say of scaling factors that do not fit the number of positions.
    transformers.logging.set_verbosity_error()
    tensors: dict[str, torch.Tensor] = {}
    metadata = {"format": "pt", "models": str(COUNT)}
    index = 0
    for number in range(COUNT):
        while True:
            index += 1
            with tempfile.TemporaryDirectory() as folder:
                try:
                    made, told = attempt(index, Path(folder))
                except CheckError:
                    continue
            break
        tensors |= {f"{number:03}.{name}": tensor.contiguous() for name, tensor in made.items()}
        metadata |= {f"{number:03}.{name}": text for name, text in told.items()}
    write_safetensors(root / FILE, tensors, metadata)
    size = (root / FILE).stat().st_size
    if size > LARGEST:
        raise CheckError(f"{root / FILE} has {size} bytes, more than {LARGEST}")
    print(f"{FILE}: {COUNT} models of {index} tried, {size} bytes")
    description = f"{COUNT} random architectures with their weights, two prompts and the logits"
    return [{"file": FILE.as_posix(), "description": description}]
