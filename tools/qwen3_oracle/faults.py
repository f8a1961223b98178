"""Known mistakes in Qwen3 implementations, planted into Transformers for the time of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3

from .cases import Case
from .precise import replaced


@dataclass
class Subject:
    """The modules a fault may touch: a layer on its own, or a model's layers and final norm."""

    config: Qwen3Config
    layers: list[modeling_qwen3.Qwen3DecoderLayer]
    model: modeling_qwen3.Qwen3Model | None = None


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, how to plant it, and the configurations and cases in which it is one.

    `only_rounding`: it only shows in how many elements of a half precision output differ.
    """

    name: str
    plant: Callable[[Subject], AbstractContextManager[None]]
    applies: Callable[[Qwen3Config], bool] = lambda config: True
    concerns: Callable[[Case], bool] = lambda case: True
    only_rounding: bool = False


@contextmanager
def interleaved_rope(subject: Subject) -> Iterator[None]:
    """Rotates the pairs (2i, 2i + 1) in place of (i, i + head_dim / 2)."""

    def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)

    def apply(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return rotate(q, cos, sin), rotate(k, cos, sin)

    with replaced(modeling_qwen3, "apply_rotary_pos_emb", apply):
        yield


@contextmanager
def theta_10000(subject: Subject) -> Iterator[None]:
    """Ignores the configuration's theta."""

    def forward(self, x, position_ids):
        exponents = torch.arange(0, subject.config.head_dim, 2, dtype=torch.float) / subject.config.head_dim
        freqs = position_ids[..., None].float() / 10000.0**exponents
        emb = torch.cat((freqs, freqs), dim=-1)
        return emb.cos().to(x.dtype), emb.sin().to(x.dtype)

    with replaced(modeling_qwen3.Qwen3RotaryEmbedding, "forward", forward):
        yield


def without_head_norm(name: str) -> Callable[[Subject], AbstractContextManager[None]]:
    """Leaves out q_norm or k_norm."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in subject.layers:
                norm = getattr(layer.self_attn, name)
                stack.enter_context(replaced(norm, "forward", lambda hidden_states: hidden_states))
            yield

    return plant


def weights_changed(
    change: Callable[[modeling_qwen3.Qwen3DecoderLayer], list[tuple[nn.Module, str, torch.Tensor]]],
) -> Callable[[Subject], AbstractContextManager[None]]:
    """Gives parameters of each layer other data."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in subject.layers:
                for module, name, data in change(layer):
                    stack.enter_context(replaced(getattr(module, name), "data", data))
            yield

    return plant


def swapped(first: nn.Linear, second: nn.Linear) -> list[tuple[nn.Module, str, torch.Tensor]]:
    """The changes that swap two projections' weights and biases."""
    names = [name for name, _ in first.named_parameters()]
    pairs = [(first, second), (second, first)]
    return [(to, name, getattr(source, name).data) for to, source in pairs for name in names]


@contextmanager
def eps_1e_5(subject: Subject) -> Iterator[None]:
    """Ignores the configuration's rms_norm_eps."""
    modules = [module for layer in subject.layers for module in layer.modules()]
    modules += [subject.model.norm] if subject.model else []
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, modeling_qwen3.Qwen3RMSNorm):
                stack.enter_context(replaced(module, "variance_epsilon", 1e-5))
        yield


@contextmanager
def norm_weight_before_cast(subject: Subject) -> Iterator[None]:
    """Multiplies by the norm's weight in float32, and casts afterwards: one rounding less in half precision."""

    def forward(self, hidden_states):
        wide = hidden_states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.weight.float() * wide).to(hidden_states.dtype)

    with replaced(modeling_qwen3.Qwen3RMSNorm, "forward", forward):
        yield


@contextmanager
def interleaved_groups(subject: Subject) -> Iterator[None]:
    """Gives query head h the key/value head h % kv_heads in place of h // groups."""

    def repeat(hidden_states: torch.Tensor, n_rep: int) -> torch.Tensor:
        return hidden_states.repeat(1, n_rep, 1, 1)

    with replaced(modeling_qwen3, "repeat_kv", repeat):
        yield


