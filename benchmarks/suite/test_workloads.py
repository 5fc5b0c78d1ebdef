"""The suite of pytest-benchmark: one test a workload.

`make bench` measures; `make test` runs each once for its answer (--benchmark-disable).
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.suite.workloads import WORKLOADS


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload(benchmark: BenchmarkFixture, name: str) -> None:
    """Time a workload and check its answer."""
    workload = WORKLOADS[name]
    benchmark.group = workload.group
    assert workload.check(benchmark(workload.prepare()))
