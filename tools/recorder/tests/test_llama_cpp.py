"""llama.cpp, on GGUF files of the fixtures' checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import exported
import numpy as np
import pytest
import support
import torch
from test_prompt import all_keys

from qwen3_recorder import keys, llama, record_llama_cpp

llama_cpp = pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: see README.md")
pytest.importorskip("gguf", reason="gguf is not installed: see README.md")


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A GGUF file of a checkpoint, made once."""
    made: dict[tuple[str, str], Path] = {}

    def convert(name: str, dtype: str = "f32") -> Path:
        if (name, dtype) not in made:
            path = tmp_path_factory.mktemp("gguf") / f"{name}.gguf"
            made[name, dtype] = (
                exported.gguf_experts(name, path) if name == "experts" else exported.gguf(name, dtype, path)
            )
        return made[name, dtype]

    return convert


@pytest.mark.parametrize("name", ["gqa-tied", "mha-untied", "trained-tiny", "experts"])
def test_every_key_is_that_of_the_oracle(name: str, file, tapped, out: Path) -> None:
    expected = tapped(name)
    written = record_llama_cpp(file(name), expected["input_ids"], out, kv_cache="f32", threads=1)
    found = support.read(out)
    names = all_keys(name, {"mha-untied": 2, "trained-tiny": 4}.get(name, 3))
    assert written.missing == []
    assert set(found) == {"input_ids", *names} == set(written.keys)
    ratio, where = support.worst(found, expected, names)
    assert ratio <= 1, where


def test_steps_are_those_of_transformers(file, out: Path) -> None:
    expected = support.reference("gqa-tied")
    ids = expected["input_ids"]
    record_llama_cpp(file("gqa-tied"), ids[0].tolist(), out, steps=7, kv_cache="f32", threads=1)
    found = support.read(out)
    assert np.array_equal(found["generated_ids"], expected["generated_ids"])
    ratio, where = support.worst(found, expected, support.outputs(3, "logits", "step_logits"))
    assert ratio <= 1, where
    model, prompt = support.load("gqa-tied"), torch.from_numpy(ids)
    run = partial(support.greedy, model, prompt, torch.ones_like(prompt), 7)
    right = support.recorded(model, out.with_name("right.npz"), run)
    steps = [key for key in right if key.startswith("step_0")]
    assert set(steps) == {key for key in found if key.startswith("step_0")}
    for key in steps:
        assert found[key].shape == right[key].shape, key
        assert np.abs(found[key] - right[key]).max() <= 2e-5 * np.abs(right[key]).max() + 1e-6, key


def test_rows_of_a_batch(file, out: Path) -> None:
    expected = support.reference("gqa-tied", "left-padded")
    ids, mask = expected["input_ids"], expected["attention_mask"]
    steps = expected["step_logits"].shape[1] - 1
    record_llama_cpp(file("gqa-tied"), ids, out, attention_mask=mask, steps=steps, kv_cache="f32", threads=1)
    found = support.read(out)
    for key in ("input_ids", "attention_mask", "generated_ids"):
        assert np.array_equal(found[key], expected[key]), key
    ratio, where = support.worst(found, expected, support.outputs(3, "logits", "step_logits"), mask)
    assert ratio <= 1, where


def test_a_prompt_longer_than_a_batch(file, out: Path) -> None:
    ids = (np.arange(700) * 37 % 500 + 3)[None]
    record_llama_cpp(file("trained-tiny"), ids, out, kv_cache="f32", threads=1)
    found = support.read(out)
    model = support.load("trained-tiny")
    right = support.recorded(model, out.with_name("right.npz"), lambda: model(torch.from_numpy(ids)))
    for key in ("layer_00.self_attn.k_rope", "layer_03_output", "logits"):
        assert found[key].shape == right[key].shape
        assert np.abs(found[key] - right[key]).max() <= 1e-4 * np.abs(right[key]).max(), key


def test_the_default_cache_rounds_to_f16(file, out: Path) -> None:
    expected = support.reference("gqa-tied")
    record_llama_cpp(file("gqa-tied"), expected["input_ids"], out, threads=1)
    found = support.read(out)
    error = np.abs(found["logits"] - expected["logits"]).max()
    assert 4 * expected["noise_floor.f32.logits"][0] < error < 4 * expected["noise_floor.f16.logits"][0]


def test_outputs_only(file, out: Path) -> None:
    written = record_llama_cpp(file("gqa-tied"), [1, 2, 3], out, inside=False)
    assert set(support.read(out)) == {"input_ids", *support.outputs(3, "logits")}
    assert written.missing == []


def test_flash_attention_rounds_whatever_the_cache_holds(file, out: Path) -> None:
    ids = support.reference("gqa-tied")["input_ids"]
    found, dtypes = {}, {}
    for flash in (0, 1):
        given = {"kv_cache": "f32", "threads": 1, "flash_attn_type": flash, "n_gpu_layers": 0}
        dtypes[flash] = record_llama_cpp(file("gqa-tied"), ids, out, **given).dtype
        found[flash] = support.read(out)[keys.inside(0, keys.CONTEXT)]
    assert 1e-5 < np.abs(found[0] - found[1]).max() < 1e-2
    assert dtypes == {0: "f32", 1: "f16"}


def test_the_dtype_is_that_of_the_weights(file, out: Path) -> None:
    assert record_llama_cpp(file("gqa-tied", "bf16"), [1, 2, 3], out, kv_cache="f32").dtype == "bf16"
    assert record_llama_cpp(file("gqa-tied", "f16"), [1, 2, 3], out, kv_cache="f32").dtype == "f16"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ids": [1, 256]}, "token 256 is none"),
        ({"ids": []}, "shape"),
        ({"kv_cache": "q8_0"}, "KV cache"),
        ({"steps": -1}, "decode passes"),
        ({"n_threats": 1}, "n_threats is no parameter"),
        ({"attention_mask": [[1, 0]], "ids": [1, 2]}, "left padding"),
        ({"attention_mask": [[1]], "ids": [1, 2]}, "has not the shape"),
        ({"model": "nowhere.gguf"}, "not found"),
        ({"path": "mine.txt"}, "end with .npz"),
    ],
)
def test_refusals(change: dict, why: str, file, out: Path) -> None:
    given = {"model": file("gqa-tied"), "ids": [1, 2, 3], "path": out} | change
    with pytest.raises(ValueError, match=why):
        record_llama_cpp(given.pop("model"), given.pop("ids"), given.pop("path"), **given)
    assert not out.exists()


def test_what_is_no_gguf_file_is_told(tmp_path: Path, out: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(ValueError, match="does not load"):
        record_llama_cpp(tmp_path / "model.gguf", [1], out)


def test_a_version_without_the_callback_is_told(monkeypatch: pytest.MonkeyPatch, file, out: Path) -> None:
    fields = SimpleNamespace(_fields_=[("n_ctx", int)])
    monkeypatch.setattr(llama_cpp, "llama_context_params", fields)
    with pytest.raises(ImportError, match="no evaluation callback"):
        record_llama_cpp(file("gqa-tied"), [1], out)


def test_a_failure_in_the_callback_is_told(monkeypatch: pytest.MonkeyPatch, file, out: Path) -> None:
    def fails(*_: object) -> None:
        raise ValueError("the layout is not known")

    monkeypatch.setattr(llama.Watch, "copy", fails)
    with pytest.raises(ValueError, match="the layout is not known"):
        record_llama_cpp(file("gqa-tied"), [1, 2], out)
    assert not out.exists()