def mask_changed(ahead: int, visible: bool) -> Callable[[Subject], AbstractContextManager[None]]:
    """Shows or hides the key `ahead` of each query's own position."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[None]:
        create = modeling_qwen3.create_causal_mask

        def changed(**arguments: object) -> torch.Tensor:
            mask = create(**arguments).clone()
            queries, keys = mask.shape[-2:]
            hidden = torch.finfo(mask.dtype).min
            mask.diagonal(keys - queries + ahead, dim1=-2, dim2=-1).fill_(0 if visible else hidden)
            return mask

        with replaced(modeling_qwen3, "create_causal_mask", changed):
            yield

    return plant


@contextmanager
def padding_ignored(subject: Subject) -> Iterator[None]:
    """Attends to left padding."""
    create = modeling_qwen3.create_causal_mask

    def changed(**arguments: object) -> torch.Tensor:
        return create(**arguments | {"attention_mask": None})

    with replaced(modeling_qwen3, "create_causal_mask", changed):
        yield


@contextmanager
def decode_position_off_by_one(subject: Subject) -> Iterator[None]:
    """Counts new tokens one too far against the cached keys."""
    forward = modeling_qwen3.Qwen3Model.forward

    def shifted(self, *args, position_ids=None, past_key_values=None, **options):
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            position_ids = position_ids + 1
        return forward(self, *args, position_ids=position_ids, past_key_values=past_key_values, **options)

    with replaced(modeling_qwen3.Qwen3Model, "forward", shifted):
        yield


@contextmanager
def second_final_norm(subject: Subject) -> Iterator[None]:
    """Applies the final norm to its own output."""
    norm = subject.model.norm
    once = norm.forward
    with replaced(norm, "forward", lambda hidden_states: once(once(hidden_states))):
        yield


@contextmanager
def scale_of_hidden_size(subject: Subject) -> Iterator[None]:
    """Scales scores by hidden_size / heads in place of head_dim."""
    scaling = (subject.config.hidden_size / subject.config.num_attention_heads) ** -0.5
    with ExitStack() as stack:
        for layer in subject.layers:
            stack.enter_context(replaced(layer.self_attn, "scaling", scaling))
        yield


def square_kv(config: Qwen3Config) -> bool:
    """Whether transposed k and v weights keep their shape."""
    return config.num_key_value_heads * config.head_dim == config.hidden_size


FAULTS = [
    Fault("interleaved RoPE", interleaved_rope),
    Fault("theta 10,000", theta_10000, lambda config: config.rope_parameters["rope_theta"] != 10000),
    Fault("no q_norm", without_head_norm("q_norm")),
    Fault("no k_norm", without_head_norm("k_norm")),
    Fault(
        "k and v weights swapped",
        weights_changed(lambda layer: swapped(layer.self_attn.k_proj, layer.self_attn.v_proj)),
    ),
    Fault(
        "k and v weights transposed",
        weights_changed(
            lambda layer: [
                (module, "weight", module.weight.data.T.contiguous())
                for module in (layer.self_attn.k_proj, layer.self_attn.v_proj)
            ]
        ),
        square_kv,
    ),
    Fault("eps 1e-5", eps_1e_5, lambda config: config.rms_norm_eps != 1e-5),
    Fault(
        "norm weight before the cast",
        norm_weight_before_cast,
        concerns=lambda case: case.kind == "rms_norm",
        only_rounding=True,
    ),
    Fault("gate and up swapped", weights_changed(lambda layer: swapped(layer.mlp.gate_proj, layer.mlp.up_proj))),
    Fault(
        "GQA groups interleaved",
        interleaved_groups,
        lambda config: 1 < config.num_key_value_heads < config.num_attention_heads,
    ),
    Fault("mask shows the next token", mask_changed(1, visible=True)),
    Fault("mask hides the token itself", mask_changed(0, visible=False)),
    Fault("left padding attended to", padding_ignored, concerns=lambda case: "attention_mask" in case.inputs),
    Fault("decode position off by one", decode_position_off_by_one, concerns=lambda case: case.kind == "full_model"),
    Fault("second final norm", second_final_norm, concerns=lambda case: case.kind == "full_model"),
    Fault(
        "scale from hidden_size / heads",
        scale_of_hidden_size,
        lambda config: config.head_dim * config.num_attention_heads != config.hidden_size,
    ),
    Fault(
        "biases left out",
        weights_changed(
            lambda layer: [
                (module, "bias", torch.zeros_like(module.bias.data))
                for module in layer.self_attn.children()
                if isinstance(module, nn.Linear)
            ]
        ),
        lambda config: config.attention_bias,
    ),
]
