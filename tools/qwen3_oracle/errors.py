"""Errors of the user's input, and how the oracle reports them."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(Exception):
    """A missing file, an unsupported configuration or an option out of range."""


class CheckError(Exception):
    """A self-check of the oracle failed: the numbers must not be used."""


def run(main: Callable[[], None]) -> None:
    """Calls `main`; one line on stderr and exit code 2 for bad input or files out of reach, 1 for a failed check."""
    try:
        main()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except CheckError as error:
        print(f"check failed: {error}", file=sys.stderr)
        sys.exit(1)
