"""Whole files or none, and a model that is as it was before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import support
import torch
from torch import nn
from transformers.models.qwen3 import modeling_qwen3

from qwen3_recorder import files, record


def hooks(model: nn.Module) -> int:
    """How many hooks a model has."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool, out: Path) -> None:
    model = support.load("gqa-tied")
    ids = torch.from_numpy(support.reference("gqa-tied")["input_ids"])
    rope = modeling_qwen3.apply_rotary_pos_emb
    before = hooks(model)
    try:
        with record(model, out), torch.no_grad():
            assert hooks(model) > before
            assert modeling_qwen3.apply_rotary_pos_emb is not rope
            model(ids)
            if fails:
                raise RuntimeError("the block fails")
    except RuntimeError:
        assert fails
    assert hooks(model) == before
    assert modeling_qwen3.apply_rotary_pos_emb is rope
    assert out.exists() != fails
    assert list(out.parent.iterdir()) == ([] if fails else [out])


def test_a_block_that_fails_leaves_the_old_file(out: Path) -> None:
    out.write_bytes(b"old")
    model = support.load("gqa-tied")
    with pytest.raises(RuntimeError), record(model, out):
        raise RuntimeError("the block fails")
    assert out.read_bytes() == b"old"


def test_a_file_that_cannot_be_written_whole_is_not_there(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(stream, **_arrays) -> None:
        stream.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="the disk is full"):
        files.write_npz(out, {})
    assert list(out.parent.iterdir()) == []


def test_nothing_was_run(out: Path) -> None:
    model = support.load("gqa-tied")
    with pytest.raises(ValueError, match="no pass of the model was seen"), record(model, out):
        pass
    assert not out.exists()


@pytest.mark.parametrize(("name", "why"), [("mine.safetensors", "end with .npz"), ("nowhere/mine.npz", "no")])
def test_paths_are_refused_before_anything_runs(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        record(support.load("gqa-tied"), tmp_path / name)


def test_the_file_has_the_usual_rights(out: Path) -> None:
    usual = out.with_name("usual")
    usual.touch()
    files.write_npz(out, {"a": np.zeros(1)})
    assert out.stat().st_mode == usual.stat().st_mode
