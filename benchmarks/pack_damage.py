"""Damage region packs in thousands of ways; count what is refused, accepted, or crashes.

    python -m benchmarks.pack_damage --num 10000

Packs of both kinds, with an encoder, unsigned and signed, are damaged by chance (flipped bits, lost
and doubled pieces) and by design (headers that disagree, entries that are swapped, doubled, renamed
or not listed, sizes that lie, ZIP bombs, contents changed together with their hashes). Each is
opened, checked whole and searched, many in a process. The same number gives the same damage.
"""

import argparse
import io
import os
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.killed_builds import NUM_KILLED, kill_builds
from benchmarks.record import Value, write_record
from geofix.errors import PackError
from geofix.pack import RegionPack
from geofix.zip_layout import Layout, lay_out, read_entries
from tests.geofix.forgery import Contents, pack_bytes, with_entry

IN_A_PROCESS = 250
_END_BYTES, _DIRECTORY_HEADER, _LOCAL_HEADER = 22, 46, 30
_MEANING = """{num:,} damaged packs of both kinds of shards, with an encoder. *By chance*: flipped
bits, overwritten, lost, doubled and swapped pieces. *By design*: headers, sizes, names and entries
that a writer would not write, ZIP bombs, and contents changed together with their hashes; the last
only in signed packs, since without a signature they are another author's pack. Each was opened,
checked whole (`geofix pack verify`) and searched, {in_a_process} in a process. *Names the entry*:
of the damage to an entry or its headers, the share whose error names it or the one before. *Killed
builds*: by signal 9, at random moments."""

# Gives the damaged pack, and the entry that it hit, or the two, between blanks.
Damage = Callable[["Victim", np.random.Generator], tuple[bytes, str]]


@dataclass(frozen=True)
class Victim:
    """A pack that is damaged."""

    name: str
    data: bytes
    contents: Contents
    layout: Layout
    public_key: bytes | None  # of a signed one

    @classmethod
    def read(cls, path: Path, public_key: bytes | None) -> "Victim":
        """Read a pack and take it apart."""
        data = path.read_bytes()
        found = read_entries(memoryview(data))
        contents = {e.name: data[start : start + e.num_bytes] for e, start in found}
        return cls(path.name, data, contents, lay_out([e for e, _ in found]), public_key)


@dataclass(frozen=True)
class Outcome:
    """What came of a damaged pack."""

    victim: str
    damage: str
    by_design: bool
    refused: bool
    names_entry: bool | None  # None: it hit no entry in particular
    said: str


