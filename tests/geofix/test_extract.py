from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from geofix import Coverage, Localizer, Prior, PriorOutsidePack
from geofix.extract import extract_pack
from geofix.manifest import Manifest
from geofix.pack import RegionPack
from geofix.pack_writer import PackText, PackWriter
from geofix_index import cells as s2
from tests.geofix.forgery import read_contents, with_manifest
from tests.tiny_pack import KIND, TinyRegion, make_region


@pytest.fixture(scope="module", params=sorted({"scan", KIND}))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RegionPack:
    """Return a pack of each kind, which says which cells are photographed."""
    region = make_region(kind=request.param)
    path = tmp_path_factory.mktemp("packs") / "whole.geofix"
    with PackWriter(path, region.quantizer) as writer:
        for parent, files in region.shards:
            own = region.cells[s2.parent(region.cells, level=10) == parent]
            writer.add_shard(files, photographed=np.arange(len(own)) % 3 == 0)
        writer.finish(PackText("whole", "Whole", "A. Mapper", "CC0-1.0", 7),
                      encoders=[region.encoder], provenance={"run": "x"})  # fmt: skip
    return RegionPack.open(path)


@pytest.fixture(scope="module")
def prior(region: TinyRegion) -> Prior:
    """Return a disk that cuts through shards."""
    lat, lon = s2.latlon_from_cell(region.cells[len(region.cells) // 2]).tolist()
    return Prior.disk(lat, lon, radius_m=600)


def photographed_cells(coverage: Coverage) -> set[int]:
    mask = coverage.photographed_in(coverage.bounds)
    assert mask is not None
    return set(coverage.cells_in(coverage.bounds)[mask].tolist())


def test_a_part_answers_as_the_whole_does_under_the_same_prior(
    whole: RegionPack, prior: Prior, region: TinyRegion, tmp_path: Path
) -> None:
    extract_pack(whole, tmp_path / "part.geofix", prior)
    part = RegionPack.open(tmp_path / "part.geofix")
    part.verify()
    inside = whole.index().cells_in(prior.region)
    assert 10 < len(inside) < len(region.cells) / 2
    assert part.manifest.num_cells == len(inside)
    for code in region.cell_codes[::20]:
        wanted = whole.index().search(code, k=len(inside), region=prior.region)
        found = part.index().search(code, k=len(inside))
        assert_array_equal(found.cells, wanted.cells)
        assert_array_equal(found.scores, wanted.scores)


def test_a_part_keeps_what_it_is_a_part_of(
    whole: RegionPack, prior: Prior, region: TinyRegion, tmp_path: Path
) -> None:
    manifest = extract_pack(whole, tmp_path / "part.geofix", prior)
    old = whole.manifest
    assert (manifest.title, manifest.attribution, manifest.license) == (
        "Whole", "A. Mapper", "CC0-1.0",
    )  # fmt: skip
    assert manifest.pack_version == 7
    assert manifest.pack_id.startswith("whole-")
    assert manifest.encoders == old.encoders
    assert manifest.provenance["run"] == "x"
    assert manifest.provenance["extracted"]["pack_id"] == "whole"
    with Localizer.open(tmp_path / "part.geofix") as localizer:
        row = len(region.cells) // 2
        assert localizer.localize(region.pictures[row]).cell == region.tokens[row]
        kept = photographed_cells(localizer.coverage)
    old_ones = photographed_cells(whole.coverage)
    assert kept == old_ones & set(whole.index().cells_in(prior.region).tolist())
    assert 0 < len(kept) < len(old_ones)


def test_all_of_a_pack_is_copied_shard_by_shard(whole: RegionPack, tmp_path: Path) -> None:
    box = whole.manifest.bounds
    prior = Prior.bbox(box.south, box.west, box.north, box.east)
    extract_pack(whole, tmp_path / "all.geofix", prior, pack_id="all", title="All")
    copied, original = read_contents(tmp_path / "all.geofix"), read_contents(whole.path)
    del copied["manifest.json"], original["manifest.json"]
    assert copied == original
    assert RegionPack.open(tmp_path / "all.geofix").manifest.title == "All"


def test_the_same_part_is_the_same_file(whole: RegionPack, prior: Prior, tmp_path: Path) -> None:
    for name in "ab":
        extract_pack(whole, tmp_path / name / "part.geofix", prior)
    first, second = (tmp_path / name / "part.geofix" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_nothing_to_keep_is_an_error_that_leaves_no_file(whole: RegionPack, tmp_path: Path) -> None:
    with pytest.raises(PriorOutsidePack, match="admits no cell of pack 'whole'"):
        extract_pack(whole, tmp_path / "part.geofix", Prior.disk(0, 0, radius_m=1000))
    assert list(tmp_path.iterdir()) == []


def test_fields_of_later_versions_are_kept(pack_path: Path, prior: Prior, tmp_path: Path) -> None:
    later = tmp_path / "later.geofix"
    later.write_bytes(with_manifest(read_contents(pack_path), lambda m: m.update(tides=[1, 2])))
    extract_pack(RegionPack.open(later), tmp_path / "part.geofix", prior)
    manifest: Manifest = RegionPack.open(tmp_path / "part.geofix").manifest
    assert manifest.extra == {"tides": [1, 2]}
