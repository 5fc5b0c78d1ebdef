"""Does a fix of the pack that comes with geofix mean what it says? Its encoder is int8.

    make demo && python -m benchmarks.sdk_shipped build/demo

What the pack says of each test photo is figured as in benchmarks/sdk_large_town.py.
"""

import argparse
from pathlib import Path

from benchmarks.record import write_record
from benchmarks.sdk_large_town import predicted, values_of
from geofix_train.photo_table import read_photo_table

PACK = Path(__file__).parent.parent / "samples" / "town" / "town.geofix"
_MEANING = """Test photos of the demo's town through `samples/town/town.geofix`, the pack of the
README's first command, whose encoder is int8 where that of `make demo`'s pack ("What a fix says
about itself", above) is fp32. Neither was calibrated with these photos. What the README says of
fixes holds for it, too."""


def main() -> None:
    """Predict, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, metavar="DEMO", help="a finished demo")
    arguments = parser.parse_args()
    test = read_photo_table(arguments.demo / "town" / "photos.parquet")[0].of_split("test")
    write_record(
        "trust_shipped",
        title="What a fix says about itself (the pack that comes with geofix)",
        meaning=_MEANING,
        values=list(values_of(list(predicted(PACK, test)))),
        command="python -m benchmarks.sdk_shipped build/demo",
    )


if __name__ == "__main__":
    main()
