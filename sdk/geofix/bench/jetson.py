"""What a Jetson tells of its power: mode, rails, draw. Written from NVIDIA's documentation.

The parsers read text as NVIDIA's pages show it; none of this ran on a Jetson.

* `nvpmodel -q` prints "NV Power Mode: 15W" and, in the next line, the mode's number.
* An INA3221 is a hwmon device: `in1_label` names a rail, `in1_input` is its voltage in mV, and
  `curr1_input` its current in mA.
* `tegrastats` prints a line each interval, with rails as "VDD_IN 5263mW/5240mW": now, and the
  average since it began. Before JetPack 5 there was no unit: "POM_5V_IN 2532/2698".
"""

import re
import subprocess
from pathlib import Path

# The rail that feeds the whole module, by the names that boards give it.
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "SYS_5V0", "VIN_SYS_5V0", "VIN")
_RAIL = re.compile(r"\b((?:VDD|POM|VIN|SYS|CPU|GPU|SOC|CV)\w*) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)")
_MODE = re.compile(r"^NV Power Mode:\s*(\S.*?)\s*$", re.MULTILINE)
_RELEASE = re.compile(r"# (R\d+) \(release\), REVISION: ([\d.]+)")
_SECONDS = 5.0  # for a program that answers in a blink


def parse_power_mode(text: str) -> str:
    """Return the mode that `nvpmodel -q` names; "" where it names none."""
    found = _MODE.search(text)
    return found[1] if found else ""


def parse_rails(line: str) -> dict[str, int]:
    """Return the milliwatts that a line of `tegrastats` gives for this moment, by rail."""
    return {name: int(now) for name, now, _ in _RAIL.findall(line)}


def total_rail(rails: dict[str, int]) -> str:
    """Return the rail of the whole module; "" where none of these is one."""
    return next((name for name in TOTAL_RAILS if name in rails), "")


def jetpack_release(text: str) -> str:
    """Return the release of Jetson Linux that /etc/nv_tegra_release states, as "R36.4.3"."""
    found = _RELEASE.search(text)
    return f"{found[1]}.{found[2]}" if found else ""


def read_power_mode() -> str:
    """Return this device's power mode; "" where it has none."""
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ""
    return parse_power_mode(done.stdout)


def read_ina_rails(folder: Path) -> dict[str, int]:
    """Return milliwatts by rail of a hwmon folder, /sys/class/hwmon/hwmon3; {} where it has none.

    A rail that cannot be read is left out.
    """
    rails: dict[str, int] = {}
    for label in sorted(folder.glob("in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        try:
            millivolt = int((folder / f"in{number}_input").read_text())
            milliampere = int((folder / f"curr{number}_input").read_text())
            rails[label.read_text().strip()] = millivolt * milliampere // 1000
        except (OSError, ValueError):
            continue
    return rails
