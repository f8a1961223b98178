"""Reading of JSON, and writing of files whose bytes depend on nothing but their contents."""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import InputError

SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}
EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, which becomes `path` when the block ends, and goes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The little-endian bytes of a contiguous tensor, without a copy."""
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def write_safetensors_stream(
    path: Path,
    entries: list[tuple[str, torch.dtype, tuple[int, ...]]],
    chunks: Iterable[torch.Tensor],
    metadata: dict[str, str],
) -> None:
    """Writes the header for `entries`, then the chunks, which must hold the entries' elements in their order.

    The safetensors package orders `__metadata__` at random and needs the whole file in memory; this does neither.
    """
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for name, dtype, shape in entries:
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as part, open(part, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        written = sum(file.write(raw_bytes(chunk)) for chunk in chunks)
        assert written == offset, f"{path}: {written} bytes of tensors written, {offset} announced"


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors, widest dtype first so that each is aligned, then by name."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries = [(name, tensors[name].dtype, tuple(tensors[name].shape)) for name in names]
    write_safetensors_stream(path, entries, (tensors[name] for name in names), metadata)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an npz as `numpy.savez` does, with fixed time stamps.

    The members are stored, not deflated: zlib's output differs between its builds.
    """
    with whole_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=EPOCH), buffer.getvalue())


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON with a newline at the end and the keys in the order given."""
    with whole_file(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    if not path.is_file():
        raise InputError(f"{path} not found")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def rounded(value: float) -> float:
    """`value` to 4 significant digits, so that its last bits do not reach a file."""
    return float(f"{value:.3e}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
