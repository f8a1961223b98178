"""The oracle's command line. It imports no PyTorch, so that help and refusals come at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .dtypes import NAMES
from .errors import InputError

DESCRIPTION = "The Transformers oracle of qwen3-burn: fixtures, references, planted mistakes and checkpoints."
TRAINING_STEPS = 1600
QUESTIONS = 500


class Parser(argparse.ArgumentParser):
    """A parser that reports bad usage as other bad input is."""

    def error(self, message: str) -> NoReturn:
        """Raises the message."""
        raise InputError(f"{message} (see {self.prog} --help)")


def dtype_list(text: str) -> list[str]:
    """`f32,f16` -> ["f32", "f16"]; the empty string is no dtype."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")
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


def add_model_path(parser: Parser, required: bool = True) -> None:
    """`--model-path DIR`."""
    text = "checkpoint directory in Hugging Face's layout"
    parser.add_argument("--model-path", type=Path, required=required, metavar="DIR", help=text)


def add_output_dir(parser: Parser) -> None:
    """`--output-dir DIR`."""
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="where to write")


def add_floors(parser: argparse._ActionsContainer) -> None:
    """`--floors f32,f16,bf16`: the dtypes to measure noise floors in."""
    text = "dtypes to measure noise floors in, separated by commas (default: f32,f16,bf16)"
    parser.add_argument("--floors", type=dtype_list, default=list(NAMES), metavar="DTYPES", help=text)


def add_adapter(parser: Parser) -> None:
    """`--adapter DIR`."""
    text = "folder of a LoRA adapter, which PEFT puts on the model"
    parser.add_argument("--adapter", type=Path, metavar="DIR", help=text)


def fixtures(parser: Parser) -> None:
    """Options of `fixtures`."""
    add_output_dir(parser)
    add_model_path(parser, required=False)
    add = parser.add_argument
    add("--layer", type=int, help="layer of the layer cases, with --model-path (default: the middle one)")
    add("--max-new-tokens", type=positive, default=8, help="tokens to generate, with --model-path (default: 8)")
    add("--gradients", action="store_true", help="also the loss and its gradients, with --model-path (large)")
    add_floors(parser)
    text = "tokenizer files of a published Qwen3, to make the digests of its tokens anew and compare its template"
    add("--official-tokenizer", type=Path, metavar="DIR", help=text)


def layer_fixtures(parser: Parser) -> None:
    """Options of `layer-fixtures`."""
    add_model_path(parser)
    parser.add_argument("--layer", type=int, required=True, help="index of the layer, from 0")
    add_output_dir(parser)
    add_floors(parser)


def reference(parser: Parser) -> None:
    """Options of `reference`."""
    add_model_path(parser)
    add_output_dir(parser)
    add = parser.add_argument
    add("--max-new-tokens", type=positive, default=20, help="tokens to generate (default: 20)")
    add("--prompt", nargs="+", action="extend", default=[], metavar="TEXT", help="other prompts")
    text = "a prompt as token ids, separated by commas; they come after the texts"
    add("--prompt-ids", type=token_ids, action="append", default=[], metavar="IDS", help=text)
    add("--taps", action="store_true", help="store what passes through the layers, too")
    add_adapter(parser)
    add("--merged", action="store_true", help="with --adapter: PEFT merges it into the weights first")
    dtypes = parser.add_mutually_exclusive_group()
    add_floors(dtypes)
    dtypes.add_argument("--dtype", choices=list(NAMES), help="the only dtype to measure noise floors in")


def plant(parser: Parser) -> None:
    """Options of `plant`."""
    add_model_path(parser)
    add = parser.add_argument
    text = "the checkpoint's reference.npz for some prompt"
    add("--reference", type=Path, required=True, metavar="FILE", help=text)
    add_output_dir(parser)
    add_adapter(parser)
    text = "a mistake (default: all that apply to the checkpoint; with --adapter, those made in adapters)"
    add("--fault", action="append", default=[], metavar="ID", help=text)
    add("--layer", type=int, metavar="N", help="plant mistakes in this layer only")
    add("--dtype", choices=list(NAMES), default="f32", help="dtype of the runs (default: f32)")


def checkpoint(parser: Parser) -> None:
    """Options of `checkpoint`."""
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="config.json of a dense Qwen3")
    add_output_dir(parser)
    add("--dtype", choices=list(NAMES), default="bf16", help="dtype on disk (default: bf16)")
    add("--shards", type=positive, default=1, help="number of weight files (default: 1)")
    add("--seed", type=int, default=42, help="seed of the weights (default: 42)")
    add("--num-hidden-layers", type=positive, help="replaces the configuration's number")
    add("--tokenizer-from", type=Path, metavar="DIR", help="copy the tokenizer's files from here")


