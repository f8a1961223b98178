"""Writes what a checkpoint's activations are with known mistakes, one npz for each, in the manner of reference.npz."""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
from pathlib import Path

from qwen3_oracle import observed, options
from qwen3_oracle.checkpoint import DTYPES
from qwen3_oracle.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_model_path(parser)
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="FILE", help="the checkpoint's reference.npz for some prompt"
    )
    options.add_output_dir(parser)
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="ID",
        help="a mistake (default: all that apply to the checkpoint)",
    )
    parser.add_argument("--layer", type=int, metavar="N", help="plant mistakes in this layer only")
    parser.add_argument("--dtype", choices=list(DTYPES), default="f32", help="dtype of the runs (default: f32)")
    args = parser.parse_args()
    path = args.model_path.resolve()
    wanted = observed.wanted(path, args.fault, args.layer)
    bench = observed.Bench(path, args.reference, args.dtype)
    for forms in wanted:
        observation = bench.observe(forms, args.layer)
        mistake = observation.mistake
        file = args.output_dir / f"{mistake.id}.npz"
        observed.write(observation, file)
        print(f"{file}: {mistake.description}; {observation.place()}", flush=True)
    bench.check_restored()


if __name__ == "__main__":
    run(main)
