"""The oracle's entry. Started under a link with a command's older name, as make_fixtures.py, it is that command."""

from __future__ import annotations

import os
import sys

from qwen3_oracle import determinism, errors, options


def main() -> None:
    """Reads the command line, sets the process up as the command wants it, then imports PyTorch and does the work."""
    command, values = options.parse(sys.argv)
    # Bits are no matter in what these two do, and portable arithmetic is many times slower.
    if command.name in ("train", "skills"):
        # Threads that wait for each other by spinning are many times slower when something else uses a core.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    else:
        determinism.restart()
    from qwen3_oracle import commands

    getattr(commands, command.script)(values)


if __name__ == "__main__":
    errors.run(main)
