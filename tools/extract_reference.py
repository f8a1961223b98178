"""Writes promptN/reference.npz for some prompts: activations, logits and greedy tokens of a checkpoint in float64.

Beside each, reference.json tells the noise floors, the margins and where the tokens come from.
"""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
from pathlib import PurePosixPath

from qwen3_oracle import options, prompts, reference
from qwen3_oracle.cases import Case
from qwen3_oracle.errors import run
from qwen3_oracle.files import rounded, write_json
from qwen3_oracle.manifest import packages


def summary(case: Case, prompt: str, origin: str) -> dict[str, object]:
    """What `reference.json` says about one prompt."""
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
    parser.add_argument("--prompt", nargs="+", default=prompts.DEFAULT_PROMPTS, metavar="TEXT", help="other prompts")
    options.add_floors(parser)
    args = parser.parse_args()
    path = args.model_path.resolve()
    maker = reference.FullCases(path, path.name, PurePosixPath())
    cases = [maker.prompt(number, text, args.max_new_tokens) for number, text in enumerate(args.prompt, 1)]
    reference.compute(cases, path, args.floors)
    origin = prompts.origin(path)
    for case, prompt in zip(cases, args.prompt, strict=True):
        file = args.output_dir / case.file
        reference.write(case, file)
        write_json(file.with_suffix(".json"), summary(case, prompt, origin))
        print(f"{file}: {case.description}, smallest margin {reference.smallest_margin(case):.3g}")


if __name__ == "__main__":
    run(main)
