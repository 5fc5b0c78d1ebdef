"""Record what `make demo` reported.

rm -rf build/demo && make demo && python -m benchmarks.demo
"""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.record import Value, write_record
from geofix import RegionPack

DEMO = Path("build/demo")
METHODS = ("image_nn", "mean_prototypes", "prototypes", "aerial", "hybrid", "on_device")
_MEANING = """What `make demo` reports.

The built-in town, {num_photos:,} photos, {num_cells} cells, {num_queries:,} test photos: recall@1
of the nearest training image, class means, learned prototypes, aerial embeddings,
both (hybrid), and the finished pack in the SDK (on_device: {bits}-bit product quantization,
{code_bytes} bytes a cell). *Seen* photos have a training photo within 25 m, *unseen* ones none.

* Hybrid is better than its parts, and about as good as the nearest training image, which keeps an
  embedding for every photo where hybrid keeps one code for every cell. Within 25 m the nearest
  image is ahead: it is not bound to the centres of cells.
* On the device it is as good: what compression costs, the mean of the best cell and its
  neighbours gives back, where the other rows answer with the centre of a cell.
* Where no training photo stands, hybrid finds little: {num_train:,} photos of one town teach what
  its streets look like from above, and next to nothing about streets that no photo shows."""


def main() -> None:
    """Record the report of the demo that ran last."""
    report = json.loads((DEMO / "report.json").read_text())
    if not {"town", "fit"} <= report["seconds"].keys():
        raise SystemExit(
            f"{DEMO}: the last demo went on with an earlier one: remove it, run it anew"
        )
    pack = RegionPack.open(DEMO / "town.geofix")
    quantizer = pack.quantizer()
    values = [
        Value(f"{method}: within 100 m", report["recall_at_m"][method]["100"], "")
        for method in METHODS
    ]
    for name in ("seen", "unseen"):
        for method in ("prototypes", "aerial", "hybrid", "on_device"):
            recall = report["recall_by_slice"][name][method]["100"]
            values.append(Value(f"{name}, {method}: within 100 m", recall, ""))
    values += [
        Value(f"{method}: median error", report["median_error_m"][method], "m")
        for method in METHODS
    ]
    values += [Value(f"{stage} takes", s, "s") for stage, s in report["seconds"].items()]
    values.append(Value("all steps take", round(sum(report["seconds"].values()), 1), "s"))
    values.append(Value("region pack", report["pack_bytes"], "bytes"))
    values += _coverage(pack)
    write_record(
        "demo",
        title="The demo",
        meaning=_MEANING.format(
            **report,
            bits=quantizer.bits,
            code_bytes=quantizer.bytes_per_cell,
            num_train=pack.manifest.provenance["num_training_photos"],
        ),
        values=values,
        command="python -m benchmarks.demo",
    )


def _coverage(pack: RegionPack) -> Iterator[Value]:
    """Return what the pack says of itself, by `geofix pack info`."""
    coverage = pack.coverage
    if coverage.share_photographed is not None:
        yield Value("cells with ground photos", round(coverage.share_photographed, 3), "")
    calibration = pack.manifest.encoders[0].calibration
    for kind, photos in (calibration.validation if calibration else {}).items():
        name = f"validation photos, {kind.replace('_', ' ')}"
        yield Value(f"{name}: photos", photos.num_photos, "")
        yield Value(f"{name}: fixed", photos.share_fixed, "")
        if photos.fixed_within_100m is not None:
            yield Value(f"{name}: of the fixed within 100 m", photos.fixed_within_100m, "")


if __name__ == "__main__":
    main()
