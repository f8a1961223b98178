"""Fixtures of the tests: references with everything inside of layers, made by the oracle once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import support


@pytest.fixture(scope="session")
def tapped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], support.Arrays]:
    """The oracle's float64 reference of a checkpoint's first prompt, with what is inside of its layers."""
    made: dict[str, support.Arrays] = {}

    def reference(name: str) -> support.Arrays:
        if name not in made:
            folder = tmp_path_factory.mktemp("reference")
            ids = support.reference(name)["input_ids"][0].tolist()
            command = [sys.executable, str(support.TOOLS / "oracle.py"), "reference", "--taps", "--dtype", "f32"]
            command += ["--model-path", str(support.CHECKPOINTS / name), "--output-dir", str(folder)]
            command += ["--prompt-ids", ",".join(map(str, ids)), "--max-new-tokens", "3"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            with np.load(folder / "prompt1" / "reference.npz") as archive:
                made[name] = dict(archive)
        return made[name]

    return reference


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to record to."""
    return tmp_path / "mine.npz"
