"""What the Python peers share: the command line, what is measured and in which order, and the JSON they print."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

SCHEMA = 1
DTYPES = ("f32", "bf16", "f16")
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
WARM_UP_STEPS = 3
# What every configuration has to have; the rest has Transformers' defaults.
SIZES = (
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


class InputError(Exception):
    """A missing file, an unsupported configuration or an option out of range."""


class Unavailable(Exception):
    """The engine is not installed, or cannot run this checkpoint in this dtype."""


class Engine(Protocol):
    """A loaded model with one cache, which `batch` sequences of the same length share."""

    version: str

    def reserve(self, batch: int, length: int) -> None:
        """Makes the cache empty, with room for `length` tokens of each of `batch` sequences."""

    def fill(self, length: int, draw: Callable[[int], list[int]]) -> None:
        """Lets the empty cache hold `length` random tokens in each sequence; `draw` gives random ids."""

    def forward(self, ids: list[list[int]]) -> None:
        """Runs `ids` [batch, new] behind what the cache holds, to the logits of the last token of each sequence."""

    def argmax(self) -> list[int]:
        """The most likely next id of each sequence, [batch], by the last `forward`."""

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of each sequence."""


@dataclass
class Checkpoint:
    """A folder in Hugging Face's layout, its configuration and its weight files."""

    path: Path
    config: dict[str, Any]
    files: list[Path]


@dataclass
class Measurement:
    """Samples of one phase, in seconds."""

    phase: str
    tokens: int
    context: int
    batch: int
    warm_up: float | None
    samples: list[float] = field(default_factory=list)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positives(text: str) -> list[int]:
    """`32,128` -> [32, 128]; each at least 1 and there once."""
    numbers = [positive(part) for part in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} has a number twice")
    return numbers


def naturals(text: str) -> list[int]:
    """`0,7,7` -> [0, 7, 7]."""
    return [natural(part) for part in text.split(",")]


class Parser(argparse.ArgumentParser):
    """A parser that reports bad usage as other bad input is."""

    def error(self, message: str) -> NoReturn:
        """Raises the message."""
        raise InputError(f"{message} (see {self.prog} --help)")


def parser(description: str) -> Parser:
    """The options of every peer."""
    result = Parser(description=description, allow_abbrev=False)
    add = result.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory in Hugging Face's layout")
    add("--dtype", choices=DTYPES, required=True, help="of weights and activations")
    add("--threads", type=positive, required=True, metavar="N", help="threads to compute with")
    text = "lengths of the prompts to read, separated by commas (default: 32,128)"
    add("--prompt", type=positives, default=[32, 128], metavar="LIST", help=text)
    add("--gen", type=positive, default=64, metavar="N", help="tokens to generate in one sample (default: 64)")
    text = "tokens in the cache before generating, separated by commas (default: 128)"
    add("--context", type=positives, default=[128], metavar="LIST", help=text)
    text = "batch sizes to generate with at the first context, separated by commas (default: 1)"
    add("--batch", type=positives, default=[1], metavar="LIST", help=text)
    add("--runs", type=positive, default=1, metavar="N", help="samples of each measurement (default: 1)")
    add("--seed", type=natural, default=7, metavar="N", help="of the random token ids (default: 7)")
    text = "measure nothing, print the --gen greedy ids behind this prompt; more of the same length are a batch"
    add("--ids", type=naturals, action="append", default=[], metavar="IDS", help=text)
    return result


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} not found") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """The configuration of a dense Qwen3 and the names of its weight files, which exist."""
    if not path.is_dir():
        raise InputError(f"{path} is not a directory")
    file = path / "config.json"
    config = read_json(file)
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != "qwen3":
        raise InputError(f"{file} is not a dense Qwen3 configuration: model_type is {model_type!r}")
    for name in SIZES:
        if not isinstance(config.get(name), int) or config[name] < 1:
            raise InputError(f"{file}: {name} is {config.get(name)!r}")
    if config.get("use_sliding_window"):
        raise InputError(f"{file}: sliding window attention is not supported")
    if config.get("quantization_config"):
        raise InputError(f"{file}: weights that are quantised are not supported")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type != "default":
        raise InputError(f"{file}: rope_type {rope_type!r} is not supported")
    if (path / INDEX_FILE).is_file():
        index = read_json(path / INDEX_FILE)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise InputError(f"{path / INDEX_FILE} has no weight_map")
        files = [path / str(name) for name in sorted(set(map(str, weight_map.values())))]
    else:
        files = [path / SINGLE_FILE]
    for weights in files:
        if not weights.is_file():
            raise InputError(f"{weights} not found")
    return Checkpoint(path, config, files)


def rope_theta(config: dict[str, Any]) -> float:
    """The base of RoPE, which Transformers 5 writes elsewhere than Transformers 4 did."""
    return float((config.get("rope_parameters") or config).get("rope_theta", 10000.0))


def timed(work: Callable[[], object]) -> float:
    """The seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Benchmark:
    """Measures one engine; the measurements, and what was skipped and why, gather in it."""

    def __init__(self, engine: Engine, options: argparse.Namespace, config: dict[str, Any]) -> None:
        self.engine = engine
        self.options = options
        self.vocab_size = config["vocab_size"]
        self.max_length = config["max_position_embeddings"]
        self.random = random.Random(options.seed)
        self.measurements: list[Measurement] = []
        self.skipped: list[dict[str, Any]] = []

    def draw(self, count: int) -> list[int]:
        """`count` random token ids, others each time."""
        return self.random.choices(range(self.vocab_size), k=count)

    def fits(self, phases: tuple[str, ...], tokens: int, context: int, batch: int) -> bool:
        """Whether the model has so many positions; if not, the phases are skipped."""
        fits = context + tokens <= self.max_length
        if not fits:
            reason = f"{context + tokens} tokens, max_position_embeddings is {self.max_length}"
            for phase in phases:
                self.skipped.append(
                    {"phase": phase, "tokens": tokens, "context": context, "batch": batch, "reason": reason}
                )
        return fits

    def read(self, length: int) -> tuple[float, float]:
        """Reads a random prompt into the empty cache: seconds to its logits, and to the next id."""
        ids = [self.draw(length)]
        self.engine.rewind(0)
        start = time.perf_counter()
        self.engine.forward(ids)
        logits = time.perf_counter()
        self.engine.argmax()
        return logits - start, time.perf_counter() - start

    def prompt(self, length: int) -> None:
        """Measures `prefill` and `first_token`."""
        if not self.fits(("first_token", "prefill"), length, 0, 1):
            return
        self.engine.reserve(1, length)
        (prefill, first_token), *samples = [self.read(length) for _ in range(1 + self.options.runs)]
        self.measurements += [
            Measurement("first_token", length, 0, 1, first_token, [seconds for _, seconds in samples]),
            Measurement("prefill", length, 0, 1, prefill, [seconds for seconds, _ in samples]),
        ]

    def step(self, ids: list[int]) -> list[int]:
        """One greedy step of each sequence."""
        self.engine.forward([[token] for token in ids])
        return self.engine.argmax()

    def generate(self, ids: list[int], steps: int) -> None:
        """So many greedy steps from `ids` [batch]."""
        for _ in range(steps):
            ids = self.step(ids)

    def decode(self, context: int, batch: int) -> None:
        """Measures `decode` behind `context` random tokens."""
        steps = self.options.gen
        if not self.fits(("decode",), steps, context, batch):
            return
        self.engine.reserve(batch, context + max(steps, WARM_UP_STEPS))
        self.engine.fill(context, self.draw)
        warm_up = timed(lambda: self.generate(self.draw(batch), 1))
        self.generate(self.draw(batch), WARM_UP_STEPS - 1)
        measurement = Measurement("decode", steps, context, batch, warm_up)
        for _ in range(self.options.runs):
            self.engine.rewind(context)
            first = self.draw(batch)
            measurement.samples.append(timed(lambda first=first: self.generate(first, steps)))
        self.measurements.append(measurement)

    def all(self) -> None:
        """Every measurement but `load`, which the engine has behind it."""
        for length in self.options.prompt:
            self.prompt(length)
        for context in self.options.context:
            self.decode(context, 1)
            if context == self.options.context[0]:
                for batch in self.options.batch:
                    if batch != 1:
                        self.decode(context, batch)


