"""The command `geofix pack`: look into region packs, check, sign and cut them."""

import argparse
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

from geofix import cli_arguments
from geofix.geo import LatLon
from geofix.manifest import EncoderEntry, Manifest
from geofix.pack import RegionPack
from geofix.validation import Validation

_FEW_PHOTOS = 100  # shares of fewer are off by ten points and more


def add_pack(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `pack` and its actions to the commands of `geofix`."""
    text = "Look into a region pack, check it, sign it, or cut a smaller one out of it."
    packs = commands.add_parser("pack", help=text, description=text)
    actions = packs.add_subparsers(required=True, metavar="ACTION")
    text = "Show what a pack holds and covers, and how well it answered validation photos."
    info = actions.add_parser("info", help=text, description=text)
    info.add_argument("pack", type=Path, metavar="PACK")
    info.add_argument("--json", action="store_true", help="print the manifest")
    info.add_argument("--map", type=Path, metavar="OUT.png", help="draw what it covers")
    text = "say what a photo taken there could count on"
    info.add_argument("--at", type=cli_arguments.place, metavar="LAT,LON", help=text)
    info.set_defaults(run_command=_info)
    text = "Check every entry of a pack against its hash, open every shard, check the signature."
    verify = actions.add_parser("verify", help=text, description=text)
    verify.add_argument("pack", type=Path, metavar="PACK")
    add_trust(verify)
    verify.set_defaults(run_command=_verify)
    text = "Show what a later release has that an earlier one lacks: what an updater fetches."
    diff = actions.add_parser("diff", help=text, description=text)
    diff.add_argument("old", type=Path, metavar="OLD")
    diff.add_argument("new", type=Path, metavar="NEW")
    diff.add_argument("--json", action="store_true", help="print entries with their byte ranges")
    diff.set_defaults(run_command=_diff)
    text = "Cut a smaller pack out of a pack; it has to be signed again."
    extract = actions.add_parser("extract", help=text, description=text)
    extract.add_argument("pack", type=Path, metavar="PACK")
    region = extract.add_mutually_exclusive_group(required=True)
    region.add_argument(
        "--prior", type=cli_arguments.disk, metavar="LAT,LON,RADIUS_M", help="keep this disk"
    )
    region.add_argument(
        "--bbox", type=cli_arguments.bbox, metavar="SOUTH,WEST,NORTH,EAST", help="keep this box"
    )
    add_trust(extract)
    extract.add_argument("--pack-id", default="", help="(the old one with what was cut, hashed)")
    extract.add_argument("--title", default="", help="(the old one)")
    extract.add_argument("-o", "--output", type=Path, required=True, metavar="PACK")
    extract.set_defaults(run_command=_extract)
    text = "Make a key to sign packs with: KEY, which stays secret, and KEY.pub, for devices."
    keygen = actions.add_parser("keygen", help=text, description=text)
    keygen.add_argument("-o", "--output", type=Path, required=True, metavar="KEY")
    keygen.set_defaults(run_command=_keygen)
    text = "Sign a pack (Ed25519)."
    sign = actions.add_parser("sign", help=text, description=text)
    sign.add_argument("pack", type=Path, metavar="PACK")
    sign.add_argument("--key", type=Path, required=True, metavar="KEY", help="of `keygen`")
    sign.add_argument("-o", "--output", type=Path, metavar="PACK", help="(the pack itself)")
    sign.set_defaults(run_command=_sign)


def add_trust(command: argparse.ArgumentParser) -> None:
    """Add the options that say which packs to trust."""
    text = "refuse a pack that is not signed with this key"
    command.add_argument("--key", type=Path, metavar="KEY.pub", help=text)
    text = "refuse a pack of an older version"
    command.add_argument("--min-version", type=int, default=0, metavar="N", help=text)
    text = "refuse a pack of another region"
    command.add_argument("--region", default="", metavar="PACK_ID", help=text)


def open_trusted(arguments: argparse.Namespace) -> RegionPack:
    """Open the pack of a command that has the options of `add_trust`."""
    return RegionPack.open(
        arguments.pack,
        public_key=arguments.key,
        min_version=arguments.min_version,
        region=arguments.region,
    )


def _info(arguments: argparse.Namespace) -> int:
    pack = RegionPack.open(arguments.pack)
    if arguments.map is not None:
        from geofix.map_image import draw_coverage

        draw_coverage(arguments.map, pack.coverage)
    if arguments.json and arguments.at is not None:
        raise ValueError("--json prints the manifest, which knows no places: want --at without it")
    if arguments.json:
        print(json.dumps(pack.manifest.to_json(), ensure_ascii=False))
        return 0
    rows = [*_facts(pack), *_coverage_facts(pack)]
    if arguments.map is not None:
        rows.append(("map", str(arguments.map)))
    if arguments.at is not None:
        rows += _facts_at(pack, arguments.at)
    for name, text in rows:
        print(f"{name:<12}{text}")
    return 0


def _facts(pack: RegionPack) -> Iterator[tuple[str, str]]:
    manifest, box = pack.manifest, pack.manifest.bounds
    signed = "yes: `geofix pack verify --key` says by whom" if pack.is_signed else "no"
    shards = len(manifest.shards)
    bytes_per_cell = manifest.num_subspaces * manifest.bits // 8
    yield "pack", f"{manifest.pack_id}, version {manifest.pack_version}"
    yield "title", manifest.title
    license = manifest.license or "no licence stated"
    yield "attribution", f"{manifest.attribution or 'none stated'} ({license})"
    yield "signed", signed
    yield "area", f"{box.south}, {box.west} to {box.north}, {box.east}"
    yield "cells", f"{manifest.num_cells} of S2 level {manifest.cell_level}"
    yield "shards", f"{shards} of kind {manifest.shards[0].kind}"
    yield (
        "cell code",
        f"{manifest.dim} dimensions in {bytes_per_cell} bytes "
        f"({manifest.num_subspaces} x {manifest.bits} bits)",
    )
    for encoder in manifest.encoders:
        yield "encoder", _encoder_text(encoder, manifest)
    yield "size", f"{pack.path.stat().st_size / 1e6:.2f} MB"


def _encoder_text(encoder: EncoderEntry, manifest: Manifest) -> str:
    spec, digest = encoder.input_spec, encoder.referenced
    where = "" if digest is None else f", not in the pack: SHA-256 {digest.sha256}"
    size = (digest or manifest.entries[encoder.entry]).num_bytes
    calibrated = "calibrated" if encoder.calibration else "not calibrated"
    return (
        f"{encoder.target} {encoder.precision}, {spec.width} x {spec.height} px, "
        f"{size / 1e6:.2f} MB, {calibrated}{where}"
    )


def _coverage_facts(pack: RegionPack) -> Iterator[tuple[str, str]]:
    coverage = pack.coverage
    share = coverage.share_photographed
    known = "" if share is None else f", {100 * share:.0f} % with ground photos"
    areas = f"{coverage.cells_km2:.3g} of the {coverage.area_km2:.3g} km2 of the outline"
    yield "coverage", f"cells on {areas}{known}"
    if coverage.expected is not None:
        yield "expected", _expected_text(coverage.expected)
    elif "extracted" in pack.manifest.provenance:
        yield "expected", "not known: the pack is cut out of another, which may know"
    else:
        yield "expected", "not known: no validation photos came with the pack"


def _facts_at(pack: RegionPack, place: LatLon) -> Iterator[tuple[str, str]]:
    here = pack.coverage.around(place.lat, place.lon)
    own = {
        True: "a cell with ground photos",
        False: "a cell known from above alone",
        None: "a cell",
    }
    lost = "no cell: a photo taken here has no right answer"
    if abs(place.lon) <= 90 and pack.coverage.contains(place.lon, place.lat):
        lost += " (are lat and lon swapped?)"
    covered = own[here.photographed] if here.contains else lost
    share = here.share_photographed
    known = "" if share is None else f", {100 * share:.0f} % with ground photos"
    yield "here", f"{covered}; {here.num_cells} cells within 500 m{known}"
    if here.expected is not None:
        yield "", f"in such cells {_expected_text(here.expected)}"


def _expected_text(expected: Validation) -> str:
    precision = expected.fixed_within_100m
    of_these = "" if precision is None else f" ({100 * precision:.0f} % of these within 100 m)"
    return (
        f"{100 * expected.share_fixed:.0f} % of photos fixed{of_these}, median error "
        f"{expected.median_error_m:.0f} m, by {expected.num_photos} validation photos"
        f"{' (few)' if expected.num_photos < _FEW_PHOTOS else ''}"
    )


def _verify(arguments: argparse.Namespace) -> int:
    pack = open_trusted(arguments)
    signed = "signed, but by whom was not checked: no --key" if pack.is_signed else "not signed"
    if arguments.key:
        signed = "signed with this key"
    print(f"{arguments.pack}: {pack.verify()} entries, all as they should be; {signed}")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    old, new = RegionPack.open(arguments.old), RegionPack.open(arguments.new)
    ranges = {name: new.byte_range(name) for name in new.entries_not_in(old)}
    if arguments.json:
        print(json.dumps({name: list(found) for name, found in ranges.items()}))
        return 0
    for name, (start, stop) in ranges.items():
        print(f"{stop - start:>12} bytes at {start:>12}  {name}")
    num_bytes = sum(stop - start for start, stop in ranges.values())
    share = num_bytes / arguments.new.stat().st_size
    print(f"{num_bytes} bytes of {len(ranges)} entries, {100 * share:.1f} % of the file")
    return 0


def _extract(arguments: argparse.Namespace) -> int:
    from geofix.extract import extract_pack

    manifest = extract_pack(
        open_trusted(arguments),
        arguments.output,
        arguments.prior or arguments.bbox,
        pack_id=arguments.pack_id,
        title=arguments.title,
    )
    size = arguments.output.stat().st_size / 1e6
    print(
        f"{arguments.output}: {manifest.pack_id}, version {manifest.pack_version}, "
        f"{manifest.num_cells} cells, {size:.2f} MB, not signed"
    )
    return 0


def _keygen(arguments: argparse.Namespace) -> int:
    from geofix.signing import generate_key

    secret, public = arguments.output, Path(f"{arguments.output}.pub")
    private_pem, public_pem = generate_key()
    for path in (secret, public):
        if path.exists():
            said = "there is one already, and keys are not replaced"
            raise FileExistsError(errno.EEXIST, said, str(path))
    secret.parent.mkdir(parents=True, exist_ok=True)
    for path, pem, mode in ((secret, private_pem, 0o600), (public, public_pem, 0o644)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(pem)
    print(f"{secret}: keep it secret; {public}: give it to devices")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from geofix.pack_writer import sign_pack

    sign_pack(arguments.pack, arguments.key, out=arguments.output)
    print(f"{arguments.output or arguments.pack}: signed")
    return 0
