"""Finds a Qwen3 decoder in a module by the names that Transformers gives its parts, whatever stands before them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import keys

if TYPE_CHECKING:
    from torch.nn import Module

# What wrappers put between a module and what it wraps: torch.compile, DataParallel, FSDP, activation checkpoints.
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
LAYER = re.compile(r"^(?P<prefix>(?:.*\.)?)layers\.(?P<index>\d+)$")
# What makes a numbered module a decoder layer.
PARTS = ("self_attn", "input_layernorm", "post_attention_layernorm", "mlp")
# What else is looked at in a layer that has it.
OTHERS = ("mlp.gate", "mlp.experts", keys.PACKED_QKV, keys.ROTARY)
# What is in one where there is a packed projection.
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
# How many names an error has.
MOST = 8


@dataclass
class Decoder:
    """The modules of a decoder by their names below it; `path` leads from the outermost module to the decoder."""

    path: list[Module]
    embed_tokens: Module | None
    norm: Module | None
    lm_head: Module | None
    # Of each layer its number, and its modules by their names in it; "" is the layer.
    layers: dict[int, dict[str, Module]] = field(default_factory=dict)
    # Modules that were looked for and are not there.
    missing: list[str] = field(default_factory=list)


def plain(name: str) -> str:
    """The name of a module without what wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def named(model: Module) -> dict[str, Module]:
    """Every module by its plain name; of a wrapper and what it wraps, the latter."""
    return {plain(name): module for name, module in model.named_modules(remove_duplicate=False)}


def looked_for() -> list[str]:
    """The names below a decoder, for errors."""
    inside = [f"layers.N.{name}" for name in keys.FROM_MODULES]
    return ["embed_tokens", "layers.N", *inside, "norm", "lm_head"]


def prefixes(names: Iterable[str]) -> list[str]:
    """What stands before `layers.0` of each decoder."""
    names = set(names)
    found = [match for match in map(LAYER.match, names) if match and match["index"] == "0"]
    return sorted(match["prefix"] for match in found if any(f"{match[0]}.{part}" in names for part in PARTS))


def unknown(names: list[str]) -> str:
    """Why there is no decoder among modules of these names."""
    wanted = looked_for()

    def likeness(name: str) -> float:
        general = re.sub(r"\d+", "N", name)
        return max(difflib.SequenceMatcher(None, general, other).ratio() for other in wanted)

    # One of each numbered kind.
    kinds = {re.sub(r"\d+", "N", name): name for name in reversed(names) if name}
    nearest = sorted(kinds.values(), key=likeness, reverse=True)[:MOST]
    there = f"the nearest names there are: {', '.join(nearest)}" if nearest else "the module has no submodules"
    return f"no module is named as those of a Qwen3 decoder in Transformers: looked for {', '.join(wanted)}; {there}"


def find(model: Module) -> Decoder:
    """The decoder in `model`.

    Raises:
        ValueError: there is none, or more than one.
    """
    modules = named(model)
    found = prefixes(modules)
    embedded = [prefix for prefix in found if f"{prefix}embed_tokens" in modules]
    if not found:
        raise ValueError(unknown(list(modules)))
    if len(embedded or found) > 1:
        where = ", ".join(f"{prefix}layers" for prefix in embedded or found)
        raise ValueError(f"several decoders: {where}; record the submodule that holds one of them")
    prefix = (embedded or found)[0]
    path = [module for name, module in modules.items() if name == "" or prefix.startswith(f"{name}.")]
    result = Decoder(path, modules.get(f"{prefix}embed_tokens"), modules.get(f"{prefix}norm"), head(modules, prefix))
    for name, module in modules.items():
        match = LAYER.match(name)
        if match and match["prefix"] == prefix:
            inner = {part: modules[f"{name}.{part}"] for part in (*keys.FROM_MODULES, "self_attn")
                     if f"{name}.{part}" in modules}  # fmt: skip
            others = {part: modules[f"{name}.{part}"] for part in OTHERS if f"{name}.{part}" in modules}
            result.layers[int(match["index"])] = {"": module} | inner | others
            packed = PROJECTIONS if keys.PACKED_QKV in others else ()
            result.missing += [f"{name}.{part}" for part in keys.FROM_MODULES if part not in (*inner, *packed)]
    ends = {f"{prefix}embed_tokens": result.embed_tokens, f"{prefix}norm": result.norm, "lm_head": result.lm_head}
    result.missing += [name for name, module in ends.items() if module is None]
    return result


def head(modules: dict[str, Module], prefix: str) -> Module | None:
    """The `lm_head` that is nearest above the decoder."""
    names = [name for name in modules if name.rpartition(".")[2] == "lm_head"]
    above = [name for name in names if prefix.startswith(name.removesuffix("lm_head"))]
    return modules[max(above, key=len)] if above else None
