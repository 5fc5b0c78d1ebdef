"""Build region packs from geotagged photos and a pretrained encoder, without training; test them.

    python samples/real_photos.py PHOTOS.csv ENCODER.onnx OUT --input-spec SPEC.json

The photos of one place (or of one value of the column `--group`) are left out, a pack is built from
all others, and the left-out photos are localized with it; so for each place. Leaves report.json,
`answers.png` (ten photos and where they were put) and the last pack in OUT.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from geofix import Fix, GeofixError, InputSpec, LatLon, Localizer
from geofix.images import load_image
from geofix.map_image import bounds_around, draw_map
from geofix_export import build_pack
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.bootstrap import Bootstrap
from geofix_train.photo_table import PhotoTable, read_photo_table
from geofix_train.privacy import private_photo
from geofix_train.training_free import EncodedPhotos, encode_photos, training_free_codes

DISTANCES_M = (25, 50, 100, 200, 500)
NUM_SHOWN = 10
PLACE_LEVEL = 19  # cells of 18 m
NUM_RESAMPLES = 2000  # of the groups, for the intervals


@dataclass(frozen=True)
class Answers:
    """The left-out photos and what came of them."""

    table: PhotoTable
    groups: npt.NDArray[np.str_]  # (Q,)
    fixes: list[Fix]

    @property
    def error_m(self) -> npt.NDArray[np.float64]:
        """Distance of each fix from the truth."""
        lat, lon = np.array([(fix.latlon.lat, fix.latlon.lon) for fix in self.fixes]).T
        return great_circle_m(self.table.lat, self.table.lon, lat, lon)

    @property
    def ceiling_m(self) -> npt.NDArray[np.float64]:
        """Distance from each photo to the nearest one of another group: no answer can be nearer."""
        gap = great_circle_m(
            self.table.lat[:, None], self.table.lon[:, None], self.table.lat, self.table.lon
        )
        gap[self.groups[:, None] == self.groups] = np.inf
        return np.asarray(gap.min(axis=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (ValueError, OSError, GeofixError) as e:
        print(f"real_photos: {e}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    table, _ = read_photo_table(arguments.photos)
    _groups(table, arguments.group)
    photos = encode_photos(arguments.encoder, table, input_spec=_read_spec(arguments.input_spec))
    out.mkdir(parents=True, exist_ok=True)
    answers = leave_one_out(
        photos, out / "photos.geofix", level=arguments.level, group=arguments.group
    )
    report = summarize(answers, level=arguments.level)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    draw_answers(answers, out / "answers.png")
    print(json.dumps(report, indent=2))


def leave_one_out(photos: EncodedPhotos, pack: Path, *, level: int, group: str) -> Answers:
    """Localize every photo with a pack that holds no photo of its group."""
    table = photos.table
    groups = _groups(table, group)
    fixes: dict[int, Fix] = {}
    for name in tqdm(np.unique(groups), desc="packs", disable=None):
        is_query = groups == name
        made = training_free_codes(photos[~is_query], level=level)
        build_pack(
            pack,
            cells=made.codes.cells,
            cell_codes=made.codes.cell_codes,
            encoders=[made.encoder],
            queries=made.queries,
            photographed=made.codes.photographed,
        )
        with Localizer.open(pack) as localizer:
            for row in np.flatnonzero(is_query):
                photo = private_photo(table, int(row), find_boxes=None)
                fixes[int(row)] = localizer.localize(photo)
    return Answers(table, groups, [fixes[row] for row in range(len(table))])


def _groups(table: PhotoTable, column: str) -> npt.NDArray[np.str_]:
    """Return which photos are left out together: those of one value, or of one place."""
    if column == "":
        return s2.cell_from_latlon(table.lat, table.lon, level=PLACE_LEVEL).astype(str)
    if column not in table.columns:
        known = ", ".join(table.columns)
        raise ValueError(f"--group {column}: no such column; the table has {known}")
    groups = table.columns[column].astype(str)
    if len(np.unique(groups)) < 2:
        raise ValueError(
            f"--group {column}: all photos have {str(groups[0])!r}, want two values or more"
        )
    return groups


def summarize(answers: Answers, *, level: int) -> dict[str, object]:
    """Return recalls with 95 % intervals (bootstrap over groups), and the ceiling."""
    draws = Bootstrap.of_sequences(answers.groups, num_resamples=NUM_RESAMPLES)
    hits = answers.error_m[:, None] <= np.array(DISTANCES_M)
    intervals = draws.of_shares(hits).round(4).tolist()
    return {
        "num_photos": len(answers.table),
        "num_groups": len(np.unique(answers.groups)),
        "cell_level": level,
        "recall_at_m": {
            str(d): {
                "recall": round(float((answers.error_m <= d).mean()), 4),
                "interval95": interval,
                "ceiling": round(float((answers.ceiling_m <= d).mean()), 4),
            }
            for d, interval in zip(DISTANCES_M, intervals, strict=True)
        },
        "median_error_m": round(float(np.median(answers.error_m)), 1),
        "status": {
            status: [fix.status for fix in answers.fixes].count(status)
            for status in ("fixed", "ambiguous", "unknown")
        },
    }


def draw_answers(answers: Answers, out: Path) -> None:
    """Draw ten photos beside a map with their true places and their fixes."""
    rows = np.linspace(0, len(answers.table) - 1, NUM_SHOWN).astype(int)
    fixes = [answers.fixes[row] for row in rows]
    truths = [LatLon(answers.table.lat[row], answers.table.lon[row]) for row in rows]
    labels = [str(number + 1) for number in range(len(rows))]
    bounds = bounds_around([*truths, *(fix.latlon for fix in fixes)], margin_m=800)
    draw_map(out, bounds=bounds, fixes=fixes, truths=truths, labels=labels)
    with Image.open(out) as picture:
        drawn = picture.convert("RGB")
    side, gap = 200, 10
    sheet = Image.new("RGB", (drawn.width + 2 * (side + gap), max(drawn.height, 5 * 240)), "white")
    sheet.paste(drawn, (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, row in enumerate(rows):
        at = drawn.width + gap + number % 2 * (side + gap), number // 2 * 240
        seen = load_image(private_photo(answers.table, int(row), find_boxes=None))
        photo = Image.fromarray(seen).resize((side, side))
        sheet.paste(photo, at)
        text = f"{number + 1}: {answers.error_m[row]:.0f} m, {fixes[number].status}"
        draw.text((at[0], at[1] + side + 4), text, fill="black", font=font)
    sheet.save(out)


def _read_spec(path: Path | None) -> InputSpec | None:
    return None if path is None else InputSpec.from_json(json.loads(path.read_text()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Build and test a training-free region pack.")
    parser.add_argument("photos", type=Path, help="a photo table, CSV or Parquet")
    parser.add_argument("encoder", type=Path, help="a pretrained ONNX model")
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--input-spec", type=Path, help="JSON: what the encoder takes")
    parser.add_argument("--level", type=int, default=16, help="S2 level of the cells (16)")
    parser.add_argument(
        "--group", default="", metavar="COLUMN", help="of what is left out together (the place)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
