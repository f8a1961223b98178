"""The oracle's commands that make and measure the small trained model, each under the name of its script."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch

from . import tiny_card, tiny_skills, tiny_tokenizer, tiny_training, trained
from .files import write_json, write_safetensors
from .options import QUESTIONS


def write_card(directory: Path, measured: list[tiny_skills.Measured]) -> None:
    """The checkpoint's README."""
    (directory / trained.CARD).write_text(tiny_card.card(measured), encoding="utf-8")


def train_tiny(options: Namespace) -> None:
    """`oracle.py train`."""
    output = options.output_dir
    tokenizer = tiny_tokenizer.train(options.seed)
    config = tiny_training.config(tokenizer)
    tiny_tokenizer.write(tokenizer, output, config["max_position_embeddings"])
    write_json(output / "config.json", config)
    if options.tokenizer_only:
        return
    torch.set_num_threads(2)
    model = tiny_training.train(tokenizer, options.seed, options.steps)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    write_safetensors(output / "model.safetensors", weights, {"format": "pt"})
    measured = list(tiny_skills.measure(output, QUESTIONS, 0))
    print(tiny_card.table(measured))
    write_card(output, measured)
    tiny_skills.check(measured)


def measure_skills(options: Namespace) -> None:
    """`oracle.py skills`."""
    path = options.model_path.resolve()
    measured = list(tiny_skills.measure(path, options.questions, options.seed))
    if options.json:
        print(json.dumps([asdict(each) | {"share": each.share} for each in measured], indent=2))
    else:
        print(tiny_card.table(measured))
        print(tiny_card.mistakes(measured), end="")
    if options.card:
        write_card(path, measured)
    tiny_skills.check(measured)
