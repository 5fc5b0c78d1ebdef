"""What does it cost to bring a picture to an encoder's size, and what does a shorter way change?

    python -m benchmarks.images PACK

Writes two records. Ways take turns on each picture, so that a busy machine slows all of them.
Pictures are views of the built-in town, drawn large.
"""

import argparse
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.record import Value, write_record
from geofix import Localizer
from geofix.images import fit_image, load_image, load_photo
from geofix.input_spec import InputSpec
from geofix.resample import resample, resampler
from geofix_train.town.drives import Shot, plan_drives
from geofix_train.town.light import SEASONS, light_at
from geofix_train.town.raster import Warp, World, paint, streets_around
from geofix_train.town.street_view import Camera, render_photo

Pixels = npt.NDArray[np.uint8]
Ways = dict[str, Callable[[], object]]

SIZES = {"1080p": ((1920, 1080), 16), "12 MP": ((4000, 3000), 4)}  # and views, slow to draw
TARGETS = ((128, 96), (224, 224))
NUM_ROUNDS = 40
QUALITY = 90  # of JPEGs, colours at half resolution, as cameras write them
_SEED, _SIZE_M, _SIGHT_M = 1, 800.0, 300.0  # the demo's town, without its edges
_MEANING = """An array to what an encoder takes, stretched. *Kernel*: `geofix.resample` in C
({by}). *NumPy*: its twin, byte-equal, where there is no compiler. *Pillow, reduce*: `reduce`
by whole factors, then bilinear `resize`, what geofix did before. *Pillow, resize*: antialiased
bilinear `resize` alone. Pillow wants RGB in one piece, so a BGR frame is copied first. Medians
of {rounds}, ways in turn (so the frame is in no cache), one thread, on cores that other work
shares."""
_JPEG_MEANING = """JPEGs (quality {quality}, colours at half resolution) of views of the
demo's town, {views}. *Reduced*: decoded at 1/8, 1/4 or 1/2 where docs/pack_spec.md (3.1) lets
it; *whole*: at full size. *Moved*: by how many grey levels the encoder's input differs between
both: the mean, the most of the 99 % of values that differ least, and the most of all, at sharp
edges. It is the width of the triangle that differs, which is what whole factors leave:
reductions that keep four times the result's side instead of twice move as much. *Cosine*: of
the embeddings of both, by the encoder of the demo's pack (128 x 96, crop). *Same cell*: share
of the views whose best cell in that pack stays the same. Medians of {rounds}, stages in turn,
one thread, on cores that other work shares."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path, metavar="PACK")
    arguments = parser.parse_args()
    views = {name: draw_views(size, num) for name, (size, num) in SIZES.items()}
    write_record(
        "images",
        title="Images: to an encoder's size",
        meaning=_MEANING.format(by=resampler(), rounds=NUM_ROUNDS),
        values=[
            Value(f"{name} {encoding} to {width} x {height}: {way}", round(ms, 2), "ms")
            for name, pictures in views.items()
            for width, height in TARGETS
            for encoding in ("rgb8", "bgr8", "mono8")
            for way, ms in medians_ms(
                resize_ways(pictures[0], encoding, width, height), NUM_ROUNDS
            ).items()
        ],
        command="python -m benchmarks.images build/demo/town.geofix",
    )
    with Localizer.open(arguments.pack, num_threads=1) as localizer:
        values = [v for name, pics in views.items() for v in jpeg_values(name, pics, localizer)]
    write_record(
        "images_jpeg",
        title="Images: JPEGs, whole and reduced",
        meaning=_JPEG_MEANING.format(quality=QUALITY, rounds=NUM_ROUNDS, views=_views_in_words()),
        values=values,
        command="python -m benchmarks.images build/demo/town.geofix",
    )


def _views_in_words() -> str:
    return " and ".join(f"{num} of {name}" for name, (_, num) in SIZES.items())


def draw_views(size: tuple[int, int], num: int) -> list[Pixels]:
    """Return views of a town as its cameras would take them at another size."""
    half_m, warp = _SIZE_M / 2, Warp.from_seed(_SEED)
    streets = streets_around(_SEED, warp, x0=-half_m, y0=-half_m, x1=half_m, y1=half_m)
    shots = plan_drives(
        streets, warp, size_m=_SIZE_M, num_photos=40 * num, seed=_SEED, photographed=1.0
    )
    reach = half_m + _SIGHT_M
    world = paint(_SEED, x0=-reach, y0=-reach, x1=reach, y1=reach)
    inside = [shot for shot in shots if max(abs(shot.x), abs(shot.y)) < half_m]
    return [_view(world, shot, size) for shot in inside[:: len(inside) // num][:num]]


def _view(world: World, shot: Shot, size: tuple[int, int]) -> Pixels:
    angle, focal_px = math.radians(shot.heading_deg), size[0] / 2 / math.tan(math.radians(35))
    looking = math.sin(angle), math.cos(angle)
    camera = Camera(shot.x, shot.y, shot.height_m, looking, focal_px, *size)
    light = light_at(shot.light, shot.hour)
    return render_photo(world, camera, season=SEASONS[shot.season], light=light, seed=shot.seed)


def resize_ways(picture: Pixels, encoding: str, width: int, height: int) -> Ways:
    """Return ways to bring a frame of an encoding to a size, by name."""
    frame = {
        "rgb8": picture, "bgr8": np.ascontiguousarray(picture[:, :, ::-1]),
        "mono8": np.ascontiguousarray(picture[:, :, 1]),
    }[encoding]  # fmt: skip
    factors = picture.shape[1] // width, picture.shape[0] // height

    def to_pillow() -> Image.Image:
        is_bgr = encoding == "bgr8"
        return Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]) if is_bgr else frame)

    def ours(use_kernel: bool) -> Pixels:
        seen = load_image(frame, encoding=encoding)
        return resample(seen, width=width, height=height, use_kernel=use_kernel)

    def reduced() -> Pixels:
        box = (0.0, 0.0, picture.shape[1] / factors[0], picture.shape[0] / factors[1])
        picture_small = to_pillow().reduce(factors)
        return _rgb(picture_small.resize((width, height), Image.Resampling.BILINEAR, box=box))

    def resized() -> Pixels:
        return _rgb(to_pillow().resize((width, height), Image.Resampling.BILINEAR))

    return {
        "kernel": lambda: ours(True), "NumPy": lambda: ours(False),
        "Pillow, reduce": reduced, "Pillow, resize": resized,
    }  # fmt: skip


def _rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def medians_ms(ways: Ways, num_rounds: int) -> dict[str, float]:
    """Return what each way takes; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * float(np.median(times)) for name, times in seconds.items()}


