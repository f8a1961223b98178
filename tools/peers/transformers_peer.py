"""Measures Hugging Face Transformers with PyTorch on the CPU."""

from __future__ import annotations

import argparse
import os

import common

INSTALL = "pip install --require-hashes -r tools/requirements.txt"


def load(checkpoint: common.Checkpoint, options: argparse.Namespace) -> tuple[common.Engine, float]:
    """The engine, and the seconds from opening the files to a ready model."""
    # Nothing here is on the hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import transformers_engine
    except ImportError as error:
        raise common.Unavailable(f"{common.one_line(error)}: {INSTALL}") from error
    return transformers_engine.load(checkpoint, options)


if __name__ == "__main__":
    common.run("transformers", common.parser(__doc__), load)
