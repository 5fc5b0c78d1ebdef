"""Priors weighed against photos, on score sets made by hand and in tiny packs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from geofix import Fix, LatLon, Localizer, Prior, distance_m
from geofix.answer import (
    PROBE_ALWAYS_CELLS,
    Found,
    bayes_factor,
    elsewhere_logit,
    find,
    fix_from_found,
    summed_views,
)
from geofix.clock import Clock
from geofix.image_statistics import fit_statistics, image_statistics
from geofix.posterior import Calibration
from geofix_index import CellIndex, Matches
from geofix_index import cells as s2
from tests.tiny_pack import CALIBRATION, ZURICH, TinyRegion, make_region

TEMPERATURE = 0.1
MEASURED = Calibration(TEMPERATURE, 0.3, levels=(0.68, 0.95), conflict=2.0)
CELLS = np.sort(s2.descendants(s2.cell_from_latlon(47.37, 8.54, level=12), level=16))  # 256
CENTRES = s2.latlon_from_cell(CELLS)
HERE, THERE = 10, 240  # rows of cells that are far from each other


class StubIndex:
    """Searches scores that are given, not embedded; counts searches."""

    def __init__(self, scores: npt.NDArray[np.float64], *, num_cells: int = len(CELLS)) -> None:
        self.scores = np.asarray(scores, np.float32)
        self.num_cells = num_cells
        self.searches: list[bool] = []  # whether each was in a region

    def search(self, embedding: object, *, k: int, region: object = None) -> Matches:
        self.searches.append(region is not None)
        rows = np.arange(len(CELLS)) if region is None else self._rows(region)
        best = rows[np.argsort(-self.scores[rows], kind="stable")][:k]
        return Matches(CELLS[best], self.scores[best])

    def search_both(
        self, embedding: object, *, k: int, region: object, k_everywhere: int
    ) -> tuple[Matches, Matches]:
        inside = self.search(embedding, k=k, region=region)
        return inside, self.search(embedding, k=k_everywhere)

    def num_cells_in(self, region: object) -> int:
        return len(self._rows(region))

    def _rows(self, region: object) -> npt.NDArray[np.int64]:
        return np.flatnonzero(region.admits(CELLS))  # type: ignore[attr-defined]


def scores_with(**at: float) -> npt.NDArray[np.float64]:
    """Return scores of 0 but for some cells."""
    scores = np.zeros(len(CELLS))
    scores[[HERE, THERE]] = at.get("here", 0.0), at.get("there", 0.0)
    return scores


def fix_of(
    index: StubIndex, prior: Prior | None, calibration: Calibration = MEASURED
) -> tuple[Fix, Found]:
    """Return the fix that scores give, and what was found."""
    elsewhere = elsewhere_logit(calibration, num_cells=index.num_cells)
    found = find(
        index,  # type: ignore[arg-type]
        np.zeros(1, np.float32),
        calibration,
        prior=prior,
        k=5,
        elsewhere=elsewhere,
    )
    fix = fix_from_found(found, calibration, prior=prior, k=5, elsewhere=elsewhere, pack_id="stub")
    return fix, found


def around(row: int, radius_m: float = 250.0) -> Prior:
    """Return a disk around a cell."""
    return Prior.disk(*CENTRES[row].tolist(), radius_m=radius_m)


def test_a_hard_prior_gives_the_posterior_of_bayes() -> None:
    index = StubIndex(scores_with(here=0.8, there=0.7))
    prior = around(HERE)
    fix, found = fix_of(index, prior)
    num, inside, wrong = len(CELLS), found.num_inside, 0.05
    evidence = np.exp(index.scores.astype(float) / TEMPERATURE)
    within = prior.region.admits(CELLS)
    # Prior probability times evidence; elsewhere has e^(b/T) where each cell has 1 / num.
    cell = evidence * np.where(within, (1 - wrong) / inside + wrong / num, wrong / num)
    elsewhere = math.exp(0.3 / TEMPERATURE) / num
    total = cell.sum() + elsewhere
    assert fix.candidates[0].cell == s2.token_from_cell(int(CELLS[HERE]))
    # The look outside stops at 64 cells; those beyond have next to nothing.
    assert fix.candidates[0].probability == pytest.approx(cell[HERE] / total, rel=0.01)
    assert fix.status == "fixed"
    assert not fix.prior_conflict
    assert fix.unrestricted is None


def test_the_gain_is_what_the_prior_adds_to_the_mode() -> None:
    index = StubIndex(scores_with(here=0.8, there=0.8))
    alone, _ = fix_of(index, None)
    narrow, _ = fix_of(index, around(HERE))
    assert alone.prior_gain is None
    assert alone.confidence is not None
    assert narrow.confidence is not None
    assert narrow.prior_gain is not None
    own = fix_of(StubIndex(scores_with(here=0.8, there=0.8 - 1e-3)), None)[0].confidence
    assert own is not None
    assert narrow.prior_gain == pytest.approx(math.log(narrow.confidence / own), abs=0.03)
    wide, _ = fix_of(StubIndex(scores_with(here=1.5)), around(HERE, 100_000.0))
    assert wide.prior_gain == pytest.approx(0, abs=0.01)


def test_a_wrong_hard_prior_is_noticed_and_still_bounds_the_answer() -> None:
    index = StubIndex(scores_with(there=1.0))
    prior = around(HERE)
    fix, _ = fix_of(index, prior)
    assert fix.prior_conflict
    assert fix.status == "unknown"
    inside = prior.region.admits(np.array([s2.cell_from_token(fix.cell)], np.uint64))
    assert inside.all()


def test_a_strong_photo_overrules_a_soft_prior_and_a_weak_one_does_not() -> None:
    lat, lon = CENTRES[HERE].tolist()
    prior = Prior.gaussian(lat, lon, sigma_m=100)
    tokens = [s2.token_from_cell(int(CELLS[row])) for row in (HERE, THERE)]
    strong, _ = fix_of(StubIndex(scores_with(here=0.5, there=2.0)), prior)
    weak, _ = fix_of(StubIndex(scores_with(here=0.5, there=0.6)), prior)
    assert (strong.cell, weak.cell) == (tokens[1], tokens[0])
    assert strong.prior_conflict
    assert not weak.prior_conflict
    assert strong.prior_gain is not None
    assert strong.prior_gain < 0


def test_a_soft_prior_that_is_nowhere_near_leaves_the_photo_alone() -> None:
    fix, _ = fix_of(StubIndex(scores_with(there=1.5)), Prior.gaussian(-40, 8, sigma_m=100))
    assert fix.cell == s2.token_from_cell(int(CELLS[THERE]))
    assert fix.prior_conflict


def test_bayes_factor_is_the_ratio_of_mean_evidence() -> None:
    index = StubIndex(scores_with(here=0.4, there=0.9))
    prior = around(HERE)
    _, found = fix_of(index, prior)
    evidence = np.exp(index.scores.astype(float) / TEMPERATURE)
    seen = np.isin(CELLS, found.matches.cells)
    inside = evidence[prior.region.admits(CELLS)].mean()
    wanted = math.log(evidence[seen].sum() / len(CELLS) / inside)
    assert bayes_factor(found, MEASURED, prior) == pytest.approx(wanted, rel=1e-5)


def test_without_a_measured_conflict_a_hard_prior_restricts_and_nothing_else() -> None:
    old = Calibration(TEMPERATURE, 0.3)
    index = StubIndex(scores_with(here=0.8, there=0.9))
    fix, _ = fix_of(index, around(HERE), old)
    assert index.searches == [True]
    assert fix.prior_gain is None
    inside = np.exp(index.scores[around(HERE).region.admits(CELLS)].astype(float) / TEMPERATURE)
    wanted = inside.max() / (inside.sum() + math.exp(0.3 / TEMPERATURE))
    assert fix.candidates[0].probability == pytest.approx(wanted, rel=1e-5)


def test_a_large_pack_looks_outside_where_the_inside_is_doubtful() -> None:
    large = PROBE_ALWAYS_CELLS + 1
    sure = StubIndex(scores_with(here=1.0), num_cells=large)
    fix, _ = fix_of(sure, around(HERE))
    assert sure.searches == [True]
    assert fix.prior_gain is None
    doubtful = StubIndex(scores_with(there=1.5), num_cells=large)
    fix, _ = fix_of(doubtful, around(HERE))
    assert doubtful.searches == [True, False]
    assert fix.prior_conflict


def test_a_soft_prior_needs_a_calibrated_pack() -> None:
    index = StubIndex(scores_with())
    with pytest.raises(ValueError, match=r"soft.*not calibrated.*Prior.disk"):
        find(
            index,  # type: ignore[arg-type]
            np.zeros(1, np.float32),
            None,
            prior=Prior.gaussian(47, 8, sigma_m=10),
            k=1,
            elsewhere=0.0,
        )


def test_equal_views_count_like_their_root() -> None:
    embedding = np.array([[0.6, 0.8]], np.float32)
    one, _, _ = summed_views(embedding, np.zeros(1))
    four, strangeness, num = summed_views(np.repeat(embedding, 4, axis=0), np.zeros(4))
    assert four == pytest.approx(2 * one)
    assert (strangeness, num) == (0, 4)
    # Elsewhere per view is N odds times exp(b / T) of each cell; the odds count once.
    single = elsewhere_logit(MEASURED, num_cells=9)  # N odds are 1
    assert elsewhere_logit(MEASURED, num_cells=9, num_views=4) == pytest.approx(2 * single)


def test_a_covered_lens_is_left_out_of_the_views_unless_all_are() -> None:
    embeddings = np.eye(3, dtype=np.float32)
    summed, strangeness, num = summed_views(embeddings, np.array([0.0, 40.0, 1.0]))
    assert summed == pytest.approx(np.array([1, 0, 1]) / math.sqrt(2))
    assert (strangeness, num) == (0, 2)
    _, strangeness, num = summed_views(embeddings, np.array([50.0, 40.0, 60.0]))
    assert (strangeness, num) == (40, 1)


@pytest.fixture(scope="module")
def region() -> TinyRegion:
    """Return a tiny region whose cells show pictures."""
    return make_region(ZURICH, seed=3)


def statistics_of(region: TinyRegion) -> npt.NDArray[np.float32]:
    """Return the statistics of a region's pictures as its encoder gets them."""
    from geofix.images import fit_image

    spec = region.encoder.input_spec
    return np.array([image_statistics(fit_image(p, spec)) for p in region.pictures])


