"""Write packs to one path, one after the other, until somebody kills the process.

    python -m tests.geofix.build_forever OUT

Prints a line when there is one.
"""

import itertools
import sys
from pathlib import Path

from geofix.pack_writer import write_pack
from tests.tiny_pack import make_region


def main() -> None:
    """Write for ever."""
    region, out = make_region(kind="scan"), Path(sys.argv[1])
    for version in itertools.count(1):
        write_pack(
            out,
            pack_id="tiny",
            title="A tiny region",
            quantizer=region.quantizer,
            shards=[files for _, files in region.shards],
            encoders=[region.encoder],
            pack_version=version,
        )
        if version == 1:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        if version % 2 == 0:
            out.unlink()  # so that it is absent, half of the time


if __name__ == "__main__":
    main()
