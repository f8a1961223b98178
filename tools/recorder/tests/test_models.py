"""Models of other kinds: wrapped, adapted, compiled, without a head, flattened, with other layers and other names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import support
import torch
import vllm_style
from peft import PeftModel
from torch import nn
from transformers import AutoModel

from qwen3_recorder import keys, record


def check(found: support.Arrays, expected: support.Arrays, layers: int, *more: str) -> None:
    """The keys around layers are those of the reference."""
    ratio, where = support.worst(found, expected, support.outputs(layers, *more))
    assert ratio <= 1, where


@pytest.mark.parametrize("name", ["yarn-rslora", "yarn-lora"])
def test_peft(name: str, out: Path) -> None:
    base = support.load("yarn")
    model = PeftModel.from_pretrained(base, support.FIXTURES / "adapters" / name).eval()
    expected = support.reference(name)
    count = expected["step_logits"].shape[1]
    ids = torch.from_numpy(expected["input_ids"])
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    # It calls what it wraps, not itself.
    found = support.recorded(model, out, lambda: model.generate(input_ids=ids, **options))
    assert np.array_equal(found["generated_ids"], expected["generated_ids"])
    check(found, expected, 3, "step_logits")
    plain = support.recorded(model, out, lambda: model(ids))
    check(plain, expected, 3, "logits")
    with model.disable_adapter():
        without = support.recorded(model, out, lambda: model(ids))
    changed = "layer_00.self_attn.q_proj" if name == "yarn-rslora" else "layer_02_output"
    assert np.abs(plain[changed] - without[changed]).max() > 1e-4


def test_without_a_head(out: Path) -> None:
    path = support.CHECKPOINTS / "embedding-headless"
    model = AutoModel.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()
    ids = torch.arange(1, 9)[None]
    with record(model, out) as recording, torch.no_grad():
        right = model(ids, output_hidden_states=True)
    found = support.read(out)
    assert recording.missing == ["lm_head"]
    assert np.array_equal(found["final_norm_output"], right.last_hidden_state.numpy())
    assert np.array_equal(found["layer_01_output"], right.hidden_states[2].numpy())
    assert not {"logits", "step_logits"} & set(found)


def test_logits_of_a_head_or_of_what_is_returned(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    # A tuple, which does not tell what is in it.
    check(support.recorded(model, out, lambda: model(ids, return_dict=False)), expected, 3, "logits")
    head = model.lm_head
    del model.lm_head
    model.__dict__["lm_head"] = head.forward
    with record(model, out) as recording, torch.no_grad():
        model(ids)
    assert recording.missing == ["lm_head"]
    check(support.read(out), expected, 3, "logits")


@pytest.mark.parametrize("of_layers", [False, True])
def test_compiled(of_layers: bool, out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    if of_layers:
        for number, layer in enumerate(model.model.layers):
            model.model.layers[number] = torch.compile(layer, backend="eager")
        compiled = model
    else:
        compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        # Compiled before there are hooks.
        compiled(ids, use_cache=False)
    found = support.recorded(compiled, out, lambda: compiled(ids, use_cache=False))
    check(found, expected, 3, "logits")
    assert found["layer_02.self_attn.q_rope"].shape == (1, 8, ids.shape[1], 16)


def test_data_parallel(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    wrapped = nn.DataParallel(model)
    check(support.recorded(wrapped, out, lambda: wrapped(ids)), expected, 3, "logits")
    wrapped.device_ids = [0, 1]
    with pytest.raises(ValueError, match="several devices"):
        record(wrapped, out)


class Eight(nn.Module):
    """A projection with weights of eight bits."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = linear.weight.abs().amax(1, keepdim=True) / 127
        self.stored = (linear.weight / self.scale).round().to(torch.int8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.stored * self.scale).T


