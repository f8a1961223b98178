"""Writes fixtures/ and manifest.json: the tiny checkpoints, or one existing checkpoint, with all their cases."""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from qwen3_oracle import (
    manifest,
    observed,
    options,
    reference,
    sensitivity,
    stored,
    suite,
    text_cases,
    trained,
)
from qwen3_oracle.cases import Case
from qwen3_oracle.checkpoint import DTYPES, read_config
from qwen3_oracle.errors import InputError, run
from qwen3_oracle.files import write_json


def replace(source: Path, target: Path) -> None:
    """Moves a finished folder or file to its place, removing what was there."""
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def report(cases: list[Case]) -> None:
    """Prints the margins of the generated tokens beside the noise of the logits that chose them."""
    for case in cases:
        if case.kind == "full_model":
            noise = ", ".join(f"{dtype} {value:.2g}" for dtype, value in reference.step_noise(case).items())
            print(f"{case.id}: smallest margin {reference.smallest_margin(case):.3g}; noise of the logits: {noise}")


def make_all(output: Path, work: Path, official_tokenizer: Path | None) -> None:
    """The repository's own fixtures, checked, as they lie on disk, for their power to show faults."""
    path = trained.keep(output, work)
    checkpoints, cases = suite.make_tiny(work)
    greedy, texts = text_cases.make(path, work, output, official_tokenizer)
    cases += greedy
    observations = observed.make_tiny(checkpoints, work)
    write_json(work / "manifest.json", manifest.manifest(work, checkpoints, cases, observations, texts))
    read_back = stored.read(work / "manifest.json")
    sensitivity.check(*read_back, DTYPES)
    report(cases)
    replace(work / "fixtures", output / "fixtures")
    replace(work / "manifest.json", output / "manifest.json")


def make_one(output: Path, work: Path, args: argparse.Namespace) -> None:
    """Fixtures of one checkpoint, which has to lie below the manifest's folder."""
    path, name = args.model_path.resolve(), args.model_path.resolve().name
    read_config(path)
    folder = PurePosixPath("fixtures") / name
    if not path.is_relative_to(output):
        raise InputError(f"{path} is not below {output}, and a manifest's paths cannot leave its folder")
    if path.is_relative_to(output / folder):
        raise InputError(f"{path} is inside {output / folder}, which this command replaces")
    plan = suite.plan_for(path, args.layer, args.max_new_tokens, tuple(DTYPES) if args.gradients else ())
    cases = suite.make(name, path, plan, folder, args.floors, work)
    report(cases)
    replace(work / folder, output / folder)
    write_json(output / "manifest.json", manifest.manifest(output, {name: path}, cases))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_output_dir(parser)
    options.add_model_path(parser, required=False)
    parser.add_argument(
        "--layer", type=int, help="layer of the layer cases, with --model-path (default: the middle one)"
    )
    parser.add_argument(
        "--max-new-tokens", type=options.positive, default=8, help="tokens to generate, with --model-path (default: 8)"
    )
    parser.add_argument(
        "--gradients", action="store_true", help="also the loss and its gradients, with --model-path (large)"
    )
    options.add_floors(parser)
    parser.add_argument(
        "--official-tokenizer",
        type=Path,
        metavar="DIR",
        help="tokenizer files of a published Qwen3, to make the digests of its tokens anew and compare its template",
    )
    args = parser.parse_args()
    if args.model_path is None and (
        (args.layer, args.max_new_tokens, args.gradients, args.floors) != (None, 8, False, list(DTYPES))
    ):
        parser.error("--layer, --max-new-tokens, --gradients and --floors go with --model-path")
    if args.model_path is not None and args.official_tokenizer is not None:
        parser.error("--official-tokenizer goes without --model-path")
    output = args.output_dir.resolve()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fixtures-", dir=output) as work:
        if args.model_path is None:
            make_all(output, Path(work), args.official_tokenizer)
        else:
            make_one(output, Path(work), args)


if __name__ == "__main__":
    run(main)
