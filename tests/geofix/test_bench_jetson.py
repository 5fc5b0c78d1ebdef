"""What a Jetson prints, as NVIDIA's documentation shows it; no board wrote these texts."""

import os
import stat
from pathlib import Path

import pytest

from geofix.bench import power
from geofix.bench.jetson import (
    jetpack_release,
    parse_power_mode,
    parse_rails,
    read_ina_rails,
    read_power_mode,
    total_rail,
)
from geofix.bench.power import find_meter

ORIN = (
    "01-31-2026 10:00:00 RAM 2810/7620MB (lfb 9x4MB) SWAP 0/3810MB (cached 0MB) "
    "CPU [12%@1510,4%@1510,off,off,5%@1510,4%@1510] EMC_FREQ 3%@2133 GR3D_FREQ 41%@[624] "
    "NVDEC off NVJPG off cpu@48.1C soc2@46.7C gpu@47.9C tj@48.6C "
    "VDD_IN 6120mW/5480mW VDD_CPU_GPU_CV 1210mW/980mW VDD_SOC 1680mW/1640mW"
)
NANO = (
    "RAM 1903/3964MB (lfb 12x4MB) SWAP 0/1982MB CPU [20%@1479,10%@1479,9%@1479,7%@1479] "
    "GR3D_FREQ 0%@76 PLL@30C CPU@32.5C POM_5V_IN 2532/2698 POM_5V_GPU 0/12 POM_5V_CPU 520/610"
)


@pytest.fixture
def hwmon(tmp_path: Path) -> Path:
    """Return a folder as the kernel shows an INA3221 beside a thermometer."""
    make_ina(tmp_path / "hwmon1", {"1": ("VDD_IN", 5000, 1200), "2": ("VDD_SOC", 5000, 300)})
    (tmp_path / "hwmon0").mkdir()
    (tmp_path / "hwmon0" / "temp1_input").write_text("45000\n")
    return tmp_path


def make_ina(folder: Path, rails: dict[str, tuple[str, int, int]]) -> None:
    folder.mkdir()
    for number, (label, millivolt, milliampere) in rails.items():
        (folder / f"in{number}_label").write_text(f"{label}\n")
        (folder / f"in{number}_input").write_text(f"{millivolt}\n")
        (folder / f"curr{number}_input").write_text(f"{milliampere}\n")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose programs are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def make_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_rails_are_this_moment_and_not_the_average() -> None:
    assert parse_rails(ORIN) == {"VDD_IN": 6120, "VDD_CPU_GPU_CV": 1210, "VDD_SOC": 1680}


def test_rails_of_older_systems_have_no_unit() -> None:
    assert parse_rails(NANO) == {"POM_5V_IN": 2532, "POM_5V_GPU": 0, "POM_5V_CPU": 520}


@pytest.mark.parametrize("line", ["", "RAM 1/2MB", "VDD_IN", "VDD_IN 5mW", "CPU [1%@1,2%@2]"])
def test_a_line_without_rails_has_none(line: str) -> None:
    assert parse_rails(line) == {}


def test_the_total_is_the_rail_that_feeds_the_module() -> None:
    assert total_rail(parse_rails(ORIN)) == "VDD_IN"
    assert total_rail(parse_rails(NANO)) == "POM_5V_IN"
    assert total_rail({"VDD_SOC": 5}) == ""


def test_the_power_mode_is_its_name() -> None:
    assert parse_power_mode("NV Power Mode: 15W\n0\n") == "15W"
    assert parse_power_mode("NV Fan Mode:quiet\nNV Power Mode: MODE_30W_ALL\n2\n") == "MODE_30W_ALL"
    assert parse_power_mode("nvpmodel: command failed\n") == ""


def test_the_power_mode_is_read_from_the_program(programs: Path) -> None:
    make_program(programs / "nvpmodel", 'test "$1" = -q && printf "NV Power Mode: MAXN\\n0\\n"')
    assert read_power_mode() == "MAXN"


def test_the_release_of_jetson_linux() -> None:
    line = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
    assert jetpack_release(line) == "R36.4.3"
    assert jetpack_release("") == ""


def test_an_ina_gives_volts_times_amperes(hwmon: Path) -> None:
    assert read_ina_rails(hwmon / "hwmon1") == {"VDD_IN": 6000, "VDD_SOC": 1500}
    (hwmon / "hwmon1" / "curr1_input").unlink()
    assert read_ina_rails(hwmon / "hwmon1") == {"VDD_SOC": 1500}


def test_a_meter_reads_the_rail_of_the_module(hwmon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "INTERVAL_S", 0.001)
    meter = find_meter(hwmon)
    assert meter is not None
    assert (meter.source, meter.rail, meter.mean_w) == ("INA3221", "VDD_IN", None)
    with meter:
        wait_for(meter)
    assert set(meter.samples_mw) == {6000}
    assert meter.mean_w == 6.0


def test_without_an_ina_tegrastats_is_read(programs: Path, tmp_path: Path) -> None:
    make_program(programs / "tegrastats", f'while true; do echo "{ORIN}"; sleep 0.01; done')
    meter = find_meter(tmp_path / "nothing")
    assert meter is not None
    assert (meter.source, meter.rail) == ("tegrastats", "VDD_IN")
    with meter:
        wait_for(meter)
    assert meter.mean_w == 6.12


def test_a_machine_without_either_has_no_meter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_meter(tmp_path) is None
    assert read_power_mode() == ""


def wait_for(meter: power.PowerMeter) -> None:
    """Wait for two readings; a test that hangs here is stopped by who runs it."""
    while len(meter.samples_mw) < 2:
        pass