def greedy_ids(engine: Engine, prompts: list[list[int]], count: int) -> list[list[int]]:
    """The `count` greedy ids behind each of `prompts`, which have one length: [batch, count]."""
    engine.reserve(len(prompts), len(prompts[0]) + count)
    engine.forward(prompts)
    steps = [engine.argmax()]
    while len(steps) < count:
        engine.forward([[token] for token in steps[-1]])
        steps.append(engine.argmax())
    return [list(row) for row in zip(*steps, strict=True)]


def check_prompts(prompts: list[list[int]], count: int, config: dict[str, Any]) -> None:
    """Raises unless the prompts are a batch that the model can continue."""
    if len({len(prompt) for prompt in prompts}) > 1:
        raise InputError("the prompts of --ids have different lengths")
    for token in (token for prompt in prompts for token in prompt):
        if token >= config["vocab_size"]:
            raise InputError(f"--ids: {token} is not below vocab_size {config['vocab_size']}")
    length, limit = len(prompts[0]) + count, config["max_position_embeddings"]
    if length > limit:
        raise InputError(f"--ids and --gen: {length} tokens, max_position_embeddings is {limit}")


def peak_rss_mb() -> float | None:
    """The most memory this process has had, in MiB, as Linux tells it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return round(kilobytes[0] / 1024, 1) if kilobytes else None


def result(peer: str, load: Callable[[], tuple[Engine, float]], options: argparse.Namespace, config: Any) -> Any:
    """Loads the engine and measures it, or continues the prompts of `--ids`."""
    if options.ids:
        check_prompts(options.ids, options.gen, config)
    engine, seconds = load()
    about = {"schema": SCHEMA, "peer": peer, "version": engine.version}
    if options.ids:
        return about | {"ids": greedy_ids(engine, options.ids, options.gen)}
    benchmark = Benchmark(engine, options, config)
    benchmark.measurements.append(Measurement("load", 0, 0, 1, None, [seconds]))
    benchmark.all()
    return about | {
        "threads": options.threads,
        "measurements": [asdict(measurement) for measurement in benchmark.measurements],
        "skipped": benchmark.skipped,
        "peak_rss_mb": peak_rss_mb(),
    }


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def run(
    peer: str,
    options_parser: Parser,
    load: Callable[[Checkpoint, argparse.Namespace], tuple[Engine, float]],
) -> None:
    """The whole of a peer's program: `load` gives the engine and the seconds from opening the files to a ready model.

    Bad input is one line on stderr and exit code 2, an engine that is not to be had is exit code 3.
    """
    try:
        options = options_parser.parse_args()
        checkpoint = read_checkpoint(options.model)
        # What an engine prints must not get into the JSON.
        stdout = os.dup(1)
        os.dup2(2, 1)
        value = result(peer, lambda: load(checkpoint, options), options, checkpoint.config)
        with os.fdopen(stdout, "w", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")
    except (InputError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except Unavailable as error:
        print(f"unavailable: {one_line(error)}", file=sys.stderr)
        sys.exit(3)
