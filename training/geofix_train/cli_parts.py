"""What the commands of `geofix-train` share: a flag for bad rows, and saying what was left out."""

import argparse
import sys
from collections.abc import Iterable


def add_on_error(command: argparse.ArgumentParser) -> None:
    """Add the flag `--on-error`."""
    command.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what to do with a bad row or photo (stop)",
    )


def say_left_out(problems: Iterable[str]) -> None:
    """Print a line for each row and photo that was left out, beside what a command prints."""
    for problem in problems:
        print(f"geofix-train: left out: {problem}", file=sys.stderr)
