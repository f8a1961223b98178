"""Small mistakes in one layer of a model in half precision, seen in the layers' outputs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import torch
from torch import nn
from transformers import DynamicCache
from transformers.models.qwen3 import modeling_qwen3

from . import reference
from .cases import without_padding
from .checkpoint import DTYPES, load_model
from .errors import CheckError
from .files import write_npz
from .mistakes.planting import while_running
from .precise import float64_inside, replaced

Layer = modeling_qwen3.Qwen3DecoderLayer
Plant = Callable[[Layer], AbstractContextManager[None]]


@contextmanager
def weights_changed(modules: list[nn.Module], change: Callable[[str, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """With every parameter of the modules as `change` makes it of a copy."""
    with ExitStack() as stack:
        for module in modules:
            for name, parameter in module.named_parameters():
                stack.enter_context(replaced(parameter, "data", change(name, parameter.data.clone())))
        yield


def zeroed_row(module: str, row: int) -> Plant:
    """One row of a projection is zero, with its bias."""

    def change(_: str, tensor: torch.Tensor) -> torch.Tensor:
        tensor[row] = 0
        return tensor

    return lambda layer: weights_changed([layer.get_submodule(module)], change)


def bias_dropped(module: str) -> Plant:
    """A projection without its bias."""

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(tensor) if name == "bias" else tensor

    return lambda layer: weights_changed([layer.get_submodule(module)], change)


def int8(layer: Layer) -> AbstractContextManager[None]:
    """All projections as 8-bit integers with one scale for each row."""

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name != "weight":
            return tensor
        wide = tensor.double()
        scale = wide.abs().amax(-1, keepdim=True) / 127
        return ((wide / scale).round() * scale).to(tensor.dtype)

    return weights_changed([module for module in layer.modules() if isinstance(module, nn.Linear)], change)


def norm_scaled(module: str, element: int, factor: float) -> Plant:
    """One element of a norm's weight is too large."""

    def change(_: str, tensor: torch.Tensor) -> torch.Tensor:
        tensor[element] *= factor
        return tensor

    return lambda layer: weights_changed([layer.get_submodule(module)], change)


def lost_edge(layer: Layer) -> AbstractContextManager[None]:
    """The last token of the prompt does not see the one before it."""

    def patch() -> AbstractContextManager[None]:
        attend = modeling_qwen3.eager_attention_forward

        def attend_changed(module, query, key, value, attention_mask, **options):
            if attention_mask is not None and query.shape[-2] > 1:
                attention_mask = attention_mask.clone()
                attention_mask[..., -1, -2] = torch.finfo(query.dtype).min
            return attend(module, query, key, value, attention_mask, **options)

        return replaced(modeling_qwen3, "eager_attention_forward", attend_changed)

    return while_running(layer, patch)


def scale_off(layer: Layer) -> AbstractContextManager[None]:
    """Scores a twentieth too large."""
    return replaced(layer.self_attn, "scaling", 1.05 * layer.self_attn.scaling)


SMALL: dict[str, Plant] = {
    "q_row_zeroed": zeroed_row("self_attn.q_proj", 5),
    "k_row_zeroed": zeroed_row("self_attn.k_proj", 5),
    "v_row_zeroed": zeroed_row("self_attn.v_proj", 5),
    "o_row_zeroed": zeroed_row("self_attn.o_proj", 9),
    "gate_row_zeroed": zeroed_row("mlp.gate_proj", 9),
    "k_bias_dropped": bias_dropped("self_attn.k_proj"),
    "int8_weights": int8,
    "q_norm_element": norm_scaled("self_attn.q_norm", 3, 1.25),
    "lost_edge": lost_edge,
    "scale_off": scale_off,
}

# Folders of references, and in each the dtype, the layer and the mistake.
PLANS: dict[str, list[tuple[str, int, str]]] = {
    "bias-tied/prompt1": [
        ("bf16", 0, "int8_weights"),
        ("bf16", 0, "k_bias_dropped"),
        ("bf16", 1, "q_row_zeroed"),
        ("bf16", 2, "gate_row_zeroed"),
        ("bf16", 2, "k_row_zeroed"),
        ("bf16", 2, "lost_edge"),
        ("f16", 2, "q_norm_element"),
    ],
    "gqa-sharded/prompt2": [
        ("bf16", 0, "scale_off"),
        ("bf16", 1, "k_row_zeroed"),
        ("bf16", 2, "gate_row_zeroed"),
        ("bf16", 2, "q_row_zeroed"),
        ("f16", 1, "lost_edge"),
    ],
    "gqa-tied/prompt3": [
        ("bf16", 0, "int8_weights"),
        ("bf16", 1, "q_norm_element"),
        ("bf16", 1, "scale_off"),
        ("f16", 2, "lost_edge"),
    ],
    "wild/003-outliers": [("f16", 0, "k_row_zeroed"), ("f16", 0, "lost_edge")],
    "wild/006-sharp-and-flat": [("bf16", 3, "v_row_zeroed"), ("f16", 2, "int8_weights"), ("f16", 2, "k_row_zeroed")],
    "wild/007-tame": [
        ("bf16", 6, "v_row_zeroed"),
        ("bf16", 11, "lost_edge"),
        ("bf16", 11, "o_row_zeroed"),
        ("f16", 6, "int8_weights"),
        ("f16", 11, "q_row_zeroed"),
    ],
}


def make(fixtures: Path) -> None:
    """Writes `small/<reference>/<dtype>-layer-<n>-<mistake>.npz`: what comes out of embedding, layers, norm and head.

    In float64 each changes its layer's output by more than honest modules in the dtype are off by.
    """
    for folder, mistakes in PLANS.items():
        case = reference.read(fixtures / folder / "reference.npz")
        case.taps = False
        place = PurePosixPath(folder)
        path = fixtures / place if place.parts[0] == "wild" else fixtures / "checkpoints" / place.parts[0]
        exact = load_model(path, torch.float64)
        for dtype, layer, name in mistakes:
            output = f"layer_{layer:02}_output"
            with float64_inside(), SMALL[name](exact.model.layers[layer]):
                wrong = reference.forward_recorded(case, exact, DynamicCache(config=exact.config))
            change = (without_padding(case, wrong)[output] - case.expected[output]).square().mean().sqrt().item()
            floor = case.isolated_floors[output][dtype]["rms"]
            if not change > floor:
                raise CheckError(f"{folder}: {name} in layer {layer} changes {change:.3g}, the floor is {floor:.3g}")
            model = load_model(path, DTYPES[dtype])
            with SMALL[name](model.model.layers[layer]):
                run = reference.forward_recorded(case, model, DynamicCache(config=model.config))
            file = fixtures / "small" / folder / f"{dtype}-layer-{layer}-{name}.npz"
            write_npz(file, reference.arrays(without_padding(case, run)))