def wild(parser: Parser) -> None:
    """Options of `wild`."""
    add_output_dir(parser)
    add = parser.add_argument
    add("--count", type=positive, default=8, help="number of checkpoints, the kinds in turn (default: 8)")
    add("--seed", type=int, default=1, help="of the first one's weights and prompt (default: 1)")
    add("--taps", action="store_true", help="store what passes through the layers, too")
    text = "of the first so many checkpoints, make runs with mistakes of many sizes (default: 0)"
    add("--sized-on", type=positive, default=0, metavar="N", help=text)


def train(parser: Parser) -> None:
    """Options of `train`."""
    add_output_dir(parser)
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the texts and the first weights (default: 0)")
    text = f"of the training (default: {TRAINING_STEPS})"
    add("--steps", type=positive, default=TRAINING_STEPS, help=text)
    add("--tokenizer-only", action="store_true", help="write all but the weights")


def skills(parser: Parser) -> None:
    """Options of `skills`."""
    add_model_path(parser)
    add = parser.add_argument
    text = f"of each kind (default: {QUESTIONS})"
    add("--questions", type=positive, default=QUESTIONS, metavar="N", help=text)
    add("--seed", type=int, default=0, metavar="N", help="of the questions and of the sampling (default: 0)")
    add("--json", action="store_true", help="print JSON, with every wrong answer")
    add("--card", action="store_true", help="also write README.md into the checkpoint's folder")


def sensitivity(parser: Parser) -> None:
    """Options of `sensitivity`."""
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="manifest.json")
    add_floors(parser)


@dataclass(frozen=True)
class Command:
    """A subcommand, the name of the script that is it alone, its options, what it does, and more for its help."""

    name: str
    script: str
    add_options: Callable[[Parser], None]
    summary: str
    more: str = ""


COMMANDS = [
    Command(
        "fixtures",
        "make_fixtures",
        fixtures,
        "writes fixtures/ and manifest.json: the tiny checkpoints, or one existing checkpoint, with all their cases",
    ),
    Command(
        "layer-fixtures",
        "make_layer_fixtures",
        layer_fixtures,
        "writes the ten layer cases, norm-00..03, mlp-00..03 and attn-00..01, from one layer of a checkpoint",
    ),
    Command(
        "reference",
        "extract_reference",
        reference,
        "writes promptN/reference.npz for some prompts: activations, logits and greedy tokens in float64",
        "The file carries the noise floors too. Beside each, reference.json tells them once more, with the margins "
        "and where the tokens come from.",
    ),
    Command(
        "plant",
        "plant_faults",
        plant,
        "writes a checkpoint's activations with known mistakes, one npz for each, in the manner of reference.npz",
    ),
    Command(
        "checkpoint",
        "make_checkpoint",
        checkpoint,
        "writes a checkpoint of random weights for any dense Qwen3 configuration",
    ),
    Command(
        "wild",
        "make_wild",
        wild,
        "writes checkpoints that are less tame, as real ones are, with a reference and honest runs of each",
        "Sharp attention, outlier channels, massive activations of the first token, many layers.",
    ),
    Command(
        "train",
        "train_tiny",
        train,
        "trains the small model of the text fixtures, with its tokenizer",
        "Not reproducible to the bit on another machine.",
    ),
    Command(
        "skills",
        "measure_skills",
        skills,
        "asks the small trained model questions of each kind and prints the shares of right answers",
        "With and without thinking, greedily and sampled; fails when a share that is claimed is below 95 %.",
    ),
    Command(
        "sensitivity",
        "check_sensitivity",
        sensitivity,
        "plants known mistakes into Transformers and shows that the cases of a manifest catch them",
    ),
]


def parse(words: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The command and the options of a command line; `words` begins with the script, whose name may be the command.

    Raises an `InputError` for a command line that is none.
    """
    started_as = Path(words[0]).stem
    parser = Parser(prog="oracle.py", description=DESCRIPTION)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        alone = command.script == started_as
        text = f"{command.summary[0].upper()}{command.summary[1:]}. {command.more}"
        own = commands.add_parser(
            command.name, prog=f"{started_as}.py" if alone else None, help=command.summary, description=text
        )
        own.set_defaults(command=command)
        command.add_options(own)
        parser = own if alone else parser
    options = parser.parse_args(words[1:])
    return options.command, options