def main() -> None:
    """Damage, count, record; exit with an error where a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=10_000, help="of damaged packs (10,000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, crashes = damage_packs(make_victims(Path(folder)), arguments.num)
        num_whole, num_broken = kill_builds(Path(folder) / "tiny.geofix", NUM_KILLED)
    write_record(
        "pack_damage",
        title="Damaged packs",
        meaning=_MEANING.format(num=arguments.num, in_a_process=IN_A_PROCESS),
        values=[
            *_sum_up(outcomes, crashes),
            Value("killed builds", NUM_KILLED, ""),
            Value("killed builds: left a whole pack", num_whole, ""),
            Value("killed builds: left a broken pack", num_broken, ""),
        ],
        command=f"python -m benchmarks.pack_damage --num {arguments.num}",
    )
    bad = faults(outcomes, crashes) + ["a killed build left a broken pack"] * num_broken
    if bad:
        raise SystemExit("\n".join(bad))


def make_victims(folder: Path) -> list[tuple[Path, bytes | None]]:
    """Write the packs that are damaged: each kind of shards, unsigned and signed."""
    from geofix.pack_writer import PackText, PackWriter, sign_pack
    from geofix.signing import generate_key
    from tests.tiny_pack import make_region

    private, public = generate_key()
    victims: list[tuple[Path, bytes | None]] = []
    for kind in ("usearch", "scan"):
        region = make_region(kind=kind)
        for key in (None, public):
            path = folder / f"{kind}-{'unsigned' if key is None else 'signed'}.geofix"
            with PackWriter(path, region.quantizer) as writer:
                for _, files in region.shards:
                    num_cells = (len(files.cells) - 40) // 2
                    writer.add_shard(files, photographed=np.arange(num_cells) % 2 == 0)
                writer.finish(PackText("tiny", "Tiny"), encoders=[region.encoder])
            if key is not None:
                sign_pack(path, private)
            victims.append((path, key))
    return victims


def damage_packs(
    victims: list[tuple[Path, bytes | None]], num: int, *, num_processes: int | None = None
) -> tuple[list[Outcome], list[str]]:
    """Return what came of `num` damaged packs, and of each crash which ones it was among."""
    outcomes: list[Outcome] = []
    crashes: list[str] = []
    for start in range(0, num, IN_A_PROCESS * (num_processes or os.cpu_count() or 1)):
        stop = min(num, start + IN_A_PROCESS * (num_processes or os.cpu_count() or 1))
        parts = [range(at, min(at + IN_A_PROCESS, stop)) for at in range(start, stop, IN_A_PROCESS)]
        with ProcessPoolExecutor(len(parts)) as pool:  # new processes: a crash ends all of a pool
            running = [pool.submit(damage_some, victims, part) for part in parts]
            for part, future in zip(parts, running, strict=True):
                try:
                    outcomes += future.result()
                except BrokenProcessPool:
                    crashes.append(f"a process died among numbers {part.start} to {part.stop}")
    return outcomes, crashes


def faults(outcomes: list[Outcome], crashes: list[str]) -> list[str]:
    """Return a sentence for whatever should not be."""
    accepted = [f"{o.victim}: accepted after {o.damage}" for o in outcomes if not o.refused]
    unnamed = [
        f"{o.victim}: {o.damage} is refused without the entry's name: {o.said}"
        for o in outcomes
        if o.refused and o.names_entry is False
    ]
    return [*crashes, *accepted, *unnamed]


def _sum_up(outcomes: list[Outcome], crashes: list[str]) -> Iterator[Value]:
    yield Value("crashes", len(crashes), "")
    for by_design, what in ((False, "by chance"), (True, "by design")):
        own = [o for o in outcomes if o.by_design == by_design]
        yield Value(f"{what}: packs", len(own), "")
        yield Value(f"{what}: accepted", sum(not o.refused for o in own), "")
        named = [bool(o.names_entry) for o in own if o.names_entry is not None]
        yield Value(f"{what}: names the entry", round(float(np.mean(named)), 4), "")
    for damage, num in sorted(Counter(o.damage for o in outcomes).items()):
        yield Value(f"{damage}: packs", num, "")


def damage_some(victims: list[tuple[Path, bytes | None]], numbers: range) -> list[Outcome]:
    """Return what came of the damaged packs with these numbers, all in this process."""
    read = [Victim.read(*victim) for victim in victims]
    return [_damage_one(read[number % len(read)], number) for number in numbers]


def _damage_one(victim: Victim, number: int) -> Outcome:
    rng = np.random.default_rng(number)
    by_design = bool(rng.integers(2))
    kinds = [*BY_DESIGN, *(FORGED if victim.public_key else ())] if by_design else BY_CHANCE
    damage = kinds[int(rng.integers(len(kinds)))]
    data, hit = damage(victim, rng)
    while data == victim.data:  # a piece may have been what it was replaced by
        data, hit = damage(victim, rng)
    name = damage.__name__.strip("_").replace("_", " ")
    try:
        _use(data, victim.public_key)
    except PackError as e:
        # A damaged header may cut the name that the error gives.
        named = any(name.split(".")[0] in str(e) for name in hit.split()) if hit else None
        return Outcome(victim.name, name, by_design, True, named, str(e))
    return Outcome(victim.name, name, by_design, False, None, "")


def _use(data: bytes, public_key: bytes | None) -> None:
    """Open a pack, check it whole, and search it."""
    pack = RegionPack(Path("damaged.geofix"), memoryview(data), public_key=public_key)
    pack.verify()
    pack.index().search(np.ones(pack.manifest.dim, np.float32), k=3)


def _one_of(values: Any, rng: np.random.Generator) -> Any:
    return list(values)[int(rng.integers(len(list(values))))]


def _piece(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Return where a piece of up to some sectors begins and ends."""
    length = int(rng.integers(1, min(2048, len(data))))
    start = int(rng.integers(len(data) - length))
    return start, start + length


