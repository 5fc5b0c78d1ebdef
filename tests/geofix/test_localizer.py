import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from geofix.errors import (
    ImageError,
    PriorOutsidePack,
)
from geofix.fix import Fix
from geofix.geo import Bounds, LatLon, distance_m
from geofix.localizer import Localizer
from geofix.posterior import Calibration
from geofix.prior import Prior
from geofix_index import cells as s2
from tests.tiny_pack import (
    CAPE_TOWN,
    DIM,
    TinyRegion,
    make_pictures,
)

STAGES = ["decode", "preprocess", "encode", "search", "posterior"]


@pytest.fixture(scope="module")
def localizer(pack_path: Path) -> Iterator[Localizer]:
    """Return an opened localizer."""
    with Localizer.open(pack_path, num_threads=1) as opened:
        yield opened


def centre(cell: Any) -> LatLon:
    return LatLon(*s2.latlon_from_cell(cell).tolist())


def without_times(fix: Fix) -> Fix:
    return replace(fix, timings_ms={})


def test_each_picture_is_found_in_its_cell(localizer: Localizer, region: TinyRegion) -> None:
    fixes = [localizer.localize(picture) for picture in region.pictures]
    assert [fix.cell for fix in fixes] == region.tokens
    assert {fix.status for fix in fixes} == {"fixed"}
    for fix, cell in zip(fixes, region.cells, strict=True):
        assert distance_m(fix.latlon, centre(cell)) < 50


def test_a_picture_of_another_place_is_unknown(localizer: Localizer) -> None:
    others = make_pictures(20, np.random.default_rng(99))
    assert {localizer.localize(picture).status for picture in others} == {"unknown"}


def test_a_fix_says_what_it_is(localizer: Localizer, region: TinyRegion) -> None:
    fix = localizer.localize(region.pictures[3], k=4)
    assert fix.pack_id == "tiny"
    assert fix.confidence is not None
    assert fix.confidence > 0.8
    assert fix.accuracy_m is not None
    assert fix.radius95_m is not None
    assert 40 < fix.accuracy_m <= fix.radius95_m < 200
    scores = [candidate.score for candidate in fix.candidates]
    assert scores == sorted(scores, reverse=True)
    assert fix.candidates[0].latlon == centre(region.cells[3])
    shares = [candidate.probability or 0 for candidate in fix.candidates]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1


@pytest.mark.parametrize("k", [1, 5, 100, 256, 257, 1000])
def test_k_is_the_number_of_candidates_and_changes_nothing_else(
    region: TinyRegion, tmp_path: Path, k: int
) -> None:
    # So high a temperature gives each candidate about the same share.
    path = region.write(tmp_path / "a.geofix", encoders=[], calibration=Calibration(10.0, 0.5))
    with Localizer.open(path) as localizer:
        fix, wanted = (localizer.search(region.cell_codes[3], k=n) for n in (k, 5))
    assert len(fix.candidates) == min(k, len(region.cells))
    assert fix.candidates[:5] == wanted.candidates[:k]
    assert without_times(replace(fix, candidates=())) == without_times(
        replace(wanted, candidates=())
    )


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_an_error(localizer: Localizer, region: TinyRegion, k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}, want at least 1"):
        localizer.localize(region.pictures[0], k=k)


def test_localizing_is_embedding_and_searching(localizer: Localizer, region: TinyRegion) -> None:
    embeddings = localizer.embed(iter(region.pictures[:3]))
    assert embeddings.shape == (3, DIM)
    for picture, embedding in zip(region.pictures, embeddings, strict=False):
        fix, wanted = localizer.search(embedding), localizer.localize(picture)
        assert fix.cell == wanted.cell
        assert fix.candidates[0].score == pytest.approx(wanted.candidates[0].score, abs=1e-5)
    assert localizer.embed([]).shape == (0, DIM)


def test_one_image_in_place_of_many_is_an_error(localizer: Localizer) -> None:
    for image in ("photo.jpg", b"bytes", Path("photo.jpg")):
        with pytest.raises(TypeError, match="want a list of images"):
            localizer.embed(image)  # type: ignore[arg-type]


