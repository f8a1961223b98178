"""Measures llama.cpp through llama-cpp-python on the CPU."""

from __future__ import annotations

import argparse
from pathlib import Path

import common

INSTALL = "pip install --require-hashes -r tools/peers/requirements.txt"


def parser() -> common.Parser:
    """The options of every peer, and where the GGUF files are kept."""
    result = common.parser(__doc__)
    text = "where the checkpoint is kept as GGUF (default: the folder `peers` beside the model)"
    result.add_argument("--cache", type=Path, metavar="DIR", help=text)
    return result


def load(checkpoint: common.Checkpoint, options: argparse.Namespace) -> tuple[common.Engine, float]:
    """The engine, and the seconds from opening the GGUF file to a ready model."""
    if checkpoint.config.get("attention_bias"):
        raise common.Unavailable("llama.cpp's qwen3 has no bias in o_proj, as attention_bias wants it")
    try:
        import gguf_file
        import llama_cpp_engine
    # llama-cpp-python raises a RuntimeError when its library cannot be loaded.
    except (ImportError, RuntimeError) as error:
        raise common.Unavailable(f"{common.one_line(error)}: {INSTALL}") from error
    folder = options.cache or checkpoint.path.resolve().parent / "peers"
    return llama_cpp_engine.load(gguf_file.cached(checkpoint, options.dtype, folder), options.threads)


if __name__ == "__main__":
    common.run("llama.cpp", parser(), load)
