"""Region packs: bytes of a download, memory of a build, time to open and to verify.

    python -m benchmarks.region_packs

Cell codes of 256 dimensions in 32 bytes, drawn at random: neither bytes nor times depend on them.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from benchmarks.record import Value, write_record
from geofix.input_spec import InputSpec
from geofix.pack import RegionPack

DIM = 256
SIZES = {"city": 50_000, "region": 1_000_000, "country": 2_000_000}  # cells
LEVEL, AROUND = 16, (47.37, 8.54)
KINDS = ("scan", "usearch")
NUM_OPENED = 20
_BLOCK = 50_000
_MEANING = """Neighbouring cells of S2 level 16, codes of {dim} dimensions in 32 bytes, built by
`build_pack` on {cores} cores with the codes mapped from a file; the encoder is referenced.
*Download*: bytes of the whole file; a codebook of 279 kB is part of each. *Private memory*: at the
peak of the build, what is mapped from files apart. *Open*: until a search could begin, nothing
hashed but the codebook. *Verify*: every hash, every shard opened, on one core, from memory."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    values: list[Value] = []
    with tempfile.TemporaryDirectory() as folder:
        for what, num in SIZES.items():
            codes = _draw_codes(Path(folder) / "codes.npy", num)
            for kind in KINDS:
                pack = Path(folder) / f"{kind}.geofix"
                name = f"{what} of {num:,}, {kind}"
                values += _build(codes, num, pack, kind, name)
                values += _open(pack, name)
    write_record(
        "region_packs",
        title="Region packs",
        meaning=_MEANING.format(dim=DIM, cores=os.cpu_count()),
        values=values,
    )


def _draw_codes(path: Path, num: int) -> Path:
    rng = np.random.default_rng(0)
    codes = np.lib.format.open_memmap(path, "w+", np.float32, (num, DIM))
    for at in range(0, num, _BLOCK):
        codes[at : at + _BLOCK] = rng.standard_normal((min(_BLOCK, num - at), DIM), np.float32)
    codes.flush()
    return path


def _cells(num: int) -> npt.NDArray[np.uint64]:
    """Return `num` neighbouring cells, ascending."""
    middle = s2.cell_from_latlon(*AROUND, level=LEVEL)
    level = LEVEL
    while 4 ** (LEVEL - level) < num:
        level -= 1
    return s2.descendants([s2.parent(middle, level=level)], level=LEVEL)[:num]


def _build(codes: Path, num: int, pack: Path, kind: str, name: str) -> Iterator[Value]:
    with get_context("spawn").Pool(1) as pool:  # a process of its own, whose memory counts alone
        seconds, gib = pool.apply(_build_alone, (codes, num, pack, kind))
    size = pack.stat().st_size
    yield Value(f"{name}: download", round(size / 1e6, 2), "MB")
    yield Value(f"{name}: bytes a cell", round(size / num, 1), "")
    yield Value(f"{name}: build", round(seconds, 1), "s")
    yield Value(f"{name}: private memory", round(gib, 2), "GiB")


def _build_alone(codes: Path, num: int, pack: Path, kind: str) -> tuple[float, float]:
    from geofix_export.build import build_pack
    from geofix_train.artifact import EncoderArtifact

    encoder = EncoderArtifact("onnx", "int8", "encoder.onnx", b"model", DIM, InputSpec(224, 224))
    vectors, cells = np.load(codes, mmap_mode="r"), _cells(num)
    with _PrivateMemory() as memory:
        start = time.perf_counter()
        build_pack(
            pack,
            cells=cells,
            cell_codes=vectors,
            encoders=[encoder],
            embed_encoders=False,
            photographed=np.arange(num) % 2 == 0,
            index=kind,
        )
        seconds = time.perf_counter() - start
    return seconds, memory.peak_bytes / 2**30


class _PrivateMemory:
    """Watches the memory that is no file's."""

    def __enter__(self) -> "_PrivateMemory":
        self.peak_bytes = 0
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            status = Path("/proc/self/status").read_text()
            (line,) = (row for row in status.splitlines() if row.startswith("RssAnon"))
            self.peak_bytes = max(self.peak_bytes, 1024 * int(line.split()[1]))


def _open(pack: Path, name: str) -> Iterator[Value]:
    seconds = []
    for _ in range(NUM_OPENED):
        start = time.perf_counter()
        RegionPack.open(pack).index()
        seconds.append(time.perf_counter() - start)
    yield Value(f"{name}: open", round(1e3 * float(np.median(seconds)), 2), "ms")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        RegionPack.open(pack).verify()
        seconds.append(time.perf_counter() - start)
    rate = pack.stat().st_size / 1e6 / float(np.median(seconds))
    yield Value(f"{name}: verify", round(rate), "MB/s")


if __name__ == "__main__":
    main()
