"""Times of trtexec, in the layout of NVIDIA's samples: golden/trtexec holds one file a version."""

import json
from pathlib import Path

import pytest

from geofix.bench import read_report, read_results, read_trtexec
from geofix.bench.trtexec import NO_TRANSFERS

GOLDEN = Path(__file__).parents[1] / "golden" / "trtexec"
WITH_TRANSFERS, WITHOUT = GOLDEN / "tensorrt10.json", GOLDEN / "tensorrt11.json"


def test_a_latency_is_both_copies_and_the_computation() -> None:
    report = read_trtexec(WITH_TRANSFERS, label="Orin", runtime="TensorRT 10.3", precision="fp16")
    stated = [query["latencyMs"] for query in json.loads(WITH_TRANSFERS.read_text())]
    encode = report.stages["encode"]
    assert list(report.stages) == ["encode"]
    assert encode.num == len(stated) == 40
    assert encode.samples_ms == pytest.approx(stated, abs=1e-4)
    assert (report.label, report.runtime, report.precision) == ("Orin", "TensorRT 10.3", "fp16")
    assert (report.compute_unit, report.notes) == ("GPU", ())


def test_times_without_copies_say_so() -> None:
    report = read_trtexec(WITHOUT)
    stated = [query["computeMs"] for query in json.loads(WITHOUT.read_text())]
    assert report.stages["encode"].samples_ms == pytest.approx(stated, abs=1e-4)
    assert report.notes == (NO_TRANSFERS,)
    assert report.label == "tensorrt11"


def test_results_are_recognized_by_their_content(tmp_path: Path) -> None:
    assert read_results(WITHOUT) == read_trtexec(WITHOUT)
    read_trtexec(WITHOUT).write(tmp_path / "out.json")
    assert read_report(tmp_path / "out.json") == read_trtexec(WITHOUT)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no list of times"),
        ("{}", "no list of times"),
        ("[1]", "h2dMs of query 0 is None"),
        ('[{"h2dMs": 0, "computeMs": 1}]', "d2hMs of query 0 is None"),
        ('[{"h2dMs": 0, "computeMs": -1, "d2hMs": 0}]', "computeMs of query 0 is -1"),
        ('[{"h2dMs": 0, "computeMs": NaN, "d2hMs": 0}]', "computeMs of query 0 is nan"),
        ('[{"inMs": 0, "computeMs": 1, "outMs": 0}]', "TensorRT 8.4 or newer"),
    ],
)
def test_what_is_no_list_of_times_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "times.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"times\.json: .*{said}"):
        read_trtexec(path)


def test_half_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(WITHOUT.read_text()[:2000])
    with pytest.raises(ValueError, match="half-written"):
        read_trtexec(path)
