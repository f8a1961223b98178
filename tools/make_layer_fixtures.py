"""Writes the ten layer cases, norm-00..03, mlp-00..03 and attn-00..01, from one layer of a checkpoint."""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
from pathlib import PurePosixPath

from qwen3_oracle import layer_cases, options
from qwen3_oracle.checkpoint import layer_weights
from qwen3_oracle.errors import run
from qwen3_oracle.files import write_json, write_safetensors
from qwen3_oracle.manifest import case_entry, packages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_model_path(parser)
    parser.add_argument("--layer", type=int, required=True, help="index of the layer, from 0")
    options.add_output_dir(parser)
    options.add_floors(parser)
    args = parser.parse_args()
    path = args.model_path.resolve()
    weights = layer_weights(path, args.layer)
    maker = layer_cases.LayerCases(path, args.layer, path.name, PurePosixPath())
    cases = maker.module_cases()
    layer_cases.compute(cases, path, args.floors)
    metadata = {"model": path.name, "layer": f"model.layers.{args.layer}"}
    write_safetensors(args.output_dir / "weights.safetensors", weights, metadata)
    for case in cases:
        layer_cases.write(case, args.output_dir / case.file)
    summary = {"packages": packages(), "seed": layer_cases.SEED, "cases": [case_entry(case) for case in cases]}
    write_json(args.output_dir / "cases.json", summary)
    print(f"{len(cases)} cases of layer {args.layer} of {path.name} in {args.output_dir}")


if __name__ == "__main__":
    run(main)
