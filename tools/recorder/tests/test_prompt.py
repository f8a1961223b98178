"""One pass over a prompt: every key, against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import support
import torch

from qwen3_recorder import keys

CASES = ["gqa-tied", "mha-untied", "experts", "experts-mixed", "bias-tied", "window", "trained-tiny"]
# Its routers are in every second layer, but not in the last.
SPARSE = {"experts": {0, 1, 2}, "experts-mixed": {1}}


def all_keys(name: str, layers: int) -> list[str]:
    """Every key that a checkpoint has."""
    dense = [layer for layer in range(layers) if layer not in SPARSE.get(name, ())]
    without = {keys.inside(layer, router) for layer in dense for router in keys.ROUTER}
    return [key for key in keys.in_order(layers) if key not in without]


@pytest.mark.parametrize("name", CASES)
def test_every_key_is_that_of_the_oracle(name: str, tapped: Callable[[str], support.Arrays], out: Path) -> None:
    model, expected = support.load(name), tapped(name)
    found = support.recorded(model, out, lambda: model(torch.from_numpy(expected["input_ids"])))
    names = all_keys(name, model.config.num_hidden_layers)
    assert set(found) == {"input_ids", *names}
    assert np.array_equal(found["input_ids"], expected["input_ids"])
    assert all(found[key].dtype == np.float32 for key in names)
    ratio, where = support.worst(found, expected, names)
    assert ratio <= 1, where


def test_attention_of_another_kind(tapped: Callable[[str], support.Arrays], out: Path) -> None:
    model, expected = support.load("gqa-tied", attn_implementation="eager"), tapped("gqa-tied")
    found = support.recorded(model, out, lambda: model(torch.from_numpy(expected["input_ids"])))
    ratio, where = support.worst(found, expected, all_keys("gqa-tied", 3))
    assert ratio <= 1, where


def test_float64_stays_float64(tapped: Callable[[str], support.Arrays], out: Path) -> None:
    model, expected = support.load("gqa-tied", torch.float64), tapped("gqa-tied")
    found = support.recorded(model, out, lambda: model(torch.from_numpy(expected["input_ids"])))
    assert {found[key].dtype for key in all_keys("gqa-tied", 3)} == {np.dtype(np.float64)}
    # Published code computes norms and RoPE in float32 all the same.
    ratio, where = support.worst(found, expected, all_keys("gqa-tied", 3))
    assert 0 < ratio <= 1, where


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_written_as_they_are(dtype: torch.dtype, out: Path) -> None:
    model = support.load("gqa-tied", dtype)
    expected = support.reference("gqa-tied")
    found = support.recorded(model, out, lambda: model(torch.from_numpy(expected["input_ids"])))
    for key in ("layer_01_output", "layer_01.self_attn.q_rope", "logits"):
        assert found[key].dtype == np.float32
        assert np.array_equal(found[key], torch.from_numpy(found[key]).to(dtype).float().numpy()), key
    assert np.abs(found["logits"] - expected["logits"]).max() > expected["noise_floor.f32.logits"][0] * 8


def test_outputs_only(out: Path) -> None:
    model, expected = support.load("experts"), support.reference("experts")
    found = support.recorded(model, out, lambda: model(torch.from_numpy(expected["input_ids"])), inside=False)
    assert set(found) == {"input_ids", *support.outputs(3, "logits")}


def test_left_padding(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied", "left-padded")
    ids, mask = (torch.from_numpy(expected[key]) for key in ("input_ids", "attention_mask"))
    passes = expected["step_logits"].shape[1] - 1
    found = support.recorded(model, out, lambda: support.greedy(model, ids, mask, passes))
    for key in ("input_ids", "attention_mask", "generated_ids"):
        assert np.array_equal(found[key], expected[key]), key
    ratio, where = support.worst(
        found, expected, support.outputs(3, "logits", "step_logits"), expected["attention_mask"]
    )
    assert ratio <= 1, where


def test_right_padding_is_recorded_as_it_is(out: Path) -> None:
    model = support.load("gqa-tied")
    ids = torch.from_numpy(support.reference("gqa-tied")["input_ids"])
    padded = torch.nn.functional.pad(ids, (0, 3))
    mask = (torch.arange(padded.shape[1]) < ids.shape[1]).long()[None]
    alone = support.recorded(model, out, lambda: model(ids))
    found = support.recorded(model, out, lambda: model(padded, attention_mask=mask, logits_to_keep=0))
    assert np.array_equal(found["attention_mask"], mask.numpy())
    assert found["logits"].shape[1] == padded.shape[1]
    assert np.allclose(found["logits"][:, : ids.shape[1]], alone["logits"], atol=1e-5)


def test_embeddings_in_place_of_ids(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    embedded = model.model.embed_tokens(torch.from_numpy(expected["input_ids"])).detach()
    found = support.recorded(model, out, lambda: model(inputs_embeds=embedded))
    assert not {"input_ids", "embedding_output", "generated_ids"} & set(found)
    ratio, where = support.worst(found, expected, support.outputs(3, "logits")[1:])
    assert ratio <= 1, where
