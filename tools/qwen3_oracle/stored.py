"""Reads the cases of a manifest back from their files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors.torch import load_file

from .cases import Case, Tensors
from .errors import InputError
from .files import read_json


def read_tensors(file: Path) -> Tensors:
    """The tensors of an npz or a safetensors file."""
    if not file.is_file():
        raise InputError(f"{file} not found")
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return load_file(file)


def read_case(root: Path, entry: dict) -> Case:
    """One case of a manifest in `root`, with its tensors."""
    file = PurePosixPath(entry["expected"]["file"])
    tensors = read_tensors(root / file)
    case = Case(
        id=entry["id"],
        kind=entry["kind"],
        description=entry["description"],
        checkpoint=entry.get("checkpoint", ""),
        file=file,
        inputs={name: tensors[name] for name in entry["inputs"]["tensors"]},
        layer=entry.get("layer"),
        module=entry.get("module"),
        attention=entry.get("attention", {}),
        chunk_size=entry.get("chunk_size"),
        expected={name: tensors[name] for name in entry["expected"]["tensors"]},
        floors=entry["noise_floors"],
        same_dtype=entry.get("same_dtype", {}),
    )
    for known in case.same_dtype.get("output", {}).values():
        case.extra[known["tensor"]] = tensors[known["tensor"]]
    if "generated_ids" in case.expected:
        case.new_tokens = case.expected["generated_ids"].shape[1] - case.inputs["input_ids"].shape[1]
    return case


def read(manifest: Path) -> tuple[dict[str, Path], list[Case]]:
    """Those of a manifest's cases that have tensors, and the checkpoints that they are of; none with an adapter."""
    content = read_json(manifest)
    if not {"checkpoints", "cases"} <= set(content):
        raise InputError(f"{manifest} is no manifest")
    root = manifest.resolve().parent
    plain = {name: entry for name, entry in content["checkpoints"].items() if "adapter" not in entry}
    cases = [entry for entry in content["cases"] if entry.get("checkpoint", "") in ("", *plain)]
    used = {entry.get("checkpoint") for entry in cases}
    checkpoints = {name: root / entry["path"] for name, entry in plain.items() if name in used}
    return checkpoints, [read_case(root, entry) for entry in cases if "expected" in entry]