def test_all_kinds_of_sources_give_the_same_fix(
    localizer: Localizer, region: TinyRegion, tmp_path: Path
) -> None:
    picture = region.pictures[11]
    path = tmp_path / "photo.png"
    Image.fromarray(picture).save(path)
    wanted = without_times(localizer.localize(picture))
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        assert without_times(localizer.localize(source)) == wanted
    swapped = np.ascontiguousarray(picture[..., ::-1])
    assert without_times(localizer.localize(swapped, encoding="bgr8")) == wanted
    assert without_times(localizer.localize(swapped)) != wanted


def test_the_capture_time_comes_from_exif(localizer: Localizer, region: TinyRegion) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:17 18:30:05"
    out = io.BytesIO()
    Image.fromarray(region.pictures[0]).save(out, "JPEG", exif=exif)
    taken_at = localizer.localize(out.getvalue()).captured_at
    assert taken_at is not None
    assert taken_at.isoformat() == "2024-05-17T18:30:05"
    assert localizer.localize(region.pictures[0]).captured_at is None


def test_a_bad_image_is_an_image_error_and_a_missing_one_an_os_error(
    localizer: Localizer, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"text")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        localizer.localize(tmp_path / "bad.jpg")
    with pytest.raises(FileNotFoundError):
        localizer.localize(tmp_path / "absent.jpg")


@pytest.mark.parametrize("hfov_deg", [0, 180, -5])
def test_an_impossible_field_of_view_is_an_error(
    localizer: Localizer, region: TinyRegion, hfov_deg: float
) -> None:
    with pytest.raises(ValueError, match="hfov_deg"):
        localizer.localize(region.pictures[0], hfov_deg=hfov_deg)


def test_the_stages_are_timed_and_sum_to_the_total(
    localizer: Localizer, region: TinyRegion
) -> None:
    timings_ms = localizer.localize(region.pictures[0]).timings_ms
    assert list(timings_ms) == [*STAGES, "total"]
    assert sum(timings_ms[stage] for stage in STAGES) == pytest.approx(timings_ms["total"])
    assert min(timings_ms.values()) > 0
    found = localizer.search(region.cell_codes[0])
    assert list(found.timings_ms) == ["search", "posterior", "total"]


@pytest.mark.parametrize("picture", [0, 100, 200])
def test_a_prior_restricts_the_answer(
    localizer: Localizer, region: TinyRegion, picture: int
) -> None:
    around = centre(region.cells[50])
    prior = Prior.disk(around.lat, around.lon, radius_m=300)
    fix = localizer.localize(region.pictures[picture], prior=prior, k=1000)
    assert all(distance_m(candidate.latlon, around) <= 300 for candidate in fix.candidates)
    inside = [cell for cell in region.cells.tolist() if distance_m(centre(cell), around) <= 300]
    assert {s2.cell_from_token(candidate.cell) for candidate in fix.candidates} == set(inside)


def test_a_prior_around_the_truth_changes_only_the_confidence(
    localizer: Localizer, region: TinyRegion
) -> None:
    place = centre(region.cells[7])
    free = localizer.localize(region.pictures[7])
    for prior in (
        Prior.disk(place.lat, place.lon, radius_m=200),
        Prior.bbox(place.lat - 0.001, place.lon - 0.001, place.lat + 0.001, place.lon + 0.001),
        Prior.cells([region.tokens[7]]),
    ):
        fix = localizer.localize(region.pictures[7], prior=prior)
        assert fix.candidates[0].score == free.candidates[0].score
        assert fix.cell == region.tokens[7]
        assert fix.confidence is not None
        assert free.confidence is not None
        assert fix.confidence >= free.confidence - 1e-9


