"""The words of reports: numbers with their intervals, what names mean, tables of text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FEW_SEQUENCES = 5  # fewer say little: a drawn sequence more or less changes everything
FEW = "few"
# What the values of a slice mean, in the order in which they are told; "area" is the table's own
# where it has a column slice_area, as the built-in town does.
VALUES = {
    "place": {
        "seen": "a training photo stands within 25 m",
        "unseen": "no training photo stands within 25 m",
    },
    "area": {
        "seen": "a training photo stands within 25 m",
        "unseen": "none does, but there are some in the cell of a prototype around the photo or in "
        "one that touches it",
        "held-out": "there are none there either",
        "driven street": "training photos were taken along this street",
        "street without photos": "none was taken along this street, but some along others of its "
        "district",
        "district without photos": "none was taken in this district: imagery alone shows it",
    },
    "look": {
        "original": "photos as they are",
        "gray": "the same photos without colour",
        "lowres": "the same photos, at half their width and height",
        "jpeg": "the same photos, compressed by JPEG with quality 20",
        "blur": "the same photos, out of focus",
    },
}

METHODS = {  # hybrid: see hybrid_text
    "image_nn": "the place of the nearest training photo",
    "mean_prototypes": "class means, without learning",
    "prototypes": "learned prototypes alone",
    "aerial": "aerial embeddings alone",
    "hybrid_kappa_1": "aerial + prototype",
    "on_device": "hybrid, compressed, as the SDK localizes with the finished pack",
}


def codes_text(codes: Mapping[str, Any] | None) -> str:
    """Return which cell codes photos were compared with, as a phrase; `codes` is a report's."""
    if codes is None:
        return "not told"
    kappa = "infinite" if codes["kappa"] is None else f"{codes['kappa']:.3g}"
    shrink = codes["shrink_photos"]
    return (
        f"kappa {kappa} ({codes['kappa_choice']}), shrink N0 {shrink:g}{'' if shrink else ' (off)'}"
        f"; {codes['num_cells']:,} cells of level {codes['cell_level']}; "
        f"{codes['num_training_photos']:,} training photos"
    )


def hybrid_text(codes: Mapping[str, Any] | None) -> str:
    """Return what hybrid codes are made of."""
    if codes is None:
        return "aerial + kappa x prototype"
    if codes["kappa"] is None:
        return "prototypes alone, since kappa is infinite"
    text = f"aerial + kappa x prototype, kappa {codes['kappa']:.3g} ({codes['kappa_choice']})"
    n0 = codes["shrink_photos"]
    return f"{text}, times n / (n + {n0:g}) where n photos made the prototype" if n0 else text


def values_text(name: str, values: Iterable[str]) -> str:
    """Return what the values of a slice mean, "" where their names say it themselves."""
    meanings = VALUES.get(name, {})
    values = set(values)
    if not values <= meanings.keys():
        return "Areas are those of the table's column slice_area" if name == "area" else ""
    return "; ".join(f"{value}: {meanings[value]}" for value in meanings if value in values)


def is_few(figures: Mapping[str, Any]) -> bool:
    """Return whether figures are of so few sequences that their intervals say little."""
    return bool(figures["num_sequences"] < FEW_SEQUENCES)


def photos_text(figures: Mapping[str, Any]) -> str:
    """Return how many photos figures are of, and of how many sequences."""
    text = f"{figures['num_queries']:,} photos of {figures['num_sequences']:,} sequences"
    return f"{text}: so few that the intervals say little" if is_few(figures) else text


def percent_text(share: float, ends: Sequence[float] | None) -> str:
    """Return a share in %, and its interval where there is one."""
    text = f"{100 * share:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"


def metres_text(metres: float, ends: Sequence[float] | None) -> str:
    """Return whole metres, and their interval where there is one."""
    return f"{metres:.0f}" if ends is None else f"{metres:.0f} [{ends[0]:.0f}, {ends[1]:.0f}]"


def points_text(share: float, ends: Sequence[float] | None) -> str:
    """Return a difference of shares; with a digit more, since it is told from zero by its ends."""
    text = f"{100 * share:+.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"


def bytes_text(num: int) -> str:
    """Return a number of bytes in a unit that fits."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num >= size:
            return f"{num / size:.3g} {unit}"
    return f"{num} bytes"


def code_text(name: str) -> str:
    """Return a name as code."""
    return f"`{name}`"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left, that reads well as text, too."""
    first, *others = _aligned([head, *rows], narrowest=3)
    rule = ["-" * len(first[0]), *("-" * (len(cell) - 1) + ":" for cell in first[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in (first, rule, *others))


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as columns for a terminal, the first one to the left."""
    return "\n".join("  ".join(line) for line in _aligned(lines))


def _aligned(lines: Sequence[Sequence[str]], *, narrowest: int = 0) -> list[list[str]]:
    widths = [max(narrowest, *map(len, column)) for column in zip(*lines, strict=True)]
    return [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(pairs)]
        for pairs in (zip(line, widths, strict=True) for line in lines)
    ]
