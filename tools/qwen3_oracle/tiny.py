"""The tiny checkpoints of the repository, and the check that they can show a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from . import dtypes, sparse, synthetic
from .checkpoint import DTYPES, fp8_blocks, load_model, read_config
from .errors import CheckError
from .files import write_json
from .precise import float64_inside


@dataclass(frozen=True)
class Tiny:
    """A checkpoint of the repository: its `config.json`, the dtype on disk, the seed and the number of files.

    `change` is what becomes of the weights before they are written.
    """

    name: str
    config: dict[str, object]
    dtype: str
    seed: int
    shards: int = 1
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None


def config_4(dtype: str, theta: float, positions: int = 128, **sizes: object) -> dict[str, object]:
    """A `config.json` in the spelling of Transformers 4: `rope_theta`, `rope_scaling`, `torch_dtype`."""
    common = {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": positions,
        "max_window_layers": sizes["num_hidden_layers"],
        "model_type": "qwen3",
        "rope_scaling": None,
        "rope_theta": theta,
        "sliding_window": None,
        "torch_dtype": dtypes.NAMES[dtype],
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
    }
    return dict(sorted((common | sizes).items()))


def config_5(dtype: str, theta: float, positions: int = 128, **sizes: object) -> dict[str, object]:
    """The same in the spelling of Transformers 5: `rope_parameters`, `dtype`, `layer_types`."""
    config = config_4(dtype, theta, positions, **sizes)
    for key in ("rope_scaling", "rope_theta", "torch_dtype"):
        del config[key]
    config |= {
        "bos_token_id": None,
        "dtype": dtypes.NAMES[dtype],
        "eos_token_id": None,
        "layer_types": ["full_attention"] * sizes["num_hidden_layers"],
        "pad_token_id": None,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "transformers_version": transformers.__version__,
    }
    return dict(sorted((config | sizes).items()))


EXPERTS = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": sparse.MODEL_TYPE}
CHECKPOINTS = [
    Tiny(
        "gqa-tied",
        config_5(
            "bf16", 1000000.0, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
            num_key_value_heads=2, head_dim=16, vocab_size=256, rms_norm_eps=1e-6, tie_word_embeddings=True,
        ),
        dtype="bf16",
        seed=33,
    ),
    Tiny(
        "mha-untied",
        config_5(
            "f32", 500000.0, hidden_size=80, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, head_dim=24, vocab_size=200, rms_norm_eps=1e-5, tie_word_embeddings=False,
        ),
        dtype="f32",
        seed=116,
    ),
    Tiny(
        "gqa-sharded",
        config_5(
            "f16", 1000000.0, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, vocab_size=320, rms_norm_eps=1e-6, tie_word_embeddings=False,
        ),
        dtype="f16",
        seed=78,
        shards=3,
    ),
    Tiny(
        "bias-tied",
        config_4(
            "bf16", 10000.0, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, head_dim=16, vocab_size=131, rms_norm_eps=1e-4, tie_word_embeddings=True,
            attention_bias=True,
        ),
        dtype="bf16",
        seed=474,
    ),
    Tiny(
        "long-context",
        config_5(
            "bf16", 1000000.0, positions=40960, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=64, rms_norm_eps=1e-6,
            tie_word_embeddings=True,
        ),
        dtype="bf16",
        seed=32,
    ),
    Tiny(
        "window",
        config_4(
            "bf16", 1000000.0, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
            num_key_value_heads=2, head_dim=16, vocab_size=256, rms_norm_eps=1e-6, tie_word_embeddings=True,
            use_sliding_window=True, sliding_window=5, max_window_layers=1,
        ),
        dtype="bf16",
        seed=1,
    ),
    Tiny(
        "yarn",
        config_5(
            "f32", 10000.0, positions=48, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, vocab_size=256, rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters={
                "beta_fast": 8.0, "beta_slow": 0.5, "factor": 4.0, "original_max_position_embeddings": 12,
                "rope_theta": 10000.0, "rope_type": "yarn",
            },
        ),
        dtype="f32",
        seed=1,
    ),
    Tiny(
        "window-yarn",
        config_5(
            "bf16", 1000000.0, positions=40960, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=64, rms_norm_eps=1e-6,
            tie_word_embeddings=True, use_sliding_window=True, sliding_window=6,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "attention_factor": 1.25, "beta_fast": 16.0, "beta_slow": 2.0, "factor": 10.0,
                "original_max_position_embeddings": 4096, "rope_theta": 1000000.0, "rope_type": "yarn",
                "truncate": False,
            },
        ),
        dtype="bf16",
        seed=1,
    ),
    Tiny(
        "fp8",
        config_4(
            "bf16", 1000000.0, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
            num_key_value_heads=2, head_dim=16, vocab_size=256, rms_norm_eps=1e-6, tie_word_embeddings=False,
            quantization_config={
                "activation_scheme": "dynamic", "fmt": "e4m3", "modules_to_not_convert": ["lm_head"],
                "quant_method": "fp8", "weight_block_size": [32, 40],
            },
        ),
        dtype="bf16",
        seed=1,
    ),
    Tiny(
        "experts",
        config_4(
            "bf16", 1000000.0, **EXPERTS, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
            num_attention_heads=8, num_key_value_heads=2, head_dim=16, vocab_size=256, rms_norm_eps=1e-6,
            tie_word_embeddings=True, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=24,
            norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], output_router_logits=False,
            router_aux_loss_coef=0.001,
        ),
        dtype="bf16",
        seed=1,
    ),
    Tiny(
        "experts-mixed",
        config_5(
            "f32", 10000.0, **EXPERTS, hidden_size=64, intermediate_size=48, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, vocab_size=256, rms_norm_eps=1e-5,
            tie_word_embeddings=False, num_local_experts=6, num_experts_per_tok=3, moe_intermediate_size=32,
            decoder_sparse_step=2, mlp_only_layers=[3], use_sliding_window=True, sliding_window=6,
            layer_types=["sliding_attention"] * 4,
        ),
        dtype="f32",
        seed=2,
        change=sparse.fused,
    ),
    Tiny(
        "experts-ties",
        config_4(
            "f32", 1000000.0, **EXPERTS, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=256, rms_norm_eps=1e-5,
            tie_word_embeddings=False, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24,
            norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        ),
        dtype="f32",
        seed=1,
        change=synthetic.twins,
    ),
]  # fmt: skip


def write(tiny: Tiny, directory: Path) -> None:
    """Writes one tiny checkpoint and checks it."""
    write_json(directory / "config.json", tiny.config)
    config = read_config(directory)
    blocks = fp8_blocks(directory)
    if tiny.change:
        weights = synthetic.whole(config, DTYPES[tiny.dtype], tiny.seed)
        synthetic.write_whole(directory, tiny.change(weights))
    elif blocks is None:
        synthetic.write_weights(directory, config, DTYPES[tiny.dtype], tiny.seed, tiny.shards)
    else:
        synthetic.write_fp8(directory, config, DTYPES[tiny.dtype], tiny.seed, blocks)
    check(directory)


def check(directory: Path, load: Callable[[Path, torch.dtype], PreTrainedModel] = load_model) -> None:
    """Fails unless activations are O(1) and attention rows have visibly different entropies in every layer.

    `load_encoder` loads a checkpoint without a head, which has no logits.
    """
    model = load(directory, torch.float64)
    ids = torch.arange(0, 32).remainder(model.config.vocab_size)[None]
    with float64_inside(), sparse.recorded_scores(model) as scores:
        run = model(ids, output_hidden_states=True, output_attentions=True)
    logits = [run.logits] if "logits" in run else []
    for index, hidden in enumerate([*run.hidden_states, *logits]):
        size = hidden.square().mean().sqrt().item()
        if not 0.3 < size < 10:
            raise CheckError(f"{directory.name}: hidden state {index} has root mean square {size:.3g}")
    for number, logits in enumerate(scores):
        used = logits.topk(model.config.sparse.num_experts_per_tok, dim=-1).indices.unique()
        # Of twins either may be taken.
        if len(used) < logits[0].unique().numel():
            raise CheckError(f"{directory.name}: the router of sparse layer {number} uses {len(used)} experts only")
    for index, weights in enumerate(run.attentions):
        rows = weights[:, :, 7:]
        window = model.config.sliding_window if model.config.layer_types[index] == "sliding_attention" else 33
        entropy = -torch.special.xlogy(rows, rows).sum(-1) / torch.arange(8.0, 33.0).clamp(max=window).log()
        low, high = entropy.min().item(), entropy.max().item()
        if not (low < 0.45 and high - low > 0.4 and entropy.std() > 0.08):
            raise CheckError(f"{directory.name}: layer {index}: entropies of {low:.3g} to {high:.3g} of uniform")
