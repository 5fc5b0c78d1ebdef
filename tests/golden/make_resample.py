"""Write resample.json: pictures, and what an encoder sees of them.

Run it only when the definition changes, as `python -m tests.golden.make_resample`, and say why: it
changes what every encoder sees. Results are worked out here from section 3.1 of docs/pack_spec.md,
in whole numbers, pixel by pixel and without geofix. The picture of a case is no photo but a formula
(`level`), so that any language can draw it.
"""

import base64
import json
from pathlib import Path

PATH = Path(__file__).with_name("resample.json")
FORMULA = "level(x, y, c) = ((37 x + 101 y + 71 c) xor (x y)) mod 256"
CASES = [  # width, height, of the result, resize
    (16, 12, 8, 6, "stretch"),
    (67, 43, 8, 6, "stretch"),
    (640, 480, 8, 6, "stretch"),
    (1000, 7, 8, 6, "stretch"),
    (1, 1, 3, 2, "stretch"),
    (5, 4, 8, 6, "stretch"),
    (8, 6, 8, 6, "stretch"),
    (15, 11, 8, 6, "stretch"),
    (9, 200, 8, 6, "stretch"),
    (200, 101, 7, 7, "crop"),
    (101, 200, 8, 6, "crop"),
    (3, 1000, 8, 6, "crop"),
]

Picture = list[list[list[int]]]  # rows of pixels of channels


def main() -> None:
    """Write the file."""
    cases = [
        {
            "width": width,
            "height": height,
            "result_width": result_width,
            "result_height": result_height,
            "resize": resize,
            "result": base64.b64encode(
                flat(prepared(draw(width, height), result_width, result_height, resize))
            ).decode(),
        }
        for width, height, result_width, result_height, resize in CASES
    ]
    content = {"picture": FORMULA, "result": "base64 of rows of RGB", "cases": cases}
    PATH.write_text(json.dumps(content, indent=1) + "\n")


def level(x: int, y: int, c: int) -> int:
    """Return a grey level of the picture."""
    return ((37 * x + 101 * y + 71 * c) ^ (x * y)) % 256


def draw(width: int, height: int) -> Picture:
    """Return the picture."""
    return [[[level(x, y, c) for c in range(3)] for x in range(width)] for y in range(height)]


def flat(picture: Picture) -> bytes:
    """Return the bytes of a picture, row by row."""
    return bytes(value for row in picture for pixel in row for value in pixel)


def prepared(picture: Picture, width: int, height: int, resize: str) -> Picture:
    """Return what steps 3 to 6 make of a picture."""
    if resize == "crop":
        picture = _cropped(picture, width, height)
    boxes = _boxes(picture, width, height)
    weights = [_weights(len(picture), height, i) for i in range(height)]
    mixed = [
        [[_mixed(q, boxes, x, c) for c in range(3)] for x in range(len(boxes[0]))] for q in weights
    ]
    weights = [_weights(len(picture[0]), width, i) for i in range(width)]
    return [
        [
            [(sum(q * row[k][c] for k, q in qs.items()) + 2**20) // 2**21 for c in range(3)]
            for qs in weights
        ]
        for row in mixed
    ]


def _cropped(picture: Picture, w: int, h: int) -> Picture:
    height, width = len(picture), len(picture[0])
    across = down = 0
    if width * h > height * w:
        across = min((width * h - height * w + h) // (2 * h), (width - 1) // 2)
    else:
        down = min((height * w - width * h + w) // (2 * w), (height - 1) // 2)
    return [row[across : width - across] for row in picture[down : height - down]]


def _boxes(picture: Picture, width: int, height: int) -> Picture:
    rows = _groups(list(range(len(picture))), height)
    columns = _groups(list(range(len(picture[0]))), width)
    return [[[_average(picture, ys, xs, c) for c in range(3)] for xs in columns] for ys in rows]


def _groups(pixels: list[int], result_size: int) -> list[list[int]]:
    factor = max(1, len(pixels) // result_size)
    return [pixels[start : start + factor] for start in range(0, len(pixels), factor)]


def _average(picture: Picture, ys: list[int], xs: list[int], c: int) -> int:
    total, num = sum(picture[y][x][c] for y in ys for x in xs), len(ys) * len(xs)
    return (256 * total + num) // (2 * num)


def _weights(size: int, result_size: int, i: int) -> dict[int, int]:
    factor = max(1, size // result_size)
    num_boxes, box, reach = -(-size // factor), factor * result_size, 2 * max(size, result_size)
    heights = {k: reach - abs((2 * k + 1) * box - (2 * i + 1) * size) for k in range(num_boxes)}
    heights = {k: height for k, height in heights.items() if height > 0}
    total = sum(heights.values())
    weights = {k: (2**15 * height + total) // (2 * total) for k, height in heights.items()}
    weights[max(heights, key=lambda k: (heights[k], -k))] += 2**14 - sum(weights.values())
    return weights


def _mixed(weights: dict[int, int], boxes: Picture, x: int, c: int) -> int:
    return (sum(q * boxes[k][x][c] for k, q in weights.items()) + 2**13) // 2**14


if __name__ == "__main__":
    main()
