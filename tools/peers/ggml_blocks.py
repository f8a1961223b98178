"""Writes what the `gguf` package reads out of blocks of random bytes, for the tests of qwen3-checkpoint.

python ggml_blocks.py ../../crates/qwen3-checkpoint/src/blocks/expected.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
BLOCKS = 2
# Where the f16 scales are in a block, so that none is NaN.
SCALES = {"Q4_0": [0], "Q5_0": [0], "Q8_0": [0], "Q6_K": [208]}


def case(name: str, random: np.random.Generator) -> dict[str, list[int]]:
    """Bytes of some blocks, and the bits of the f32 numbers in them."""
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for start in SCALES.get(name, [0, 2]):
        scales = random.uniform(-0.1, 0.1, BLOCKS).astype(np.float16)
        blocks[:, start : start + 2] = scales[:, None].view(np.uint8)
    values = gguf.quants.dequantize(blocks, kind).astype(np.float32)
    return {"bytes": blocks.ravel().tolist(), "bits": values.ravel().view(np.uint32).tolist()}


def main() -> None:
    random = np.random.default_rng(15)
    cases = {name.lower(): case(name, random) for name in FORMATS}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in cases.items())
    Path(sys.argv[1]).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
