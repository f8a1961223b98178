"""The dtypes that Transformers runs in, by their short names."""

from __future__ import annotations

NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
