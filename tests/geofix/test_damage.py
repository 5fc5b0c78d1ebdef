"""Packs that are damaged by chance and by design are refused, each with a PackError."""

from pathlib import Path

import pytest

from benchmarks.pack_damage import damage_packs, damage_some, faults, make_victims
from geofix.pack import RegionPack

FEW, MANY = 300, 10_000


@pytest.mark.parametrize("num", [FEW, pytest.param(MANY, marks=pytest.mark.stress)])
def test_no_damaged_pack_is_accepted_or_ends_the_process(tmp_path: Path, num: int) -> None:
    outcomes, crashes = damage_packs(make_victims(tmp_path), num, num_processes=2)
    assert faults(outcomes, crashes) == []
    assert len(outcomes) == num
    assert {outcome.by_design for outcome in outcomes} == {True, False}


def test_a_reader_that_checks_too_little_would_be_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = [victim for victim in make_victims(tmp_path) if victim[1] is None]
    monkeypatch.setattr(RegionPack, "read", RegionPack._view)
    outcomes = damage_some(victims[1:], range(200))  # codes alone: USearch would crash
    assert any("accepted after flipped bit" in fault for fault in faults(outcomes, []))