def _start_of(victim: Victim, name: str) -> int:
    return victim.layout.starts[list(victim.contents).index(name)]


def _flipped_bit(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """In the data of an entry, each of which is as likely."""
    name = _one_of(victim.contents, rng)
    at = _start_of(victim, name) + int(rng.integers(len(victim.contents[name])))
    data = bytearray(victim.data)
    data[at] ^= 1 << int(rng.integers(8))
    return bytes(data), name


def _flipped_bit_of_a_header(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """Anywhere outside the entries' data."""
    is_data = np.zeros(len(victim.data), bool)
    for start, content in zip(victim.layout.starts, victim.contents.values(), strict=True):
        is_data[start : start + len(content)] = True
    data = bytearray(victim.data)
    data[int(rng.choice(np.flatnonzero(~is_data)))] ^= 1 << int(rng.integers(8))
    return bytes(data), ""


def _overwritten_piece(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    start, stop = _piece(victim.data, rng)
    fill = rng.bytes(stop - start) if rng.integers(2) else bytes(stop - start)
    return victim.data[:start] + fill + victim.data[stop:], ""


def _cut_off(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    return victim.data[: int(rng.integers(len(victim.data)))], ""


def _lost_piece(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    start, stop = _piece(victim.data, rng)
    return victim.data[:start] + victim.data[stop:], ""


def _doubled_piece(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    start, stop = _piece(victim.data, rng)
    return victim.data[:stop] + victim.data[start:], ""


def _swapped_pieces(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    size = int(rng.integers(1, 1024))
    a, b = sorted(rng.integers(0, len(victim.data) - size, 2).tolist())
    b = max(b, min(a + size, len(victim.data) - size))
    data = bytearray(victim.data)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data), ""


def _swapped_contents(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """Under headers that fit."""
    first, second = rng.choice(list(victim.contents)[2:], 2, replace=False).tolist()
    swapped = {first: victim.contents[second], second: victim.contents[first]}
    return pack_bytes((victim.contents | swapped).items()), f"{first} {second}"


def _reordered_entries(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    names = list(victim.contents)
    rng.shuffle(names)
    return pack_bytes((name, victim.contents[name]) for name in names), ""


def _doubled_entry(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    name = _one_of(victim.contents, rng)
    items = [*victim.contents.items(), ("x" * len(name), victim.contents[name])]
    return pack_bytes(items).replace(b"x" * len(name), name.encode()), name


def _unlisted_entry(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    items = list(victim.contents.items())
    items.insert(int(rng.integers(3, len(items) + 1)), ("extra/readme.txt", rng.bytes(9)))
    return pack_bytes(items), "extra/readme.txt"


def _missing_entry(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    gone = _one_of([name for name in victim.contents if name != "manifest.sig"], rng)
    named = "manifest" if gone.startswith("manifest") else gone
    return pack_bytes(item for item in victim.contents.items() if item[0] != gone), named


def _renamed_entry(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """To what would leave the folder of whoever extracts it, or be hidden there."""
    name = _one_of(victim.contents, rng)
    start = _one_of(("../", "/", "./", "a\\", "C:", "~/", ".", "a//", "\0"), rng)
    other = (start + name)[: len(name)].encode()
    return victim.data.replace(name.encode(), other), ""


def _wrong_field_of_a_header(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """In a local header, in the directory, or in what ends the file."""
    names = ["beginning", *victim.contents]  # of the directory; then what a reader may name
    number = int(rng.integers(len(victim.contents)))
    local_at, record_at = _local_at(victim, number), _record_at(victim, number)
    end_at = len(victim.data) - _END_BYTES
    start, length, hit = _one_of(
        (
            (local_at, _LOCAL_HEADER, names[number + 1]),
            (record_at, _DIRECTORY_HEADER, f"{names[number]} {names[number + 1]}"),
            (end_at, _END_BYTES, "directory end"),
        ),
        rng,
    )
    at = int(rng.integers(start, start + length - 1))
    value = _one_of((b"\0\0", b"\xff\xff", rng.bytes(2)), rng)
    return victim.data[:at] + value + victim.data[at + 2 :], hit


def _lying_size(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """An entry of up to 4 GB, with headers that agree."""
    number = int(rng.integers(len(victim.contents)))
    claim = struct.pack("<I", int(2 ** rng.uniform(0, 32)) - 1) * 2
    data = bytearray(victim.data)
    for at in (_local_at(victim, number) + 18, _record_at(victim, number) + 20):
        data[at : at + 8] = claim
    return bytes(data), list(victim.contents)[number]


def _local_at(victim: Victim, number: int) -> int:
    """Return where an entry's own header begins."""
    return victim.layout.starts[number] - len(victim.layout.headers[number])


def _record_at(victim: Victim, number: int) -> int:
    """Return where an entry's record in the directory begins."""
    directory_at = len(victim.data) - len(victim.layout.tail)
    return directory_at + sum(map(len, victim.layout.directory[:number]))


def _bomb(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """Entries that another tool compressed, one of them a megabyte of zeros."""
    name = _one_of(list(victim.contents)[1:], rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        for other, content in victim.contents.items():
            bomb.writestr(other, bytes(1 << 20) if other == name else content)
    return file.getvalue(), ""


def _unaligned(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """The same entries stored by another tool, some with an extra field or a comment."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as other:
        for name, content in victim.contents.items():
            info = zipfile.ZipInfo(name)
            if rng.integers(2):
                info.extra = struct.pack("<HH", 0xCAFE, 4) + rng.bytes(4)
            other.writestr(info, content)
    return file.getvalue(), ""


def _forged_content(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    """Of an entry, with its hash: only a signature tells."""
    name = _one_of(list(victim.contents)[3:], rng)
    content = bytearray(victim.contents[name])
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return with_entry(victim.contents, name, bytes(content)), "manifest.sig"


def _removed_signature(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    items = victim.contents.items()
    return pack_bytes(item for item in items if item[0] != "manifest.sig"), ""


def _forged_signature(victim: Victim, rng: np.random.Generator) -> tuple[bytes, str]:
    signature = bytearray(victim.contents["manifest.sig"])
    signature[int(rng.integers(len(signature)))] ^= 1 << int(rng.integers(8))
    return pack_bytes(
        (victim.contents | {"manifest.sig": bytes(signature)}).items()
    ), "manifest.sig"


BY_CHANCE: tuple[Damage, ...] = (
    _flipped_bit, _flipped_bit_of_a_header, _overwritten_piece, _cut_off, _lost_piece,
    _doubled_piece, _swapped_pieces,
)  # fmt: skip
BY_DESIGN: tuple[Damage, ...] = (
    _swapped_contents, _reordered_entries, _doubled_entry, _unlisted_entry, _missing_entry,
    _renamed_entry, _wrong_field_of_a_header, _lying_size, _bomb, _unaligned,
)  # fmt: skip
FORGED: tuple[Damage, ...] = (_forged_content, _removed_signature, _forged_signature)


if __name__ == "__main__":
    main()
