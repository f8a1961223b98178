"""A Qwen3 as vLLM arranges it: `vllm/model_executor/models/qwen3.py`, with its modules' names, arguments and returns.

Tokens have no batch, projections are packed and return a bias beside, norms add the residual stream in place, layers
return what is yet to be added to it, and keys and values stay in the attention between passes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Packed(nn.Module):
    """`QKVParallelLinear` and its like: several projections in one."""

    def __init__(self, *parts: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.cat([part.weight for part in parts])
        self.bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return functional.linear(x, self.weight, self.bias), None


class Norm(nn.Module):
    """`RMSNorm`: with a residual it adds it first, in place, as `fused_add_rms_norm` does."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        if residual is None:
            return self.normed(x)
        residual.add_(x)
        x.copy_(self.normed(residual))
        return x, residual

    def normed(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Rotary(nn.Module):
    """`RotaryEmbedding`: heads lie flat."""

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.theta = head_dim, theta

    def forward(self, positions: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        half = self.head_dim // 2
        angles = positions[:, None] * self.theta ** (-torch.arange(half) / half)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]

        def turned(x: Tensor) -> Tensor:
            first, second = x.view(len(x), -1, self.head_dim).split(half, -1)
            return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).view_as(x)

        return turned(q), turned(k)


class Attention(nn.Module):
    """`Attention`: holds the cache."""

    def __init__(self, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads
        self.cache: list[tuple[Tensor, Tensor]] = []

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.append((k.view(len(k), self.kv_heads, -1), v.view(len(v), self.kv_heads, -1)))
        keys, values = (torch.cat(parts).transpose(0, 1) for parts in zip(*self.cache, strict=True))
        mask = torch.ones(len(q), keys.shape[1], dtype=torch.bool).tril(keys.shape[1] - len(q))
        queries = q.view(len(q), self.heads, -1).transpose(0, 1)
        result = functional.scaled_dot_product_attention(queries[None], keys[None], values[None], mask, enable_gqa=True)
        return result[0].transpose(0, 1).reshape(len(q), -1)


class SelfAttention(nn.Module):
    """`Qwen3Attention`."""

    def __init__(self, attention: nn.Module, config: object) -> None:
        super().__init__()
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.sizes = [heads * config.head_dim, kv_heads * config.head_dim, kv_heads * config.head_dim]
        self.head_dim = config.head_dim
        self.qkv_proj = Packed(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o_proj = Packed(attention.o_proj)
        self.q_norm, self.k_norm = Norm(attention.q_norm), Norm(attention.k_norm)
        self.rotary_emb = Rotary(config.head_dim, config.rope_parameters["rope_theta"])
        self.attn = Attention(heads, kv_heads)

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split(self.sizes, -1)
        q = self.q_norm(q.view(len(q), -1, self.head_dim)).view(q.shape)
        k = self.k_norm(k.view(len(k), -1, self.head_dim)).view(k.shape)
        q, k = self.rotary_emb(positions, q, k)
        return self.o_proj(self.attn(q, k, v))[0]


class FeedForward(nn.Module):
    """`Qwen3MLP`."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj = Packed(mlp.gate_proj, mlp.up_proj), Packed(mlp.down_proj)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x)[0].chunk(2, -1)
        return self.down_proj(functional.silu(gate) * up)[0]


class Layer(nn.Module):
    """`Qwen3DecoderLayer`."""

    def __init__(self, layer: nn.Module, config: object) -> None:
        super().__init__()
        self.self_attn, self.mlp = SelfAttention(layer.self_attn, config), FeedForward(layer.mlp)
        self.input_layernorm = Norm(layer.input_layernorm)
        self.post_attention_layernorm = Norm(layer.post_attention_layernorm)

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = hidden_states.clone()
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


class Model(nn.Module):
    """`Qwen3Model`."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.embed_tokens = decoder.embed_tokens
        self.layers = nn.ModuleList(Layer(layer, decoder.config) for layer in decoder.layers)
        self.norm = Norm(decoder.norm)

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        hidden_states, residual = self.embed_tokens(input_ids), None
        for layer in self.layers:
            hidden_states, residual = layer(positions, hidden_states, residual)
        return self.norm(hidden_states, residual)[0]


class ForCausalLM(nn.Module):
    """`Qwen3ForCausalLM`, of a dense model of Transformers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.lm_head = Model(model.model), model.lm_head

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        return self.model(input_ids, positions)
