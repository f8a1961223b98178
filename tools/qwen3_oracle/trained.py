"""The trained checkpoint of the repository. `oracle.py train` writes it; the fixtures only read it.

A training gives other weights on another machine, so the checkpoint is an input that a new set of fixtures keeps.
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from .errors import InputError

NAME = "trained-tiny"
FOLDER = PurePosixPath("fixtures") / "checkpoints" / NAME
# What it can do, and how that was measured.
CARD = "README.md"
FILES = (CARD, "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
QUESTION = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"


def keep(output: Path, work: Path) -> Path:
    """Copies the checkpoint from the fixtures in `output` to those in `work`; its new folder."""
    source, target = output / FOLDER, work / FOLDER
    target.mkdir(parents=True)
    for name in FILES:
        if not (source / name).is_file():
            raise InputError(f"{source / name} not found: run oracle.py train --output-dir {source}")
        shutil.copyfile(source / name, target / name)
    return target
