"""Writes promptN/reference.npz for some prompts: activations, logits and greedy tokens of a checkpoint in float64.

The file carries the noise floors too. Beside each, reference.json tells them once more, with the margins and where
the tokens come from.
"""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
from pathlib import PurePosixPath

from qwen3_oracle import options, prompts, reference
from qwen3_oracle.cases import Case
from qwen3_oracle.checkpoint import DTYPES
from qwen3_oracle.errors import run
from qwen3_oracle.files import rounded, write_json
from qwen3_oracle.manifest import packages


def summary(case: Case, prompt: str | None, origin: str) -> dict[str, object]:
    """What `reference.json` says about one prompt; `prompt` is None when it was given as token ids."""
    margins = case.expected["margins"][0]
    return {
        "prompt": prompt,
        "tokens_from": origin,
        "max_new_tokens": case.new_tokens,
        "packages": packages(),
        "margins": {
            "smallest": rounded(margins.min().item()),
            "smallest_at_step": margins.argmin().item(),
            "median": rounded(margins.median().item()),
        },
        "published_float64_difference": rounded(case.published_difference),
        "noise_floors": case.floors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_model_path(parser)
    options.add_output_dir(parser)
    parser.add_argument("--max-new-tokens", type=options.positive, default=20, help="tokens to generate (default: 20)")
    parser.add_argument("--prompt", nargs="+", action="extend", default=[], metavar="TEXT", help="other prompts")
    parser.add_argument(
        "--prompt-ids",
        type=options.token_ids,
        action="append",
        default=[],
        metavar="IDS",
        help="a prompt as token ids, separated by commas; they come after the texts",
    )
    parser.add_argument("--taps", action="store_true", help="store what passes through the layers, too")
    dtypes = parser.add_mutually_exclusive_group()
    options.add_floors(dtypes)
    dtypes.add_argument("--dtype", choices=list(DTYPES), help="the only dtype to measure noise floors in")
    args = parser.parse_args()
    path = args.model_path.resolve()
    maker = reference.FullCases(path, path.name, PurePosixPath())
    texts = args.prompt if args.prompt or args.prompt_ids else prompts.DEFAULT_PROMPTS
    cases = [maker.prompt(number, text, args.max_new_tokens) for number, text in enumerate(texts, 1)]
    for number, ids in enumerate(args.prompt_ids, len(texts) + 1):
        cases.append(maker.token_ids(number, ids, args.max_new_tokens))
    for case in cases:
        case.taps = args.taps
    reference.compute(cases, path, [args.dtype] if args.dtype else args.floors)
    sources = [(text, maker.origin) for text in texts] + [(None, "--prompt-ids")] * len(args.prompt_ids)
    for case, (prompt, origin) in zip(cases, sources, strict=True):
        file = args.output_dir / case.file
        write_json(file.with_suffix(".json"), summary(case, prompt, origin))
        reference.write(case, file)
        print(f"{file}: {case.description}, smallest margin {reference.smallest_margin(case):.3g}")


if __name__ == "__main__":
    run(main)
