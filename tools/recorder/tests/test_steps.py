"""Several passes: decoding, prompts in chunks, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import support
import torch

from qwen3_recorder import keys, record


def check_steps(found: support.Arrays, model: torch.nn.Module, out: Path, steps: int) -> None:
    """Each step's tensors are those of a run without a cache over prompt and generated tokens."""
    ids = found["generated_ids"]
    seq = found["input_ids"].shape[1]
    whole = support.recorded(model, out.with_name("whole.npz"), lambda: model(torch.from_numpy(ids[:, :-1])))
    names = [key for key in whole if key not in ("input_ids", "logits")]
    for number in range(1, steps + 1):
        step = {key.partition(".")[2]: tensor for key, tensor in found.items() if key.startswith(f"step_{number:03}.")}
        assert set(step) == set(names)
        for key, tensor in step.items():
            right = whole[key].take([seq + number - 1], keys.sequence_axis(key))
            assert tensor.shape == right.shape, key
            assert np.abs(tensor - right).max() <= 32 * np.finfo(np.float32).eps * np.abs(whole[key]).max(), key
    logits = whole["logits"][:, seq - 1 :]
    assert np.abs(found["step_logits"] - logits).max() <= 32 * np.finfo(np.float32).eps * np.abs(logits).max()


@pytest.mark.parametrize("name", ["gqa-tied", "experts-mixed", "window"])
def test_generate(name: str, out: Path) -> None:
    model, expected = support.load(name), support.reference(name)
    count = expected["step_logits"].shape[1]
    ids = torch.from_numpy(expected["input_ids"])
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    found = support.recorded(model, out, lambda: model.generate(ids, **options))
    assert np.array_equal(found["generated_ids"], expected["generated_ids"])
    # It computes the last logits of the prompt only.
    assert "logits" not in found
    layers = model.config.num_hidden_layers
    ratio, where = support.worst(found, expected, support.outputs(layers, "step_logits"))
    assert ratio <= 1, where
    check_steps(found, model, out, count - 1)


def test_generate_without_a_cache(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "use_cache": False}
    found = support.recorded(model, out, lambda: model.generate(ids, **options))
    assert np.array_equal(found["generated_ids"], expected["generated_ids"][:, : ids.shape[1] + 4])
    check_steps(found, model, out, 3)


def test_one_new_token_has_its_logits(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    found = support.recorded(model, out, lambda: model.generate(ids, max_new_tokens=1, do_sample=False))
    assert found["step_logits"].shape[1] == 1
    assert np.array_equal(found["generated_ids"], expected["generated_ids"][:, : ids.shape[1] + 1])


@pytest.mark.parametrize("chunk", [2, 3, 4])
def test_a_prompt_in_chunks(chunk: int, out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])

    def run() -> None:
        support.greedy(model, ids, torch.ones_like(ids), 2, chunk)

    # Chunks of 2 and 4 leave a single token, which would be taken for a generated one.
    found = support.recorded(model, out, run, prompt_length=ids.shape[1])
    assert np.array_equal(found["input_ids"], expected["input_ids"])
    assert np.array_equal(found["attention_mask"], np.ones_like(expected["input_ids"]))
    ratio, where = support.worst(found, expected, support.outputs(3, "logits"))
    assert ratio <= 1, where
    check_steps(found, model, out, 2)


def test_chunks_are_known_without_the_length(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    found = support.recorded(model, out, lambda: support.greedy(model, ids, torch.ones_like(ids), 2, 3))
    assert found["layer_00.self_attn.q_rope"].shape[2] == found["logits"].shape[1] == ids.shape[1]
    assert found["step_logits"].shape[1] == 3


def test_steps_beyond_the_limit_have_logits_only(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    found = support.recorded(model, out, lambda: support.greedy(model, ids, torch.ones_like(ids), 4), steps=2)
    assert {key.partition(".")[0] for key in found if key[:5] == "step_" and key[5].isdigit()} == {
        "step_001",
        "step_002",
    }
    assert np.array_equal(found["generated_ids"], expected["generated_ids"][:, : ids.shape[1] + 5])
    right = expected["step_logits"][:, :5]
    assert np.abs(found["step_logits"] - right).max() <= 4 * expected["noise_floor.f32.step_logits"][0]


def test_a_prompt_alone_has_no_steps(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    found = support.recorded(model, out, lambda: model(torch.from_numpy(expected["input_ids"])))
    assert not {"step_logits", "generated_ids"} & set(found)


@pytest.mark.parametrize("start", [0, 1, 4])
def test_a_second_prompt_is_refused(start: int, out: Path) -> None:
    model = support.load("gqa-tied")
    ids = torch.from_numpy(support.reference("gqa-tied")["input_ids"])
    # The same, another, and one of a single token, which is no step.
    with pytest.raises(ValueError, match="second prompt"):
        support.recorded(model, out, lambda: [model(ids), model(ids[:, start:])])
    assert not out.exists()


def test_reset_begins_anew(out: Path) -> None:
    model, expected = support.load("gqa-tied"), support.reference("gqa-tied")
    ids = torch.from_numpy(expected["input_ids"])
    with record(model, out) as recording, torch.no_grad():
        model(ids.flip(1))
        recording.reset()
        model(ids)
    found = support.read(out)
    assert np.array_equal(found["input_ids"], expected["input_ids"])
    ratio, where = support.worst(found, expected, support.outputs(3, "logits"))
    assert ratio <= 1, where


def test_a_cache_filled_before_is_refused(out: Path) -> None:
    model = support.load("gqa-tied")
    ids = torch.from_numpy(support.reference("gqa-tied")["input_ids"])
    with torch.no_grad():
        cache, _ = support.forward(model, ids[:, :2], torch.ones_like(ids[:, :2]), None)
    with pytest.raises(ValueError, match="a cache of 2 tokens"):
        support.recorded(model, out, lambda: support.forward(model, ids[:, 2:], torch.ones_like(ids), cache))


def test_guesses_of_a_draft_are_refused(out: Path) -> None:
    model = support.load("gqa-tied")
    ids = torch.from_numpy(support.reference("gqa-tied")["input_ids"])
    with pytest.raises(ValueError, match="a pass of 2 tokens behind 1 decode passes"):
        support.recorded(model, out, lambda: several_behind_one(model, ids))


def several_behind_one(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """A prompt, a step, and then two tokens at once, as a draft model's guesses are checked."""
    cache, _ = support.forward(model, ids, torch.ones_like(ids), None)
    for count in (1, 2):
        seen = cache.get_seq_length() + count
        cache, _ = support.forward(model, ids[:, :count], torch.ones((1, seen), dtype=torch.long), cache)
