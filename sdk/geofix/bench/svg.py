"""Plots as SVG, drawn with text alone: a device has no plotting library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
INK, GRID, PAPER = "#282828", "#dddddd", "#ffffff"
FONT_PX = 13
_CHARACTER_PX = 7.0  # of a digit or letter at that size, a little more than in most fonts


@dataclass
class Drawing:
    """Shapes on a sheet; x goes right and y down, in pixels."""

    width: float
    height: float
    shapes: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False
    ) -> None:
        """Write words; y is their baseline."""
        weight = ' font-weight="bold"' if bold else ""
        self.shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, *, width: float = 1) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: str, *, title: str = ""
    ) -> None:
        """Draw a filled rectangle; its title appears under a pointer."""
        self.shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colour}">{_title(title)}</rect>'
        )

    def dot(self, x: float, y: float, colour: str, *, title: str = "") -> None:
        """Draw a dot."""
        self.shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}">{_title(title)}</circle>'
        )

    def place(self, other: "Drawing", y: float) -> None:
        """Put another drawing onto this one, at the left edge."""
        self.shapes.append(
            f'<g transform="translate(0 {y:.1f})">\n' + "\n".join(other.shapes) + "\n</g>"
        )

    def svg(self, *, title: str) -> str:
        """Return the sheet; the title is for readers who hear it."""
        width, height = math.ceil(self.width), math.ceil(self.height)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" font-family="sans-serif" '
            f'font-size="{FONT_PX}" fill="{INK}">\n<title>{escape(title)}</title>'
        )
        paper = f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
        return "\n".join([head, paper, *self.shapes, "</svg>"]) + "\n"


def text_px(words: str) -> float:
    """Return about how wide words are."""
    return _CHARACTER_PX * len(words)


def ticks(top: float, *, num: int = 5) -> list[float]:
    """Return round numbers from 0 to at least `top`, about `num` steps of 1, 2 or 5 times 10^n."""
    raw = max(top, 1e-9) / num
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * (1 - 1e-9))
    return [step * at for at in range(math.ceil(top / step * (1 - 1e-9)) + 1)]


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
