"""Command line options that scripts share."""

from __future__ import annotations

import argparse
from pathlib import Path

from .checkpoint import DTYPES


def dtype_list(text: str) -> list[str]:
    """`f32,f16` -> ["f32", "f16"]; the empty string is no dtype."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in DTYPES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(DTYPES)}")
    return names


def token_ids(text: str) -> list[int]:
    """`1,2,3` -> [1, 2, 3]."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of token ids")
    return [int(part) for part in text.split(",")]


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def add_model_path(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--model-path DIR`."""
    parser.add_argument(
        "--model-path",
        type=Path,
        required=required,
        metavar="DIR",
        help="checkpoint directory in Hugging Face's layout",
    )


def add_output_dir(parser: argparse.ArgumentParser) -> None:
    """`--output-dir DIR`."""
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="where to write")


def add_floors(parser: argparse._ActionsContainer) -> None:
    """`--floors f32,f16,bf16`: the dtypes to measure noise floors in."""
    parser.add_argument(
        "--floors",
        type=dtype_list,
        default=list(DTYPES),
        metavar="DTYPES",
        help="dtypes to measure noise floors in, separated by commas (default: f32,f16,bf16)",
    )
