import getpass
import json
import platform
from dataclasses import asdict
from pathlib import Path

import geofix
from geofix.bench.machine import machine_facts

PI = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid asimdhp asimddp
CPU implementer\t: 0x41

Revision\t: d04170
Serial\t\t: 4a6f2d1c0b9e8f77
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def make_root(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_tells_what_counts() -> None:
    facts = machine_facts()
    assert facts.cpu
    assert facts.cores >= 1
    assert facts.python == platform.python_version()
    assert facts.packages["numpy"]
    assert facts.kernel


def test_nothing_names_a_host_a_user_or_a_folder() -> None:
    text = json.dumps(asdict(machine_facts()))
    assert platform.node() not in text or len(platform.node()) < 4
    assert str(Path.home()) not in text
    assert str(Path(geofix.__file__).parent) not in text
    assert f'"{getpass.getuser()}"' not in text


def test_a_board_names_itself_and_no_serial_number(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "proc/cpuinfo": PI,
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        },
    )
    facts = machine_facts(root)
    assert facts.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts.cpu_features == ("asimd", "asimdhp", "asimddp")
    assert facts.governor == "ondemand"
    assert "4a6f2d1c0b9e8f77" not in json.dumps(asdict(facts))


def test_a_pc_names_processor_and_gpu(tmp_path: Path) -> None:
    gpu = "Model: \t\t NVIDIA RTX A2000\nIRQ:   \t\t 86\nGPU UUID: \t GPU-1234\n"
    root = make_root(
        tmp_path,
        {
            "proc/cpuinfo": "model name\t: Abacus 3000\nflags\t\t: fpu avx2 sse avx512f\n",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": gpu,
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1\n",
        },
    )
    facts = machine_facts(root)
    assert (facts.cpu, facts.gpu, facts.jetpack) == ("Abacus 3000", "NVIDIA RTX A2000", "R36.4.3")
    assert facts.cpu_features == ("avx2", "avx512f")


def test_a_machine_that_tells_nothing_has_facts(tmp_path: Path) -> None:
    facts = machine_facts(tmp_path)
    assert (facts.board, facts.gpu, facts.jetpack, facts.governor) == ("", "", "", "")
    assert facts.cpu_features == ()