def test_projections_of_another_class(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    plain = support.recorded(model, out, lambda: model(ids))
    attention = model.model.layers[0].self_attn
    attention.q_proj, attention.o_proj = Eight(attention.q_proj), Eight(attention.o_proj)
    found = support.recorded(model, out, lambda: model(ids))
    key = "layer_00.self_attn.q_proj"
    with torch.no_grad():
        right = attention.q_proj(torch.from_numpy(found["layer_00.input_layernorm"])).numpy()
        after = attention.o_proj(torch.from_numpy(found["layer_00.self_attn.context"])).numpy()
    assert np.array_equal(found[key], right)
    assert np.array_equal(found["layer_00.self_attn.o_proj"], after)
    assert np.abs(found[key] - plain[key]).max() > 1e-4


def test_what_is_overwritten_later(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    for layer in model.model.layers:
        forward = layer.forward

        def overwriting(hidden_states: torch.Tensor, *args: object, run=forward, **options: object) -> torch.Tensor:
            result = run(hidden_states.clone(), *args, **options)
            hidden_states.zero_()
            return result

        layer.forward = overwriting
    check(support.recorded(model, out, lambda: model(ids)), expected, 3, "logits")


class Layer(nn.Module):
    """A layer on tokens without a batch, [tokens, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.input_layernorm(x))


class Flat(nn.Module):
    """Drops padding and runs all tokens as one sequence; `flat_ids` are given without padding already."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(16, 4)
        self.layers = nn.ModuleList(Layer(4) for _ in range(2))
        self.norm = nn.LayerNorm(4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.embed_tokens(input_ids)
        if attention_mask is not None:
            x = x[attention_mask != 0]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def test_tokens_without_a_batch(out: Path) -> None:
    torch.manual_seed(0)
    model, ids = Flat(), torch.arange(5)
    right = model(ids).detach().numpy()
    found = support.recorded(model, out, lambda: model(ids))
    assert np.array_equal(found["input_ids"], ids[None].numpy())
    assert np.array_equal(found["final_norm_output"], right[None])
    assert found["layer_01.mlp"].shape == (1, 5, 4)


def test_tokens_without_their_padding(out: Path) -> None:
    torch.manual_seed(0)
    model, ids = Flat(), torch.arange(8).reshape(2, 4)
    mask = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1]])
    found = support.recorded(model, out, lambda: model(ids, mask))
    assert found["layer_00_output"].shape == (2, 4, 4)
    alone = model(ids[1:, 2:]).detach().numpy()
    assert np.allclose(found["final_norm_output"][1, 2:], alone, atol=1e-6)
    assert not found["final_norm_output"][1, :2].any()
    assert np.array_equal(found["attention_mask"], mask.numpy())


def test_layers_as_vllm_has_them(out: Path) -> None:
    expected = support.reference("gqa-tied")
    model = vllm_style.ForCausalLM(support.load("gqa-tied"))
    ids = torch.from_numpy(expected["generated_ids"][0])
    length = expected["input_ids"].shape[1]
    positions = torch.arange(len(ids))
    with record(model, out) as recording, torch.no_grad():
        model(ids[:length], positions[:length])
        for at in range(length, len(ids) - 1):
            model(ids[at : at + 1], positions[at : at + 1])
    found = support.read(out)
    assert recording.missing == []
    check(found, expected, 3, "embedding_output", "final_norm_output")
    # What is inside has no floor in the reference: Transformers beside it.
    theirs, prompt = support.load("gqa-tied"), torch.from_numpy(expected["input_ids"])
    new = len(ids) - length
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
    right = support.recorded(theirs, out, lambda: theirs.generate(prompt, **options))
    packed = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
    for step in ("", "step_001.", f"step_{new - 1:03}."):
        for layer in range(3):
            for name in [name for name in keys.INSIDE if name not in (*packed, *keys.ROUTER)]:
                key = f"{step}layer_{layer:02}.{name}"
                assert found[key].shape == right[key].shape, key
                assert np.abs(found[key] - right[key]).max() <= 1e-5 * np.abs(right[key]).max(), key
            whole = np.concatenate([right[f"{step}layer_{layer:02}.{name}"] for name in packed], -1)
            assert np.allclose(found[f"{step}model.layers.{layer}.self_attn.qkv_proj"], whole, atol=1e-5)


def test_other_names_are_told(out: Path) -> None:
    model = nn.ModuleDict({"transformer": nn.ModuleDict({"h": nn.ModuleList(Layer(4) for _ in range(2))})})
    model["transformer"]["embed_token"] = nn.Embedding(4, 4)
    with pytest.raises(ValueError) as told:
        record(model, out)
    message = str(told.value)
    assert "looked for embed_tokens, layers.N, layers.N.input_layernorm" in message
    assert "transformer.embed_token" in message
    assert "transformer.h.0.input_layernorm" in message


def test_several_decoders_are_told(out: Path) -> None:
    both = nn.ModuleDict({"text": Flat(), "audio": Flat()})
    with pytest.raises(ValueError, match=r"several decoders: audio\.layers, text\.layers"):
        record(both, out)
