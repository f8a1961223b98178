"""The catalogue of parity cases, `manifest.json`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from . import adapters
from .cases import Case
from .checkpoint import checkpoint_files
from .files import sha256

SCHEMA = 1
PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "tokenizers")
TOOLS = Path(__file__).resolve().parent.parent


def packages() -> dict[str, str]:
    """Versions of the packages the numbers come from, as far as they are installed: PEFT is for adapters alone."""
    installed = {name: next(importlib.metadata.distributions(name=name), None) for name in PACKAGES}
    return {name: found.version for name, found in installed.items() if found}


def scripts() -> dict[str, str]:
    """SHA-256 of each Python file of the oracle, by its path in the repository."""
    files = [TOOLS / "oracle.py", *sorted(TOOLS.glob("qwen3_oracle/**/*.py"))]
    return {f"tools/{file.relative_to(TOOLS).as_posix()}": sha256(file) for file in files}


def checkpoint_entry(root: Path, path: Path) -> dict[str, object]:
    """A checkpoint: its folder relative to the manifest, and its files with their hashes."""
    hashes = {name: sha256(path / name) for name in checkpoint_files(path)}
    return {"path": path.relative_to(root).as_posix(), "files": hashes}


def case_entry(case: Case) -> dict[str, object]:
    """A case as the fixture runner reads it."""
    entry: dict[str, object] = {
        "id": case.id,
        "kind": case.kind,
        "description": case.description,
    }
    if case.checkpoint:
        entry["checkpoint"] = case.checkpoint
    if case.kind == "record_roundtrip":
        return entry
    if case.layer is not None:
        entry["layer"] = case.layer
    if case.module is not None:
        entry["module"] = case.module
    if case.attention:
        entry["attention"] = case.attention
    if case.chunk_size is not None:
        entry["chunk_size"] = case.chunk_size
    file = case.file.as_posix()
    entry["inputs"] = {"file": file, "tensors": list(case.inputs)}
    entry["expected"] = {"file": file, "tensors": list(case.expected)}
    entry["noise_floors"] = case.floors
    if case.same_dtype:
        entry["same_dtype"] = case.same_dtype
    return entry


def manifest(
    root: Path,
    checkpoints: dict[str, Path],
    cases: list[Case],
    observed: Sequence[dict[str, object]] = (),
    text: Sequence[dict[str, object]] = (),
    random: Sequence[dict[str, object]] = (),
) -> dict[str, object]:
    """The whole manifest; all files lie below `root`.

    `observed` are the entries of `observed.make_tiny`, `text` those of `text_cases.make`, `random` those of
    `random_models.make`.
    """
    entries = {name: checkpoint_entry(root, path) for name, path in checkpoints.items()}
    files = sorted({case.file.as_posix() for case in cases if case.kind != "record_roundtrip"})
    files += [entry["file"] for entry in observed]
    files += [entry["file"] for entry in random]
    files += [entry[key] for entry in text for key in ("file", "parameters") if key in entry]
    return {
        "schema": SCHEMA,
        "generator": {"packages": packages(), "scripts": scripts()},
        "checkpoints": entries | adapters.entries(root, entries),
        "files": {name: sha256(root / name) for name in sorted(files)},
        "cases": [case_entry(case) for case in cases],
        "observed": list(observed),
        "text": list(text),
        "random": list(random),
    }