@pytest.mark.parametrize(
    ("prior", "place"),
    [
        (Prior.disk(48.85, 2.35, radius_m=500), "disk of 500 m around 48.85000, 2.35000"),
        (Prior.bbox(-1, -2, 1, 2), "box -1.00000, -2.00000 to 1.00000, 2.00000"),
        (Prior.cells(["89c25"]), "1 S2 cells"),
    ],
)
def test_a_prior_elsewhere_is_an_error_that_names_both_places(
    localizer: Localizer, region: TinyRegion, prior: Prior, place: str
) -> None:
    with pytest.raises(PriorOutsidePack) as caught:
        localizer.localize(region.pictures[0], prior=prior)
    box = localizer.coverage.bounds
    assert place in str(caught.value)
    assert f"{box.south}, {box.west} to {box.north}, {box.east}" in str(caught.value)


def test_southern_latitudes_work(southern_pack_path: Path, southern_region: TinyRegion) -> None:
    with Localizer.open(southern_pack_path) as localizer:
        place = centre(southern_region.cells[20])
        assert abs(place.lat - CAPE_TOWN.lat) < 0.1
        prior = Prior.disk(place.lat, place.lon, radius_m=500)
        fix = localizer.localize(southern_region.pictures[20], prior=prior)
        assert fix.cell == southern_region.tokens[20]
        assert localizer.coverage.contains(place.lat, place.lon)
        assert not localizer.coverage.contains(-place.lat, place.lon)


def test_both_sides_of_the_antimeridian_are_one_region(
    antimeridian_region: TinyRegion, tmp_path: Path
) -> None:
    region = antimeridian_region
    with Localizer.open(region.write(tmp_path / "both.geofix")) as localizer:
        box = localizer.coverage.bounds
        whole = Prior.bbox(box.south, box.west, box.north, box.east)
        for prior in (whole, Prior.disk(box.south, 180, radius_m=5000)):
            fixes = [localizer.localize(p, prior=prior) for p in region.pictures[::20]]
            assert [fix.cell for fix in fixes] == region.tokens[::20]
        lons = {round(fix.latlon.lon / 180) for fix in fixes}
        assert lons == {-1, 1}
        assert len(localizer.coverage.cells_in(box)) == len(region.cells)


def test_coverage_is_the_packs_cells(localizer: Localizer, region: TinyRegion) -> None:
    coverage = localizer.coverage
    assert coverage.num_cells == len(region.cells)
    assert coverage.cell_level == 16
    for cell in region.cells[::10]:
        assert coverage.contains(*s2.latlon_from_cell(cell).tolist())
    assert not coverage.contains(coverage.bounds.south - 0.01, coverage.bounds.west)
    assert not coverage.contains(-47.37, 8.54)
    np.testing.assert_array_equal(coverage.cells_in(Bounds(-90, -180, 90, 180)), region.cells)
    assert len(coverage.cells_in(Bounds(10, 10, 11, 11))) == 0


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (0, 181)])
def test_coverage_of_no_place_is_an_error(localizer: Localizer, lat: float, lon: float) -> None:
    with pytest.raises(ValueError, match="want -"):
        localizer.coverage.contains(lat, lon)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.zeros(DIM - 1, np.float32), "embedding has shape"),
        (np.zeros((1, DIM), np.float32), "embedding has shape"),
        (np.full(DIM, np.nan, np.float32), "NaN or infinity"),
        (np.full(DIM, np.inf, np.float32), "NaN or infinity"),
    ],
)
def test_an_embedding_that_is_none_is_an_error(
    localizer: Localizer, embedding: npt.NDArray[np.float32], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        localizer.search(embedding)


def test_threads_share_a_localizer(pack_path: Path, region: TinyRegion) -> None:
    with Localizer.open(pack_path, num_threads=1) as one:
        wanted = [without_times(one.localize(picture)) for picture in region.pictures[:40]]
    # Opened anew, so that the threads race for the first use of each shard.
    with Localizer.open(pack_path, num_threads=1) as shared, ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            fixes = pool.map(shared.localize, region.pictures[:40])
            assert [without_times(fix) for fix in fixes] == wanted