def jpeg_values(name: str, pictures: list[Pixels], localizer: Localizer) -> list[Value]:
    """Return what JPEGs of pictures cost by stage, and what reduced decoding changes."""
    files = [jpeg(picture) for picture in pictures]
    values = []
    for width, height in TARGETS:
        spec = InputSpec(width, height, resize="crop")
        head = f"{name} JPEG to {width} x {height}"
        values += [
            Value(f"{head}: {way}", round(ms, 2), "ms")
            for way, ms in medians_ms(jpeg_ways(files[0], spec), NUM_ROUNDS).items()
        ]
        inputs = [(fit_image(load_image(f), spec), _prepared(f, spec)) for f in files]
        moved = np.array([np.abs(a.astype(int) - b) for a, b in inputs])
        quantile = float(np.quantile(moved, 0.99))
        values.append(Value(f"{head}: moved, mean", round(float(moved.mean()), 2), "levels"))
        values.append(Value(f"{head}: moved, 99 %", round(quantile, 1), "levels"))
        values.append(Value(f"{head}: moved, most", int(moved.max()), "levels"))
        if (width, height) == TARGETS[0]:
            values += embedding_values(head, inputs, localizer)
    return values


def jpeg_ways(data: bytes, spec: InputSpec) -> Ways:
    """Return the stages of a JPEG on its way to an encoder, whole and reduced, by name."""
    whole, small = load_image(data), load_photo(data, target=spec).pixels
    return {
        "decode whole": lambda: load_image(data),
        "decode reduced": lambda: load_photo(data, target=spec),
        "resize whole": lambda: fit_image(whole, spec),
        "resize reduced": lambda: fit_image(small, spec),
    }


def embedding_values(
    head: str, inputs: list[tuple[Pixels, Pixels]], localizer: Localizer
) -> list[Value]:
    """Return how embeddings and answers differ between two inputs of each photo."""
    whole, reduced = (localizer.embed(list(side)) for side in zip(*inputs, strict=True))
    cosines = (whole * reduced).sum(axis=1)
    same = [
        localizer.search(a).candidates[0].cell == localizer.search(b).candidates[0].cell
        for a, b in zip(whole, reduced, strict=True)
    ]
    return [
        Value(f"{head}: cosine, mean", round(float(cosines.mean()), 4), ""),
        Value(f"{head}: cosine, lowest", round(float(cosines.min()), 4), ""),
        Value(f"{head}: same cell", round(100 * float(np.mean(same)), 1), "%"),
    ]


def jpeg(picture: Pixels) -> bytes:
    """Return a picture's JPEG file."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _prepared(data: bytes, spec: InputSpec) -> Pixels:
    return fit_image(load_photo(data, target=spec).pixels, spec)


if __name__ == "__main__":
    main()
