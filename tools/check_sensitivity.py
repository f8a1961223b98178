"""Plants known mistakes into Transformers and shows that the cases of a manifest catch them."""

from __future__ import annotations

from qwen3_oracle import determinism

if __name__ == "__main__":
    determinism.restart()

import argparse
from pathlib import Path

from qwen3_oracle import options, sensitivity, stored
from qwen3_oracle.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="manifest.json")
    options.add_floors(parser)
    args = parser.parse_args()
    checkpoints, cases = stored.read(args.manifest)
    sensitivity.check(checkpoints, cases, args.floors)


if __name__ == "__main__":
    run(main)
