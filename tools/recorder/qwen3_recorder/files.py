"""Writes npz files that are whole as soon as they have their name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Written:
    """A file of activations, its keys, and the names of what was looked for and is not there.

    `dtype` is the coarsest that was computed in, as `cargo xtask verify --dtype` names it; None where weights are
    quantised.
    """

    path: Path
    keys: list[str]
    missing: list[str] = field(default_factory=list)
    dtype: str | None = "f32"


def check_output(path: str | os.PathLike[str]) -> Path:
    """The path of an npz file that can be written.

    Raises:
        ValueError: it does not end with `.npz`, or its folder is missing.
    """
    result = Path(path)
    if result.suffix != ".npz":
        raise ValueError(f"{result} does not end with .npz")
    if not result.absolute().parent.is_dir():
        raise ValueError(f"{result.absolute().parent} is not a directory")
    if result.is_dir():
        raise ValueError(f"{result} is a directory")
    return result


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under their keys: into a file beside `path`, which then takes its name."""
    mask = os.umask(0)
    os.umask(mask)
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.savez(stream, **arrays)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def write(path: Path, arrays: Mapping[str, np.ndarray], missing: list[str], dtype: str | None = "f32") -> Written:
    """Writes a file of activations."""
    write_npz(path, arrays)
    return Written(path, list(arrays), missing, dtype)


def size(path: Path) -> str:
    """How large a file is, in words."""
    count = path.stat().st_size
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
