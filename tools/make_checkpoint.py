"""Writes a checkpoint of random weights for any dense Qwen3 configuration."""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
import json
import shutil
from pathlib import Path

from qwen3_oracle import options, synthetic
from qwen3_oracle.checkpoint import DTYPES, read_config
from qwen3_oracle.errors import InputError, run
from qwen3_oracle.files import write_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer's files that `source` has."""
    if not (source / "tokenizer.json").is_file():
        raise InputError(f"{source} has no tokenizer.json")
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def progress(line: str) -> None:
    """Prints which tensor is being written."""
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="config.json of a dense Qwen3")
    options.add_output_dir(parser)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16", help="dtype on disk (default: bf16)")
    parser.add_argument("--shards", type=options.positive, default=1, help="number of weight files (default: 1)")
    parser.add_argument("--seed", type=int, default=42, help="seed of the weights (default: 42)")
    parser.add_argument("--num-hidden-layers", type=options.positive, help="replaces the configuration's number")
    parser.add_argument("--tokenizer-from", type=Path, metavar="DIR", help="copy the tokenizer's files from here")
    args = parser.parse_args()
    read_config(args.config)
    values = json.loads(args.config.read_text(encoding="utf-8"))
    if args.num_hidden_layers is not None:
        values["num_hidden_layers"] = args.num_hidden_layers
        if values.get("layer_types"):
            values["layer_types"] = ["full_attention"] * args.num_hidden_layers
    spelling = "dtype" if "dtype" in values else "torch_dtype"
    values[spelling] = str(DTYPES[args.dtype]).removeprefix("torch.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if any(args.output_dir.glob("*.safetensors*")):
        raise InputError(f"{args.output_dir} holds weights already")
    if args.tokenizer_from is not None:
        copy_tokenizer(args.tokenizer_from, args.output_dir)
    write_json(args.output_dir / "config.json", values)
    config = read_config(args.output_dir)
    synthetic.write_weights(args.output_dir, config, DTYPES[args.dtype], args.seed, args.shards, progress)


if __name__ == "__main__":
    run(main)
