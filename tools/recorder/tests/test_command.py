"""`python -m qwen3_recorder`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import exported
import numpy as np
import pytest
import support


def command(*options: object) -> subprocess.CompletedProcess[str]:
    """Runs it."""
    line = [sys.executable, "-m", "qwen3_recorder", *map(str, options)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def path_of(name: str, case: str = "prompt1") -> Path:
    """A reference of the fixtures."""
    return support.FIXTURES / name / case / "reference.npz"


@pytest.mark.parametrize(("name", "case"), [("gqa-tied", "left-padded"), ("experts-mixed", "prompt1")])
def test_transformers(name: str, case: str, out: Path) -> None:
    expected, reference = support.reference(name, case), path_of(name, case)
    done = command(
        "transformers", support.CHECKPOINTS / name, "--reference", reference, "--out", out, "--attn", "eager"
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = support.read(out)
    assert f"{out}: {len(found)} tensors, " in done.stdout
    assert f"--model {support.CHECKPOINTS / name} --reference {reference} --observed {out} --dtype f32" in done.stdout
    assert np.array_equal(found["generated_ids"], expected["generated_ids"])
    layers = 4 if name == "experts-mixed" else 3
    names = support.outputs(layers, "logits", "step_logits")
    ratio, where = support.worst(found, expected, names, expected.get("attention_mask"))
    assert ratio <= 1, where


def test_transformers_in_bfloat16(out: Path) -> None:
    options = ["--reference", path_of("gqa-tied"), "--out", out, "--dtype", "bfloat16", "--outputs-only"]
    done = command("transformers", support.CHECKPOINTS / "gqa-tied", *options)
    assert done.returncode == 0, done.stderr
    assert "--dtype bf16" in done.stdout
    logits = support.read(out)["logits"]
    assert np.array_equal(logits.view(np.uint32) & 0xFFFF, np.zeros(logits.shape, np.uint32))


def test_without_a_head(tmp_path: Path, out: Path) -> None:
    np.savez(tmp_path / "reference.npz", input_ids=np.arange(1, 7)[None])
    model = support.CHECKPOINTS / "embedding-headless"
    done = command("transformers", model, "--reference", tmp_path / "reference.npz", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "not there: lm_head" in done.stdout
    assert support.read(out)["final_norm_output"].shape == (1, 6, 64)


def test_onnx(tmp_path: Path, out: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    file = exported.onnx("gqa-tied", False, tmp_path / "model.onnx")
    done = command("onnx", file, "--reference", path_of("gqa-tied"), "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    ratio, where = support.worst(support.read(out), support.reference("gqa-tied"), support.outputs(3, "logits"))
    assert ratio <= 1, where


REFERENCE = str(path_of("gqa-tied"))
MODEL = str(support.CHECKPOINTS / "gqa-tied")
REFUSED = [
    [],
    ["tensorflow", MODEL, "--reference", REFERENCE, "--out", "mine.npz"],
    ["transformers", MODEL, "--out", "mine.npz"],
    ["transformers", MODEL, "--reference", REFERENCE, "--out", "mine.txt"],
    ["transformers", MODEL, "--reference", REFERENCE, "--out", "nowhere/mine.npz"],
    ["transformers", MODEL, "--reference", "nowhere.npz", "--out", "mine.npz"],
    ["transformers", MODEL, "--reference", f"{MODEL}/config.json", "--out", "mine.npz"],
    ["transformers", MODEL, "--reference", str(support.FIXTURES / "attention/streaming.npz"), "--out", "mine.npz"],
    ["transformers", MODEL, "--reference", REFERENCE, "--out", "mine.npz", "--dtype", "int8"],
    ["transformers", "nowhere", "--reference", REFERENCE, "--out", "mine.npz"],
    # A vocabulary that has not the prompt's tokens.
    ["transformers", str(support.CHECKPOINTS / "long-context"), "--reference", REFERENCE, "--out", "mine.npz"],
    ["onnx", "nowhere.onnx", "--reference", REFERENCE, "--out", "mine.npz"],
]


@pytest.mark.parametrize("options", REFUSED, ids=lambda options: " ".join(Path(part).name for part in options))
def test_bad_input_is_one_line(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    monkeypatch.chdir(tmp_path)
    done = command(*options)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