@pytest.fixture(scope="module")
def localizer(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    """Return a Localizer of a pack that knows of priors and of what photos look like."""
    from dataclasses import replace

    calibration = Calibration(
        CALIBRATION.temperature,
        CALIBRATION.elsewhere,
        levels=(0.68, 0.95),
        conflict=3.0,
        image_statistics=fit_statistics(statistics_of(region)),
    )
    encoder = replace(region.encoder, calibration=calibration)
    path = tmp_path_factory.mktemp("answer") / "known.geofix"
    return Localizer.open(region.write(path, encoders=[encoder]))


def test_a_wrong_disk_names_the_place_outside(localizer: Localizer, region: TinyRegion) -> None:
    lat, lon = s2.latlon_from_cell(region.cells[-1]).tolist()
    prior = Prior.disk(lat, lon, radius_m=300)
    fix = localizer.localize(region.pictures[0], prior=prior)
    assert fix.prior_conflict
    assert distance_m(fix.latlon, LatLon(lat, lon)) < 450
    assert fix.unrestricted is not None
    free = localizer.localize(region.pictures[0])
    assert fix.unrestricted.latlon == free.latlon
    for name in ("status", "confidence", "accuracy_m", "radius95_m"):
        assert getattr(fix.unrestricted, name) == getattr(free, name)
    answer = fix.to_json()
    assert answer["prior_conflict"] is True
    assert answer["unrestricted"]["lat"] == pytest.approx(free.latlon.lat, abs=1e-6)


def test_a_right_disk_is_no_conflict(localizer: Localizer, region: TinyRegion) -> None:
    for row in (0, 77, 150):
        lat, lon = s2.latlon_from_cell(region.cells[row]).tolist()
        fix = localizer.localize(region.pictures[row], prior=Prior.disk(lat, lon, radius_m=300))
        assert (fix.cell, fix.prior_conflict) == (region.tokens[row], False)


def test_a_disk_of_much_of_a_pack_gives_the_posterior_over_all_cells(
    localizer: Localizer, region: TinyRegion
) -> None:
    _, index = localizer._opened()
    calibration = localizer._calibration()
    assert calibration is not None
    rng = np.random.default_rng(4)
    for row in range(0, len(region.cells), 12):
        # A weak photo and a disk that may be wrong: much lies outside, spread over many cells.
        noise = rng.normal(0, 1, region.cell_codes.shape[1])
        mixed = region.cell_codes[row] + 0.8 * noise / np.linalg.norm(noise)
        embedding = (mixed / np.linalg.norm(mixed)).astype(np.float32)
        centre = s2.latlon_from_cell(region.cells[-1 - row]).tolist()
        prior = Prior.disk(*centre, radius_m=1000)
        fix = localizer.search(embedding, prior=prior, k=len(region.cells))
        cells, scores = index.search(embedding, k=len(region.cells))
        inside = prior.region.admits(cells)
        assert 0.1 < inside.mean() < 1
        num, share = len(cells), 1 / inside.sum()
        density = np.where(inside, 0.95 * share + 0.05 / num, 0.05 / num)
        mass = density * np.exp(scores.astype(float) / calibration.temperature)
        rest = math.exp(elsewhere_logit(calibration, num_cells=num)) / num
        wanted = dict(zip(cells.tolist(), mass / (mass.sum() + rest), strict=True))
        for candidate in fix.candidates:
            own = wanted[s2.cell_from_token(candidate.cell)]
            assert candidate.probability == pytest.approx(own, rel=0.02)


def test_a_soft_prior_is_weighed_in_a_pack(localizer: Localizer, region: TinyRegion) -> None:
    lat, lon = s2.latlon_from_cell(region.cells[-1]).tolist()
    fix = localizer.localize(region.pictures[0], prior=Prior.gaussian(lat, lon, sigma_m=100))
    assert fix.cell == region.tokens[0]
    assert fix.prior_conflict


def test_noise_of_another_kind_is_unknown(localizer: Localizer, region: TinyRegion) -> None:
    flat = np.full_like(region.pictures[0], 128)
    assert localizer.localize(flat).status == "unknown"
    known = [localizer.localize(picture).status for picture in region.pictures[::10]]
    assert known.count("fixed") >= 0.9 * len(known)


def test_two_views_find_what_each_alone_does_not(localizer: Localizer, region: TinyRegion) -> None:
    rng = np.random.default_rng(0)
    noisy = [
        [
            np.clip(picture + rng.normal(0, 70, (6, 8, 1)).repeat(8, 0).repeat(8, 1), 0, 255)
            for _ in range(4)
        ]
        for picture in region.pictures[::8].astype(float)
    ]
    views = [[view.astype(np.uint8) for view in own] for own in noisy]
    wanted = region.tokens[::8]
    single = [localizer.localize(own[0]).cell for own in views]
    together = [localizer.localize_views(own).cell for own in views]
    num_single = sum(a == b for a, b in zip(single, wanted, strict=True))
    num_together = sum(a == b for a, b in zip(together, wanted, strict=True))
    assert num_single < len(wanted)
    assert num_together > num_single


def test_one_view_is_a_photo(localizer: Localizer, region: TinyRegion, tmp_path: Path) -> None:
    Image.fromarray(region.pictures[5]).save(tmp_path / "a.png")
    alone = localizer.localize(tmp_path / "a.png")
    view = localizer.localize_views([tmp_path / "a.png"])
    assert (view.cell, view.status) == (alone.cell, alone.status)
    assert view.confidence == pytest.approx(alone.confidence)
    assert list(view.timings_ms) == list(alone.timings_ms)


def test_a_view_is_cut_by_what_its_exif_says_as_a_photo_is(
    region: TinyRegion, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif.get_ifd(IFD.Exif)[Base.FocalLengthIn35mmFilm] = 20  # some 80 degrees wide
    path = tmp_path / "wide.jpg"
    Image.fromarray(region.pictures[5]).resize((320, 240)).save(path, exif=exif, quality=95)
    with Localizer.open(region.write(tmp_path / "tiny.geofix")) as localizer:
        whole = localizer.localize_views([path]).candidates[0].score
        assert localizer._entry is not None
        narrow = replace(localizer._entry.input_spec, hfov_deg=40.0)
        localizer._entry = replace(localizer._entry, input_spec=narrow)
        cut = localizer.localize_views([path]).candidates[0].score
        assert cut == localizer.localize(path).candidates[0].score
    assert cut != whole


def test_stages_of_several_views_add_up() -> None:
    readings = iter((0.0, 1.0, 3.0, 4.0, 4.5))
    clock = Clock(lambda: next(readings))
    for stage in ("decode", "encode", "decode", "encode"):
        clock.stop(stage)
    assert clock.timings_ms() == {"decode": 2000.0, "encode": 2500.0, "total": 4500.0}


def test_no_views_are_an_error(localizer: Localizer) -> None:
    with pytest.raises(ValueError, match="images is empty"):
        localizer.localize_views([])
    with pytest.raises(TypeError, match="list of images"):
        localizer.localize_views("photo.jpg")


def test_the_index_counts_cells_of_a_region(region: TinyRegion, localizer: Localizer) -> None:
    _, index = localizer._opened()
    assert isinstance(index, CellIndex)
    disk = Prior.disk(*s2.latlon_from_cell(region.cells[9]).tolist(), radius_m=400).region
    assert index.num_cells == len(region.cells)
    assert index.num_cells_in(disk) == disk.admits(region.cells).sum() > 5
