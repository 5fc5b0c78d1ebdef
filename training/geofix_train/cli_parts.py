"""What the commands of `geofix-train` share: a flag for bad rows, and what stands on stderr."""

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


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


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print what the package logs meanwhile, beside what a command prints."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("geofix-train: %(message)s"))
    logger = logging.getLogger("geofix_train")
    former = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former)
