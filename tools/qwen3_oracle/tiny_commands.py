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


def tabled(directory: Path, count: int, seed: int, shown: bool) -> list[tiny_skills.Measured]:
    """What `tiny_skills.measure` gives; when `shown`, each line of the table as soon as it is known."""
    if shown:
        print(tiny_card.head(), flush=True)
    measured = []
    for row in tiny_skills.measure(directory, count, seed):
        if shown:
            print(tiny_card.row(row), flush=True)
        measured += row
    return measured


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
    measured = tabled(output, QUESTIONS, 0, shown=True)
    write_card(output, measured)
    tiny_skills.check(measured)


def measure_skills(options: Namespace) -> None:
    """`oracle.py skills`."""
    path = options.model_path.resolve()
    measured = tabled(path, options.questions, options.seed, shown=not options.json)
    if options.json:
        print(json.dumps([asdict(each) | {"share": each.share} for each in measured], indent=2))
    else:
        print(tiny_card.mistakes(measured), end="")
    if options.card:
        write_card(path, measured)
    tiny_skills.check(measured)
