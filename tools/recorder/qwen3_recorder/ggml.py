"""Reads tensors of ggml through the library that llama-cpp-python ships.

The layout is that of `struct ggml_tensor` in `ggml.h` since November 2024, before llama.cpp had Qwen3. Sizes are checked
against what the library says.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np


class Structure(ctypes.Structure):
    """The beginning of `struct ggml_tensor`, up to its sources."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
    )


# By the names that ggml gives its types; bf16 has no type in numpy.
DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i32": np.int32}
SIGNATURES = {
    "ggml_get_name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ggml_op_name": (ctypes.c_char_p, [ctypes.c_int]),
    "ggml_type_name": (ctypes.c_char_p, [ctypes.c_int]),
    "ggml_nbytes": (ctypes.c_size_t, [ctypes.c_void_p]),
    "ggml_backend_tensor_get": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]),
}


@dataclass
class Node:
    """A tensor of a graph: its address, name, operation, and the addresses of what it is computed from."""

    address: int
    name: str
    op: str
    sources: tuple[int, ...]


class Ggml:
    """The functions of the library."""

    def __init__(self) -> None:
        """Raises ImportError when llama-cpp-python has none of them."""
        from llama_cpp import _ctypes_extensions, _ggml

        libraries = [_ggml.libggml]
        # Where a library does not give the functions of those that it needs.
        try:
            libraries.append(_ctypes_extensions.load_shared_library("ggml-base", _ggml.libggml_base_path))
        except (OSError, FileNotFoundError):
            pass
        self.functions = {name: function(libraries, name) for name in SIGNATURES}

    def node(self, address: int) -> Node:
        """What a tensor is."""
        structure = Structure.from_address(address)
        name = self.functions["ggml_get_name"](address).decode(errors="replace")
        op = self.functions["ggml_op_name"](structure.op).decode(errors="replace")
        return Node(address, name, op, tuple(source for source in structure.src if source))

    def values(self, address: int) -> np.ndarray:
        """A copy of a tensor's values, float32 or int32, in four axes: ggml's reversed.

        Raises:
            ValueError: it is quantised, or its layout is not the one known here.
        """
        structure = Structure.from_address(address)
        kind = self.functions["ggml_type_name"](structure.type).decode(errors="replace")
        if kind not in DTYPES:
            raise ValueError(f"a tensor of {kind} is not read")
        dtype = np.dtype(DTYPES[kind])
        shape, strides = tuple(structure.ne)[::-1], tuple(structure.nb)[::-1]
        size = self.functions["ggml_nbytes"](address)
        if size != dtype.itemsize + sum((count - 1) * stride for count, stride in zip(shape, strides, strict=True)):
            raise ValueError("the layout of ggml's tensors is not known: this version of llama.cpp is not supported")
        buffer = np.empty(size, np.uint8)
        self.functions["ggml_backend_tensor_get"](address, buffer.ctypes.data, 0, size)
        array = np.ndarray(shape, dtype, buffer, 0, strides).copy()
        if kind == "bf16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif kind == "f16":
            array = array.astype(np.float32)
        return array


def function(libraries: list[Any], name: str) -> Any:
    """A function of the first library that has it."""
    found = next((library for library in libraries if hasattr(library, name)), None)
    if found is None:
        raise ImportError(f"this llama-cpp-python does not give {name} of ggml, which is needed to read tensors")
    result = getattr(found, name)
    result.restype, result.argtypes = SIGNATURES[name]
    return result
