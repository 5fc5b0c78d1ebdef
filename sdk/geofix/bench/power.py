"""Measures what a device draws, where it tells: an INA3221 in sysfs, else `tegrastats`."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from geofix.bench.jetson import parse_rails, read_ina_rails, total_rail

INTERVAL_S = 0.1
_HWMON = Path("/sys/class/hwmon")
_TEGRASTATS = ["tegrastats", "--interval", str(int(1000 * INTERVAL_S))]

Readings = Callable[[threading.Event], Iterator[int]]  # milliwatts, until the event is set


class PowerMeter:
    """Reads the draw of the whole module in a thread. Use it as a context manager, again and again.

    Attributes:
        source: "INA3221" or "tegrastats".
        rail: that feeds the module.
        samples_mw: of the last use.
    """

    def __init__(self, source: str, rail: str, readings: Readings) -> None:
        """Take what yields readings; `find_meter` finds the device's."""
        self.source, self.rail = source, rail
        self.samples_mw: list[int] = []
        self._readings = readings

    def __enter__(self) -> "PowerMeter":
        self.samples_mw = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mean_w(self) -> float | None:
        """Watts on average; None where nothing was read."""
        num = len(self.samples_mw)
        return round(sum(self.samples_mw) / num / 1000, 3) if num else None

    def _run(self) -> None:
        for milliwatts in self._readings(self._stop):
            self.samples_mw.append(milliwatts)


def find_meter(hwmon: Path = _HWMON) -> PowerMeter | None:
    """Return a meter of this device; None where it has none that we know."""
    for folder in sorted(hwmon.glob("hwmon*")):
        rail = total_rail(read_ina_rails(folder))
        if rail:
            return PowerMeter("INA3221", rail, partial(_ina_readings, folder, rail))
    rail = total_rail(parse_rails(_first_line()))
    if rail:
        return PowerMeter("tegrastats", rail, partial(_tegrastats_readings, rail))
    return None


def _ina_readings(folder: Path, rail: str, stop: threading.Event) -> Iterator[int]:
    while not stop.wait(INTERVAL_S):
        rails = read_ina_rails(folder)
        if rail in rails:
            yield rails[rail]


def _tegrastats_readings(rail: str, stop: threading.Event) -> Iterator[int]:
    for line in _tegrastats_lines():
        if stop.is_set():
            return
        rails = parse_rails(line)
        if rail in rails:
            yield rails[rail]


def _first_line() -> str:
    try:
        return next(_tegrastats_lines(), "")
    except OSError:  # there is no such program
        return ""


def _tegrastats_lines() -> Iterator[str]:
    """Yield lines for as long as they are wanted; the program goes on until it is stopped."""
    with subprocess.Popen(_TEGRASTATS, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield from program.stdout or ()
        finally:
            program.kill()
