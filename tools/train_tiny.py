"""Trains the small model of the text fixtures, with its tokenizer. Not reproducible to the bit on another machine."""

from __future__ import annotations

import argparse
import os

# Threads that wait for each other by spinning are many times slower when something else uses a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from qwen3_oracle import options, tiny_tokenizer, tiny_training
from qwen3_oracle.errors import CheckError, run
from qwen3_oracle.files import write_json, write_safetensors

STEPS = 1600
ENOUGH = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_output_dir(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the texts and the first weights (default: 0)")
    parser.add_argument("--steps", type=options.positive, default=STEPS, help=f"of the training (default: {STEPS})")
    parser.add_argument("--tokenizer-only", action="store_true", help="write all but the weights")
    args = parser.parse_args()
    tokenizer = tiny_tokenizer.train(args.seed)
    config = tiny_training.config(tokenizer)
    tiny_tokenizer.write(tokenizer, args.output_dir, config["max_position_embeddings"])
    write_json(args.output_dir / "config.json", config)
    if args.tokenizer_only:
        return
    torch.set_num_threads(2)
    model = tiny_training.train(tokenizer, args.seed, args.steps)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    write_safetensors(args.output_dir / "model.safetensors", weights, {"format": "pt"})
    missed = []
    for task in tiny_training.tiny_text.TASKS:
        for thinking in (False, True):
            share, wrong = tiny_training.accuracy(model, tokenizer, task, thinking)
            print(f"{task:12} {'with' if thinking else 'no':4} thinking: {share:.0%} {'; '.join(wrong)}", flush=True)
            if share < ENOUGH:
                missed.append(task)
    if missed:
        raise CheckError(f"too few right answers: {', '.join(missed)}")


if __name__ == "__main__":
    run(main)
