"""LoRA adapters, which PEFT itself runs: those of users, and those of the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError, safe_open
from transformers import Qwen3Config, Qwen3ForCausalLM

from . import draws
from .checkpoint import DTYPES, load_model, read_config
from .errors import InputError
from .files import read_json, sha256, write_json, write_safetensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FOLDER = PurePosixPath("fixtures/adapters")
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """The folder of an adapter, and whether PEFT merges it into the weights before it runs the model."""

    path: Path
    merged: bool = False


def keys(file: Path) -> set[str]:
    """The keys of an adapter's tensors, as PEFT spells them today."""
    if not file.is_file():
        raise InputError(f"{file} not found")
    try:
        with safe_open(file, "pt") as tensors:
            return {key.replace(".default.weight", ".weight") for key in tensors.keys()}
    except SafetensorError as error:
        raise InputError(f"{file}: {error}") from error


def load_adapted(path: Path, dtype: torch.dtype, adapter: Adapter | None) -> Qwen3ForCausalLM:
    """`load_model` with an adapter on it, whose factors are float32, as PEFT has them, or float64 if `dtype` is.

    PEFT passes over tensors that it has no place for, and over missing ones; here both are refused.
    """
    model = load_model(path, dtype)
    if adapter is None:
        return model
    # Only here: it takes seconds to import.
    from peft import PeftModel, get_peft_model_state_dict

    read_json(adapter.path / CONFIG)
    stored = keys(adapter.path / WEIGHTS)
    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter.path), torch_device="cpu")
    except (OSError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{adapter.path}: {' '.join(str(error).split())}") from error
    used = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if used != stored:
        raise InputError(f"{adapter.path / WEIGHTS}: missing or not used: {sorted(used ^ stored)}")
    if dtype == torch.float64:
        wrapped.double()
    # The model itself, its projections being PEFT's: everything else sees no difference.
    return (wrapped.merge_and_unload() if adapter.merged else wrapped.get_base_model()).eval()


@dataclass(frozen=True)
class Tiny:
    """An adapter of the repository, on one of its checkpoints.

    `targets` is PEFT's `target_modules`, `modules` are those of a layer that it means, `layers` the layers, all when
    None. `keys` is how PEFT names the factors: `.weight`, or `.default.weight` as it once did.
    """

    name: str
    checkpoint: str
    prompt: str
    new_tokens: int
    rank: int
    alpha: float
    use_rslora: bool
    targets: str | list[str]
    modules: tuple[str, ...]
    dtype: str
    seed: int
    layers: tuple[int, ...] | None = None
    keys: str = ".weight"

    def folder(self, root: Path) -> Path:
        """Where it lies below the manifest's folder."""
        return root / FOLDER / self.name


ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")

# On the checkpoint whose q_proj and o_proj are square, so that a change of theirs can be transposed.
ADAPTERS = [
    Tiny(
        "yarn-rslora", "yarn", "Hi!", 3, rank=4, alpha=3.0, use_rslora=True,
        targets=[name.rpartition(".")[2] for name in (*ATTENTION, *MLP)], modules=(*ATTENTION, *MLP),
        dtype="bf16", seed=5,
    ),
    Tiny(
        "yarn-lora", "yarn", "Hi", 3, rank=2, alpha=5.0, use_rslora=False,
        targets=r".*\.layers\.[02]\.self_attn\.(q|v)_proj", modules=("self_attn.q_proj", "self_attn.v_proj"),
        dtype="f32", seed=6, layers=(0, 2), keys=".default.weight",
    ),
]  # fmt: skip


def find(name: str) -> Tiny | None:
    """The adapter of this name, if there is one."""
    return next((adapter for adapter in ADAPTERS if adapter.name == name), None)


def shape(config: Qwen3Config, module: str) -> tuple[int, int]:
    """[out, in] of a projection."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, kv = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
    return {
        "q_proj": (queries, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }[module.rpartition(".")[2]]


def write(tiny: Tiny, checkpoint: Path, directory: Path) -> None:
    """Writes an adapter as PEFT does; its changes are about a third of the weights."""
    config = read_config(checkpoint)
    tensors = {}
    for layer in range(config.num_hidden_layers) if tiny.layers is None else tiny.layers:
        for module in tiny.modules:
            out, size = shape(config, module)
            for half, dims, scale in (("A", (tiny.rank, size), size**-0.5), ("B", (out, tiny.rank), 0.15)):
                key = f"{PREFIX}model.layers.{layer}.{module}.lora_{half}{tiny.keys}"
                tensors[key] = (draws.normal(tiny.seed, key, dims) * scale).to(DTYPES[tiny.dtype])
    write_json(
        directory / CONFIG,
        {
            "base_model_name_or_path": None,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": tiny.alpha,
            "lora_dropout": 0.05,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": tiny.rank,
            "target_modules": tiny.targets,
            "task_type": "CAUSAL_LM",
            "use_dora": False,
            "use_rslora": tiny.use_rslora,
        },
    )
    write_safetensors(directory / WEIGHTS, tensors, {"format": "pt"})


def entries(root: Path, checkpoints: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """The manifest's entries of adapted checkpoints: those of the checkpoints, and the adapter beside them."""
    result = {}
    for tiny in ADAPTERS:
        folder = tiny.folder(root)
        if tiny.checkpoint in checkpoints and folder.is_dir():
            files = {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)}
            adapter = {"path": folder.relative_to(root).as_posix(), "files": files}
            result[tiny.name] = checkpoints[tiny.checkpoint] | {"adapter": adapter}
    return result
