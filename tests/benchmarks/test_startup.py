from benchmarks.startup import self_times_ms

LOG = """import time: self [us] | cumulative | imported package
import time:       900 |        900 | encodings
import time:       500 |       1400 | site
import time:      2000 |       2000 |     numpy._core
import time:      1000 |       3000 |   numpy
import time:       250 |        250 |   json
import time:       500 |       3750 | geofix
"""


def test_packages_are_summed_up_without_what_they_import_and_after_the_interpreters_own() -> None:
    assert self_times_ms(LOG) == {"numpy": 3.0, "Python's own": 0.25, "geofix": 0.5}
