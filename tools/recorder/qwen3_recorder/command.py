"""`python -m qwen3_recorder ENGINE MODEL --reference FILE --out FILE`: the reference's prompt, run by an engine."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from . import files, keys
from .files import Written

DTYPES = {"float32": "f32", "float64": "f32", "bfloat16": "bf16", "float16": "f16"}
# How many missing keys are named.
MOST = 6


class Parser(argparse.ArgumentParser):
    """A parser that reports bad usage as other bad input is."""

    def error(self, message: str) -> NoReturn:
        """Raises the message."""
        raise ValueError(f"{message} (see {self.prog} --help)")


@dataclass
class Prompt:
    """What a reference was made of: ids and mask [batch, seq], and how many tokens were generated."""

    ids: np.ndarray
    mask: np.ndarray | None
    generated: int


def read_prompt(path: Path) -> Prompt:
    """The prompt of a `reference.npz`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in (keys.INPUT_IDS, keys.ATTENTION_MASK, keys.GENERATED_IDS)
                     if key in archive}  # fmt: skip
    except FileNotFoundError:
        raise ValueError(f"{path} not found") from None
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no npz file of arrays: {error}") from error
    ids = found.get(keys.INPUT_IDS)
    if ids is None or ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{path} has no input_ids [batch, seq]")
    mask, all_ids = found.get(keys.ATTENTION_MASK), found.get(keys.GENERATED_IDS)
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"{path}: input_ids and attention_mask differ in shape")
    if all_ids is not None and (all_ids.ndim != 2 or all_ids.shape[1] < ids.shape[1]):
        raise ValueError(f"{path}: generated_ids does not begin with the prompt")
    generated = 0 if all_ids is None else all_ids.shape[1] - ids.shape[1]
    return Prompt(ids.astype(np.int64), None if mask is None else mask.astype(np.int64), generated)


def parser() -> Parser:
    """The options of every engine."""
    result = Parser(prog="python -m qwen3_recorder", description=__doc__, allow_abbrev=False)
    engines = result.add_subparsers(dest="engine", required=True, metavar="ENGINE", parser_class=Parser)
    for name, metavar, text in (
        ("transformers", "MODEL_DIR", "PyTorch, with the classes of Transformers"),
        ("llama-cpp", "MODEL.gguf", "llama.cpp, by llama-cpp-python"),
        ("onnx", "MODEL.onnx", "onnxruntime; the prompt only"),
    ):
        engine = engines.add_parser(name, help=text, allow_abbrev=False)
        engine.add_argument("model", type=Path, metavar=metavar)
        engine.add_argument("--reference", type=Path, required=True, metavar="NPZ", help="whose prompt is run")
        engine.add_argument("--out", type=Path, required=True, metavar="NPZ", help="what is written")
        engine.add_argument("--outputs-only", action="store_true", help="nothing inside of layers")
        if name == "transformers":
            engine.add_argument("--dtype", choices=list(DTYPES), default="float32", help="(default: float32)")
            engine.add_argument("--attn", choices=("eager", "sdpa"), default="sdpa", help="(default: sdpa)")
        if name == "llama-cpp":
            engine.add_argument("--kv-cache", choices=("f16", "f32", "bf16"), help="(default: llama.cpp's, f16)")
            engine.add_argument("--threads", type=int, metavar="N", help="(default: llama.cpp's)")
    return result


def run_transformers(options: argparse.Namespace, prompt: Prompt) -> Written:
    """A checkpoint in Hugging Face's layout, decoding greedily with a cache."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ImportError(f"transformers is not installed (pip install torch transformers): {error}") from error
    from .recording import record

    if not (options.model / "config.json").is_file():
        raise ValueError(f"{options.model} has no config.json: it is no checkpoint in Hugging Face's layout")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(options.model, local_files_only=True)
    headless = not any("ForCausalLM" in name for name in config.architectures or ())
    kind = transformers.AutoModel if headless else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(
        options.model,
        dtype=getattr(torch, options.dtype),
        attn_implementation=options.attn,
        local_files_only=True,
    ).eval()
    check_tokens(prompt, config.vocab_size)
    ids = torch.from_numpy(prompt.ids)
    mask = torch.ones_like(ids) if prompt.mask is None else torch.from_numpy(prompt.mask)
    passes = 1 if headless else max(1, prompt.generated)
    with record(model, options.out, inside=not options.outputs_only, prompt_length=ids.shape[1]) as recording:
        cache = None
        with torch.no_grad():
            for step in range(passes):
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
                made = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
                if step + 1 < passes:
                    ids, cache = made.logits[:, -1:].argmax(-1), made.past_key_values
                    mask = torch.cat((mask, torch.ones_like(ids)), 1)
    return Written(options.out, recording.written, recording.missing, DTYPES[options.dtype])


def run_llama_cpp(options: argparse.Namespace, prompt: Prompt) -> Written:
    """A GGUF file, decoding greedily with a cache."""
    from .llama import record_llama_cpp

    return record_llama_cpp(
        options.model,
        prompt.ids,
        options.out,
        attention_mask=prompt.mask,
        steps=max(0, prompt.generated - 1),
        inside=not options.outputs_only,
        kv_cache=options.kv_cache,
        threads=options.threads,
    )


def run_onnx(options: argparse.Namespace, prompt: Prompt) -> Written:
    """An ONNX file: one pass over the prompt, with an empty cache where the graph has one."""
    from .onnx_run import prompt_inputs, record_onnx

    inputs = prompt_inputs(options.model, prompt.ids, prompt.mask)
    return record_onnx(options.model, inputs, options.out, inside=not options.outputs_only)


RUNS: dict[str, Callable[[argparse.Namespace, Prompt], Written]] = {
    "transformers": run_transformers,
    "llama-cpp": run_llama_cpp,
    "onnx": run_onnx,
}


def check_tokens(prompt: Prompt, count: int) -> None:
    """Raises where a token is none of the model's."""
    wrong = prompt.ids[(prompt.ids < 0) | (prompt.ids >= count)]
    if wrong.size:
        raise ValueError(f"token {wrong[0]} of the reference is none of the model, whose vocabulary has {count}")


def report(written: Written, options: argparse.Namespace) -> str:
    """What was written, and what to do with it."""
    lines = [f"{written.path}: {len(written.keys)} tensors, {files.size(written.path)}"]
    if written.missing:
        more = f" and {len(written.missing) - MOST} more" if len(written.missing) > MOST else ""
        lines.append(f"not there: {', '.join(written.missing[:MOST])}{more}")
    # Of the others, the checkpoint that they come from is not known; of quantised weights none is the right one.
    model = str(options.model) if options.engine == "transformers" or written.dtype is None else "DIR"
    words = ["cargo", "xtask", "verify", "--model", model, "--reference", str(options.reference)]
    words += ["--observed", str(written.path), "--dtype", written.dtype or "bf16"]
    if written.dtype is None:
        remake = shlex.join(["cargo", "xtask", "reference", "--model", model])
        lines.append(f"weights are quantised: the reference has to be of this file, too ({remake} ..)")
    return "\n".join([*lines, f"next: {shlex.join(words)}"])


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: list[str] | None = None) -> None:
    """The whole program: bad input is one line on stderr and exit code 2, an engine that is missing exit code 3."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        options = parser().parse_args(arguments)
        files.check_output(options.out)
        prompt = read_prompt(options.reference)
        print(report(RUNS[options.engine](options, prompt), options))
    except ImportError as error:
        print(f"unavailable: {one_line(error)}", file=sys.stderr)
        sys.exit(3)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
